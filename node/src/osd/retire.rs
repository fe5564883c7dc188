//! Zones that turned read-only or offline: their slots are not used again, and what they held is told by name.
//!
//! One finding per extent and one per block. Findings are bounded, so a zone full of small blocks is told at the pace
//! at which control acknowledges.

use std::rc::Rc;
use std::time::Duration;

use shingle_hw::error::DeviceError;
use shingle_hw::zone::{ZoneCondition, ZoneId};
use shingle_proto::ids::{BlockHash, ExtentId, PutId};
use shingle_proto::limits::{HEARTBEAT_INTERVAL_MS, SHARD_FINDINGS_MAX};
use shingle_proto::message::{FindingKind, OsdState};

use super::extent::{Extent, State};
use super::store::Osd;
use crate::extent::closed::read_closing;
use crate::extent::footer::TocEntry;
use crate::extent::format::SECTOR_BYTES;
use crate::extent::journal::SlotHealth;
use crate::extent::placement::Spot;
use crate::extent::reader;
use crate::extent::record::Record;
use crate::extent::toc::Place;

/// Findings of named blocks leave the other half of the list to everything else.
const NAMED_FINDINGS_MAX: usize = SHARD_FINDINGS_MAX / 2;

/// Zones that nobody reads or writes are lost unnoticed; so all are looked at so often. A report of a hundred thousand
/// zones takes a disk less than a second.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// The spread of looks of the disks of a host.
const LOOK_SPREAD_MS: u64 = 60_000;

/// Lost zones that are dealt with before other tasks of the shard have their turn.
const LOST_AT_ONCE: usize = 32;

/// How soon a look that failed is tried again, and how many may fail in a row.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
const LOOKS_MAX: u32 = 5;

type Names = Vec<(BlockHash, PutId)>;

/// What a finding of a block says.
fn in_zone(zone: ZoneId) -> String {
    format!("in zone {}", zone.0)
}

impl Osd {
    /// Looks at the zones for ever, or until the disk fails. One report that does not come is no reason to give up a disk
    /// whose records can be read; some in a row are.
    pub async fn watch_zones(self: Rc<Self>) {
        let mut failures = 0;
        // Not all disks of a host at once.
        let every = LOOK_EVERY - Duration::from_millis(self.id().0 % LOOK_SPREAD_MS);
        while self.state() != OsdState::Failed {
            self.world.tasks.sleep(if failures == 0 { every } else { LOOK_AGAIN }).await;
            match self.check_zones().await {
                Ok(()) => failures = 0,
                Err(cause) if failures + 1 < LOOKS_MAX => {
                    failures += 1;
                    tracing::warn!(osd = %self.id(), path = self.path, %cause, failures, "the zones cannot be looked at");
                }
                Err(cause) => self.fail(&cause.to_string()),
            }
        }
    }

    /// Looks at every zone, and retires what has gone bad since.
    ///
    /// # Errors
    /// When the device does not answer.
    pub async fn check_zones(self: &Rc<Self>) -> Result<(), DeviceError> {
        let zones = self.device.report(ZoneId(0), self.device.geometry().zones).await?;
        let is_lost = |condition| matches!(condition, ZoneCondition::ReadOnly | ZoneCondition::Offline);
        let lost: Vec<_> = zones.iter().filter(|zone| is_lost(zone.condition)).collect();
        // Each of them searches all extents; all zones of a disk may go at once.
        for some in lost.chunks(LOST_AT_ONCE) {
            some.iter().for_each(|zone| self.zone_lost(zone.id, zone.condition));
            self.world.tasks.yield_now().await;
        }
        Ok(())
    }

    /// Retires the zone an error names, if it does so for good.
    pub(super) fn zone_failed(self: &Rc<Self>, error: &DeviceError) {
        match error {
            DeviceError::ReadOnly { zone } => self.zone_lost(*zone, ZoneCondition::ReadOnly),
            DeviceError::Offline { zone } => self.zone_lost(*zone, ZoneCondition::Offline),
            _ => {}
        }
    }

