//! Closing an extent: the fence in memory, the closing record with the footer, and what ends an extent without one.
//!
//! Fenced first, durable before it is answered, noted in the journal only then (invariant 6): the journal calls nothing
//! closed that is not. The closing record is written when all it names is durable: a footer names nothing that a loss of
//! power can still take.

use std::rc::Rc;

use local_sync::oneshot;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::ZoneCondition;
use shingle_proto::frame::Class;
use shingle_proto::ids::{ExtentId, Generation};
use shingle_proto::message::ExtentClosed;

use super::extent::{Extent, Item, State, Work, answer};
use super::refusal::Refusal;
use super::store::{Osd, blank_record};
use crate::extent::footer::{Footer, closing_bytes, footer_bytes};
use crate::extent::journal::{FooterPlace, SlotState};
use crate::extent::placement::Spot;
use crate::extent::record::{RECORD_HEADER_BYTES, Record, RecordKind};

impl Osd {
    /// Fences the extent, makes that durable, and answers what it holds. Repeats are answered alike.
    pub async fn close_extent(
        self: &Rc<Self>,
        extent: ExtentId,
        generation: Generation,
    ) -> Result<ExtentClosed, Refusal> {
        let extent = self.extent(extent).ok_or(Refusal::UnknownExtent)?;
        extent.check_generation(generation)?;
        let (waiter, done) = oneshot::channel();
        match extent.state.get() {
            State::Creating => return Err(Refusal::UnknownExtent),
            State::Closed => return Ok(extent.closed_answer()),
            State::Failed if extent.sealed.get() => return Ok(extent.closed_answer()),
            State::Closing => extent.closing.borrow_mut().push(waiter),
            State::Failed => {
                self.check_healthy()?;
                extent.closing.borrow_mut().push(waiter);
                self.submit(&extent, self.seal_item());
            }
            State::Open => {
                self.check_healthy()?;
                extent.state.set(State::Closing);
                extent.closing.borrow_mut().push(waiter);
                self.close_when_settled(&extent);
            }
        }
        done.await.unwrap_or_else(|_| Err(extent.failed()))
    }

    /// Queues the end that somebody waits for, if no record is on its way any more. Called once when the fence is set and
    /// whenever a record has become durable or was given up; behind the fence the last one is the last.
    pub(super) fn close_when_settled(self: &Rc<Self>, extent: &Rc<Extent>) {
        if extent.closing.borrow().is_empty() || !extent.waiting.borrow().is_empty() {
            return;
        }
        match extent.state.get() {
            State::Closing => self.submit(extent, self.close_item(extent)),
            State::Failed => self.submit(extent, self.seal_item()),
            State::Creating | State::Open | State::Closed => {}
        }
    }

    /// The closing record, with room for a footer of every record accepted; without one when torn footers have taken
    /// the room.
    fn close_item(&self, extent: &Extent) -> Item {
        let mut placement = extent.placement.borrow_mut();
        for entries in [placement.records(), 0] {
            let bytes = closing_bytes(entries);
            if let Some(spot) = placement.take_reserved(bytes) {
                let record = Record { kind: RecordKind::Close, ..blank_record(extent, footer_bytes(entries) as u32) };
                let buffer = Some(self.device.alloc_buffer(bytes as usize));
                let work = Work::Close(record);
                let accepted = self.world.clock.now();
                return Item { ticket: 0, class: Class::Client, spot, buffer, bytes, work, accepted };
            }
        }
        self.seal_item()
    }

    pub(super) fn seal_item(&self) -> Item {
        let spot = Spot { zone: 0, offset_bytes: 0 };
        let accepted = self.world.clock.now();
        Item { ticket: 0, class: Class::Client, spot, buffer: None, bytes: 0, work: Work::Seal, accepted }
    }

    /// Writes the footer of an extent, all of whose records are appended, as the payload of its closing record.
    pub(super) fn complete_footer(&self, extent: &Extent, record: &Record, spot: Spot, whole: &mut [u8]) {
        let (records, record_bytes) = extent.written.get();
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        let with_entries = record.payload_bytes as u64 == footer_bytes(records);
        let mut footer = Footer {
            extent: extent.header.extent,
            osd: self.id(),
            slot: extent.header.slot,
            created_ms: extent.header.created_ms,
            closed_ms: self.world.clock.unix_ms(),
            records,
            record_bytes,
            entries: if with_entries { extent.entries.borrow().clone() } else { Vec::new() },
        };
        let payload = RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + record.payload_bytes as usize;
        let Some(payload) = whole.get_mut(payload) else { return };
        let digest = footer.encode(payload);
        if footer.is_complete() {
            let offset_in_extent = spot.offset_in_extent(self.layout());
            extent.footer.set(Some(FooterPlace { offset_in_extent, bytes: record.bytes(), digest }));
        }
    }

    /// The closing record is durable.
    pub(super) fn closed(self: &Rc<Self>, extent: Rc<Extent>) {
        extent.state.set(State::Closed);
        extent.toc.borrow_mut().close();
        extent.entries.take();
        self.note_state(&extent, SlotState::Closed);
        let osd = self.clone();
        let finish = async move {
            osd.finish_tail(&extent).await;
            osd.journal_written().await;
            answer(extent.closing.take(), &Ok(extent.closed_answer()));
        };
        self.world.tasks.spawn("finish", Box::pin(finish));
    }

    /// Gives back what the device holds for a closed extent's last zone. If this fails the next start does it.
    async fn finish_tail(self: &Rc<Self>, extent: &Extent) {
        let zone = self.layout().zone(extent.header.slot, extent.tail.get().zone);
        if extent.tail.get().offset_bytes < self.device.geometry().zone_capacity_bytes
            && let Err(cause) = self.device.finish(zone).await
        {
            tracing::warn!(osd = %self.id(), zone = zone.0, %cause, "a closed extent's zone cannot be finished");
            self.zone_failed(&cause);
            return;
        }
        extent.holds_zone.set(false);
    }

    /// Ends an extent after a failure; said once.
    pub(super) fn end_extent(self: &Rc<Self>, extent: &Extent, cause: &str) {
        if extent.state.replace(State::Failed) != State::Failed {
            tracing::error!(osd = %self.id(), path = self.path, extent = %extent.header.extent, cause, "an extent has ended");
            extent.footer.set(None);
            self.note_state(extent, SlotState::Failed);
            self.make_journal_durable_soon();
        }
    }

    /// Writes the end of a failed extent on the disk: with all its zones full, a restart appends nothing to it.
    pub(super) async fn seal(self: &Rc<Self>, extent: &Extent) {
        self.end_extent(extent, "its end is written without a footer");
        let outcome = if extent.sealed.get() { Ok(()) } else { self.finish_all(extent).await };
        let answered = match outcome {
            Ok(()) => {
                extent.sealed.set(true);
                extent.holds_zone.set(false);
                Ok(extent.closed_answer())
            }
            Err(cause) => {
                tracing::error!(osd = %self.id(), extent = %extent.header.extent, %cause, "a failed extent cannot be sealed");
                Err(extent.failed())
            }
        };
        answer(extent.closing.take(), &answered);
    }

    async fn finish_all(self: &Rc<Self>, extent: &Extent) -> Result<(), DeviceError> {
        let first = self.layout().zone(extent.header.slot, 0);
        for zone in self.device.report(first, self.layout().zones_per_extent).await? {
            match zone.condition {
                ZoneCondition::Full => {}
                ZoneCondition::ReadOnly | ZoneCondition::Offline => self.zone_lost(zone.id, zone.condition),
                _ => self.device.finish(zone.id).await?,
            }
        }
        self.device.flush().await
    }
}
