//! Blocking NVMe commands through ioctls (`linux/nvme_ioctl.h`), for opening a device.
//! This file uses `unsafe` to call `ioctl` through the shared wrapper.

use std::fs::File;
use std::io;

use super::status::Refusal;
use crate::backend::ioctl;

/// `_IO('N', 0x40)`.
const NVME_IOCTL_ID: libc::c_ulong = 0x4E40;
/// `_IOWR('N', 0x41, struct nvme_passthru_cmd)`.
const NVME_IOCTL_ADMIN_CMD: libc::c_ulong = 0xC048_4E41;
/// `_IOWR('N', 0x43, struct nvme_passthru_cmd)`.
const NVME_IOCTL_IO_CMD: libc::c_ulong = 0xC048_4E43;

/// `struct nvme_passthru_cmd`.
#[derive(Default)]
#[repr(C)]
struct Command {
    opcode: u8,
    flags: u8,
    reserved: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    address: u64,
    metadata_bytes: u32,
    data_bytes: u32,
    words: [u32; 6],
    timeout_ms: u32,
    result: u32,
}

/// Which of a controller's queues takes a command.
#[derive(Clone, Copy)]
pub(super) enum Queue {
    Admin,
    Io,
}

/// The number of the node's namespace.
pub(super) fn namespace(device: &File) -> io::Result<u32> {
    // SAFETY: the command has no argument.
    Ok(unsafe { ioctl::call_with_number(device, NVME_IOCTL_ID, 0) }?.cast_unsigned())
}

/// A command that fills `data`. The opcode has to be one that transfers to the host.
pub(super) fn fetch(
    device: &File,
    queue: Queue,
    opcode: u8,
    nsid: u32,
    words: [u32; 6],
    data: &mut [u8],
) -> Result<(), Refusal> {
    let mut command = Command {
        opcode,
        nsid,
        address: data.as_mut_ptr() as u64,
        data_bytes: u32::try_from(data.len()).unwrap_or(0),
        words,
        ..Command::default()
    };
    let request = match queue {
        Queue::Admin => NVME_IOCTL_ADMIN_CMD,
        Queue::Io => NVME_IOCTL_IO_CMD,
    };
    // SAFETY: the command names `data` with its length, which nothing else uses until the call returns.
    match unsafe { ioctl::call(device, request, &raw mut command) } {
        Ok(0) => Ok(()),
        Ok(status) => Err(Refusal::Status(u16::try_from(status).unwrap_or(u16::MAX))),
        Err(error) => Err(Refusal::Kernel(error.raw_os_error().unwrap_or(libc::EIO))),
    }
}
