//! Where the next record of an extent goes: decided before anything is written, so that a full extent refuses instead
//! of failing half-way.
//!
//! A record never crosses a zone's end; what closing writes always has room (the reserve at the extent's end).

use shingle_proto::limits::RECORD_ALIGN_BYTES;

use super::layout::Layout;

/// A place in an extent: the zone's number within the extent and the offset within that zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub zone: u32,
    pub offset_bytes: u64,
}

impl Spot {
    /// The offset within the extent: zones count with the bytes that are used of them.
    pub fn offset_in_extent(self, layout: &Layout) -> u64 {
        u64::from(self.zone) * layout.zone_used_bytes + self.offset_bytes
    }

    /// The spot at an offset within the extent; `None` behind its end.
    pub fn at(offset_in_extent: u64, layout: &Layout) -> Option<Self> {
        let zone = u32::try_from(offset_in_extent / layout.zone_used_bytes).ok()?;
        let offset_bytes = offset_in_extent % layout.zone_used_bytes;
        (zone < layout.zones_per_extent).then_some(Self { zone, offset_bytes })
    }
}

/// The writing end of one extent.
#[derive(Clone, Debug)]
pub struct Placement {
    layout: Layout,
    next: Spot,
    records: u32,
}

impl Placement {
    /// Goes on at `next` after `records` records. A spot at `zones_per_extent` means that the extent is full.
    pub fn new(layout: Layout, next: Spot, records: u32) -> Self {
        Self { layout, next, records }
    }

    /// The place for a record of `bytes`, and takes it; `None` when the extent has no room for it.
    pub fn take(&mut self, bytes: u64) -> Option<Spot> {
        if self.records >= self.layout.records_max {
            return None;
        }
        let spot = self.find(bytes, self.layout.reserve_bytes)?;
        self.records += 1;
        self.next = Spot { zone: spot.zone, offset_bytes: spot.offset_bytes + bytes };
        Some(spot)
    }

    /// The place of what closes the extent; the reserve is for that.
    pub fn take_reserved(&mut self, bytes: u64) -> Option<Spot> {
        let spot = self.find(bytes, 0)?;
        self.next = Spot { zone: spot.zone, offset_bytes: spot.offset_bytes + bytes };
        Some(spot)
    }

    /// Records placed so far.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Bytes of records that still fit, if they are small.
    pub fn free_bytes(&self) -> u64 {
        if self.next.zone >= self.layout.zones_per_extent || self.records >= self.layout.records_max {
            return 0;
        }
        let used = self.next.offset_in_extent(&self.layout);
        (self.layout.extent_bytes() - self.layout.reserve_bytes).saturating_sub(used)
    }

    fn find(&self, bytes: u64, reserve_bytes: u64) -> Option<Spot> {
        assert!(bytes.is_multiple_of(u64::from(RECORD_ALIGN_BYTES)), "records are whole 4 KiB units");
        let here = self.next;
        let following = Spot { zone: here.zone.checked_add(1)?, offset_bytes: 0 };
        [here, following].into_iter().find(|spot| {
            spot.zone < self.layout.zones_per_extent
                && spot.offset_bytes + bytes <= self.zone_end(spot.zone, reserve_bytes)
        })
    }

    /// Where records of a zone end; the reserve is taken from the last zone.
    fn zone_end(&self, zone: u32, reserve_bytes: u64) -> u64 {
        let last = zone + 1 == self.layout.zones_per_extent;
        self.layout.zone_used_bytes.saturating_sub(if last { reserve_bytes } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: u64 = RECORD_ALIGN_BYTES as u64;

    fn layout() -> Layout {
        Layout {
            extent_first_zone: 3,
            zones_per_extent: 2,
            extents: 4,
            zone_used_bytes: 8 * UNIT,
            reserve_bytes: 2 * UNIT,
            parity_reserve_bytes: UNIT,
            records_max: 10,
        }
    }

    fn fresh() -> Placement {
        Placement::new(layout(), Spot { zone: 0, offset_bytes: UNIT }, 0)
    }

    #[test]
    fn record_that_does_not_fit_a_zone_goes_to_the_next() {
        let mut placement = fresh();
        assert_eq!(placement.take(5 * UNIT), Some(Spot { zone: 0, offset_bytes: UNIT }));
        assert_eq!(placement.take(3 * UNIT), Some(Spot { zone: 1, offset_bytes: 0 }));
        assert_eq!(placement.free_bytes(), 3 * UNIT);
    }

    #[test]
    fn closing_has_room_in_every_full_extent() {
        let mut placement = fresh();
        while placement.take(3 * UNIT).is_some() {}
        while placement.take(UNIT).is_some() {}
        assert_eq!(placement.free_bytes(), 0);
        assert_eq!(placement.take_reserved(UNIT), Some(Spot { zone: 1, offset_bytes: 6 * UNIT }));
    }

    #[test]
    fn record_larger_than_a_zone_is_refused_and_changes_nothing() {
        let mut placement = fresh();
        assert_eq!(placement.take(9 * UNIT), None);
        assert_eq!(placement.take(UNIT), Some(Spot { zone: 0, offset_bytes: UNIT }));
    }

    #[test]
    fn records_are_capped_by_what_the_footer_names() {
        let mut placement =
            Placement::new(Layout { records_max: 3, ..layout() }, Spot { zone: 0, offset_bytes: UNIT }, 1);
        assert!(placement.take(UNIT).is_some() && placement.take(UNIT).is_some());
        assert_eq!((placement.take(UNIT), placement.free_bytes(), placement.records()), (None, 0, 3));
        assert!(placement.take_reserved(UNIT).is_some());
    }

    #[test]
    fn spots_and_offsets_are_the_same_places() {
        let layout = layout();
        for unit in 0..16 {
            let spot = Spot::at(unit * UNIT, &layout).unwrap();
            assert_eq!(spot.offset_in_extent(&layout), unit * UNIT);
        }
        assert_eq!(Spot::at(16 * UNIT, &layout), None);
    }
}
