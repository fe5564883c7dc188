//! Group commit: appends of different extents side by side, one flush for everything in hand, and only then answers.
//!
//! A flush covers what had been appended before it began, so appends go on while it runs and share the next one
//! (invariant 2). A failed append or flush ends the extents concerned and is never retried (invariant 8).

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use shingle_hw::device::Part;
use shingle_hw::error::DeviceError;
use shingle_proto::message::{Appended, OsdState};
use shingle_seam::clock::Monotonic;

use super::budget::Grant;
use super::company::Company;
use super::extent::{Extent, Item, State, Work, answer};
use super::signal::Signal;
use super::store::Osd;
use crate::extent::footer::TocEntry;
use crate::extent::journal::SlotState;
use crate::extent::placement::Spot;
use crate::extent::record::Record;
use crate::extent::toc::Place;
use crate::extent::writer::WriteError;
use crate::metrics::count;

/// Appended and not yet durable.
pub(super) struct Written {
    extent: Rc<Extent>,
    offset_bytes: u64,
    done: Done,
    accepted: Monotonic,
}

/// What becomes true with the flush. The grant pays for the bytes until then.
enum Done {
    Created,
    Record { record: Record, grant: Grant },
    Closed,
}

/// The group commit of one OSD.
#[derive(Default)]
pub struct Commit {
    next_ticket: Cell<u64>,
    /// Tickets of items accepted and not yet appended or failed.
    outstanding: RefCell<BTreeSet<u64>>,
    written: RefCell<Vec<Written>>,
    /// Bytes appended since the last flush began.
    written_bytes: Cell<u64>,
    /// Records accepted and not yet answered, and their bytes.
    records: Cell<usize>,
    record_bytes: Cell<u64>,
    /// Whether the flush task runs.
    flushing: Cell<bool>,
    /// Flushes that failed so far.
    failed_flushes: Cell<u64>,
    /// Items were accepted, appended or failed.
    changed: Signal,
    /// Whether a flush waits for company.
    company: RefCell<Company>,
}

impl Commit {
    /// Records accepted and not yet answered.
    pub fn accepted(&self) -> usize {
        self.records.get()
    }

    /// Their bytes.
    pub fn accepted_bytes(&self) -> u64 {
        self.record_bytes.get()
    }

    /// Flushes that failed so far: what was appended before one of them is not made durable by a later one.
    pub(super) fn failed_flushes(&self) -> u64 {
        self.failed_flushes.get()
    }

    /// Items accepted and not yet failed or under a flush.
    fn in_hand(&self) -> usize {
        self.outstanding.borrow().len() + self.written.borrow().len()
    }

    fn release(&self, bytes: u64) {
        self.records.set(self.records.get() - 1);
        self.record_bytes.set(self.record_bytes.get() - bytes);
    }
}

impl Osd {
    /// Queues an item behind those of its extent and sees to it that it is written and flushed.
    pub(super) fn submit(self: &Rc<Self>, extent: &Rc<Extent>, mut item: Item) {
        let commit = &self.commit;
        item.ticket = commit.next_ticket.get();
        commit.next_ticket.set(item.ticket + 1);
        commit.outstanding.borrow_mut().insert(item.ticket);
        if matches!(item.work, Work::Record { .. }) {
            commit.records.set(commit.records.get() + 1);
            commit.record_bytes.set(commit.record_bytes.get() + item.bytes);
        }
        extent.queue.borrow_mut().push_back(item);
        commit.changed.raise();
        if !extent.appending.replace(true) {
            let (osd, extent) = (self.clone(), extent.clone());
            self.world.tasks.spawn("append", Box::pin(async move { osd.run_appends(extent).await }));
        }
        if !commit.flushing.replace(true) {
            let osd = self.clone();
            self.world.tasks.spawn("flush", Box::pin(async move { osd.run_flushes().await }));
        }
    }

