//! Reading the journal back: the newest chain whose snapshot is whole, up to its end.
//!
//! What follows the end of a chain is read on, so that a torn end (nobody relied on it) is told from damage in the
//! middle: batches say how much of their chain was durable before them.

use std::collections::BTreeMap;

use shingle_hw::buffer::Buffer;
use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::{Zone, ZoneCondition, ZoneId};
use shingle_proto::limits::{JOURNAL_BATCH_BYTES_MAX, RECORD_ALIGN_BYTES};

use super::log::{journal_zones, other_zone, room_bytes};
use super::{Batch, Chain, SlotEntry};
use crate::extent::format::FormatError;
use crate::extent::label::Label;
use crate::extent::reader::read;
use crate::extent::scan::{ScanError, readable_bytes};

const UNIT: u64 = RECORD_ALIGN_BYTES as u64;

/// What the journal turned out to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JournalFound {
    /// No trace of one: a new disk, or both zones were lost.
    #[default]
    Absent,
    /// Read to its end.
    Whole,
    /// Read, but batches that were durable once are gone behind what was read.
    Stale,
    /// Batches of this disk, and no chain with a whole snapshot.
    Damaged,
    /// Batches of another disk, or of this one under an earlier label; not used.
    Foreign,
}

/// The journal as a start finds it.
#[derive(Debug, Default)]
pub struct Replayed {
    pub found: JournalFound,
    /// By slot; without an entry: nothing is known.
    pub slots: BTreeMap<u32, SlotEntry>,
    /// The zone it was read from.
    pub zone: Option<ZoneId>,
    /// Above that of every batch on the disk.
    pub next_epoch: u64,
    /// What each of the two zones holds.
    pub sides: Vec<Side>,
}

/// One zone of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    pub zone: ZoneId,
    /// What its first batch belongs to.
    pub chain: Option<Chain>,
    /// Batches of that chain, read one behind the other.
    pub batches: u32,
    /// Bytes they take.
    pub chain_bytes: u64,
    /// Whether its snapshot is whole.
    pub usable: bool,
    /// Batches of another disk, or of this one under an earlier label.
    pub foreign: bool,
    /// Where a batch should be and is not sound.
    pub flaws: Vec<Flaw>,
}

/// A place in a journal zone that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaw {
    pub offset_bytes: u64,
    /// `None`: the device cannot read it.
    pub cause: Option<FormatError>,
}

/// One zone's batches.
#[derive(Default)]
struct ZoneJournal {
    chain: Option<Chain>,
    batches: u32,
    slots: BTreeMap<u32, SlotEntry>,
    /// What other batches in the zone prove to have been durable: epoch, batches, those of its snapshot.
    proofs: Vec<(Chain, u32)>,
    chain_bytes: u64,
    flaws: Vec<Flaw>,
    foreign: bool,
    epoch_max: u64,
}

impl ZoneJournal {
    /// Whether there is a chain with its whole snapshot.
    fn is_usable(&self) -> bool {
        self.chain.is_some_and(|chain| self.batches >= chain.snapshot_batches)
    }

    fn side(&self, zone: ZoneId) -> Side {
        Side {
            zone,
            chain: self.chain,
            batches: self.batches,
            chain_bytes: self.chain_bytes,
            usable: self.is_usable(),
            foreign: self.foreign,
            flaws: self.flaws.clone(),
        }
    }

    /// Whether batches here prove that more was durable than was read as far as `used`.
    fn proves_more(&self, used: &Chain, batches: u32) -> bool {
        self.proofs.iter().any(|(chain, durable)| match chain.epoch.cmp(&used.epoch) {
            std::cmp::Ordering::Greater => *durable >= chain.snapshot_batches,
            std::cmp::Ordering::Equal => chain.chain == used.chain && *durable > batches,
            std::cmp::Ordering::Less => false,
        })
    }
}

/// Reads the journal of a disk. `zones` is its whole report.
///
/// # Errors
/// The device itself, or a batch of a newer version.
pub async fn replay(device: &dyn ZonedDevice, label: &Label, zones: &[Zone]) -> Result<Replayed, ScanError> {
    let mut read = Vec::new();
    for zone in journal_zones() {
        let found = match zones.get(zone.0 as usize) {
            Some(line) => read_zone(device, label, line).await?,
            None => ZoneJournal::default(),
        };
        read.push((zone, found));
    }
    let sides = read.iter().map(|(zone, found)| found.side(*zone)).collect();
    let next_epoch = read.iter().map(|(_, found)| found.epoch_max).max().unwrap_or(0).saturating_add(1);
    let newest = read
        .iter()
        .filter(|(_, found)| found.is_usable())
        .max_by_key(|(_, found)| found.chain.map(|chain| chain.epoch))
        .and_then(|(zone, found)| Some((*zone, found, found.chain?)));
    let Some((zone, used, chain)) = newest else {
        let found = match &read {
            zones if zones.iter().any(|(_, zone)| zone.foreign) => JournalFound::Foreign,
            zones if zones.iter().any(|(_, zone)| !zone.flaws.is_empty() || zone.chain.is_some()) => {
                JournalFound::Damaged
            }
            _ => JournalFound::Absent,
        };
        return Ok(Replayed { found, next_epoch, sides, ..Replayed::default() });
    };
    // A chain that cannot have gone on in its zone may have gone on in the other one, and that one may be gone.
    let is = |zone: ZoneId, condition| zones.get(zone.0 as usize).is_some_and(|zone| zone.condition == condition);
    let stale = is(zone, ZoneCondition::ReadOnly)
        || is(other_zone(zone), ZoneCondition::Offline)
        || read.iter().any(|(_, found)| found.proves_more(&chain, used.batches));
    let found = if stale { JournalFound::Stale } else { JournalFound::Whole };
    Ok(Replayed { found, slots: used.slots.clone(), zone: Some(zone), next_epoch, sides })
}

