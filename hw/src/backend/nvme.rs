//! A zoned NVMe namespace through the kernel's generic character device (`/dev/ngXnY`): commands as the drive knows
//! them, on the shard's ring, past the block layer.
//!
//! Records within the drive's append limit go by Zone Append, several per zone at once, and the drive says where they
//! landed; larger ones go by Write at the write pointer, alone in their zone. Nothing here blocks, so there is no thread.
//! The pool's pages are registered with the ring, so no transfer pins any; that keeps all of the pool in memory.
//!
//! Invariants: the block node of the same namespace is held exclusively meanwhile, so that nobody writes through the
//! block layer, whose idea of the write pointers would be wrong; a device is known by its serial number.

mod identify;
mod lanes;
mod namespace;
mod open;
mod passthrough;
mod port;
mod report;
mod status;
mod transport;

use std::path::Path;
use std::rc::Rc;

use crate::backend::drive::Drive;
use crate::buffer::BufferPool;
use crate::ring::Ring;

pub(super) use self::identify::{Query, identify};
pub(super) use self::namespace::{Shape, reported_zones, shape};
pub use self::open::OpenError;
pub(super) use self::port::NvmePort;
pub(super) use self::report::ZONE_MANAGEMENT_RECEIVE;
pub(super) use self::status::Refusal;
use self::transport::Passthrough;
pub(super) use self::transport::{Ended, Transport};

/// A zoned NVMe namespace, open.
pub type NvmeDevice = Drive<NvmePort<Passthrough>>;

/// Opens a namespace for this process alone. Blocks: it identifies the drive and reads the whole zone report. The
/// device's commands go through `ring`, its buffers come from `pool`.
pub fn open(path: &Path, ring: Rc<Ring>, pool: BufferPool) -> Result<NvmeDevice, OpenError> {
    let found = open::examine(path)?;
    ring.register(&pool);
    let port = NvmePort::new(Passthrough::new(found.file, found.holder, Rc::clone(&ring)), found.namespace);
    Ok(Drive::new(port, ring, found.states, found.identity, pool))
}
