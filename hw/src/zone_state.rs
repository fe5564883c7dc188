//! The zone state machine: what a drive decides about a command, without doing it.
//!
//! Invariants: never more zones are open or active than the geometry allows; a write pointer only grows until its zone
//! is reset; a zone has at most one append in flight, or as many as the device was said to take. Where ZBC-2 and ZNS 1.1 differ, the stricter one holds, so what
//! works here works on either: closing an empty or full zone is refused (ZNS), an explicitly opened zone without data
//! closes to empty (ZBC), finishing an empty or closed zone needs an open resource for a moment (both).

use std::collections::BTreeMap;

use crate::error::DeviceError;
use crate::geometry::Geometry;
use crate::zone::{Zone, ZoneCondition, ZoneId};

/// The states of all zones of one device.
#[derive(Clone)]
pub struct ZoneStates {
    geometry: Geometry,
    zones: Vec<State>,
    /// Implicitly open zones by last use; the least recently used one is closed when another must open.
    implicit: BTreeMap<u64, ZoneId>,
    explicit: u32,
    closed: u32,
    clock: u64,
    /// Appends that one zone may have in flight.
    appends_max: u16,
}

#[derive(Clone, Copy)]
struct State {
    condition: ZoneCondition,
    /// Bytes written since the last reset; a finished zone keeps the number.
    written_bytes: u64,
    /// `written_bytes` and what is in flight.
    claimed_bytes: u64,
    last_use: u64,
    /// Appends in flight.
    appends: u16,
    resetting: bool,
}

impl State {
    /// An append or a reset is in flight.
    fn busy(&self) -> bool {
        self.appends > 0 || self.resetting
    }

    fn set_written(&mut self, written_bytes: u64) {
        self.written_bytes = written_bytes;
        self.claimed_bytes = written_bytes;
    }

    fn forget_commands(&mut self) {
        self.appends = 0;
        self.resetting = false;
        self.claimed_bytes = self.written_bytes;
    }
}

impl ZoneStates {
    /// A device fresh from the factory. The geometry must be sound (`Geometry::check`).
    pub fn new(geometry: Geometry) -> Self {
        let condition =
            |id| if id < geometry.conventional_zones { ZoneCondition::NotWritePointer } else { ZoneCondition::Empty };
        let zones = (0..geometry.zones)
            .map(|id| State {
                condition: condition(id),
                written_bytes: 0,
                claimed_bytes: 0,
                last_use: 0,
                appends: 0,
                resetting: false,
            })
            .collect();
        Self { geometry, zones, implicit: BTreeMap::new(), explicit: 0, closed: 0, clock: 0, appends_max: 1 }
    }

    /// The device orders appends itself: so many may be in flight in one zone. Where they land is known when they end.
    pub fn allow_appends(&mut self, appends_max: u16) {
        self.appends_max = appends_max.max(1);
    }

    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Zones open now, implicitly or explicitly.
    pub fn open_zones(&self) -> u32 {
        self.explicit + self.implicit.len() as u32
    }

    /// Zones open or closed now.
    pub fn active_zones(&self) -> u32 {
        self.open_zones() + self.closed
    }

    /// A zone report.
    pub fn report(&self, first: ZoneId, count: u32) -> Vec<Zone> {
        let end = first.0.saturating_add(count).min(self.geometry.zones);
        (first.0..end).filter_map(|id| self.zone(ZoneId(id))).collect()
    }

    /// One line of a report; `None` behind the last zone.
    pub fn zone(&self, id: ZoneId) -> Option<Zone> {
        let state = self.zones.get(id.0 as usize)?;
        let conventional = id.0 < self.geometry.conventional_zones;
        let capacity_bytes = if conventional { self.geometry.zone_bytes } else { self.geometry.zone_capacity_bytes };
        let write_pointer_bytes = match state.condition {
            ZoneCondition::NotWritePointer | ZoneCondition::Empty => 0,
            ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed => state.written_bytes,
            // Means nothing; as Linux reports it.
            ZoneCondition::Full | ZoneCondition::ReadOnly | ZoneCondition::Offline => self.geometry.zone_bytes,
        };
        Some(Zone { id, condition: state.condition, capacity_bytes, write_pointer_bytes })
    }

