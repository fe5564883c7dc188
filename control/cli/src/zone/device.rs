//! Opens a device for a tool: the file of an emulated drive, a zoned block device, an NVMe namespace with the kernel
//! or with us.
//!
//! A tool talks to a device with one command at a time and blocks.

use std::path::Path;
use std::rc::Rc;

use shingle_hw::backend::{self, OpenError, blkzoned, file, nvme, vfio};
use shingle_hw::buffer::BufferPool;
use shingle_hw::device::{Command, ZonedDevice};
use shingle_hw::ring::{Ring, block_on};

use crate::failure::Failure;

/// Entries of a tool's ring.
const RING_ENTRIES: u32 = 256;

/// Memory a tool's transfers come from before the heap has to help.
const POOL_BYTES: usize = 64 << 20;

/// A device and the ring that moves it.
pub struct Opened {
    pub device: Rc<dyn ZonedDevice>,
    pub ring: Rc<Ring>,
}

impl Opened {
    /// Runs one command to its end.
    pub fn run<T>(&self, command: Command<T>) -> T {
        block_on(&self.ring, command)
    }
}

/// Opens a device for this process alone.
pub fn open(path: &Path) -> Result<Opened, Failure> {
    let (ring, pool) = ring_and_pool()?;
    let device = backend::open(path, Rc::clone(&ring), pool).map_err(|error| refusal(&error))?;
    Ok(Opened { device, ring })
}

/// What a tool moves a device with.
pub fn ring_and_pool() -> Result<(Rc<Ring>, BufferPool), Failure> {
    let ring = Ring::new(RING_ENTRIES).map_err(Failure::io("io_uring, which devices need, does not start"))?;
    let pool = BufferPool::new(POOL_BYTES).map_err(Failure::io("no memory for transfers"))?;
    Ok((ring, pool))
}

/// Why a device was not opened, and what to do.
pub fn refusal(error: &OpenError) -> Failure {
    let what = error.to_string();
    match error {
        OpenError::File(file::OpenError::Missing { .. }) => {
            Failure::usage(what, "name a device or the file of an emulated drive; `shingle zone create` makes one")
        }
        OpenError::Vfio(vfio::OpenError::Name { .. }) => Failure::usage(what, "the address is that of `lspci -D`"),
        OpenError::Vfio(vfio::OpenError::Locked { .. }) => Failure::failed(what, ""),
        OpenError::File(file::OpenError::Locked { .. })
        | OpenError::Block(blkzoned::OpenError::Held { .. })
        | OpenError::Nvme(nvme::OpenError::Held { .. })
        | OpenError::Vfio(vfio::OpenError::Held { .. }) => {
            Failure::InUse { what, advice: "stop the process that has it, a host most likely".into() }
        }
        OpenError::File(file::OpenError::Permission { .. })
        | OpenError::Block(blkzoned::OpenError::Permission { .. })
        | OpenError::Nvme(nvme::OpenError::Permission { .. })
        | OpenError::Vfio(vfio::OpenError::Permission { .. }) => {
            Failure::failed(what, "run as a user who may write it")
        }
        _ => Failure::unfit(what, ""),
    }
}