    /// Writes one extent's items in order until none is left.
    async fn run_appends(self: Rc<Self>, extent: Rc<Extent>) {
        loop {
            let items = self.next_items(&extent);
            if items.is_empty() {
                break;
            }
            let tickets: Vec<u64> = items.iter().map(|item| item.ticket).collect();
            self.run_items(&extent, items).await;
            for ticket in &tickets {
                self.commit.outstanding.borrow_mut().remove(ticket);
            }
            self.commit.changed.raise();
        }
        extent.appending.set(false);
    }

    /// Writes items that lie behind each other with one append: one of any kind, or several records.
    async fn run_items(self: &Rc<Self>, extent: &Rc<Extent>, mut items: Vec<Item>) {
        let failed = extent.state.get() == State::Failed;
        let outcome = match items.as_mut_slice() {
            [Item { work: Work::Seal, .. }] => return self.seal(extent).await,
            [Item { work: Work::Close(_), .. }] if failed => return self.seal(extent).await,
            _ if failed => Err(None),
            items => {
                let parts = self.gather(extent, items);
                let failed_flushes = self.commit.failed_flushes.get();
                match self.write(extent, items, parts).await {
                    // Nobody knows what that flush did to these bytes, and the next one does not tell.
                    Ok(()) if self.commit.failed_flushes.get() != failed_flushes => {
                        self.end_extent(extent, "a flush failed during an append");
                        Err(None)
                    }
                    written => written.map_err(Some),
                }
            }
        };
        match outcome {
            Ok(()) => items.into_iter().for_each(|item| self.written(extent, item)),
            Err(cause) => self.not_written(extent, items, cause).await,
        }
    }

    /// Remembers an item for the next flush.
    fn written(&self, extent: &Rc<Extent>, item: Item) {
        let bytes = item.bytes;
        let done = match item.work {
            Work::Header => Done::Created,
            Work::Record { record, grant } => Done::Record { record, grant },
            Work::Close(_) | Work::Seal => Done::Closed,
        };
        let offset_bytes = item.spot.offset_in_extent(self.layout());
        let written = Written { extent: extent.clone(), offset_bytes, done, accepted: item.accepted };
        self.commit.written.borrow_mut().push(written);
        self.commit.written_bytes.set(self.commit.written_bytes.get() + bytes);
    }

    async fn not_written(self: &Rc<Self>, extent: &Rc<Extent>, items: Vec<Item>, cause: Option<WriteError>) {
        if let Some(cause) = &cause {
            self.end_extent(extent, &cause.to_string());
        }
        for item in items {
            match item.work {
                Work::Close(_) => self.seal(extent).await,
                work => self.refuse(extent, &work),
            }
        }
        match cause {
            Some(WriteError::Device(DeviceError::Failed { .. })) => self.probe().await,
            Some(WriteError::Device(cause @ DeviceError::NoSpace { .. })) => self.no_space(&cause),
            Some(WriteError::Device(cause)) => self.zone_failed(&cause),
            Some(WriteError::LandedElsewhere { .. }) | None => {}
        }
    }

    /// Appends items where they were planned, leaving the zone before them finished.
    async fn write(&self, extent: &Extent, items: &[Item], parts: Vec<Part>) -> Result<(), WriteError> {
        let Some(first) = items.first() else { return Ok(()) };
        let slot = extent.header.slot;
        let tail = extent.tail.get();
        let capacity_bytes = self.device.geometry().zone_capacity_bytes;
        if tail.zone < first.spot.zone && tail.offset_bytes > 0 && tail.offset_bytes < capacity_bytes {
            self.device.finish(self.layout().zone(slot, tail.zone)).await?;
        }
        let zone = self.layout().zone(slot, first.spot.zone);
        self.append_device(first.class, zone, first.spot.offset_bytes, parts).await?;
        let mut end = first.spot;
        end.offset_bytes += items.iter().map(|item| item.bytes).sum::<u64>();
        extent.tail.set(end);
        for item in items {
            if let Work::Record { record, .. } = &item.work {
                let (records, bytes) = extent.written.get();
                extent.written.set((records + 1, bytes + item.bytes));
                extent.entries.borrow_mut().push(TocEntry::of(record, item.spot.offset_in_extent(self.layout())));
            }
        }
        Ok(())
    }