    /// Bytes written since the last reset, also of zones whose write pointer means nothing; 0 for zones that do not
    /// exist.
    pub fn written_bytes(&self, zone: ZoneId) -> u64 {
        self.zones.get(zone.0 as usize).map_or(0, |state| state.written_bytes)
    }

    /// Puts a zone into a state that survived a loss of power: empty, closed, full, read-only or offline. Limits are
    /// not checked: a drive that finds more active zones than it allows lives with them until they are finished.
    pub fn restore(&mut self, zone: ZoneId, condition: ZoneCondition, written_bytes: u64) {
        let survives = !matches!(
            condition,
            ZoneCondition::NotWritePointer | ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen
        );
        assert!(survives, "open zones do not survive a loss of power");
        self.transition(zone, condition);
        if let Some(state) = self.zones.get_mut(zone.0 as usize) {
            state.set_written(written_bytes);
            state.forget_commands();
        }
    }

    /// Believes what a drive reports of a zone, which may be open, and which has nothing in flight but at most the
    /// append that waits for this report. Limits are not checked: the drive keeps them.
    pub fn adopt(&mut self, zone: ZoneId, condition: ZoneCondition, written_bytes: u64) {
        self.transition(zone, condition);
        if let Some(state) = self.zones.get_mut(zone.0 as usize) {
            state.set_written(written_bytes);
        }
    }

    /// Whether an append or a reset is in flight in a zone.
    pub fn is_busy(&self, zone: ZoneId) -> bool {
        self.zones.get(zone.0 as usize).is_some_and(State::busy)
    }

    /// Appends in flight in a zone.
    pub fn appends_in_flight(&self, zone: ZoneId) -> u16 {
        self.zones.get(zone.0 as usize).map_or(0, |state| state.appends)
    }

    /// What a loss of power does to conditions: open zones are closed, commands in flight are forgotten.
    pub fn power_cycle(&mut self) {
        for index in 0..self.geometry.zones {
            let id = ZoneId(index);
            let Some(state) = self.zones.get_mut(index as usize) else { continue };
            state.forget_commands();
            let (condition, written_bytes) = (state.condition, state.written_bytes);
            if matches!(condition, ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen) {
                self.transition(id, closed_condition(written_bytes));
            }
        }
    }

    /// Checks a read; returns how many of its bytes come from the medium, the rest reads as zeroes.
    pub fn check_read(&self, zone: ZoneId, offset_bytes: u64, length_bytes: u64) -> Result<u64, DeviceError> {
        self.geometry.check_transfer(offset_bytes, length_bytes)?;
        let state = self.state(zone, offset_bytes, length_bytes)?;
        if state.condition == ZoneCondition::Offline {
            return Err(DeviceError::Offline { zone });
        }
        let conventional = zone.0 < self.geometry.conventional_zones;
        let end = if conventional { self.geometry.zone_bytes } else { self.geometry.zone_capacity_bytes };
        if offset_bytes.checked_add(length_bytes).is_none_or(|last| last > end) {
            return Err(DeviceError::Boundary { zone, offset_bytes, length_bytes });
        }
        if conventional {
            return Ok(length_bytes);
        }
        Ok(state.written_bytes.saturating_sub(offset_bytes).min(length_bytes))
    }

    /// Checks a write into a conventional zone.
    pub fn check_write(&self, zone: ZoneId, offset_bytes: u64, length_bytes: u64) -> Result<(), DeviceError> {
        self.geometry.check_transfer(offset_bytes, length_bytes)?;
        let state = self.state(zone, offset_bytes, length_bytes)?;
        match state.condition {
            ZoneCondition::NotWritePointer => {}
            ZoneCondition::ReadOnly => return Err(DeviceError::ReadOnly { zone }),
            ZoneCondition::Offline => return Err(DeviceError::Offline { zone }),
            _ => return Err(DeviceError::Condition { zone }),
        }
        if offset_bytes.checked_add(length_bytes).is_none_or(|last| last > self.geometry.zone_bytes) {
            return Err(DeviceError::Boundary { zone, offset_bytes, length_bytes });
        }
        Ok(())
    }

