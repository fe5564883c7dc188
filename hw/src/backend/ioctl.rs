//! Calls of a driver's own, with the kernel's errors as errors.
//! This file uses `unsafe` to call `ioctl`.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Calls a driver with an argument in memory; what it answers, which is never negative.
///
/// # Safety
/// The argument points to what the request is defined with, and stays valid for the call: memory that the driver reads
/// or writes in full, as long as the request or the argument's own fields say.
pub(super) unsafe fn call<T>(file: impl AsFd, request: libc::c_ulong, argument: *mut T) -> io::Result<libc::c_int> {
    // SAFETY: the caller vouches for the argument.
    check(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), request, argument) })
}

/// Calls a driver with a number, or with nothing.
///
/// # Safety
/// The request takes no memory of this process.
pub(super) unsafe fn call_with_number(
    file: impl AsFd,
    request: libc::c_ulong,
    number: libc::c_ulong,
) -> io::Result<libc::c_int> {
    // SAFETY: the caller vouches for the request.
    check(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), request, number) })
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
