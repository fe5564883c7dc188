//! One extent read back: in large reads, part by part judged, every flaw told with its place and, if at all, its name.

use std::collections::BTreeMap;
use std::rc::Rc;

use shingle_hw::buffer::Buffer;
use shingle_hw::error::DeviceError;
use shingle_proto::frame::Class;
use shingle_proto::ids::{BlockHash, PutId};
use shingle_proto::limits::SCRUB_READ_BYTES;
use shingle_proto::message::FindingKind;

use super::Pace;
use crate::extent::closed::read_closing;
use crate::extent::format::SECTOR_BYTES;
use crate::extent::placement::Spot;
use crate::extent::record::{RECORD_BYTES_MAX, Record, RecordKind};
use crate::extent::toc::Place;
use crate::extent::verify::{Expected, Flaw, Part, parts};
use crate::metrics::count;
use crate::osd::budget::Grant;
use crate::osd::extent::{Extent, State};
use crate::osd::store::Osd;

/// How far behind the last record a closing record is looked for whose place nobody knows: torn ones may lie between.
const CLOSING_SEARCH_BYTES: u64 = 3 * RECORD_BYTES_MAX;

/// Names of records by their place, in 4 KiB units.
type Names = BTreeMap<u32, (BlockHash, PutId)>;

/// What one look at an extent has come to.
pub(super) struct Pass<'a> {
    pub extent: &'a Rc<Extent>,
    /// Nothing wrong so far.
    pub good: bool,
    /// Behind what is being read.
    pub left_bytes: u64,
    /// From the footer, once a name was needed.
    names: Option<Names>,
}

impl<'a> Pass<'a> {
    pub fn new(extent: &'a Rc<Extent>, left_bytes: u64) -> Self {
        Self { extent, good: true, left_bytes, names: None }
    }
}

/// Reading back has to stop: the disk does not answer, or has no time or memory at all.
pub(super) struct Interrupted;

impl Osd {
    /// Reads all of an extent.
    pub(super) async fn read_back(self: &Rc<Self>, pass: &mut Pass<'_>, pace: &mut Pace) -> Result<(), Interrupted> {
        let extent = pass.extent;
        let closing = extent.footer.get().map(|footer| Place::new(footer.offset_in_extent, footer.bytes));
        let parts = parts(&extent.toc.borrow(), closing);
        let mut rest = parts.as_slice();
        while !rest.is_empty() {
            let (run, behind) = rest.split_at(self.run_length(rest));
            rest = behind;
            let bytes = run.iter().map(|part| part.place().bytes()).sum::<u64>();
            pass.left_bytes = pass.left_bytes.saturating_sub(bytes);
            self.keep_pace(pace, pass, bytes).await;
            if !self.is_current(extent) {
                return Ok(());
            }
            self.read_run(pass, run).await?;
        }
        if extent.state.get() == State::Closed && extent.footer.get().is_none() {
            self.look_for_closing(pass, parts.last().copied().unwrap_or(Part::Header)).await?;
        }
        Ok(())
    }

    /// How many of the first parts lie behind each other, and are read at once.
    fn run_length(&self, parts: &[Part]) -> usize {
        let zone_of = |place: Place| place.offset_bytes() / self.layout().zone_used_bytes;
        let mut last: Option<Place> = None;
        let mut bytes = 0;
        let fits = |part: &&Part| {
            let place = part.place();
            bytes += place.bytes();
            last.replace(place).is_none_or(|last| {
                let behind = last.offset_bytes() + last.bytes() == place.offset_bytes();
                behind && zone_of(last) == zone_of(place) && bytes <= SCRUB_READ_BYTES
            })
        };
        parts.iter().take_while(fits).count()
    }

    /// Reads parts that lie behind each other, at once or, when the disk cannot, one by one.
    async fn read_run(self: &Rc<Self>, pass: &mut Pass<'_>, run: &[Part]) -> Result<(), Interrupted> {
        let Some(first) = run.first() else { return Ok(()) };
        let bytes = run.iter().map(|part| part.place().bytes()).sum::<u64>();
        match self.read_bytes(pass.extent, first.place().offset_bytes(), bytes).await? {
            Ok((buffer, _grant)) => {
                let mut at = 0;
                for part in run {
                    let end = at + part.place().bytes() as usize;
                    self.judge(pass, *part, buffer.get(at..end).unwrap_or_default()).await;
                    at = end;
                }
                // Checksums of many short records take as long as that of a long one.
                self.world.tasks.yield_now().await;
            }
            Err(failure) if run.len() == 1 => self.unreadable(pass, *first, &failure).await,
            Err(_) => {
                for part in run {
                    Box::pin(self.read_run(pass, std::slice::from_ref(part))).await?;
                }
            }
        }
        Ok(())
    }