    /// Starts an append: opens the zone and returns the offset where the bytes go. It must be followed by `end_append`.
    pub fn begin_append(&mut self, zone: ZoneId, length_bytes: u64) -> Result<u64, DeviceError> {
        self.geometry.check_transfer(0, length_bytes)?;
        let state = self.writable(zone)?;
        assert!(
            state.appends < self.appends_max && !state.resetting,
            "at most {} appends are in flight in a zone, and none while it is reset",
            self.appends_max
        );
        let offset_bytes = state.claimed_bytes;
        if state.condition == ZoneCondition::Full {
            return Err(DeviceError::Full { zone });
        }
        if length_bytes > self.geometry.zone_capacity_bytes.saturating_sub(offset_bytes) {
            return Err(DeviceError::Boundary { zone, offset_bytes, length_bytes });
        }
        self.activate(zone, ZoneCondition::ImplicitOpen)?;
        if let Some(state) = self.zones.get_mut(zone.0 as usize) {
            state.appends += 1;
            state.claimed_bytes += length_bytes;
        }
        Ok(offset_bytes)
    }

    /// Ends the only append in flight in a zone, of which `length_bytes` arrived: all, or none when it failed.
    pub fn end_append(&mut self, zone: ZoneId, length_bytes: u64) {
        let Some(state) = self.zones.get_mut(zone.0 as usize) else { return };
        assert!(state.appends == 1, "an append ends once");
        let landed_bytes = state.written_bytes;
        state.claimed_bytes = state.written_bytes + length_bytes;
        self.settle_append(zone, landed_bytes + length_bytes);
    }

    /// Ends one of several appends in flight: where its `length_bytes` landed, or `None` when it failed.
    pub fn end_append_at(&mut self, zone: ZoneId, landed_bytes: Option<u64>, length_bytes: u64) {
        let Some(state) = self.zones.get_mut(zone.0 as usize) else { return };
        assert!(state.appends > 0, "an append ends once");
        if landed_bytes.is_none() {
            state.claimed_bytes = state.claimed_bytes.saturating_sub(length_bytes).max(state.written_bytes);
        }
        let end_bytes = landed_bytes.map_or(0, |landed| landed + length_bytes);
        self.settle_append(zone, end_bytes);
    }

    fn settle_append(&mut self, zone: ZoneId, end_bytes: u64) {
        let Some(state) = self.zones.get_mut(zone.0 as usize) else { return };
        state.appends -= 1;
        state.written_bytes = state.written_bytes.max(end_bytes);
        state.claimed_bytes = state.claimed_bytes.max(end_bytes);
        let (condition, written_bytes, idle) = (state.condition, state.written_bytes, state.appends == 0);
        assert!(written_bytes <= self.geometry.zone_capacity_bytes, "a write pointer stays within the capacity");
        let writable =
            matches!(condition, ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed);
        if writable && idle && written_bytes == self.geometry.zone_capacity_bytes {
            self.transition(zone, ZoneCondition::Full);
        } else if condition == ZoneCondition::Closed && idle {
            self.transition(zone, closed_condition(written_bytes));
        }
    }

    /// Opens a zone explicitly.
    pub fn open(&mut self, zone: ZoneId) -> Result<(), DeviceError> {
        if self.writable(zone)?.condition == ZoneCondition::Full {
            return Err(DeviceError::Condition { zone });
        }
        self.activate(zone, ZoneCondition::ExplicitOpen)
    }

    /// Closes an open zone; a closed one stays closed.
    pub fn close(&mut self, zone: ZoneId) -> Result<(), DeviceError> {
        let state = self.writable(zone)?;
        match state.condition {
            ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen if !state.busy() => {
                self.transition(zone, closed_condition(state.written_bytes));
                Ok(())
            }
            ZoneCondition::Closed => Ok(()),
            _ => Err(DeviceError::Condition { zone }),
        }
    }

    /// Makes a zone full; a full one stays full.
    pub fn finish(&mut self, zone: ZoneId) -> Result<(), DeviceError> {
        let state = self.writable(zone)?;
        if state.busy() {
            return Err(DeviceError::Condition { zone });
        }
        if state.condition != ZoneCondition::Full {
            self.activate(zone, ZoneCondition::ImplicitOpen)?;
            self.transition(zone, ZoneCondition::Full);
        }
        Ok(())
    }

    /// Resets a zone; it is busy until `end_reset`, so that nothing is appended before the reset is durable.
    pub fn begin_reset(&mut self, zone: ZoneId) -> Result<(), DeviceError> {
        let state = self.writable(zone)?;
        if state.busy() {
            return Err(DeviceError::Condition { zone });
        }
        self.transition(zone, ZoneCondition::Empty);
        if let Some(state) = self.zones.get_mut(zone.0 as usize) {
            state.set_written(0);
            state.resetting = true;
        }
        Ok(())
    }

