//! What a run of zones holds after a restart: nothing, an extent that goes on, one that has ended, or damage.
//!
//! Zones are only reset here when nothing was ever acknowledged in them: the torn creation of an extent. An extent
//! goes on only where its zones prove that nothing has ended it (invariants 6 and 8).

use std::collections::BTreeSet;

use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::{Zone, ZoneCondition, ZoneId};
use shingle_proto::ids::{BlockHash, OsdId, PutId};
use shingle_proto::limits::RECORD_ALIGN_BYTES;
use shingle_proto::message::{ExtentState, FindingKind};

use super::closed::{Closing, read_closing};
use super::footer::TocEntry;
use super::format::{FormatError, SECTOR_BYTES};
use super::header::ExtentHeader;
use super::journal::{FooterPlace, SlotEntry, SlotState};
use super::label::Label;
use super::layout::Layout;
use super::placement::Spot;
use super::reader::{Unit, ZoneScan};
use super::record::Record;
use super::scan::{Outcomes, Scan, ScanError, Scanned, Seen, pointer_counts, readable_bytes};
use super::toc::Toc;

/// What of an extent is damaged or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    Header,
    /// The record that closed it.
    Closing,
    Footer,
    /// A record whose place is known.
    Record,
    /// Records whose places nothing tells any more.
    Records,
    /// Bytes that cannot be read.
    Sectors,
}

/// Something unreadable or gone that was durable once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub kind: FindingKind,
    pub lost: Lost,
    /// Where, as far as that is known.
    pub offset_in_extent: Option<u64>,
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
    /// The records of an open extent, for its footer.
    pub entries: Vec<TocEntry>,
    /// Where the footer of a closed extent is.
    pub footer: Option<FooterPlace>,
    pub records: u32,
    pub record_bytes: u64,
    /// Zones that nothing will be written to any more and that still hold the device's resources.
    pub to_finish: Vec<ZoneId>,
    pub outcomes: Outcomes,
    pub damages: Vec<Damage>,
    /// Whether its records were looked for one by one.
    pub scanned: bool,
}

/// What a slot is.
pub enum Slot {
    /// All its zones are empty.
    Free,
    /// Nothing in it, and a zone that can hold nothing any more.
    Bad,
    /// An extent's creation was cut off: its one written zone is to be reset, then the slot is free.
    TornCreation(ZoneId),
    /// The reset of its extent was cut off: it is to be completed, the first zone last.
    Resetting,
    Extent(Box<Recovered>),
    /// Neither free nor an extent: left alone until somebody looks at it.
    Retired(&'static str),
}

/// What the journal says of a slot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hint {
    pub entry: Option<SlotEntry>,
    /// Whether the journal was read to its end: what it does not say was not so.
    pub whole: bool,
}

/// Looks at one slot. `zones` are the report's lines for it, in order.
pub async fn recover(
    device: &dyn ZonedDevice,
    label: &Label,
    slot: u32,
    zones: &[Zone],
    hint: Hint,
) -> Result<Slot, ScanError> {
    let layout = &label.layout;
    let Some(first) = zones.first() else { return Ok(Slot::Retired("no zones")) };
    if zones.iter().all(|zone| zone.condition == ZoneCondition::Empty) {
        return Ok(Slot::Free);
    }
    if let Some(found) = closed_by_journal(device, label, slot, zones, hint).await? {
        return Ok(Slot::Extent(Box::new(found)));
    }
    let mut head = ZoneScan::new(device, first.id, readable_bytes(first, layout));
    let header = match head.unit(0).await? {
        Some(Unit::Bytes(bytes)) => ExtentHeader::decode(bytes),
        Some(Unit::Unreadable) | None => Err(FormatError::Absent),
    };
    let (header, is_sound) = match header {
        Ok(header) if header.slot == slot && header.osd == label.osd => (header, true),
        Ok(_) => return Ok(Slot::Retired("the header of another disk's or another slot's extent")),
        Err(FormatError::Newer(version)) => return Err(ScanError::Newer(version)),
        Err(_) if is_torn_creation(zones) => return Ok(Slot::TornCreation(first.id)),
        Err(_) => match identity_from_records(device, layout, label.osd, slot, zones).await? {
            Some(header) => (header, false),
            None if zones.iter().all(|zone| is_bad(zone) || zone.condition == ZoneCondition::Empty) => {
                return Ok(Slot::Bad);
            }
            None => return Ok(Slot::Retired("neither a header nor a record in zones that are not empty")),
        },
    };
    let said = hint.entry.filter(|entry| entry.extent == header.extent).map(|entry| entry.state);
    if said == Some(SlotState::Resetting) {
        return Ok(Slot::Resetting);
    }
    let scanned = Scan::new(device, *layout, zones, header.extent).run().await?;
    let closing = match &scanned.closed {
        Some(seen) => {
            let place = (seen.spot.offset_in_extent(layout), seen.record.bytes());
            read_closing(device, label, (slot, zones), header.extent, place).await?
        }
        None => None,
    };
    let about = About { layout, zones, header, is_sound, said, journal_is_whole: hint.whole };
    Ok(Slot::Extent(Box::new(about.assemble(scanned, closing))))
}

