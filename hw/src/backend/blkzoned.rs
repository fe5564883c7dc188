//! A host-managed drive as a Linux zoned block device: SMR disks, the block node of a ZNS namespace, null_blk.
//!
//! Transfers are direct and go through the shard's ring, a flush is an fsync of the node. The kernel offers zone
//! commands as ioctls only, which block: tens of microseconds for most, up to seconds for a reset on a busy SMR disk.
//! They run on one thread of the device, in order, so that the shard never waits for them.
//!
//! Invariants: the node is open exclusively (not mounted, not held, no other Shingle) unless it is only looked at; one write
//! is in flight per zone, at its write pointer; a device is known by its serial number, whatever its node is called today.

mod ioctl;
mod open;
mod port;
mod sysfs;
mod worker;

use std::path::Path;
use std::rc::Rc;

use crate::backend::drive::Drive;
use crate::buffer::BufferPool;
use crate::ring::Ring;

pub use self::open::OpenError;
use self::port::BlockPort;

/// A zoned block device, open.
pub type BlockDevice = Drive<BlockPort>;

/// Opens a zoned block device for this process alone. Blocks: it reads the whole zone report. The device's transfers go
/// through `ring`, its buffers come from `pool`.
pub fn open(path: &Path, ring: Rc<Ring>, pool: BufferPool) -> Result<BlockDevice, OpenError> {
    open_as(path, None, ring, pool)
}

/// As `open`, for devices that have no serial number: memory-backed ones, for tests. The caller vouches for `serial`.
pub fn open_as(path: &Path, serial: Option<&str>, ring: Rc<Ring>, pool: BufferPool) -> Result<BlockDevice, OpenError> {
    Ok(drive(open::examine(path, serial)?, ring, pool))
}

/// Opens a zoned block device for reading, beside whoever else has it.
pub(super) fn look(path: &Path, ring: Rc<Ring>, pool: BufferPool) -> Result<BlockDevice, OpenError> {
    Ok(drive(open::examine_to_look(path)?, ring, pool))
}

fn drive(found: open::Found, ring: Rc<Ring>, pool: BufferPool) -> BlockDevice {
    let geometry = found.states.geometry();
    let port = BlockPort::new(found.file, found.worker, Rc::clone(&ring), geometry.zone_bytes);
    Drive::new(port, ring, found.states, found.identity, pool)
}
