//! What a run of zones holds after a restart: nothing, an extent that goes on, one that has ended, or damage.
//!
//! Zones are only reset here when nothing was ever acknowledged in them: the torn creation of an extent. An extent
//! goes on only where its zones prove that nothing has ended it (invariants 6 and 8).

use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::{Zone, ZoneCondition, ZoneId};
use shingle_proto::ids::{BlockHash, OsdId, PutId};
use shingle_proto::limits::RECORD_ALIGN_BYTES;
use shingle_proto::message::{ExtentState, FindingKind};

use super::format::{FormatError, SECTOR_BYTES};
use super::header::ExtentHeader;
use super::layout::Layout;
use super::placement::Spot;
use super::reader::{Unit, ZoneScan};
use super::record::Record;
use super::scan::{Outcomes, Scan, ScanError, Scanned, readable_bytes};
use super::toc::{Place, Toc};

/// Something unreadable or gone that was durable once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub kind: FindingKind,
    pub hash: Option<BlockHash>,
    pub put_id: PutId,
    pub detail: String,
}

/// An extent found on disk.
pub struct Recovered {
    pub header: ExtentHeader,
    pub state: ExtentState,
    /// Where an open extent goes on.
    pub next: Spot,
    /// The sequence of the next record.
    pub next_sequence: u64,
    pub toc: Toc,
    pub records: u32,
    pub record_bytes: u64,
    /// Zones that nothing will be written to any more and that still hold the device's resources.
    pub to_finish: Vec<ZoneId>,
    pub outcomes: Outcomes,
    pub damages: Vec<Damage>,
}