/// Whether a zone can hold nothing new.
pub fn is_bad(zone: &Zone) -> bool {
    matches!(zone.condition, ZoneCondition::ReadOnly | ZoneCondition::Offline)
}

/// The closed extent whose footer the journal points at, when that proves itself: nothing else of it is read.
async fn closed_by_journal(
    device: &dyn ZonedDevice,
    label: &Label,
    slot: u32,
    zones: &[Zone],
    hint: Hint,
) -> Result<Option<Recovered>, DeviceError> {
    let Some(entry) = hint.entry.filter(|entry| matches!(entry.state, SlotState::Closed | SlotState::Trash)) else {
        return Ok(None);
    };
    let Some(place) = entry.footer else { return Ok(None) };
    let at = (place.offset_in_extent, place.bytes);
    let closing = read_closing(device, label, (slot, zones), entry.extent, at).await?;
    let Some(closing) = closing.filter(|closing| closing.place == place && closing.footer.is_complete()) else {
        return Ok(None);
    };
    let Closing { record, footer, place } = closing;
    let header = ExtentHeader {
        extent: footer.extent,
        volume: record.volume,
        bucket: record.bucket,
        member: record.member,
        created_ms: footer.created_ms,
        osd: footer.osd,
        slot,
    };
    let layout = &label.layout;
    Ok(Some(Recovered {
        header,
        state: ExtentState::Closed,
        next: end_of(layout),
        next_sequence: record.sequence.saturating_add(1),
        toc: toc_of(&footer.entries),
        entries: Vec::new(),
        footer: Some(place),
        records: footer.records,
        record_bytes: footer.record_bytes,
        to_finish: to_finish(zones, layout.zones_per_extent, ExtentState::Closed),
        outcomes: Outcomes { whole: u64::from(footer.records), ..Outcomes::default() },
        damages: Vec::new(),
        scanned: false,
    }))
}

fn end_of(layout: &Layout) -> Spot {
    Spot { zone: layout.zones_per_extent, offset_bytes: 0 }
}

fn toc_of(entries: &[TocEntry]) -> Toc {
    Toc::closed(entries.iter().map(|entry| (entry.hash, entry.put_id, entry.place)))
}

/// Whether at most a header was ever appended: nothing in it can have been acknowledged.
fn is_torn_creation(zones: &[Zone]) -> bool {
    let Some((first, others)) = zones.split_first() else { return false };
    pointer_counts(first)
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

/// Everything that decides what a scanned extent is.
struct About<'a> {
    layout: &'a Layout,
    zones: &'a [Zone],
    header: ExtentHeader,
    /// Whether the header was read, not made up from records.
    is_sound: bool,
    /// What the journal says of this very extent.
    said: Option<SlotState>,
    journal_is_whole: bool,
}

