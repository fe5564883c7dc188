//! NVMe commands as the kernel's generic NVMe character devices take them through a ring.

use zerocopy::{Immutable, IntoBytes};

/// `_IOWR('N', 0x80, struct nvme_uring_cmd)` of `linux/nvme_ioctl.h`: a command for the I/O queue.
pub(super) const NVME_URING_CMD_IO: u32 = 0xC048_4E80;

/// `struct nvme_uring_cmd` of `linux/nvme_ioctl.h`, in the machine's byte order. The ring fills in address and length
/// of the data.
#[derive(Clone, Copy, Debug, Default, IntoBytes, Immutable)]
#[repr(C)]
pub struct NvmeCommand {
    pub(crate) opcode: u8,
    flags: u8,
    reserved1: u16,
    pub(crate) nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    data: u64,
    metadata_bytes: u32,
    data_bytes: u32,
    /// Command words 10 to 15.
    pub(crate) words: [u32; 6],
    /// 0: the kernel's.
    timeout_ms: u32,
    reserved2: u32,
}

impl NvmeCommand {
    /// A command for a namespace with its command words 10 to 15.
    pub(crate) fn new(opcode: u8, nsid: u32, words: [u32; 6]) -> Self {
        Self { opcode, nsid, words, ..Self::default() }
    }

    /// The command part of a 128-byte submission entry.
    pub(super) fn with_data(&self, address: u64, bytes: u32) -> [u8; 80] {
        let whole = Self { data: address, data_bytes: bytes, ..*self };
        let mut entry = [0; 80];
        entry.iter_mut().zip(whole.as_bytes()).for_each(|(to, from)| *to = *from);
        entry
    }
}

/// What an NVMe device answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvmeAnswer {
    /// The status field of the completion without its phase bit; 0 is success.
    pub(crate) status: u16,
    /// The first 64 bits of the completion: of an append, the sector where it landed.
    pub(crate) result: u64,
}
