//! What the OSD knows of every slot, and the journal that remembers it over restarts.
//!
//! Changes are noted at once and written by one task, in order; who needs them on the disk waits for it. A journal that
//! cannot be written ends: the next start scans. It never holds up or fails an append.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::rc::Rc;

use local_sync::oneshot;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::ZoneId;
use shingle_proto::ids::ExtentId;
use shingle_proto::message::{FindingKind, OsdState};

use super::extent::Extent;
use super::store::Osd;
use crate::extent::journal::log::{self, Tail, journal_zones, other_zone};
use crate::extent::journal::replay::Replayed;
use crate::extent::journal::{BATCH_ENTRIES_MAX, Chain, SlotEntry, SlotHealth, SlotState};
use crate::extent::writer::WriteError;

/// See the module.
#[derive(Default)]
pub(super) struct Ledger {
    /// Slots of which there is anything to say.
    slots: RefCell<BTreeMap<u32, SlotEntry>>,
    /// Slots that changed since they were last written.
    changed: RefCell<BTreeSet<u32>>,
    /// Where the journal goes on; `None` when there is none any more.
    tail: Cell<Option<Tail>>,
    /// Nobody knows how much of the chain is on the disk: the next write begins another.
    in_doubt: Cell<bool>,
    writing: Cell<bool>,
    /// Who waits for what was noted to be written, and whether it has to be durable.
    waiting: RefCell<Vec<(bool, oneshot::Sender<()>)>>,
}

/// How much of a chain a flush that begins now makes durable.
pub(super) struct Mark(Option<(u64, u32)>);

impl Ledger {
    pub fn slot(&self, slot: u32) -> SlotEntry {
        self.slots.borrow().get(&slot).copied().unwrap_or(SlotEntry { slot, ..SlotEntry::default() })
    }

    /// Takes over what an earlier life has written down. Nothing of it counts as changed.
    pub fn adopt(&self, entry: SlotEntry) {
        self.slots.borrow_mut().insert(entry.slot, entry);
    }

    fn change(&self, slot: u32, change: impl FnOnce(&mut SlotEntry)) {
        let mut entry = self.slot(slot);
        change(&mut entry);
        self.slots.borrow_mut().insert(slot, entry);
        self.changed.borrow_mut().insert(slot);
    }

    pub fn mark(&self) -> Mark {
        Mark(self.tail.get().map(|tail| (tail.chain.chain, tail.batches)))
    }

    /// A flush has ended well.
    pub fn flushed(&self, mark: &Mark) {
        if let (Some(mut tail), Some((chain, batches))) = (self.tail.get(), mark.0)
            && tail.chain.chain == chain
        {
            tail.durable_batches = tail.durable_batches.max(batches);
            self.tail.set(Some(tail));
        }
    }

    /// A flush has failed.
    pub fn doubt(&self) {
        self.in_doubt.set(true);
    }

    /// What a snapshot says: every slot that is not free and sound.
    fn snapshot(&self) -> Vec<SlotEntry> {
        let told = |entry: &&SlotEntry| entry.state != SlotState::Free || entry.health != SlotHealth::Sound;
        self.slots.borrow().values().filter(told).copied().collect()
    }
}

impl Osd {
    /// Notes what an extent has become, to be written when [`Osd::write_journal_soon`] or its like is called.
    pub(super) fn note_state(&self, extent: &Extent, state: SlotState) {
        let changed_ms = self.world.clock.unix_ms();
        self.ledger.change(extent.header.slot, |entry| {
            *entry = SlotEntry {
                slot: entry.slot,
                health: entry.health,
                state,
                extent: extent.header.extent,
                footer: extent.footer.get(),
                records: extent.records.get(),
                changed_ms,
                verified_ms: extent.verified_ms.get(),
            };
        });
    }