    /// Retires a zone that can no longer be written, or not even read: said once.
    pub(super) fn zone_lost(self: &Rc<Self>, zone: ZoneId, condition: ZoneCondition) {
        let offline = condition == ZoneCondition::Offline;
        let known = self.lost_zones.borrow().get(&zone).copied();
        if known == Some(condition) || known == Some(ZoneCondition::Offline) {
            return;
        }
        self.lost_zones.borrow_mut().insert(zone, condition);
        let (kind, what) = match offline {
            true => (FindingKind::ZoneOffline, "offline"),
            false => (FindingKind::ZoneReadOnly, "read-only"),
        };
        let Some((slot, _)) = self.layout().slot_of(zone) else {
            let detail = format!("zone {} is {what}; it belongs to no extent", zone.0);
            return self.tell_zone(kind, ExtentId(0), detail);
        };
        self.note_health(slot, if offline { SlotHealth::Offline } else { SlotHealth::ReadOnly });
        self.free_slots.borrow_mut().remove(&slot);
        let extent = self.extents.borrow().values().find(|extent| extent.header.slot == slot).cloned();
        match extent {
            Some(extent) => {
                // The same words whenever it is told, however many records are durable by then: it is one finding.
                let detail = format!("zone {} is {what}", zone.0);
                self.name_blocks_soon(&extent, zone, kind);
                if matches!(extent.state.get(), State::Creating | State::Open | State::Closing) {
                    self.end_extent(&extent, &detail);
                }
                self.tell_zone(kind, extent.header.extent, detail);
            }
            None => {
                // What only the journal knows of: nothing else of it can be read.
                let extent = self.ledger.slot(slot).extent;
                self.tell_zone(kind, extent, format!("zone {} of slot {slot} is {what}", zone.0));
            }
        }
        self.make_journal_durable_soon();
    }

    /// A record has become durable. False if its zone went offline since it was written: then nobody may rely on it. In
    /// one that turned read-only it can be read, and is told by name as those that were durable before.
    pub(super) fn outlasts_its_zone(&self, extent: &Extent, offset_bytes: u64, record: &Record) -> bool {
        let Some(spot) = Spot::at(offset_bytes, self.layout()) else { return true };
        let zone = self.layout().zone(extent.header.slot, spot.zone);
        match self.lost_zones.borrow().get(&zone) {
            None => true,
            Some(ZoneCondition::Offline) => false,
            Some(_) => {
                let told = self.tell(
                    FindingKind::ZoneReadOnly,
                    extent.header.extent,
                    zone,
                    vec![(record.hash, record.put_id)],
                );
                self.world.tasks.spawn("late record", Box::pin(told));
                true
            }
        }
    }

    /// Places of an extent's records in one of its zones.
    fn places_in(&self, extent: &Extent, zone: ZoneId) -> Vec<Place> {
        let mut places = extent.toc.borrow().places();
        places.retain(|place| {
            Spot::at(place.offset_bytes(), self.layout())
                .is_some_and(|spot| self.layout().zone(extent.header.slot, spot.zone) == zone)
        });
        places
    }

    /// A finding of a zone, now or when there is room for it: nothing else ever tells it.
    fn tell_zone(&self, kind: FindingKind, extent: ExtentId, detail: String) {
        if self.findings.add(kind, self.id(), extent, None, &detail) {
            return;
        }
        let (osd, findings, tasks) = (self.id(), self.findings.clone(), self.world.tasks.clone());
        let later = async move {
            while findings.len() >= SHARD_FINDINGS_MAX || !findings.add(kind, osd, extent, None, &detail) {
                tasks.sleep(Duration::from_millis(HEARTBEAT_INTERVAL_MS)).await;
            }
        };
        self.world.tasks.spawn("lost zone", Box::pin(later));
    }

