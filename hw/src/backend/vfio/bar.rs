//! A controller's registers, mapped into this process.
//! This file uses `unsafe` to map registers and to access them.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{NonNull, null_mut};

use rustix::mm::{MapFlags, ProtFlags};

use super::ioctl::Region;
use super::registers::Registers;

/// Region flag: it can be mapped.
const MAPPABLE: u32 = 4;

/// The registers and the first doorbells, which every controller has; where a kernel does not map all of a BAR, these.
const BYTES_MIN: usize = 0x2000;

/// The mapping.
pub(super) struct Bar {
    start: NonNull<u8>,
    bytes: usize,
}

impl Bar {
    pub(super) fn map(device: BorrowedFd<'_>, region: &Region) -> io::Result<Self> {
        let bytes = usize::try_from(region.bytes).unwrap_or(0);
        if region.flags & MAPPABLE == 0 || bytes < BYTES_MIN {
            return Err(io::Error::other("the controller's registers cannot be mapped"));
        }
        let map = |bytes: usize| {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            // SAFETY: a new mapping of a device's file at an address of the kernel's choice touches no other memory.
            unsafe { rustix::mm::mmap(null_mut(), bytes, protection, MapFlags::SHARED, device, region.offset) }
        };
        // Interrupt tables may lie behind the doorbells, which older kernels map for nobody.
        let (memory, bytes) = match map(bytes) {
            Ok(memory) => (memory, bytes),
            Err(_) => (map(BYTES_MIN)?, BYTES_MIN),
        };
        let start = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    fn place(&self, at: usize) -> *mut u32 {
        assert!(at.is_multiple_of(4) && at + 4 <= self.bytes, "a register lies inside the mapping");
        // SAFETY: just checked against the length of the mapping.
        unsafe { self.start.as_ptr().add(at).cast() }
    }
}

impl Registers for Bar {
    fn read(&self, at: usize) -> u32 {
        // SAFETY: `place` checked range and alignment; the mapping lives as long as `self`. Registers are little-endian.
        u32::from_le(unsafe { self.place(at).read_volatile() })
    }

    fn write(&self, at: usize, value: u32) {
        // SAFETY: as in `read`; what the device does then reaches only memory that was mapped for it.
        unsafe { self.place(at).write_volatile(value.to_le()) }
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody has a pointer into it but this.
        if let Err(error) = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) } {
            tracing::warn!(%error, "registers cannot be unmapped");
        }
    }
}