    /// The reset is done, or failed with the device.
    pub fn end_reset(&mut self, zone: ZoneId) {
        if let Some(state) = self.zones.get_mut(zone.0 as usize) {
            state.resetting = false;
        }
    }

    /// A fault: the zone can no longer be written; one that is offline stays so. Conventional zones may suffer it too.
    pub fn set_read_only(&mut self, zone: ZoneId) {
        if self.zones.get(zone.0 as usize).is_some_and(|state| state.condition != ZoneCondition::Offline) {
            self.transition(zone, ZoneCondition::ReadOnly);
        }
    }

    /// A fault: the zone can no longer be read or written.
    pub fn set_offline(&mut self, zone: ZoneId) {
        self.transition(zone, ZoneCondition::Offline);
    }

    fn state(&self, zone: ZoneId, offset_bytes: u64, length_bytes: u64) -> Result<State, DeviceError> {
        let outside = DeviceError::Boundary { zone, offset_bytes, length_bytes };
        self.zones.get(zone.0 as usize).copied().ok_or(outside)
    }

    /// The state of a sequential zone that is neither read-only nor offline.
    fn writable(&self, zone: ZoneId) -> Result<State, DeviceError> {
        let state = self.state(zone, 0, 0)?;
        match state.condition {
            ZoneCondition::NotWritePointer => Err(DeviceError::Condition { zone }),
            ZoneCondition::ReadOnly => Err(DeviceError::ReadOnly { zone }),
            ZoneCondition::Offline => Err(DeviceError::Offline { zone }),
            _ => Ok(state),
        }
    }

    /// Opens an empty, closed or open zone, within the limits.
    fn activate(&mut self, zone: ZoneId, condition: ZoneCondition) -> Result<(), DeviceError> {
        let current = self.writable(zone)?.condition;
        match current {
            ZoneCondition::ExplicitOpen => return Ok(()),
            ZoneCondition::ImplicitOpen => {}
            _ => {
                let limit = self.geometry.active_zones_max;
                if current == ZoneCondition::Empty && limit > 0 && self.active_zones() >= limit {
                    return Err(DeviceError::TooManyActive { limit });
                }
                self.make_room_to_open()?;
            }
        }
        self.transition(zone, condition);
        Ok(())
    }

    /// Closes the least recently used implicitly open zone when the open limit is reached, preferring one without an
    /// append in flight.
    fn make_room_to_open(&mut self) -> Result<(), DeviceError> {
        let limit = self.geometry.open_zones_max;
        if limit == 0 || self.open_zones() < limit {
            return Ok(());
        }
        let busy = |id: &ZoneId| self.zones.get(id.0 as usize).is_some_and(State::busy);
        let victim = self.implicit.values().find(|id| !busy(id)).or_else(|| self.implicit.values().next()).copied();
        let Some(victim) = victim else { return Err(DeviceError::TooManyOpen { limit }) };
        let condition =
            if busy(&victim) { ZoneCondition::Closed } else { closed_condition(self.written_bytes(victim)) };
        self.transition(victim, condition);
        Ok(())
    }

    /// Changes a condition and the counts with it.
    fn transition(&mut self, zone: ZoneId, condition: ZoneCondition) {
        let Some(state) = self.zones.get_mut(zone.0 as usize) else { return };
        match state.condition {
            ZoneCondition::ImplicitOpen => {
                self.implicit.remove(&state.last_use);
            }
            ZoneCondition::ExplicitOpen => self.explicit -= 1,
            ZoneCondition::Closed => self.closed -= 1,
            _ => {}
        }
        self.clock += 1;
        state.condition = condition;
        state.last_use = self.clock;
        match condition {
            ZoneCondition::ImplicitOpen => {
                self.implicit.insert(self.clock, zone);
            }
            ZoneCondition::ExplicitOpen => self.explicit += 1,
            ZoneCondition::Closed => self.closed += 1,
            _ => {}
        }
    }
}

/// What an open zone becomes when it is closed.
fn closed_condition(written_bytes: u64) -> ZoneCondition {
    if written_bytes == 0 { ZoneCondition::Empty } else { ZoneCondition::Closed }
}

#[cfg(test)]
#[path = "zone_state/tests.rs"]
mod tests;
