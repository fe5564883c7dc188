//! Reads: from the toc to the record, its bytes handed to the wire where they were read.
//!
//! Nothing leaves that was not proven: the header names what was asked for, the payload's checksum holds. Damage becomes
//! a finding (invariant 10).

use std::cell::Cell;
use std::rc::Rc;

use shingle_hw::error::DeviceError;
use shingle_proto::frame::Class;
use shingle_proto::ids::{BlockHash, ExtentId, Generation, PutId};
use shingle_proto::limits::OSD_READS_MAX;
use shingle_proto::message::{FindingKind, OsdState};

use super::budget::RecordBuffer;
use super::extent::{Extent, State};
use super::refusal::Refusal;
use super::store::Osd;
use crate::extent::journal::SlotHealth;
use crate::extent::placement::Spot;
use crate::extent::reader::{self, Found, PAYLOAD_DAMAGED};
use crate::extent::record::{Record, RecordKind};
use crate::extent::toc::Place;
use crate::metrics::count;

/// What a reader names.
#[derive(Clone, Copy, Debug)]
pub struct ReadKey {
    pub extent: ExtentId,
    pub hash: BlockHash,
    pub put_id: PutId,
    pub generation: Generation,
    pub class: Class,
}

/// Reads that have begun and not ended, class by class: a flood of one does not turn the others away.
#[derive(Default)]
pub struct ReadsInFlight {
    client: Cell<usize>,
    repair: Cell<usize>,
    scrub: Cell<usize>,
    compaction: Cell<usize>,
}

impl ReadsInFlight {
    fn of(&self, class: Class) -> &Cell<usize> {
        match class {
            Class::Client => &self.client,
            Class::Repair => &self.repair,
            Class::Scrub => &self.scrub,
            Class::Compaction => &self.compaction,
        }
    }
}

/// One of the reads an OSD may have in flight; given back when dropped.
struct InFlight<'a>(&'a Cell<usize>);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Osd {
    /// Reads one block: its header and its sealed bytes.
    pub async fn read_block(self: &Rc<Self>, key: ReadKey) -> Result<(Record, RecordBuffer), Refusal> {
        let extent = self.extent(key.extent).ok_or(Refusal::UnknownExtent)?;
        if extent.state.get() == State::Creating {
            return Err(Refusal::UnknownExtent);
        }
        extent.check_generation(key.generation)?;
        let started = self.world.clock.now();
        let reads = self.reads_in_flight.of(key.class);
        let in_flight = reads.get();
        if in_flight >= OSD_READS_MAX {
            return Err(Refusal::Busy("the OSD has as many reads in flight as it may"));
        }
        reads.set(in_flight + 1);
        let _in_flight = InFlight(reads);
        let candidates = extent.toc.borrow().candidates(&key.hash, key.put_id);
        let mut refusal = None;
        let found_any = !candidates.is_empty();
        for place in candidates {
            match self.read_place(&extent, &key, place).await {
                Ok(Some((record, buffer))) => {
                    count(&self.metrics.reads, 1);
                    count(&self.metrics.read_bytes, place.bytes());
                    self.metrics.read_latencies.record(self.world.clock.now() - started);
                    return Ok((record, buffer));
                }
                Ok(None) => {}
                Err(failure) => refusal = refusal.or(Some(failure)),
            }
        }
        Err(match refusal {
            Some(refusal) => refusal,
            // Two puts with one 64-bit fingerprint are less likely than a disk that reads elsewhere.
            None if found_any => {
                self.damaged(&key, FindingKind::RecordDamaged, "another record where this one was written")
            }
            // The names of what lay in it may be gone with it; readers bring them back.
            None if self.ledger.slot(extent.header.slot).health == SlotHealth::Offline => self.damaged(
                &key,
                FindingKind::ZoneOffline,
                "not in the rest of its extent, a zone of which is offline",
            ),
            None => Refusal::BlockNotFound,
        })
    }

    /// The record at one candidate's place, unless it is another block's.
    async fn read_place(
        self: &Rc<Self>,
        extent: &Extent,
        key: &ReadKey,
        place: Place,
    ) -> Result<Option<(Record, RecordBuffer)>, Refusal> {
        let Some(spot) = Spot::at(place.offset_bytes(), self.layout()) else {
            return Err(self.damaged(key, FindingKind::RecordDamaged, "the toc points outside the extent"));
        };
        let bytes = place.bytes() as usize;
        let zone = self.layout().zone(extent.header.slot, spot.zone);
        let cost = || self.turns.cost(zone, place.bytes());
        let grant = self.budgets.read.wait(key.class, place.bytes(), cost).await?;
        let (read, grant) = self.read_device(key.class, zone, spot.offset_bytes, bytes, grant).await?;
        let mut buffer = match read {
            Ok(buffer) => buffer,
            Err(error) => return Err(self.read_failed(key, &error).await),
        };
        let whole = buffer.get(..bytes).unwrap_or_default();
        let found = match reader::examine_header(whole, key.extent, &key.hash, key.put_id) {
            Found::Whole(record) if !self.checks.payload_is_whole(&*self.world.tasks, &record, whole).await => {
                PAYLOAD_DAMAGED
            }
            found => found,
        };
        match found {
            Found::Whole(record) if record.kind == RecordKind::Block => {
                if let Some(sum) = record.payload_sum(whole) {
                    buffer.know_crc32c(record.payload_range(), sum);
                }
                Ok(Some((record, RecordBuffer::new(buffer, record.payload_bytes, grant))))
            }
            Found::Whole(_) | Found::Other => Ok(None),
            Found::Damaged(what) => Err(self.damaged(key, FindingKind::RecordDamaged, what)),
        }
    }

    fn damaged(&self, key: &ReadKey, kind: FindingKind, what: &'static str) -> Refusal {
        self.findings.add(kind, self.id(), key.extent, Some((key.hash, key.put_id)), what);
        Refusal::RecordDamaged(what)
    }

    /// Tells of what cannot be read as what it is: the zone and all blocks in it, the disk, or this record.
    async fn read_failed(self: &Rc<Self>, key: &ReadKey, error: &DeviceError) -> Refusal {
        match error {
            DeviceError::Unreadable { .. } => {}
            DeviceError::Offline { .. } => {
                self.zone_failed(error);
                return Refusal::RecordDamaged("its zone is offline");
            }
            DeviceError::Failed { .. } => self.probe().await,
            _ => tracing::error!(osd = %self.id(), path = self.path, extent = %key.extent, %error, "a read failed"),
        }
        match self.state() {
            OsdState::Failed => Refusal::DeviceFailed(error.to_string()),
            _ => self.damaged(key, FindingKind::UnreadableSector, "the disk cannot read the record"),
        }
    }
}
