//! What every zone of a disk is used for.

use serde::Serialize;
use shingle_hw::zone::{Zone, ZoneCondition, ZoneId};
use shingle_proto::limits::JOURNAL_ZONES;

use super::journal::side_of;
use super::slots::SlotReport;
use super::survey::Survey;
use crate::extent::layout::{JOURNAL_FIRST_ZONE, LABEL_ZONE, Layout};

/// The use of a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ZoneUse {
    Label {
        copy: &'static str,
    },
    Journal {
        side: char,
        current: bool,
    },
    /// Part of an extent, in whatever state.
    Extent {
        slot: u32,
        zone_in_extent: u32,
        extent: String,
        state: &'static str,
    },
    /// Of a slot that can be given to an extent.
    Free {
        slot: u32,
    },
    /// Of a slot that is neither free nor an extent.
    Retired {
        slot: u32,
        state: &'static str,
    },
    /// Belongs to nothing: behind the last slot, or conventional and not needed.
    Unused,
    /// The disk's division is not known.
    Unknown,
}

/// A zone, its use, and how full it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ZoneReport {
    #[serde(rename = "use")]
    pub used_for: ZoneUse,
    /// Of the capacity, in thousandths; absent where the zone does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filled_permille: Option<u32>,
}

impl Survey<'_> {
    /// Every zone, in order. `slots` are all slots of the disk.
    pub fn zone_reports(&self, slots: &[SlotReport]) -> Vec<ZoneReport> {
        let report = |zone: &Zone| ZoneReport { used_for: self.use_of(zone.id, slots), filled_permille: filled(zone) };
        self.zones.iter().map(report).collect()
    }

    fn use_of(&self, zone: ZoneId, slots: &[SlotReport]) -> ZoneUse {
        let Some(layout) = self.layout() else { return ZoneUse::Unknown };
        if zone == LABEL_ZONE {
            return ZoneUse::Label { copy: "first" };
        }
        if zone == Layout::label_copy_zone(self.geometry()) {
            return ZoneUse::Label { copy: "last" };
        }
        if (JOURNAL_FIRST_ZONE..JOURNAL_FIRST_ZONE + JOURNAL_ZONES).contains(&zone.0) {
            let current = self.journal.as_ref().is_some_and(|journal| journal.zone == Some(zone.0));
            return ZoneUse::Journal { side: side_of(zone.0), current };
        }
        let Some((slot, zone_in_extent)) = layout.slot_of(zone) else { return ZoneUse::Unused };
        match slots.get(slot as usize) {
            Some(SlotReport { extent: Some(extent), state, .. }) => {
                ZoneUse::Extent { slot, zone_in_extent, extent: extent.clone(), state }
            }
            Some(SlotReport { state: "free", journal, .. })
                if journal.as_ref().is_none_or(|journal| journal.health == "sound") =>
            {
                ZoneUse::Free { slot }
            }
            Some(SlotReport { state, .. }) => ZoneUse::Retired { slot, state },
            None => ZoneUse::Unknown,
        }
    }
}

fn filled(zone: &Zone) -> Option<u32> {
    match zone.condition {
        ZoneCondition::Empty => Some(0),
        ZoneCondition::Full => Some(1000),
        ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed => {
            let permille = zone.write_pointer_bytes.saturating_mul(1000) / zone.capacity_bytes.max(1);
            Some(u32::try_from(permille).unwrap_or(1000).min(1000))
        }
        ZoneCondition::NotWritePointer | ZoneCondition::ReadOnly | ZoneCondition::Offline => None,
    }
}