    /// Waits until everything that is in hand now is appended, or a batch of it that is worth a flush.
    async fn await_batch(&self) {
        let commit = &self.commit;
        let batch_end = commit.next_ticket.get();
        while commit.outstanding.borrow().first().is_some_and(|ticket| *ticket < batch_end) && !self.batch_is_full() {
            commit.changed.wait().await;
        }
    }

    fn batch_is_full(&self) -> bool {
        let batch_bytes = self.budgets.disk.batch_bytes;
        batch_bytes > 0 && self.commit.written_bytes.get() >= batch_bytes
    }

    /// Waits a moment for those whom the last flush has answered, where that may save them a flush.
    async fn await_company(&self) {
        let (commit, clock, tasks) = (&self.commit, &self.world.clock, &self.world.tasks);
        let ready = commit.written.borrow().len();
        let Some(wait) = commit.company.borrow_mut().wait(clock.now(), ready) else { return };
        let come = async {
            while commit.in_hand() < wait.items && !self.batch_is_full() {
                commit.changed.wait().await;
            }
        };
        // Who is late takes the next flush.
        let _ = tasks.timeout(wait.until - clock.now(), come).await;
        self.await_batch().await;
        commit.company.borrow_mut().waited(&wait, ready, commit.written.borrow().len());
    }

    /// Flushes until nothing waits for it: each time once for all items that were in hand when the last flush ended, or
    /// a batch of them.
    async fn run_flushes(self: Rc<Self>) {
        let commit = &self.commit;
        loop {
            self.await_batch().await;
            self.await_company().await;
            commit.written_bytes.set(0);
            let batch = commit.written.take();
            if batch.is_empty() {
                if commit.outstanding.borrow().is_empty() {
                    break;
                }
                continue;
            }
            let (mark, began) = (self.ledger.mark(), self.world.clock.now());
            match self.device.flush().await {
                Ok(()) => {
                    let ended = self.world.clock.now();
                    commit.company.borrow_mut().flushed(began, ended, batch.len(), commit.in_hand());
                    self.ledger.flushed(&mark);
                    count(&self.metrics.flushes, 1);
                    batch.into_iter().for_each(|written| self.settle(written));
                }
                Err(cause) => self.flush_failed(batch, &cause).await,
            }
        }
        commit.flushing.set(false);
    }

    /// Answers for what has become durable.
    fn settle(self: &Rc<Self>, written: Written) {
        let Written { extent, offset_bytes, done, accepted } = written;
        match done {
            Done::Created => {
                // One that ended meanwhile is on the disk, so it stays known; nobody may write to it.
                let created = match extent.state.get() {
                    State::Creating => {
                        extent.state.set(State::Open);
                        self.note_state(&extent, SlotState::Open);
                        Ok(self.layout().payload_bytes())
                    }
                    _ => Err(extent.failed()),
                };
                answer(extent.creating.take(), &created);
            }
            Done::Record { record, grant } if !self.outlasts_its_zone(&extent, offset_bytes, &record) => {
                self.refuse(&extent, &Work::Record { record, grant });
            }
            Done::Record { record, .. } => {
                let bytes = record.bytes();
                extent.durable_sequence.set(record.sequence);
                extent.toc.borrow_mut().insert(&record.hash, record.put_id, Place::new(offset_bytes, bytes));
                extent.records.set(extent.records.get() + 1);
                extent.record_bytes.set(extent.record_bytes.get() + bytes);
                self.commit.release(bytes);
                count(&self.metrics.appends, 1);
                count(&self.metrics.append_bytes, bytes);
                self.metrics.append_latencies.record(self.world.clock.now() - accepted);
                let free_bytes = extent.placement.borrow().free_bytes();
                let waiters = extent.waiting.borrow_mut().remove(&(record.hash, record.put_id));
                answer(waiters.unwrap_or_default(), &Ok(Appended { offset_bytes, free_bytes }));
                self.close_when_settled(&extent);
            }
            Done::Closed if extent.state.get() == State::Failed => self.submit(&extent, self.seal_item()),
            Done::Closed => self.closed(extent),
        }
    }