async fn read_zone(device: &dyn ZonedDevice, label: &Label, zone: &Zone) -> Result<ZoneJournal, ScanError> {
    let limit_bytes = readable_bytes(zone, &label.layout).min(room_bytes(&label.layout));
    let mut window = Window { device, zone: zone.id, limit_bytes, held: None };
    let mut found = ZoneJournal::default();
    let mut offset_bytes = 0;
    let mut in_chain = true;
    while offset_bytes < limit_bytes {
        let mut step = UNIT;
        match window.batch(offset_bytes).await {
            Ok(Ok(batch)) => {
                let ours = batch.chain.osd == label.osd && batch.chain.disk == label.disk;
                let legal = batch.entries.iter().all(|entry| entry.slot < label.layout.extents);
                in_chain &= ours && legal && found.chain.unwrap_or(batch.chain) == batch.chain;
                in_chain &= batch.index == found.batches;
                if in_chain {
                    found.chain = Some(batch.chain);
                    found.batches += 1;
                    step = batch.bytes();
                    found.chain_bytes += step;
                    found.slots.extend(batch.entries.iter().map(|entry| (entry.slot, *entry)));
                } else if ours {
                    found.proofs.push((batch.chain, batch.durable_batches));
                }
                found.foreign |= !ours;
                if ours {
                    found.epoch_max = found.epoch_max.max(batch.chain.epoch);
                }
            }
            Ok(Err(FormatError::Newer(version))) => return Err(ScanError::Newer(version)),
            Ok(Err(FormatError::Absent)) => in_chain = false,
            Ok(Err(cause)) => {
                in_chain = false;
                found.flaws.push(Flaw { offset_bytes, cause: Some(cause) });
            }
            Err(DeviceError::Unreadable { .. } | DeviceError::Offline { .. }) => {
                in_chain = false;
                found.flaws.push(Flaw { offset_bytes, cause: None });
            }
            Err(failure) => return Err(failure.into()),
        }
        offset_bytes += step;
    }
    Ok(found)
}

/// Reads a zone in pieces of the largest batch.
struct Window<'a> {
    device: &'a dyn ZonedDevice,
    zone: ZoneId,
    limit_bytes: u64,
    held: Option<(u64, usize, Buffer)>,
}

impl Window<'_> {
    /// The batch at an offset.
    async fn batch(&mut self, offset_bytes: u64) -> Result<Result<Batch, FormatError>, DeviceError> {
        let decoded = self.held_from(offset_bytes).map(Batch::decode);
        match decoded {
            None | Some(Err(FormatError::Short)) => {}
            Some(decoded) => return Ok(decoded),
        }
        let bytes = u64::from(JOURNAL_BATCH_BYTES_MAX).min(self.limit_bytes - offset_bytes) as usize;
        match read(self.device, self.zone, offset_bytes, bytes).await {
            Ok(buffer) => self.held = Some((offset_bytes, bytes, buffer)),
            // Something in the window is bad, maybe not this batch.
            Err(DeviceError::Unreadable { .. }) if bytes as u64 > UNIT => return self.single(offset_bytes).await,
            Err(failure) => return Err(failure),
        }
        Ok(self.held_from(offset_bytes).map_or(Err(FormatError::Short), Batch::decode))
    }

    /// Reads no more than one batch.
    async fn single(&mut self, offset_bytes: u64) -> Result<Result<Batch, FormatError>, DeviceError> {
        let head = read(self.device, self.zone, offset_bytes, UNIT as usize).await?;
        let bytes = match Batch::length(&head) {
            Ok(bytes) if offset_bytes + bytes <= self.limit_bytes => bytes as usize,
            Ok(_) => return Ok(Err(FormatError::Short)),
            Err(error) => return Ok(Err(error)),
        };
        let whole = read(self.device, self.zone, offset_bytes, bytes).await?;
        Ok(whole.get(..bytes).map_or(Err(FormatError::Short), Batch::decode))
    }

    fn held_from(&self, offset_bytes: u64) -> Option<&[u8]> {
        let (start, bytes, buffer) = self.held.as_ref()?;
        let within = usize::try_from(offset_bytes.checked_sub(*start)?).ok()?;
        buffer.get(within..*bytes).filter(|rest| !rest.is_empty())
    }
}
