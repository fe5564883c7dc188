//! Writing the journal: a snapshot begins a zone, news follow it, and when the zone has taken enough the other one begins.
//!
//! One life writes one chain at a time and never goes on with an earlier life's, so what that left behind is never taken
//! for news. The zone before is reset only after the new snapshot is durable.

use shingle_hw::buffer::Buffer;
use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::{ZoneCondition, ZoneId};
use shingle_proto::limits::{JOURNAL_BATCH_BYTES_MAX, JOURNAL_NEWS_BYTES_MAX, JOURNAL_ZONES, RECORD_ALIGN_BYTES};

use super::{BATCH_ENTRIES_MAX, Batch, Chain, SlotEntry, batch_bytes};
use crate::extent::layout::{JOURNAL_FIRST_ZONE, Layout};
use crate::extent::writer::{WriteError, append, pieces};

/// The journal's zones.
pub fn journal_zones() -> impl Iterator<Item = ZoneId> {
    (JOURNAL_FIRST_ZONE..JOURNAL_FIRST_ZONE + JOURNAL_ZONES).map(ZoneId)
}

/// The zone whose turn comes after `zone`.
pub fn other_zone(zone: ZoneId) -> ZoneId {
    ZoneId(JOURNAL_FIRST_ZONE + (zone.0 + 1 - JOURNAL_FIRST_ZONE) % JOURNAL_ZONES)
}

/// Bytes of a journal zone that are ever written: the largest snapshot and the news after it.
pub fn room_bytes(layout: &Layout) -> u64 {
    let snapshot = (layout.extents as usize).div_ceil(BATCH_ENTRIES_MAX) as u64 * u64::from(JOURNAL_BATCH_BYTES_MAX);
    (snapshot + JOURNAL_NEWS_BYTES_MAX).min(layout.zone_used_bytes)
}

/// Where a chain goes on.
#[derive(Clone, Copy, Debug)]
pub struct Tail {
    pub chain: Chain,
    pub zone: ZoneId,
    pub offset_bytes: u64,
    pub batches: u32,
    pub durable_batches: u32,
}

impl Tail {
    /// Whether so many more entries go into this zone.
    pub fn has_room(&self, layout: &Layout, entries: usize) -> bool {
        self.offset_bytes + batch_bytes(entries) <= room_bytes(layout)
    }
}

/// Begins a chain with a snapshot in a zone that holds nothing anybody needs. It counts once it is durable.
pub async fn begin(
    device: &dyn ZonedDevice,
    zone: ZoneId,
    chain: Chain,
    snapshot: &[SlotEntry],
) -> Result<Tail, WriteError> {
    reset(device, zone).await?;
    let parts = snapshot.chunks(BATCH_ENTRIES_MAX);
    // An empty snapshot is a batch as well: it says that the disk holds nothing.
    let snapshot_batches = parts.len().max(1) as u32;
    let chain = Chain { snapshot_batches, ..chain };
    let mut tail = Tail { chain, zone, offset_bytes: 0, batches: 0, durable_batches: 0 };
    if snapshot.is_empty() {
        tail = add(device, tail, &[]).await?;
    }
    for part in parts {
        tail = add(device, tail, part).await?;
    }
    Ok(tail)
}

/// Adds a batch to a chain that has room for it; where the chain goes on then.
pub async fn add(device: &dyn ZonedDevice, tail: Tail, entries: &[SlotEntry]) -> Result<Tail, WriteError> {
    let batch = Batch {
        chain: tail.chain,
        index: tail.batches,
        durable_batches: tail.durable_batches,
        entries: entries.to_vec(),
    };
    let bytes = batch.bytes() as usize;
    let mut buffer = device.alloc_buffer(bytes);
    if let Some(whole) = buffer.get_mut(..bytes) {
        batch.encode(whole);
    }
    if is_conventional(device, tail.zone) {
        write(device, tail.zone, tail.offset_bytes, buffer, bytes).await?;
    } else {
        append(device, tail.zone, tail.offset_bytes, buffer, bytes).await?;
    }
    Ok(Tail { offset_bytes: tail.offset_bytes + bytes as u64, batches: tail.batches + 1, ..tail })
}

/// Gives back what the device holds for a zone that is not written to any more.
pub async fn finish(device: &dyn ZonedDevice, zone: ZoneId) -> Result<(), DeviceError> {
    let line = device.report(zone, 1).await?.pop();
    match line.map(|line| line.condition) {
        Some(ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed) => {
            device.finish(zone).await
        }
        _ => Ok(()),
    }
}

/// Makes a zone hold no chain: resets it, or overwrites the beginning of a conventional one.
pub async fn reset(device: &dyn ZonedDevice, zone: ZoneId) -> Result<(), DeviceError> {
    if is_conventional(device, zone) {
        let bytes = RECORD_ALIGN_BYTES as usize;
        let mut buffer = device.alloc_buffer(bytes);
        buffer.fill(0);
        return write(device, zone, 0, buffer, bytes).await;
    }
    let line = device.report(zone, 1).await?.pop();
    match line.map(|line| line.condition) {
        Some(ZoneCondition::Empty) => Ok(()),
        _ => device.reset(zone).await,
    }
}

fn is_conventional(device: &dyn ZonedDevice, zone: ZoneId) -> bool {
    zone.0 < device.geometry().conventional_zones
}

async fn write(
    device: &dyn ZonedDevice,
    zone: ZoneId,
    offset_bytes: u64,
    mut buffer: Buffer,
    bytes: usize,
) -> Result<(), DeviceError> {
    for piece in pieces(device, bytes) {
        let (result, returned) = device.write(zone, offset_bytes + piece.start as u64, buffer, piece).await;
        buffer = returned;
        result?;
    }
    Ok(())
}