/// What a slot is.
pub enum Slot {
    /// All its zones are empty.
    Free,
    /// An extent's creation was cut off: its one written zone is to be reset, then the slot is free.
    TornCreation(ZoneId),
    Extent(Box<Recovered>),
    /// Neither free nor an extent: left alone until somebody looks at it.
    Retired(&'static str),
}

/// Looks at one slot. `zones` are the report's lines for it, in order.
pub async fn recover(
    device: &dyn ZonedDevice,
    layout: &Layout,
    osd: OsdId,
    slot: u32,
    zones: &[Zone],
) -> Result<Slot, ScanError> {
    let Some(first) = zones.first() else { return Ok(Slot::Retired("no zones")) };
    if zones.iter().all(|zone| zone.condition == ZoneCondition::Empty) {
        return Ok(Slot::Free);
    }
    let mut head = ZoneScan::new(device, first.id, readable_bytes(first, layout));
    let header = match head.unit(0).await? {
        Some(Unit::Bytes(bytes)) => ExtentHeader::decode(bytes),
        Some(Unit::Unreadable) | None => Err(FormatError::Absent),
    };
    match header {
        Ok(header) if header.slot == slot && header.osd == osd => {
            let scanned = Scan::new(device, *layout, zones, header.extent).run().await?;
            Ok(Slot::Extent(Box::new(assemble(layout, zones, header, scanned, true))))
        }
        Ok(_) => Ok(Slot::Retired("the header of another disk's or another slot's extent")),
        Err(FormatError::Newer(version)) => Err(ScanError::Newer(version)),
        Err(_) if is_torn_creation(zones) => Ok(Slot::TornCreation(first.id)),
        Err(_) => match identity_from_records(device, layout, osd, slot, zones).await? {
            Some(header) => {
                let scanned = Scan::new(device, *layout, zones, header.extent).run().await?;
                Ok(Slot::Extent(Box::new(assemble(layout, zones, header, scanned, false))))
            }
            None => Ok(Slot::Retired("neither a header nor a record in zones that are not empty")),
        },
    }
}

/// Whether at most a header was ever appended: nothing in it can have been acknowledged.
fn is_torn_creation(zones: &[Zone]) -> bool {
    let Some((first, others)) = zones.split_first() else { return false };
    let appendable =
        matches!(first.condition, ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed);
    appendable
        && first.write_pointer_bytes <= SECTOR_BYTES as u64
        && others.iter().all(|zone| zone.condition == ZoneCondition::Empty)
}

/// Every record repeats what the header says, so a lost header costs no block.
async fn identity_from_records(
    device: &dyn ZonedDevice,
    layout: &Layout,
    osd: OsdId,
    slot: u32,
    zones: &[Zone],
) -> Result<Option<ExtentHeader>, DeviceError> {
    for zone in zones {
        let mut scan = ZoneScan::new(device, zone.id, readable_bytes(zone, layout));
        let mut offset_bytes = 0;
        while let Some(unit) = scan.unit(offset_bytes).await? {
            if let Unit::Bytes(bytes) = unit
                && let Ok(record) = Record::decode(bytes)
            {
                return Ok(Some(ExtentHeader {
                    extent: record.extent,
                    volume: record.volume,
                    bucket: record.bucket,
                    member: record.member,
                    created_ms: 0,
                    osd,
                    slot,
                }));
            }
            offset_bytes += u64::from(RECORD_ALIGN_BYTES);
        }
    }
    Ok(None)
}

fn assemble(
    layout: &Layout,
    zones: &[Zone],
    header: ExtentHeader,
    scanned: Scanned,
    header_is_sound: bool,
) -> Recovered {
    let mut damages = damages_of(&scanned);
    for zone in zones {
        let kind = match zone.condition {
            ZoneCondition::ReadOnly => FindingKind::ZoneReadOnly,
            ZoneCondition::Offline => FindingKind::ZoneOffline,
            _ => continue,
        };
        damages.push(damage(kind, format!("zone {} of the extent is {:?}", zone.id.0, zone.condition)));
    }
    if !header_is_sound {
        damages.push(damage(FindingKind::RecordDamaged, "the extent's header is damaged".to_owned()));
    }
    let ended = !damages.is_empty() || scanned.last_sequence >= u64::MAX - 1;
    let next = next_spot(layout, zones);
    let state = match (&scanned.closed, next) {
        (Some(_), _) => ExtentState::Closed,
        (None, Some(_)) if !ended => ExtentState::Open,
        (None, _) => ExtentState::Failed,
    };
    let mut toc = Toc::new();
    let mut record_bytes = 0;
    for seen in scanned.whole.iter().chain(&scanned.damaged) {
        let record = &seen.record;
        toc.insert(&record.hash, record.put_id, Place::new(seen.spot.offset_in_extent(layout), record.bytes()));
        record_bytes += record.bytes();
    }
    if state != ExtentState::Open {
        toc.close();
    }
    let next = next.unwrap_or(Spot { zone: layout.zones_per_extent, offset_bytes: 0 });
    let goes_on = if state == ExtentState::Open { next.zone } else { layout.zones_per_extent };
    Recovered {
        header,
        state,
        next,
        next_sequence: scanned.last_sequence.saturating_add(1),
        records: u32::try_from(toc.len()).unwrap_or(u32::MAX),
        toc,
        record_bytes,
        to_finish: to_finish(zones, goes_on, state),
        outcomes: scanned.outcomes,
        damages,
    }
}

fn damage(kind: FindingKind, detail: String) -> Damage {
    Damage { kind, hash: None, put_id: PutId(0), detail }
}

fn damages_of(scanned: &Scanned) -> Vec<Damage> {
    let mut damages: Vec<Damage> = scanned
        .damaged
        .iter()
        .map(|seen| Damage {
            kind: FindingKind::RecordDamaged,
            hash: Some(seen.record.hash),
            put_id: seen.record.put_id,
            detail: format!("record {} was durable and fails its checksum", seen.record.sequence),
        })
        .collect();
    if scanned.outcomes.missing > 0 {
        let runs = scanned.outcomes.missing;
        damages.push(damage(FindingKind::RecordMissing, format!("{runs} runs of durable records are gone")));
    }
    if scanned.outcomes.unreadable > 0 {
        let units = scanned.outcomes.unreadable;
        damages.push(damage(FindingKind::UnreadableSector, format!("{units} units of 4 KiB cannot be read")));
    }
    damages
}

/// Where appending goes on: at the write pointer of the last zone written, or in the one behind it. `None`: nowhere.
fn next_spot(layout: &Layout, zones: &[Zone]) -> Option<Spot> {
    let written = zones.iter().rposition(|zone| zone.condition != ZoneCondition::Empty)?;
    let zone = zones.get(written)?;
    let following = u32::try_from(written + 1).ok()?;
    let pointer_bytes = zone.write_pointer_bytes;
    let here = match zone.condition {
        ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed => {
            pointer_bytes < layout.zone_used_bytes && pointer_bytes.is_multiple_of(u64::from(RECORD_ALIGN_BYTES))
        }
        _ => false,
    };
    if here {
        return Some(Spot { zone: following - 1, offset_bytes: pointer_bytes });
    }
    (following < layout.zones_per_extent).then_some(Spot { zone: following, offset_bytes: 0 })
}

/// Zones before the one that goes on, if still active. A failed extent's empty zones too, so that its end is written on
/// the disk; a closed one's record of closing is enough.
fn to_finish(zones: &[Zone], goes_on: u32, state: ExtentState) -> Vec<ZoneId> {
    zones
        .iter()
        .zip(0..)
        .filter(|&(zone, index)| match zone.condition {
            ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed => index < goes_on,
            ZoneCondition::Empty => state == ExtentState::Failed,
            _ => false,
        })
        .map(|(zone, _)| zone.id)
        .collect()
}
