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

type Names = Vec<(BlockHash, PutId)>;

/// What a finding of a block says.
fn in_zone(zone: ZoneId) -> String {
    format!("in zone {}", zone.0)
}

impl Osd {
    /// Looks at the zones for ever, or until the disk fails.
    pub async fn watch_zones(self: Rc<Self>) {
        while self.state() != OsdState::Failed {
            self.world.tasks.sleep(LOOK_EVERY).await;
            self.probe().await;
        }
    }

    /// Looks at every zone, and retires what has gone bad since.
    ///
    /// # Errors
    /// When the device does not answer.
    pub async fn check_zones(self: &Rc<Self>) -> Result<(), DeviceError> {
        for zone in self.device.report(ZoneId(0), self.device.geometry().zones).await? {
            if matches!(zone.condition, ZoneCondition::ReadOnly | ZoneCondition::Offline) {
                self.zone_lost(zone.id, zone.condition);
            }
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
        let known = self.lost_zones.borrow_mut().insert(zone, condition);
        if known == Some(condition) || known == Some(ZoneCondition::Offline) {
            return;
        }
        let (kind, what) = match offline {
            true => (FindingKind::ZoneOffline, "offline"),
            false => (FindingKind::ZoneReadOnly, "read-only"),
        };
        let Some((slot, index)) = self.layout().slot_of(zone) else {
            let detail = format!("zone {} is {what}; it belongs to no extent", zone.0);
            return self.findings.add(kind, self.id(), ExtentId(0), None, &detail);
        };
        self.note_health(slot, if offline { SlotHealth::Offline } else { SlotHealth::ReadOnly });
        self.free_slots.borrow_mut().remove(&slot);
        let extent = self.extents.borrow().values().find(|extent| extent.header.slot == slot).cloned();
        match extent {
            Some(extent) => {
                let places = self.places_in(&extent, index);
                // The footer is written of these, and they are gone with it.
                let entries = extent.entries.borrow().clone();
                // The same words whenever it is told, however many records are durable by then: it is one finding.
                let detail = format!("zone {} is {what}", zone.0);
                if matches!(extent.state.get(), State::Creating | State::Open | State::Closing) {
                    self.end_extent(&extent, &detail);
                }
                self.findings.add(kind, self.id(), extent.header.extent, None, &detail);
                let osd = self.clone();
                let name = async move { osd.name_blocks(&extent, zone, kind, places, entries).await };
                self.world.tasks.spawn("lost zone", Box::pin(name));
            }
            None => {
                // What only the journal knows of: nothing else of it can be read.
                let extent = self.ledger.slot(slot).extent;
                let detail = format!("zone {} of slot {slot} is {what}", zone.0);
                self.findings.add(kind, self.id(), extent, None, &detail);
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
                let name = Some((record.hash, record.put_id));
                self.findings.add(FindingKind::ZoneReadOnly, self.id(), extent.header.extent, name, &in_zone(zone));
                true
            }
        }
    }

    /// Places of an extent's records in one of its zones.
    fn places_in(&self, extent: &Extent, zone_in_extent: u32) -> Vec<Place> {
        let mut places = extent.toc.borrow().places();
        places.retain(|place| {
            Spot::at(place.offset_bytes(), self.layout()).is_some_and(|spot| spot.zone == zone_in_extent)
        });
        places
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
            self.findings.add(kind, self.id(), id, None, &detail);
        }
        let (osd, findings, tasks) = (self.id(), self.findings.clone(), self.world.tasks.clone());
        // What follows may take long, and needs no disk.
        drop(self);
        let detail = in_zone(zone);
        for name in names {
            while findings.len() >= NAMED_FINDINGS_MAX {
                tasks.sleep(Duration::from_millis(HEARTBEAT_INTERVAL_MS)).await;
            }
            findings.add(kind, osd, id, Some(name), &detail);
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
