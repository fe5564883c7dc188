//! The device's limits on open and active zones: counted before a zone is opened, never found out by an error.
//!
//! An extent holds one zone from its creation until that zone is finished, whichever of its zones it is: the one before
//! is finished before the next one is opened. The journal holds one, if its zones are sequential. A zone that should
//! have been given back and was not is counted until the next start (invariant 5).

use shingle_proto::limits::OSD_ACTIVE_EXTENTS_MAX;

use super::refusal::Refusal;
use super::store::Osd;
use crate::extent::journal::log::journal_zones;

impl Osd {
    /// Whether another extent may open a zone.
    pub(super) fn check_zone_limits(&self) -> Result<(), Refusal> {
        let geometry = self.device.geometry();
        let limits = [geometry.open_zones_max, geometry.active_zones_max];
        let limit = limits.into_iter().filter(|limit| *limit > 0).min().unwrap_or(u32::MAX) as usize;
        let limit = limit.min(OSD_ACTIVE_EXTENTS_MAX);
        if self.zones_held() < limit {
            return Ok(());
        }
        Err(Refusal::NoFreeExtent("as many zones are open as the disk allows"))
    }

    /// Zones that hold resources of the device, or may come to at any time.
    pub fn zones_held(&self) -> usize {
        let journal = journal_zones().any(|zone| zone.0 >= self.device.geometry().conventional_zones);
        let extents = self.extents.borrow().values().filter(|extent| extent.holds_zone.get()).count();
        usize::from(journal) + extents + self.stray_zones.get()
    }
}
