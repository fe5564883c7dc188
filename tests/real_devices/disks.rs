//! Disks as devices know them: made blank, and read past everybody to see which records lie where.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use shingle_hw::backend;
use shingle_hw::buffer::{Buffer, BufferPool};
use shingle_hw::ring::{Ring, block_on};
use shingle_hw::zone::{ZoneCondition, ZoneId};
use shingle_node::extent::format::SECTOR_BYTES;
use shingle_node::extent::record::{Record, RecordKind};
use shingle_proto::ids::{BlockHash, ExtentId};

use crate::devices::wait_for;

/// Bytes written at a time; zones are multiples of it.
const PIECE_BYTES: u32 = 256 << 10;

/// Resets every zone that is not empty, and writes zeroes where zones cannot be reset.
pub fn blank(node: &Path) {
    let ring = Ring::new(16).expect("io_uring works here");
    let pool = BufferPool::new(1 << 20).expect("mapped");
    until_free(node);
    let device = backend::open(node, Rc::clone(&ring), pool).expect("opens");
    let piece = device.geometry().transfer_bytes_max.min(PIECE_BYTES) as usize;
    for zone in block_on(&ring, device.report(ZoneId(0), u32::MAX)).expect("reports") {
        match zone.condition {
            ZoneCondition::Empty => {}
            // Labels and journal lie here.
            ZoneCondition::NotWritePointer => {
                for at in (0..zone.capacity_bytes).step_by(piece) {
                    let zeroes = Buffer::new_unpooled(piece);
                    block_on(&ring, device.write(zone.id, at, zeroes, 0..piece)).0.expect("writes");
                }
            }
            _ => block_on(&ring, device.reset(zone.id)).expect("resets"),
        }
    }
    drop((device, ring));
    until_free(node);
}

/// Waits until nobody holds a device: a ring that has ended lets go of its files a moment later.
pub fn until_free(node: &Path) {
    wait_for("the end of the last use", || {
        let file = File::options().read(true).custom_flags(libc::O_EXCL).open(node).ok()?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).ok()
    });
}

/// A block's record on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lying {
    pub hash: BlockHash,
    pub extent: ExtentId,
    pub zone: u32,
    /// Where the record begins on the disk.
    pub at: u64,
    pub bytes: u64,
}

/// Every block's record on a disk, by reading all of it. Nothing that knows where they should be is asked.
pub fn records(node: &Path, zone_bytes: u64) -> Vec<Lying> {
    let mut disk = File::options().read(true).custom_flags(libc::O_DIRECT).open(node).expect("opens");
    let mut window = Buffer::new_unpooled(1 << 20);
    let (mut at, mut found) = (0, Vec::new());
    loop {
        let bytes = disk.read(&mut window).expect("reads");
        if bytes == 0 {
            return found;
        }
        for sector in window[..bytes].chunks(SECTOR_BYTES) {
            if let Some(record) = Record::decode(sector).ok().filter(|record| record.kind == RecordKind::Block) {
                let (hash, extent, zone) = (record.hash, record.extent, (at / zone_bytes) as u32);
                found.push(Lying { hash, extent, zone, at, bytes: record.bytes() });
            }
            at += sector.len() as u64;
        }
    }
}
