//! Which zones a test gets, and how they are given back.
//!
//! Invariant: a test gets empty zones, and leaves empty what it did not break on purpose.

use super::Bench;
use crate::qualify::findings::Halt;
use crate::zone::{ZoneCondition, ZoneId};

impl Bench<'_> {
    /// Sequential zones a test can have.
    pub fn sequential_zones(&self) -> u32 {
        self.geometry().zones - self.geometry().conventional_zones
    }

    /// `count` consecutive empty sequential zones (all there are, if fewer), other ones than the test before had.
    pub fn fresh(&self, count: u32) -> Result<Vec<ZoneId>, Halt> {
        let (first, zones) = (self.geometry().conventional_zones, self.geometry().zones);
        let count = count.min(self.sequential_zones());
        if count == 0 {
            return Err(Halt::NotApplicable("the device has no sequential zone".to_owned()));
        }
        let mut start = self.next_zone.get();
        if start + count > zones {
            start = first;
        }
        self.next_zone.set(if start + count >= zones { first } else { start + count });
        self.prepare((start..start + count).map(ZoneId).collect())
    }

    /// Sequential zones spread evenly from the outer to the inner diameter, empty.
    pub fn spread(&self, count: u32) -> Result<Vec<ZoneId>, Halt> {
        let (first, sequential) = (self.geometry().conventional_zones, self.sequential_zones());
        let count = count.min(sequential).max(1);
        let place = |index: u32| {
            let span = u64::from(sequential.saturating_sub(1)) * u64::from(index);
            ZoneId(first + (span / u64::from((count - 1).max(1))) as u32)
        };
        let mut zones: Vec<ZoneId> = (0..count).map(place).collect();
        zones.dedup();
        self.prepare(zones)
    }

    fn prepare(&self, zones: Vec<ZoneId>) -> Result<Vec<ZoneId>, Halt> {
        for zone in &zones {
            if self.zone(*zone)?.condition != ZoneCondition::Empty {
                let answer = self.reset(*zone)?;
                self.must(answer, "a reset")?;
            }
            self.touch(*zone);
        }
        Ok(zones)
    }

    /// Zones open at once that a test may rely on.
    pub fn open_limit(&self) -> u32 {
        let geometry = self.geometry();
        let limits = [geometry.open_zones_max, geometry.active_zones_max];
        let limit = limits.into_iter().filter(|limit| *limit > 0).min().unwrap_or(u32::MAX);
        limit.min(self.sequential_zones()).min(64)
    }

    /// Resets whatever the test wrote to. Zones that cannot be reset are left: a test may have broken them on purpose.
    pub fn tidy(&self) -> Result<(), Halt> {
        let touched = std::mem::take(&mut *self.touched.borrow_mut());
        for zone in touched {
            let condition = self.zone(zone)?.condition;
            if !matches!(condition, ZoneCondition::Empty | ZoneCondition::ReadOnly | ZoneCondition::Offline)
                && self.reset(zone)?.is_err()
            {
                tracing::debug!(zone = zone.0, "a zone stays as the test left it");
            }
        }
        self.touched.borrow_mut().clear();
        Ok(())
    }
}
