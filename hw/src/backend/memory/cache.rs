//! The volatile write cache of a device in memory: what is durable, what is not yet, and what a crash makes of it.
//!
//! Invariant: a zone's durable length never exceeds what was written, and only a reset takes it back.

use std::collections::{BTreeMap, BTreeSet};

use super::medium::Medium;
use crate::draw::Draw;
use crate::error::DeviceError;
use crate::geometry::Geometry;
use crate::image::{Sector, ZoneImage};
use crate::zone::{Zone, ZoneCondition, ZoneId};
use crate::zone_state::ZoneStates;

/// Zones, their bytes, and what of it is durable.
pub(super) struct Cache {
    geometry: Geometry,
    zones: ZoneStates,
    medium: Medium,
    durable: Vec<Durable>,
    /// Zones whose state differs from the durable one.
    dirty: BTreeSet<ZoneId>,
    /// Lengths of appends in flight: a crash may keep part of them.
    in_flight: BTreeMap<ZoneId, u64>,
    /// Sectors of conventional zones that were overwritten since they were durable, oldest first.
    overwritten: Vec<Overwritten>,
    writes: u64,
    /// Starts of sectors that cannot be read.
    unreadable: BTreeSet<(ZoneId, u64)>,
}

/// What a zone would be after a loss of power that loses everything it can.
#[derive(Clone, Copy)]
struct Durable {
    written_bytes: u64,
    /// Made full before its end.
    finished: bool,
    /// Resets so far: a flush that began before a reset says nothing about the zone after it.
    resets: u64,
}

struct Overwritten {
    write: u64,
    zone: ZoneId,
    offset_bytes: u64,
    before: Box<[u8]>,
}

/// What a flush makes durable when it ends.
pub(super) struct Covered {
    zones: Vec<(ZoneId, Durable)>,
    writes: u64,
}

impl Cache {
    pub(super) fn new(geometry: Geometry) -> Self {
        let durable = vec![Durable { written_bytes: 0, finished: false, resets: 0 }; geometry.zones as usize];
        Self {
            zones: ZoneStates::new(geometry.clone()),
            geometry,
            medium: Medium::default(),
            durable,
            dirty: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            overwritten: Vec::new(),
            writes: 0,
            unreadable: BTreeSet::new(),
        }
    }

    /// Puts a zone of a device fresh from the factory into a state, durably.
    pub(super) fn load(&mut self, zone: ZoneId, image: &ZoneImage) {
        let sector_bytes = u64::from(self.geometry.sector_bytes);
        let mut offset_bytes = 0;
        for sector in image.sectors() {
            match sector {
                Sector::Zeroes => {}
                Sector::Bytes(_) => self.medium.write(zone, offset_bytes, sector.bytes().unwrap_or_default()),
                Sector::Unreadable => self.set_unreadable(zone, offset_bytes),
            }
            offset_bytes += sector_bytes;
        }
        let finished = image.condition() == ZoneCondition::Full && offset_bytes < self.geometry.zone_capacity_bytes;
        if let Some(durable) = self.durable.get_mut(zone.0 as usize) {
            *durable = Durable { written_bytes: offset_bytes, finished, resets: 0 };
        }
        if image.condition() != ZoneCondition::NotWritePointer {
            self.zones.restore(zone, image.condition(), offset_bytes);
        }
    }

    pub(super) fn report(&self, first: ZoneId, count: u32) -> Vec<Zone> {
        self.zones.report(first, count)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.medium.memory_bytes()
    }

    pub(super) fn begin_append(&mut self, zone: ZoneId, data: &[u8]) -> Result<u64, DeviceError> {
        let offset_bytes = self.zones.begin_append(zone, data.len() as u64)?;
        self.medium.write(zone, offset_bytes, data);
        self.in_flight.insert(zone, data.len() as u64);
        self.dirty.insert(zone);
        Ok(offset_bytes)
    }

    pub(super) fn end_append(&mut self, zone: ZoneId) {
        if let Some(length_bytes) = self.in_flight.remove(&zone) {
            self.zones.end_append(zone, length_bytes);
        }
    }

    pub(super) fn write(&mut self, zone: ZoneId, offset_bytes: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.zones.check_write(zone, offset_bytes, data.len() as u64)?;
        let sector_bytes = self.geometry.sector_bytes as usize;
        for (index, sector) in (0u64..).zip(data.chunks(sector_bytes)) {
            let offset_bytes = offset_bytes + index * sector_bytes as u64;
            let mut before = vec![0; sector.len()].into_boxed_slice();
            self.medium.read(zone, offset_bytes, &mut before);
            self.overwritten.push(Overwritten { write: self.writes, zone, offset_bytes, before });
        }
        self.writes += 1;
        self.medium.write(zone, offset_bytes, data);
        Ok(())
    }

    pub(super) fn read(&self, zone: ZoneId, offset_bytes: u64, data: &mut [u8]) -> Result<(), DeviceError> {
        let written = self.zones.check_read(zone, offset_bytes, data.len() as u64)?;
        let end_bytes = offset_bytes + data.len() as u64;
        if let Some((_, bad)) = self.unreadable.range((zone, offset_bytes)..(zone, end_bytes)).next() {
            return Err(DeviceError::Unreadable { zone, offset_bytes: *bad });
        }
        let (medium, zeroes) = data.split_at_mut(usize::try_from(written).unwrap_or(usize::MAX).min(data.len()));
        self.medium.read(zone, offset_bytes, medium);
        zeroes.fill(0);
        Ok(())
    }