impl About<'_> {
    fn assemble(self, scanned: Scanned, closing: Option<Closing>) -> Recovered {
        let mut damages = damages_of(&scanned, self.layout);
        if !self.is_sound {
            damages.push(damaged(Lost::Header, Some(0), "the extent's header is damaged"));
        }
        let said_closed = matches!(self.said, Some(SlotState::Closed | SlotState::Trash));
        let lost_fence = said_closed && scanned.closed.is_none();
        if lost_fence {
            damages.push(damaged(Lost::Closing, None, "the closing record is damaged"));
        }
        let seen: Vec<TocEntry> = scanned.whole.iter().chain(&scanned.damaged).map(|seen| self.entry(seen)).collect();
        let footer = closing.as_ref().filter(|closing| closing.footer.is_complete());
        if let Some(closing) = footer {
            damages.extend(unseen(&closing.footer.entries, &seen));
        } else if let (Some(seen), None) = (&scanned.closed, &closing) {
            damages.push(damaged(Lost::Footer, Some(seen.spot.offset_in_extent(self.layout)), "the footer is damaged"));
        }
        let next = next_spot(self.layout, self.zones);
        let state = match next {
            _ if scanned.closed.is_some() || lost_fence => ExtentState::Closed,
            Some(_) if damages.is_empty() && self.may_go_on(&scanned) => ExtentState::Open,
            _ => ExtentState::Failed,
        };
        let is_open = state == ExtentState::Open;
        let entries = footer.map_or(seen, |closing| closing.footer.entries.clone());
        let mut toc = Toc::new();
        if is_open {
            entries.iter().for_each(|entry| toc.insert(&entry.hash, entry.put_id, entry.place));
        } else {
            toc = toc_of(&entries);
        }
        let next = next.filter(|_| is_open).unwrap_or(end_of(self.layout));
        // Without a closing record the end of a closed extent has to be in its zones.
        let sealed_as = if lost_fence { ExtentState::Failed } else { state };
        Recovered {
            header: self.header,
            state,
            next,
            next_sequence: scanned.last_sequence.saturating_add(1),
            footer: footer.map(|closing| closing.place),
            records: u32::try_from(toc.len()).unwrap_or(u32::MAX),
            toc,
            record_bytes: entries.iter().map(|entry| entry.place.bytes()).sum(),
            entries: if is_open { entries } else { Vec::new() },
            to_finish: to_finish(self.zones, next.zone, sealed_as),
            outcomes: scanned.outcomes,
            damages,
            scanned: true,
        }
    }

    /// Whether nothing says that the extent has ended, and without a whole journal nothing may have.
    fn may_go_on(&self, scanned: &Scanned) -> bool {
        let ended = matches!(self.said, Some(SlotState::Failed));
        !ended
            && !self.zones.iter().any(is_bad)
            && scanned.last_sequence < u64::MAX - 1
            && (self.journal_is_whole || scanned.clean_end)
    }

    fn entry(&self, seen: &Seen) -> TocEntry {
        TocEntry::of(&seen.record, seen.spot.offset_in_extent(self.layout))
    }
}

/// Records the footer names and the scan did not find.
fn unseen(named: &[TocEntry], seen: &[TocEntry]) -> Vec<Damage> {
    let seen: BTreeSet<u32> = seen.iter().map(|entry| entry.place.offset_units).collect();
    named
        .iter()
        .filter(|entry| !seen.contains(&entry.place.offset_units))
        .map(|entry| Damage {
            kind: FindingKind::RecordMissing,
            lost: Lost::Record,
            offset_in_extent: Some(entry.place.offset_bytes()),
            hash: Some(entry.hash),
            put_id: entry.put_id,
            detail: "the footer names it, its place holds something else".to_owned(),
        })
        .collect()
}

fn damage(kind: FindingKind, lost: Lost, detail: String) -> Damage {
    Damage { kind, lost, offset_in_extent: None, hash: None, put_id: PutId(0), detail }
}

fn damaged(lost: Lost, offset_in_extent: Option<u64>, what: &str) -> Damage {
    Damage { offset_in_extent, ..damage(FindingKind::RecordDamaged, lost, what.to_owned()) }
}

fn damages_of(scanned: &Scanned, layout: &Layout) -> Vec<Damage> {
    let mut damages: Vec<Damage> = scanned
        .damaged
        .iter()
        .map(|seen| Damage {
            kind: FindingKind::RecordDamaged,
            lost: Lost::Record,
            offset_in_extent: Some(seen.spot.offset_in_extent(layout)),
            hash: Some(seen.record.hash),
            put_id: seen.record.put_id,
            detail: format!("record {} was durable and fails its checksum", seen.record.sequence),
        })
        .collect();
    if scanned.outcomes.missing > 0 {
        let detail = format!("{} runs of durable records are gone", scanned.outcomes.missing);
        damages.push(damage(FindingKind::RecordMissing, Lost::Records, detail));
    }
    if scanned.outcomes.unreadable > 0 {
        let detail = format!("{} units of 4 KiB cannot be read", scanned.outcomes.unreadable);
        damages.push(damage(FindingKind::UnreadableSector, Lost::Sectors, detail));
    }
    damages
}

/// Where appending goes on: at the write pointer of the last zone written, or in the one behind it. `None`: nowhere.
fn next_spot(layout: &Layout, zones: &[Zone]) -> Option<Spot> {
    let written = zones.iter().rposition(|zone| zone.condition != ZoneCondition::Empty)?;
    let zone = zones.get(written)?;
    let following = u32::try_from(written + 1).ok()?;
    let pointer_bytes = zone.write_pointer_bytes;
    let aligned = pointer_bytes.is_multiple_of(u64::from(RECORD_ALIGN_BYTES));
    if pointer_counts(zone) && pointer_bytes < layout.zone_used_bytes && aligned {
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
            ZoneCondition::Empty => state == ExtentState::Failed,
            _ => pointer_counts(zone) && index < goes_on,
        })
        .map(|(zone, _)| zone.id)
        .collect()
}
