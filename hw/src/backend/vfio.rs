//! A zoned NVMe namespace without the kernel's driver: this process drives the controller itself, through VFIO.
//!
//! The commands are those of the passthrough back end; only their way is another one: a queue in memory that the
//! controller reads, registers mapped into this process, completions found by polling while there are many and by an
//! interrupt, which signals the ring's event, otherwise. No system call is made for a command whose buffer comes from
//! the pool, which is shown to the device once and stays in memory.
//!
//! Invariants: the device reaches no memory but queues, lists, the pool and the buffers of commands in flight, which the
//! IOMMU sees to; a controller that fails is cut off before any memory is freed, and takes no command afterwards.

mod bar;
mod binding;
mod controller;
mod dma;
mod engine;
#[cfg(test)]
mod engine_tests;
#[cfg(test)]
mod fake;
mod group;
mod ioctl;
mod iova;
mod memory;
mod open;
mod prp;
mod queue;
mod registers;

use std::path::Path;
use std::rc::Rc;

use crate::backend::drive::Drive;
use crate::backend::nvme::NvmePort;
use crate::buffer::BufferPool;
use crate::ring::Ring;

pub use self::binding::{Address, BindingError, give_back, take};
use self::engine::Queues;
pub use self::open::{OpenError, PREFIX};

/// A zoned namespace of a controller of ours, open.
pub type VfioDevice = Drive<NvmePort<Queues>>;

/// Whether a path is the name of a device of this back end.
pub fn is_named(path: &Path) -> bool {
    path.to_str().is_some_and(|name| name.starts_with(PREFIX))
}

/// Opens a namespace by its controller's PCI address (`vfio:0000:01:00.0`, `vfio:0000:01:00.0/2`) for this process
/// alone. Blocks: it resets the controller and reads the whole zone report. All of `pool` is locked in memory as long
/// as the device lives; buffers from elsewhere work but cost two system calls each.
pub fn open(path: &Path, ring: Rc<Ring>, pool: BufferPool) -> Result<VfioDevice, OpenError> {
    let found = open::examine(path, &ring, &pool)?;
    Ok(Drive::new(found.port, ring, found.states, found.identity, pool))
}