    pub(super) fn begin_flush(&self) -> Covered {
        let zones = self.dirty.iter().map(|zone| (*zone, self.as_written(*zone))).collect();
        Covered { zones, writes: self.writes }
    }

    pub(super) fn end_flush(&mut self, covered: Covered) {
        for (zone, state) in covered.zones {
            self.make_durable(zone, state);
        }
        self.overwritten.retain(|entry| entry.write >= covered.writes);
    }

    pub(super) fn open(&mut self, zone: ZoneId) -> Result<(), DeviceError> {
        self.zones.open(zone)
    }

    pub(super) fn close(&mut self, zone: ZoneId) -> Result<(), DeviceError> {
        self.zones.close(zone)
    }

    pub(super) fn finish(&mut self, zone: ZoneId) -> Result<(), DeviceError> {
        self.zones.finish(zone)?;
        self.dirty.insert(zone);
        Ok(())
    }

    pub(super) fn begin_reset(&mut self, zone: ZoneId) -> Result<(), DeviceError> {
        self.zones.begin_reset(zone)?;
        self.dirty.insert(zone);
        Ok(())
    }

    pub(super) fn end_reset(&mut self, zone: ZoneId) {
        self.zones.end_reset(zone);
        self.medium.discard(zone, 0);
        self.unreadable.retain(|(other, _)| *other != zone);
        if let Some(durable) = self.durable.get_mut(zone.0 as usize) {
            *durable = Durable { written_bytes: 0, finished: false, resets: durable.resets + 1 };
        }
        self.dirty.remove(&zone);
    }

    pub(super) fn flip(&mut self, zone: ZoneId, offset_bytes: u64, mask: u8) {
        self.medium.flip(zone, offset_bytes, mask);
    }

    pub(super) fn set_unreadable(&mut self, zone: ZoneId, offset_bytes: u64) {
        self.unreadable.insert((zone, offset_bytes));
    }

    pub(super) fn set_read_only(&mut self, zone: ZoneId) {
        self.zones.set_read_only(zone);
    }

    pub(super) fn set_offline(&mut self, zone: ZoneId) {
        self.zones.set_offline(zone);
    }

    pub(super) fn power_cycle(&mut self) {
        self.in_flight.clear();
        let covered = self.begin_flush();
        self.end_flush(covered);
        self.zones.power_cycle();
    }

    pub(super) fn crash(&mut self, draw: &mut Draw) {
        let sector_bytes = u64::from(self.geometry.sector_bytes);
        for zone in std::mem::take(&mut self.dirty) {
            let (durable, current) = (self.durable_state(zone), self.as_written(zone));
            let newest = current.written_bytes + self.in_flight.get(&zone).copied().unwrap_or(0);
            let survivor = if newest < durable.written_bytes {
                // A reset was in flight: it happened or it did not.
                if draw.coin() { current } else { durable }
            } else {
                let sectors = (newest - durable.written_bytes) / sector_bytes;
                let kept = match draw.below(4) {
                    0 => 0,
                    1 => sectors,
                    _ => draw.below(sectors + 1),
                };
                let written_bytes = durable.written_bytes + kept * sector_bytes;
                let finished = durable.finished || (current.finished && draw.coin());
                Durable { written_bytes, finished, resets: durable.resets }
            };
            self.restore(zone, survivor);
        }
        self.in_flight.clear();
        for entry in std::mem::take(&mut self.overwritten).into_iter().rev() {
            if draw.coin() {
                self.medium.write(entry.zone, entry.offset_bytes, &entry.before);
            }
        }
        self.zones.power_cycle();
    }

    /// Puts a zone into the state that survived a crash.
    fn restore(&mut self, zone: ZoneId, survivor: Durable) {
        self.medium.discard(zone, survivor.written_bytes);
        if let Some(durable) = self.durable.get_mut(zone.0 as usize) {
            *durable = survivor;
        }
        let condition = match self.zones.zone(zone).map(|zone| zone.condition) {
            Some(condition @ (ZoneCondition::ReadOnly | ZoneCondition::Offline)) => condition,
            _ if survivor.finished || survivor.written_bytes == self.geometry.zone_capacity_bytes => {
                ZoneCondition::Full
            }
            _ if survivor.written_bytes > 0 => ZoneCondition::Closed,
            _ => ZoneCondition::Empty,
        };
        self.zones.restore(zone, condition, survivor.written_bytes);
    }

    fn durable_state(&self, zone: ZoneId) -> Durable {
        self.durable.get(zone.0 as usize).copied().unwrap_or(Durable { written_bytes: 0, finished: false, resets: 0 })
    }

    /// The zone as a flush that begins now would leave it.
    fn as_written(&self, zone: ZoneId) -> Durable {
        let full = self.zones.zone(zone).is_some_and(|zone| zone.condition == ZoneCondition::Full);
        let (written_bytes, resets) = (self.zones.written_bytes(zone), self.durable_state(zone).resets);
        Durable { written_bytes, finished: full && written_bytes < self.geometry.zone_capacity_bytes, resets }
    }

    fn make_durable(&mut self, zone: ZoneId, state: Durable) {
        let now = self.as_written(zone);
        let Some(durable) = self.durable.get_mut(zone.0 as usize) else { return };
        // A reset came in between, or is in flight: the zone is its business.
        if durable.resets != state.resets || now.written_bytes < state.written_bytes {
            return;
        }
        durable.written_bytes = durable.written_bytes.max(state.written_bytes);
        durable.finished |= state.finished;
        if now.written_bytes == durable.written_bytes
            && now.finished == durable.finished
            && !self.in_flight.contains_key(&zone)
        {
            self.dirty.remove(&zone);
        }
    }
}
