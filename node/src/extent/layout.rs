//! Which zones of a disk are what. Fixed when the disk is labelled and kept in its label.
//!
//! Zone 0 holds the label, the two after it are for the metadata journal, the last one for the label's copy; every
//! other sequential zone belongs to exactly one extent slot, or to none at the end (invariant 5).

use shingle_hw::geometry::Geometry;
use shingle_hw::zone::ZoneId;
use shingle_proto::limits::{
    EXTENT_BYTES_DEFAULT, EXTENT_RECORDS_MAX, EXTENT_SLOTS_MIN, JOURNAL_ZONES, RECORD_ALIGN_BYTES,
};

use super::footer::{closing_bytes, entries_within};
use super::format::{align_down, align_up};
use super::journal::slots_within;

/// The zone of the disk label.
pub const LABEL_ZONE: ZoneId = ZoneId(0);
/// The first of the journal's zones.
pub const JOURNAL_FIRST_ZONE: u32 = 1;

/// A disk this small or this shaped holds no extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{zones} zones of {zone_capacity_bytes} bytes, {conventional_zones} of them conventional, leave no zone for an extent"
)]
pub struct NoRoom {
    pub zones: u32,
    pub zone_capacity_bytes: u64,
    pub conventional_zones: u32,
}

/// The division of one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub extent_first_zone: u32,
    pub zones_per_extent: u32,
    pub extents: u32,
    /// Bytes used of each zone: its capacity in whole 4 KiB units.
    pub zone_used_bytes: u64,
    /// Bytes at an extent's end that records never take: room for the footer, and for what parity has to carry.
    pub reserve_bytes: u64,
    /// The part of it that only a parity fragment of the same size needs: the tocs of its data extents.
    pub parity_reserve_bytes: u64,
    /// Records of one extent: what the footer has room for.
    pub records_max: u32,
}

impl Layout {
    /// The division of a disk of this shape: as many whole zones per extent as come nearest to 1 GiB, fewer on disks
    /// too small for [`EXTENT_SLOTS_MIN`] such extents.
    pub fn of(geometry: &Geometry) -> Result<Self, NoRoom> {
        let no_room = NoRoom {
            zones: geometry.zones,
            zone_capacity_bytes: geometry.zone_capacity_bytes,
            conventional_zones: geometry.conventional_zones,
        };
        let zone_used_bytes = align_down(geometry.zone_capacity_bytes);
        if zone_used_bytes < 4 * u64::from(RECORD_ALIGN_BYTES) {
            return Err(no_room);
        }
        let extent_first_zone = geometry.conventional_zones.max(JOURNAL_FIRST_ZONE + JOURNAL_ZONES);
        let data_zones = geometry.zones.saturating_sub(1).saturating_sub(extent_first_zone);
        let wanted = (EXTENT_BYTES_DEFAULT + zone_used_bytes / 2) / zone_used_bytes;
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        // A journal zone holds what there is to say about every slot, and as much again of news.
        let slots_max = slots_within(zone_used_bytes / 2).max(1);
        let zones_per_extent = wanted.min(data_zones / EXTENT_SLOTS_MIN).max(data_zones.div_ceil(slots_max)).max(1);
        let extents = data_zones / zones_per_extent;
        let extent_bytes = zone_used_bytes * u64::from(zones_per_extent);
        // Offsets within an extent are 32-bit numbers of 4 KiB units in the toc.
        if extents == 0 || extent_bytes / u64::from(RECORD_ALIGN_BYTES) > u64::from(u32::MAX) {
            return Err(no_room);
        }
        let reserve = Reserve::of(extent_bytes, zone_used_bytes);
        Ok(Self {
            extent_first_zone,
            zones_per_extent,
            extents,
            zone_used_bytes,
            reserve_bytes: reserve.footer_bytes + reserve.parity_bytes,
            parity_reserve_bytes: reserve.parity_bytes,
            records_max: reserve.records_max,
        })
    }

    /// The zone of the label's second copy, at the disk's other end.
    pub fn label_copy_zone(geometry: &Geometry) -> ZoneId {
        ZoneId(geometry.zones.saturating_sub(1))
    }

    /// A zone of a slot.
    pub fn zone(&self, slot: u32, zone_in_extent: u32) -> ZoneId {
        assert!(slot < self.extents && zone_in_extent < self.zones_per_extent, "zones belong to one extent");
        ZoneId(self.extent_first_zone + slot * self.zones_per_extent + zone_in_extent)
    }