    /// Starts a task that names the blocks in a zone. Of many zones lost at once one is done at a time: a disk that goes
    /// must not take its shard's memory along.
    fn name_blocks_soon(self: &Rc<Self>, extent: &Rc<Extent>, zone: ZoneId, kind: FindingKind) {
        // What an open extent knows is gone when its footer is written; of a closed one it is found again.
        let known = (extent.state.get() != State::Closed).then(|| {
            let places = self.places_in(extent, zone);
            (places, extent.entries.borrow().clone())
        });
        let (osd, naming, extent) = (Rc::downgrade(self), self.naming.clone(), extent.clone());
        let name = async move {
            let Ok(_one) = naming.acquire_owned().await else { return };
            let Some(osd) = osd.upgrade() else { return };
            let (places, entries) = known.unwrap_or_else(|| (osd.places_in(&extent, zone), Vec::new()));
            osd.name_blocks(&extent, zone, kind, places, entries).await;
        };
        self.world.tasks.spawn("blocks of a lost zone", Box::pin(name));
    }

    /// One finding for each block in the zone, by name.
    async fn name_blocks(
        self: Rc<Self>,
        extent: &Extent,
        zone: ZoneId,
        kind: FindingKind,
        places: Vec<Place>,
        entries: Vec<TocEntry>,
    ) {
        let names = match self.names_of(extent, &places, entries).await {
            Ok(names) => names,
            Err(cause) => {
                tracing::error!(osd = %self.id(), extent = %extent.header.extent, %cause, "blocks of a lost zone cannot be named");
                Vec::new()
            }
        };
        let id = extent.header.extent;
        if names.len() < places.len() {
            let unnamed = places.len() - names.len();
            let detail = format!("{unnamed} records of zone {} have lost their names with it", zone.0);
            self.tell_zone(kind, id, detail);
        }
        // What follows may take long, and needs no disk.
        let told = self.tell(kind, id, zone, names);
        drop(self);
        told.await;
    }

    /// One finding for each name, as there is room for them.
    fn tell(
        &self,
        kind: FindingKind,
        extent: ExtentId,
        zone: ZoneId,
        names: Names,
    ) -> impl Future<Output = ()> + use<> {
        let (osd, findings, tasks) = (self.id(), self.findings.clone(), self.world.tasks.clone());
        async move {
            let detail = in_zone(zone);
            for name in names {
                while findings.len() >= NAMED_FINDINGS_MAX {
                    tasks.sleep(Duration::from_millis(HEARTBEAT_INTERVAL_MS)).await;
                }
                findings.add(kind, osd, extent, Some(name), &detail);
            }
        }
    }

    /// The names of the records at these places: from memory, from the footer, or from the records themselves.
    async fn names_of(
        &self,
        extent: &Extent,
        places: &[Place],
        mut entries: Vec<TocEntry>,
    ) -> Result<Names, DeviceError> {
        let wanted: std::collections::BTreeSet<u32> = places.iter().map(|place| place.offset_units).collect();
        if entries.is_empty()
            && let Some(place) = extent.footer.get()
        {
            let slot = extent.header.slot;
            let zones = self.device.report(self.layout().zone(slot, 0), self.layout().zones_per_extent).await?;
            let at = (place.offset_in_extent, place.bytes);
            let closing = read_closing(&*self.device, &self.label, (slot, &zones), extent.header.extent, at).await?;
            entries = closing.map(|closing| closing.footer.entries).unwrap_or_default();
        }
        if !entries.is_empty() {
            entries.retain(|entry| wanted.contains(&entry.place.offset_units));
            return Ok(entries.iter().map(|entry| (entry.hash, entry.put_id)).collect());
        }
        let mut names = Names::new();
        for place in places {
            let Some(spot) = Spot::at(place.offset_bytes(), self.layout()) else { continue };
            let zone = self.layout().zone(extent.header.slot, spot.zone);
            match reader::read(&*self.device, zone, spot.offset_bytes, SECTOR_BYTES).await {
                Ok(sector) => {
                    let record = Record::decode(&sector).ok().filter(|record| record.extent == extent.header.extent);
                    names.extend(record.map(|record| (record.hash, record.put_id)));
                }
                Err(failure @ DeviceError::Failed { .. }) => return Err(failure),
                Err(_) => {}
            }
        }
        Ok(names)
    }
}