    /// Notes that a slot holds nothing any more.
    pub(super) fn note_free(&self, slot: u32) {
        let changed_ms = self.world.clock.unix_ms();
        self.ledger.change(slot, |entry| {
            *entry = SlotEntry { slot, health: entry.health, changed_ms, ..SlotEntry::default() };
        });
    }

    /// Notes that a slot cannot be used again.
    pub(super) fn note_health(&self, slot: u32, health: SlotHealth) {
        self.ledger.change(slot, |entry| entry.health = entry.health.max(health));
    }

    /// Remembers over restarts that every record of an extent was read back at `unix_ms` and found good. Unknown extents
    /// are none of the journal's business.
    pub fn record_verified(self: &Rc<Self>, extent: ExtentId, unix_ms: u64) {
        let Some(extent) = self.extent(extent) else { return };
        extent.verified_ms.set(unix_ms);
        self.ledger.change(extent.header.slot, |entry| entry.verified_ms = unix_ms);
        self.write_journal_soon();
    }

    /// Writes what was noted, without waiting for it.
    pub(super) fn write_journal_soon(self: &Rc<Self>) {
        if !self.ledger.writing.replace(true) {
            let osd = self.clone();
            self.world.tasks.spawn("journal", Box::pin(async move { osd.run_journal().await }));
        }
    }

    /// Waits until what was noted is written, or will not be. The next flush makes it durable.
    pub(super) async fn journal_written(self: &Rc<Self>) {
        self.wait_for_journal(false).await;
    }

    /// Waits until what was noted is durable, or will not be.
    pub(super) async fn journal_durable(self: &Rc<Self>) {
        self.wait_for_journal(true).await;
    }

    async fn wait_for_journal(self: &Rc<Self>, durable: bool) {
        let (waiter, done) = oneshot::channel();
        self.ledger.waiting.borrow_mut().push((durable, waiter));
        self.write_journal_soon();
        // A task that is gone with its shard wakes nobody up: then nothing matters here.
        drop(done.await);
    }

    /// As [`Osd::journal_durable`], for those who cannot wait.
    pub(super) fn make_journal_durable_soon(self: &Rc<Self>) {
        let (waiter, _) = oneshot::channel();
        self.ledger.waiting.borrow_mut().push((true, waiter));
        self.write_journal_soon();
    }

    async fn run_journal(self: Rc<Self>) {
        let ledger = &self.ledger;
        loop {
            let waiting = ledger.waiting.take();
            if waiting.is_empty() && ledger.changed.borrow().is_empty() {
                break;
            }
            let changed = take(&mut *ledger.changed.borrow_mut());
            let entries: Vec<SlotEntry> = changed.into_iter().map(|slot| ledger.slot(slot)).collect();
            self.write_entries(&entries).await;
            if waiting.iter().any(|(durable, _)| *durable) && self.state.get() != OsdState::Failed {
                let mark = ledger.mark();
                match self.device.flush().await {
                    Ok(()) => ledger.flushed(&mark),
                    Err(cause) => self.flush_failed(Vec::new(), &cause).await,
                }
            }
            for (_, waiter) in waiting {
                let _ = waiter.send(()); // cancelled callers do not wait any more
            }
        }
        ledger.writing.set(false);
    }

    /// Adds entries to the journal; begins another chain where this one cannot go on.
    async fn write_entries(self: &Rc<Self>, entries: &[SlotEntry]) {
        for part in entries.chunks(BATCH_ENTRIES_MAX) {
            let Some(tail) = self.ledger.tail.get().filter(|_| self.state.get() != OsdState::Failed) else { return };
            let mut begin = self.ledger.in_doubt.get() || !tail.has_room(self.layout(), part.len());
            if !begin {
                match log::add(&*self.device, tail, part).await {
                    Ok(tail) => self.ledger.tail.set(Some(tail)),
                    Err(cause) => {
                        tracing::warn!(osd = %self.id(), %cause, "the journal cannot go on where it is");
                        begin = true;
                    }
                }
            }
            if begin {
                // The snapshot says everything that was noted, the rest of `entries` too.
                let zones = [other_zone(tail.zone), tail.zone];
                if let Err(cause) = self.begin_chain(zones, Some(tail.zone), tail.chain.epoch + 1).await {
                    tracing::error!(osd = %self.id(), path = self.path, %cause, "the journal cannot be written");
                    // Tried again with the next change, unless this ends the OSD.
                    self.ledger.tail.set(Some(tail));
                    self.ledger.in_doubt.set(true);
                }
                return;
            }
        }
    }

