//! Finding the records of an extent by their headers, and judging each one found.
//!
//! Trusted without reading its payload is only a record that is followed by the next one AND was durable, by a later
//! header's word, before the writer of that later header went on. Everything else is read and checked, so a record
//! that was never acknowledged and is not whole is never taken for one that is.

use std::collections::BTreeSet;

use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::{Zone, ZoneCondition};
use shingle_proto::ids::ExtentId;
use shingle_proto::limits::RECORD_ALIGN_BYTES;

use super::format::{FormatError, SECTOR_BYTES, align_up};
use super::layout::Layout;
use super::placement::Spot;
use super::reader::{Unit, ZoneScan};
use super::record::{Record, RecordKind};

const UNIT: u64 = RECORD_ALIGN_BYTES as u64;

/// What scanning may end with instead of a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("a record has format version {0}: a newer program wrote it, and only that one may go on")]
    Newer(u16),
}

/// A sound record header and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub spot: Spot,
    pub record: Record,
}

/// How many of each outcome a scan met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Records present and, where that was in doubt, checked.
    pub whole: u64,
    /// Payloads read because the crash could have spared the header alone.
    pub checked: u64,
    /// Sound headers whose payload is not whole, written after the last flush known of: dropped, nobody was answered.
    pub torn_payload: u64,
    /// Runs of bytes that begin with a broken record header.
    pub torn_header: u64,
    /// Runs of zeroes with a record behind them: the flush that would have covered them was lost.
    pub lost_flush: u64,
    /// Runs of zeroes up to the write pointer, which ran ahead of the bytes.
    pub pointer_ahead: u64,
    /// Sound headers of records that the write pointer cuts, not known durable: dropped, nobody was answered.
    pub pointer_behind: u64,
    /// Runs of bytes that are nothing of ours.
    pub stray: u64,
    /// Runs of sequence numbers that were durable once and have no record now: damage.
    pub missing: u64,
    /// Durable records whose payload is damaged.
    pub damaged: u64,
    /// 4 KiB units the device cannot read.
    pub unreadable: u64,
    /// Zones whose write pointer is not on a 4 KiB boundary.
    pub unaligned: u64,
}

impl Outcomes {
    /// Adds another scan's counts.
    pub fn add(&mut self, other: &Self) {
        self.whole += other.whole;
        self.checked += other.checked;
        self.torn_payload += other.torn_payload;
        self.torn_header += other.torn_header;
        self.lost_flush += other.lost_flush;
        self.pointer_ahead += other.pointer_ahead;
        self.pointer_behind += other.pointer_behind;
        self.stray += other.stray;
        self.missing += other.missing;
        self.damaged += other.damaged;
        self.unreadable += other.unreadable;
        self.unaligned += other.unaligned;
    }
}

/// The records of one extent as a scan judged them.
#[derive(Debug, Default)]
pub struct Scanned {
    /// In order of sequence.
    pub whole: Vec<Seen>,
    /// Durable once, damaged now; in order of sequence.
    pub damaged: Vec<Seen>,
    pub closed: Option<Seen>,
    /// The highest sequence of any sound header, 0 without one.
    pub last_sequence: u64,
    /// Whether the last zone written is still active and its write pointer exactly behind a whole record, or the header.
    pub clean_end: bool,
    /// Runs of sequence numbers, first and last, that were durable once and have no record now.
    pub missing: Vec<(u64, u64)>,
    pub outcomes: Outcomes,
}

/// One extent's scan.
pub struct Scan<'a> {
    device: &'a dyn ZonedDevice,
    layout: Layout,
    zones: &'a [Zone],
    extent: ExtentId,
    /// Present for sure or in doubt: headers followed by the next record, or checked already.
    found: Vec<(Seen, Checked)>,
    /// Sound headers whose payload is not whole.
    broken: Vec<Seen>,
    last_sequence: u64,
    closed: bool,
    clean_end: bool,
    outcomes: Outcomes,
}

/// What a scan is in the middle of: nothing, bytes already counted, or zeroes of which the end will tell what they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    None,
    Counted,
    Zeroes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Checked {
    Yes,
    No,
}

/// Whether a zone's write pointer means something.
pub fn pointer_counts(zone: &Zone) -> bool {
    matches!(zone.condition, ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed)
}

/// Bytes of a zone that may hold records: up to the write pointer where that means something. A torn sector counts: its
/// zone will be finished, and then what it holds shows.
pub fn readable_bytes(zone: &Zone, layout: &Layout) -> u64 {
    match zone.condition {
        ZoneCondition::Empty | ZoneCondition::Offline => 0,
        ZoneCondition::Full | ZoneCondition::ReadOnly | ZoneCondition::NotWritePointer => layout.zone_used_bytes,
        ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed => {
            align_up(zone.write_pointer_bytes).min(layout.zone_used_bytes)
        }
    }
}