    /// Bytes of an extent, within one zone, and what pays for them. The outer failure is the disk's, the inner one the
    /// place's.
    async fn read_bytes(
        self: &Rc<Self>,
        extent: &Extent,
        offset_in_extent: u64,
        bytes: u64,
    ) -> Result<Result<(Buffer, Grant), DeviceError>, Interrupted> {
        let Some(spot) = Spot::at(offset_in_extent, self.layout()) else { return Err(Interrupted) };
        let zone = self.layout().zone(extent.header.slot, spot.zone);
        let cost = || self.turns.cost(zone, bytes);
        let grant = self.budgets.read.wait(Class::Scrub, bytes, cost).await.map_err(|_| Interrupted)?;
        let read = self.read_device(Class::Scrub, zone, spot.offset_bytes, bytes as usize, grant).await;
        let Ok((outcome, grant)) = read else { return Err(Interrupted) };
        count(&self.scrub.bytes, bytes);
        match outcome {
            Ok(buffer) => Ok(Ok((buffer, grant))),
            Err(DeviceError::Failed { .. }) => {
                self.probe().await;
                Err(Interrupted)
            }
            Err(failure) => Ok(Err(failure)),
        }
    }

    async fn judge(self: &Rc<Self>, pass: &mut Pass<'_>, part: Part, whole: &[u8]) {
        let extent = pass.extent;
        let (verdict, name) = {
            let toc = extent.toc.borrow();
            let digest = extent.footer.get().map(|footer| footer.digest);
            let expected = Expected { header: &extent.header, layout: self.layout(), toc: &toc, digest };
            let record = Record::decode(whole).ok().filter(|record| expected.is_at(record, part.place()));
            (expected.judge_quickly(part, whole), record.map(|record| (record.hash, record.put_id)))
        };
        let verdict = match verdict {
            Ok(Some(record)) if !self.checks.payload_is_whole(&*self.world.tasks, &record, whole).await => {
                Err(Flaw::Payload)
            }
            verdict => verdict,
        };
        match verdict {
            Ok(_) => count(&self.scrub.records, u64::from(matches!(part, Part::Record(_)))),
            Err(flaw) => self.flawed(pass, part, name, FindingKind::RecordDamaged, &flaw.to_string()).await,
        }
    }

    async fn unreadable(self: &Rc<Self>, pass: &mut Pass<'_>, part: Part, failure: &DeviceError) {
        pass.good = false;
        match failure {
            // A zone that is gone is told of as a whole.
            DeviceError::Offline { .. } => self.zone_failed(failure),
            _ => self.flawed(pass, part, None, FindingKind::UnreadableSector, &failure.to_string()).await,
        }
    }

    /// Tells of a flaw, unless the extent itself is gone meanwhile.
    async fn flawed(
        self: &Rc<Self>,
        pass: &mut Pass<'_>,
        part: Part,
        name: Option<(BlockHash, PutId)>,
        kind: FindingKind,
        what: &str,
    ) {
        pass.good = false;
        let name = match part {
            Part::Record(place) if name.is_none() => self.name_at(pass, place).await,
            Part::Record(_) => name,
            Part::Header | Part::Closing(_) => None,
        };
        if self.is_current(pass.extent) {
            count(&self.scrub.flaws, 1);
            let detail = format!("{what}, at offset {} of the extent", part.place().offset_bytes());
            self.findings.add(kind, self.id(), pass.extent.header.extent, name, &detail);
        }
    }

    /// The name of the record that should be at a place: from memory while the extent is open, from the footer later.
    async fn name_at(&self, pass: &mut Pass<'_>, place: Place) -> Option<(BlockHash, PutId)> {
        if pass.names.is_none() {
            pass.names = Some(self.names_in(pass.extent).await);
        }
        pass.names.as_ref()?.get(&place.offset_units).copied()
    }

    async fn names_in(&self, extent: &Extent) -> Names {
        let mut entries = extent.entries.borrow().clone();
        if entries.is_empty()
            && let Some(place) = extent.footer.get()
        {
            let slot = extent.header.slot;
            let zones = self.device.report(self.layout().zone(slot, 0), self.layout().zones_per_extent).await;
            let (zones, at) = (zones.unwrap_or_default(), (place.offset_in_extent, place.bytes));
            let id = extent.header.extent;
            match read_closing(&*self.device, &self.label, (slot, &zones), id, at).await {
                Ok(closing) => entries = closing.map(|closing| closing.footer.entries).unwrap_or_default(),
                Err(cause) => tracing::error!(osd = %self.id(), extent = %id, %cause, "damaged records keep no name"),
            }
        }
        entries.into_iter().map(|entry| (entry.place.offset_units, (entry.hash, entry.put_id))).collect()
    }

    /// A closing record without a whole toc: only the disk knows its place, behind the last record.
    async fn look_for_closing(self: &Rc<Self>, pass: &mut Pass<'_>, last: Part) -> Result<(), Interrupted> {
        let start_bytes = last.place().offset_bytes() + last.place().bytes();
        let end_bytes = (start_bytes + CLOSING_SEARCH_BYTES).min(self.layout().extent_bytes());
        for offset_bytes in (start_bytes..end_bytes).step_by(SECTOR_BYTES) {
            let Ok((sector, _)) = self.read_bytes(pass.extent, offset_bytes, SECTOR_BYTES as u64).await? else {
                continue;
            };
            let record = Record::decode(&sector)
                .ok()
                .filter(|record| record.kind == RecordKind::Close && record.extent == pass.extent.header.extent);
            if let Some(record) = record {
                return self.read_run(pass, &[Part::Closing(Place::new(offset_bytes, record.bytes()))]).await;
            }
        }
        let missing = Part::Closing(Place::new(start_bytes, 0));
        self.flawed(pass, missing, None, FindingKind::RecordMissing, "no closing record behind the last one").await;
        Ok(())
    }
}