    /// Nothing behind the last good flush can be relied on: every extent with such bytes ends.
    pub(super) async fn flush_failed(self: &Rc<Self>, mut batch: Vec<Written>, cause: &DeviceError) {
        self.commit.failed_flushes.set(self.commit.failed_flushes.get() + 1);
        self.ledger.doubt();
        batch.append(&mut self.commit.written.borrow_mut());
        self.commit.written_bytes.set(0);
        for written in &batch {
            self.end_extent(&written.extent, &format!("flush failed: {cause}"));
        }
        for Written { extent, done, .. } in batch {
            match done {
                Done::Created => self.refuse(&extent, &Work::Header),
                Done::Record { record, grant } => self.refuse(&extent, &Work::Record { record, grant }),
                Done::Closed => self.submit(&extent, self.seal_item()),
            }
        }
        if matches!(cause, DeviceError::Failed { .. }) {
            self.probe().await;
        }
    }

    /// Answers those who wait for something that will not be.
    fn refuse(self: &Rc<Self>, extent: &Rc<Extent>, work: &Work) {
        match work {
            Work::Header => {
                // Its slot is looked at again at the next start; until then it is neither free nor an extent, and its
                // zone may be open.
                self.extents.borrow_mut().remove(&extent.header.extent);
                self.stray_zones.set(self.stray_zones.get() + 1);
                answer(extent.creating.take(), &Err(extent.failed()));
            }
            Work::Record { record, .. } => {
                self.commit.release(record.bytes());
                let waiters = extent.waiting.borrow_mut().remove(&(record.hash, record.put_id));
                answer(waiters.unwrap_or_default(), &Err(extent.failed()));
                self.close_when_settled(extent);
            }
            Work::Close(_) | Work::Seal => answer(extent.closing.take(), &Err(extent.failed())),
        }
    }

    /// After a failure: whether the device itself is gone (then the OSD has failed, with every extent on it), or zones.
    pub(super) async fn probe(self: &Rc<Self>) {
        if let Err(cause) = self.check_zones().await {
            self.fail(&cause.to_string());
        }
    }

    /// Ends the OSD: nothing is accepted any more.
    pub(super) fn fail(&self, cause: &str) {
        if self.state.replace(OsdState::Failed) != OsdState::Failed {
            tracing::error!(osd = %self.id(), path = self.path, cause, "the disk has failed");
        }
        for extent in self.extents.borrow().values() {
            if !matches!(extent.state.get(), State::Closed) {
                extent.state.set(State::Failed);
            }
        }
    }

    /// Fills in what is known only when the record's turn has come: the footer, sequences, and with them the checksums.
    /// `whole` is the record's memory, `sum` its payload's CRC32C where that is known. The CRC32C of the whole.
    pub(super) fn complete(
        &self,
        extent: &Extent,
        work: &mut Work,
        (whole, sum): (&mut [u8], Option<u32>),
        spot: Spot,
    ) -> Option<u32> {
        let record = match work {
            Work::Record { record, .. } => record,
            Work::Close(record) => {
                self.complete_footer(extent, record, spot, whole);
                record
            }
            Work::Header | Work::Seal => return None,
        };
        record.sequence = extent.next_sequence.get();
        record.life_sequence = extent.life_sequence;
        record.durable_sequence = extent.durable_sequence.get();
        extent.next_sequence.set(record.sequence + 1);
        Some(record.seal(whole, sum))
    }
}