    /// The slot a zone belongs to, and which of the slot's zones it is.
    pub fn slot_of(&self, zone: ZoneId) -> Option<(u32, u32)> {
        let behind = zone.0.checked_sub(self.extent_first_zone)?;
        let (slot, zone_in_extent) = (behind / self.zones_per_extent, behind % self.zones_per_extent);
        (slot < self.extents).then_some((slot, zone_in_extent))
    }

    /// Bytes of one extent, header and reserve included.
    pub fn extent_bytes(&self) -> u64 {
        self.zone_used_bytes * u64::from(self.zones_per_extent)
    }

    /// Bytes of records one extent can hold.
    pub fn payload_bytes(&self) -> u64 {
        self.extent_bytes() - self.reserve_bytes - u64::from(RECORD_ALIGN_BYTES)
    }
}

/// What an extent keeps free at its end.
struct Reserve {
    footer_bytes: u64,
    parity_bytes: u64,
    records_max: u32,
}

impl Reserve {
    /// The footer of as many of the smallest records as fit, at most an eighth of a zone; for parity a 256th of the
    /// extent, and both together at most a quarter of a zone.
    fn of(extent_bytes: u64, zone_used_bytes: u64) -> Self {
        let unit = u64::from(RECORD_ALIGN_BYTES);
        let records = (extent_bytes / unit).saturating_sub(2).min(u64::from(EXTENT_RECORDS_MAX));
        let footer_max = align_down(zone_used_bytes / 8).max(unit);
        let records_max = records.min(entries_within(footer_max)) as u32;
        let footer_bytes = closing_bytes(records_max);
        let parity_max = align_down(zone_used_bytes / 4).saturating_sub(footer_bytes);
        let parity_bytes = align_up(extent_bytes / 256).max(4 * unit).min(parity_max);
        Self { footer_bytes, parity_bytes, records_max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(zones: u32, zone_bytes: u64, conventional_zones: u32) -> Geometry {
        Geometry {
            zones,
            zone_bytes,
            zone_capacity_bytes: zone_bytes,
            conventional_zones,
            sector_bytes: 4096,
            open_zones_max: 128,
            active_zones_max: 0,
            transfer_bytes_max: 1 << 20,
        }
    }

    #[test]
    fn default_disk_holds_extents_of_one_gib() {
        let layout = Layout::of(&geometry(256, 256 << 20, 3)).unwrap();
        assert_eq!((layout.zones_per_extent, layout.extents), (4, 63));
        assert_eq!(layout.extent_bytes(), 1 << 30);
        assert_eq!(layout.records_max, EXTENT_RECORDS_MAX);
        assert_eq!(layout.parity_reserve_bytes, 4 << 20);
        assert_eq!(layout.reserve_bytes - layout.parity_reserve_bytes, closing_bytes(EXTENT_RECORDS_MAX));
        assert_eq!(layout.zone(0, 0), ZoneId(3));
        assert_eq!(layout.slot_of(layout.zone(62, 3)), Some((62, 3)));
        assert_eq!((layout.slot_of(ZoneId(2)), layout.slot_of(ZoneId(3 + 63 * 4))), (None, None));
        assert!(layout.zone(62, 3) < Layout::label_copy_zone(&geometry(256, 256 << 20, 3)));
    }

    #[test]
    fn extents_never_touch_label_journal_or_conventional_zones() {
        for zones in 0..64 {
            for conventional in 0..=zones.min(9) {
                for zone_bytes in [16 << 10, 1 << 20, (1 << 20) + 512, 77 << 20, 3 << 30] {
                    let shape = geometry(zones, zone_bytes, conventional);
                    let Ok(layout) = Layout::of(&shape) else { continue };
                    let first = layout.zone(0, 0).0;
                    let last = layout.zone(layout.extents - 1, layout.zones_per_extent - 1);
                    assert!(first >= conventional && first >= JOURNAL_FIRST_ZONE + JOURNAL_ZONES);
                    assert!(last < Layout::label_copy_zone(&shape), "{shape:?}");
                    assert!(layout.payload_bytes() < layout.extent_bytes());
                    assert!(closing_bytes(layout.records_max) <= layout.reserve_bytes, "{shape:?}");
                    assert!(layout.extents <= slots_within(layout.zone_used_bytes / 2), "{shape:?}");
                }
            }
        }
    }

    #[test]
    fn disk_without_room_is_refused() {
        assert!(Layout::of(&geometry(4, 1 << 20, 0)).is_err());
        assert!(Layout::of(&geometry(100, 1 << 20, 100)).is_err());
        assert!(Layout::of(&geometry(100, 4096, 1)).is_err());
        assert!(Layout::of(&geometry(5, 1 << 20, 0)).is_ok());
    }
}