    /// The first chain of this life, in the zone the last one was not read from.
    ///
    /// # Errors
    /// When the device itself fails.
    pub(super) async fn begin_journal(self: &Rc<Self>, replayed: &Replayed) -> Result<(), DeviceError> {
        let first = journal_zones().next().unwrap_or_default();
        let zone = replayed.zone.map_or(first, other_zone);
        self.begin_chain([zone, other_zone(zone)], replayed.zone, replayed.next_epoch).await
    }

    /// Begins a chain in the first of `zones` that takes it. The second one may be what the last chain is in: without
    /// another zone, a crash in between costs a scan. When neither takes it, the journal ends.
    async fn begin_chain(
        self: &Rc<Self>,
        zones: [ZoneId; 2],
        last: Option<ZoneId>,
        epoch: u64,
    ) -> Result<(), DeviceError> {
        self.ledger.tail.set(None);
        for zone in zones {
            match self.try_chain(zone, other_zone(zone), epoch).await {
                Ok(tail) => {
                    self.ledger.tail.set(Some(tail));
                    self.ledger.in_doubt.set(false);
                    return Ok(());
                }
                Err(WriteError::Device(cause @ DeviceError::Failed { .. })) => return Err(cause),
                Err(WriteError::Device(cause @ DeviceError::NoSpace { .. })) => {
                    self.no_space(&cause);
                    tracing::error!(osd = %self.id(), path = self.path, zone = zone.0, %cause, "no journal in this zone");
                }
                Err(cause) => {
                    tracing::error!(osd = %self.id(), path = self.path, zone = zone.0, %cause, "a journal zone is lost");
                }
            }
        }
        // What is still there would tell the next start of a past that has gone on.
        if let Some(zone) = last
            && let Err(cause) = log::reset(&*self.device, zone).await
        {
            tracing::error!(osd = %self.id(), zone = zone.0, %cause, "the ended journal cannot be reset");
        }
        let detail = "the metadata journal has ended: the next start scans every extent";
        self.findings.add(FindingKind::ZoneReadOnly, self.id(), ExtentId(0), None, detail);
        Ok(())
    }

    async fn try_chain(self: &Rc<Self>, zone: ZoneId, other: ZoneId, epoch: u64) -> Result<Tail, WriteError> {
        let device = &*self.device;
        // Its resources first: with them the new zone opens within the device's limits. Its bytes stay.
        if let Err(cause) = log::finish(device, other).await {
            tracing::warn!(osd = %self.id(), zone = other.0, %cause, "the last journal zone cannot be finished");
        }
        let (osd, disk, chain) = (self.label.osd, self.label.disk, self.world.entropy.u64());
        let chain = Chain { osd, disk, chain, epoch, snapshot_batches: 0 };
        let snapshot = self.ledger.snapshot();
        let mut tail = log::begin(device, zone, chain, &snapshot).await?;
        let failed_flushes = self.commit.failed_flushes();
        if let Err(cause) = device.flush().await {
            self.flush_failed(Vec::new(), &cause).await;
            return Err(cause.into());
        }
        if self.commit.failed_flushes() != failed_flushes {
            return Err(DeviceError::Failed { reason: "a flush failed while the journal began", errno: 0 }.into());
        }
        tail.durable_batches = tail.batches;
        if let Err(cause) = log::reset(device, other).await {
            tracing::warn!(osd = %self.id(), zone = other.0, %cause, "the last journal zone cannot be reset");
        }
        Ok(tail)
    }
}