impl<'a> Scan<'a> {
    /// `zones` are the report's lines for the zones of the extent's slot, in order.
    pub fn new(device: &'a dyn ZonedDevice, layout: Layout, zones: &'a [Zone], extent: ExtentId) -> Self {
        Self {
            device,
            layout,
            zones,
            extent,
            found: Vec::new(),
            broken: Vec::new(),
            last_sequence: 0,
            closed: false,
            clean_end: false,
            outcomes: Outcomes::default(),
        }
    }

    /// Scans everything below the write pointers.
    pub async fn run(mut self) -> Result<Scanned, ScanError> {
        for index in 0..self.zones.len() {
            if !self.closed {
                self.scan_zone(index).await?;
            }
        }
        self.judge().await
    }

    async fn scan_zone(&mut self, index: usize) -> Result<(), ScanError> {
        let Some(zone) = self.zones.get(index) else { return Ok(()) };
        if zone.condition == ZoneCondition::Empty {
            return Ok(());
        }
        let limit_bytes = readable_bytes(zone, &self.layout);
        let partly = limit_bytes > 0 && limit_bytes < self.layout.zone_used_bytes;
        if partly && !zone.write_pointer_bytes.is_multiple_of(UNIT) {
            self.outcomes.unaligned += 1;
        }
        let mut scan = ZoneScan::new(self.device, zone.id, limit_bytes);
        let mut offset_bytes = if index == 0 { SECTOR_BYTES as u64 } else { 0 };
        let mut run = Run::None;
        loop {
            let record = match scan.unit(offset_bytes).await? {
                None => break,
                Some(Unit::Unreadable) => {
                    self.outcomes.unreadable += 1;
                    run = Run::Counted;
                    None
                }
                Some(Unit::Bytes(bytes)) => self.expected(bytes, offset_bytes, &mut run)?,
            };
            let Some(record) = record else {
                offset_bytes += UNIT;
                continue;
            };
            self.outcomes.lost_flush += u64::from(run == Run::Zeroes);
            self.last_sequence = record.sequence;
            let seen = Seen { spot: Spot { zone: index as u32, offset_bytes }, record };
            let checked = self.check_found(&mut scan, index, &seen).await?;
            let Some(checked) = checked else {
                // The next writer may have gone on inside what this header claims.
                self.broken.push(seen);
                run = Run::Counted;
                offset_bytes += UNIT;
                continue;
            };
            run = Run::None;
            offset_bytes += record.bytes();
            self.found.push((seen, checked));
            if record.kind == RecordKind::Close {
                self.closed = true;
                break;
            }
        }
        self.outcomes.pointer_ahead += u64::from(run == Run::Zeroes && pointer_counts(zone));
        self.clean_end = run == Run::None && pointer_counts(zone) && offset_bytes == zone.write_pointer_bytes;
        Ok(())
    }

    /// The record whose header these bytes are, if they are one that may stand here; counts what they are otherwise.
    fn expected(&mut self, bytes: &[u8], offset_bytes: u64, run: &mut Run) -> Result<Option<Record>, ScanError> {
        let other = match Record::decode(bytes) {
            Ok(record)
                if record.extent == self.extent
                    && record.sequence > self.last_sequence
                    && offset_bytes + record.bytes() <= self.layout.zone_used_bytes =>
            {
                return Ok(Some(record));
            }
            Err(FormatError::Newer(version)) => return Err(ScanError::Newer(version)),
            Err(FormatError::Checksum | FormatError::Field(_)) => &mut self.outcomes.torn_header,
            _ if bytes.iter().all(|byte| *byte == 0) => {
                if *run == Run::None {
                    *run = Run::Zeroes;
                }
                return Ok(None);
            }
            _ => &mut self.outcomes.stray,
        };
        *other += u64::from(*run == Run::None);
        *run = Run::Counted;
        Ok(None)
    }

    /// Whether a record is followed by the next one (not checked) or has a whole payload (checked); `None`: neither.
    async fn check_found(
        &mut self,
        scan: &mut ZoneScan<'_>,
        index: usize,
        seen: &Seen,
    ) -> Result<Option<Checked>, ScanError> {
        let end_bytes = seen.spot.offset_bytes + seen.record.bytes();
        let next = seen.record.sequence.saturating_add(1);
        let mut follower = scan.header(end_bytes, self.extent).await?;
        if follower.is_none()
            && let Some(zone) = self.zones.get(index + 1)
        {
            let limit_bytes = readable_bytes(zone, &self.layout).min(UNIT);
            follower = ZoneScan::new(self.device, zone.id, limit_bytes).header(0, self.extent).await?;
        }
        if seen.record.kind != RecordKind::Close && follower.is_some_and(|record| record.sequence == next) {
            return Ok(Some(Checked::No));
        }
        self.outcomes.checked += 1;
        Ok(scan.is_whole(seen.spot.offset_bytes, &seen.record).await?.then_some(Checked::Yes))
    }

    /// Checks what no later header calls durable, and tells torn tails from damage.
    async fn judge(mut self) -> Result<Scanned, ScanError> {
        let doubts = Doubts::of(self.found.iter().map(|(seen, _)| seen).chain(&self.broken).map(|seen| &seen.record));
        let (last_sequence, clean_end) = (self.last_sequence, self.clean_end);
        let mut scanned = Scanned { last_sequence, clean_end, ..Scanned::default() };
        for (seen, checked) in std::mem::take(&mut self.found) {
            if checked == Checked::No && doubts.cover(seen.record.sequence, seen.record.sequence) {
                self.outcomes.checked += 1;
                let Some(zone) = self.zones.get(seen.spot.zone as usize) else { continue };
                let scan = ZoneScan::new(self.device, zone.id, readable_bytes(zone, &self.layout));
                if !scan.is_whole(seen.spot.offset_bytes, &seen.record).await? {
                    self.broken.push(seen);
                    continue;
                }
            }
            match seen.record.kind {
                RecordKind::Close => scanned.closed = Some(seen),
                RecordKind::Block | RecordKind::Fragment => {
                    self.outcomes.whole += 1;
                    scanned.whole.push(seen);
                }
            }
        }
        for seen in self.broken {
            if doubts.cover(seen.record.sequence, seen.record.sequence) {
                let end_bytes = seen.spot.offset_bytes + seen.record.bytes();
                let zone = self.zones.get(seen.spot.zone as usize);
                match zone.is_some_and(|zone| pointer_counts(zone) && zone.write_pointer_bytes < end_bytes) {
                    true => self.outcomes.pointer_behind += 1,
                    false => self.outcomes.torn_payload += 1,
                }
            } else {
                self.outcomes.damaged += 1;
                scanned.damaged.push(seen);
            }
        }
        scanned.damaged.sort_by_key(|seen| seen.record.sequence);
        scanned.missing = missing_runs(&scanned, &doubts);
        self.outcomes.missing = scanned.missing.len() as u64;
        scanned.outcomes = self.outcomes;
        Ok(scanned)
    }
}

/// Runs of sequence numbers without a record that were durable once.
fn missing_runs(scanned: &Scanned, doubts: &Doubts) -> Vec<(u64, u64)> {
    let mut present: BTreeSet<u64> =
        scanned.whole.iter().chain(&scanned.damaged).map(|seen| seen.record.sequence).collect();
    if let Some(seen) = &scanned.closed {
        present.insert(seen.record.sequence);
    }
    let mut runs = Vec::new();
    let mut next = 1;
    for sequence in present {
        if sequence > next && !doubts.cover(next, sequence - 1) {
            runs.push((next, sequence - 1));
        }
        next = sequence.saturating_add(1);
    }
    runs
}

/// The sequences in doubt: behind the last one known durable and before the next writer's first.
struct Doubts {
    /// (highest durable, first of the next life), in order.
    spans: Vec<(u64, u64)>,
}

impl Doubts {
    fn of<'a>(records: impl Iterator<Item = &'a Record> + Clone) -> Self {
        let mut lives: BTreeSet<u64> = records.clone().map(|record| record.life_sequence).collect();
        lives.insert(u64::MAX);
        let mut by_sequence: Vec<&Record> = records.collect();
        by_sequence.sort_by_key(|record| record.sequence);
        let mut durable = 0;
        let mut behind = by_sequence.into_iter().peekable();
        let spans = lives
            .into_iter()
            .map(|life| {
                while let Some(record) = behind.next_if(|record| record.sequence < life) {
                    durable = durable.max(record.durable_sequence);
                }
                (durable, life)
            })
            .collect();
        Self { spans }
    }

    /// Whether every sequence of `first..=last` is in doubt.
    fn cover(&self, first: u64, last: u64) -> bool {
        let mut next = first;
        for &(durable, life) in &self.spans {
            if next <= last && durable < next && next < life {
                next = life;
            }
        }
        next > last
    }
}
