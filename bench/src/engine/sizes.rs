//! How much a run appends, and how much space is written for it beforehand.
//!
//! Invariant: what a run appends, and what its peers write, lies in space that was written before it is measured; the
//! files take no more room while it runs.

use shingle_hw::geometry::Geometry;
use shingle_proto::limits::{DISK_ROOM_RESERVE_BYTES, GIB, MIB};

use super::EnginePlan;
use super::load::Load;

/// 72 zones of 256 MiB: room for seventeen extents of 1 GiB. The file is sparse.
pub const DISK_BYTES: u64 = 18 * GIB;
/// fio's file, at most.
const PEER_BYTES_MAX: u64 = 4 * GIB;
/// What a zone of an extent is filled with: header, reserves and records that do not fit its end take the rest.
const ZONE_FILL_BYTES: u64 = 250 * MIB;
/// What an extent takes beside its records, at most: header, footer, a zone's reserve; and the drive's journal.
const EXTENT_EXTRA_BYTES: u64 = 8 * MIB;
/// Rounds beside the measured ones: one to warm up, one to profile.
const OTHER_ROUNDS: u64 = 2;

/// The sizes of one run.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    rounds: u64,
    /// Appends of one round, if people bound them.
    records_max: Option<u64>,
    peer_bytes: u64,
}

impl Sizes {
    /// The sizes of a run of these loads.
    pub fn of(plan: &EnginePlan, loads: &[Load]) -> Self {
        let mut sizes = Self { rounds: plan.rounds as u64, records_max: plan.records_max, peer_bytes: PEER_BYTES_MAX };
        if let Some(records) = plan.records_max {
            let round_bytes = |load: &Load| (records.min(fitting(*load)) * load.record_bytes()).next_multiple_of(MIB);
            let most = loads.iter().map(round_bytes).max().unwrap_or(MIB);
            sizes.peer_bytes = PEER_BYTES_MAX.min(most * sizes.rounds_run());
        }
        sizes
    }

    /// Rounds of ours, the measured ones and the others.
    pub fn rounds_run(&self) -> u64 {
        self.rounds + OTHER_ROUNDS
    }

    /// Appends of one round, where `wanted` are wanted: all rounds fit into the load's extents.
    pub fn round_records(&self, load: Load, wanted: u64) -> u64 {
        wanted.min(self.records_max.unwrap_or(u64::MAX)).min(fitting(load) / self.rounds_run())
    }

    /// Records stored to be read, where no appends were measured: as many as that would have left.
    pub fn records_to_read(&self, load: Load) -> u64 {
        fitting(load)
            .min(load.records_to_read)
            .min(self.peer_bytes / load.record_bytes())
            .min(self.appended(load).unwrap_or(u64::MAX))
    }

    /// What all rounds append, if that is bounded.
    fn appended(&self, load: Load) -> Option<u64> {
        self.records_max.map(|records| fitting(load).min(records.min(fitting(load)) * self.rounds_run()))
    }

    /// What is written of each of the load's extents beforehand.
    pub fn extent_bytes(&self, load: Load) -> u64 {
        let whole_bytes = load.zones_per_extent * Geometry::smr(DISK_BYTES).zone_bytes;
        let Some(records) = self.appended(load) else { return whole_bytes };
        let filled_bytes = records.div_ceil(load.extents as u64) * load.record_bytes();
        // The end of a zone that is full stays unused.
        let unused_bytes = filled_bytes / ZONE_FILL_BYTES * EXTENT_EXTRA_BYTES;
        whole_bytes.min((filled_bytes + unused_bytes + EXTENT_EXTRA_BYTES).next_multiple_of(MIB))
    }

    /// fio's file.
    pub fn peer_bytes(&self) -> u64 {
        self.peer_bytes
    }

    /// What a run of these loads needs of the file system.
    pub fn free_bytes(&self, loads: &[Load]) -> u64 {
        let extents_bytes: u64 = loads.iter().map(|load| load.extents as u64 * self.extent_bytes(*load)).sum();
        extents_bytes + self.peer_bytes + DISK_ROOM_RESERVE_BYTES + EXTENT_EXTRA_BYTES
    }
}

/// Records that fit into the load's extents.
fn fitting(load: Load) -> u64 {
    load.extents as u64 * load.zones_per_extent * ZONE_FILL_BYTES / load.record_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::{LARGE, LARGE_ROUND_RECORDS, MEDIUM, MEDIUM_ROUND_RECORDS, SMALL};
    use super::*;

    fn sizes(records_max: Option<u64>, loads: &[Load]) -> Sizes {
        Sizes::of(&EnginePlan { rounds: 5, only: None, records_max }, loads)
    }

    #[test]
    fn without_a_bound_whole_zones_are_written() {
        let loads = [LARGE, MEDIUM, SMALL];
        let sizes = sizes(None, &loads);
        assert_eq!(loads.map(|load| sizes.extent_bytes(load)), [GIB, 256 * MIB, 256 * MIB]);
        assert_eq!((sizes.peer_bytes(), sizes.round_records(MEDIUM, MEDIUM_ROUND_RECORDS)), (4 * GIB, 4096));
        assert_eq!(sizes.round_records(LARGE, LARGE_ROUND_RECORDS), 256);
        assert_eq!([MEDIUM, SMALL].map(|load| sizes.records_to_read(load)), [24 * 1024, 32 * 1024]);
        assert!(sizes.free_bytes(&loads) < 17 * GIB, "{}", sizes.free_bytes(&loads));
    }

    #[test]
    fn a_bound_on_the_appends_of_a_round_bounds_the_space() {
        let sizes = sizes(Some(320), &[MEDIUM]);
        assert_eq!(sizes.round_records(MEDIUM, MEDIUM_ROUND_RECORDS), 320);
        assert_eq!(sizes.round_records(MEDIUM, 100), 100, "it only ever lowers");
        let round_bytes = (320 * MEDIUM.record_bytes()).next_multiple_of(MIB);
        assert_eq!(sizes.peer_bytes(), 7 * round_bytes, "a place of its own for every round");
        assert!(sizes.extent_bytes(MEDIUM) * 8 >= 7 * 320 * MEDIUM.record_bytes());
        assert_eq!(sizes.records_to_read(MEDIUM), 7 * 320);
        assert!(sizes.free_bytes(&[MEDIUM]) < GIB, "{}", sizes.free_bytes(&[MEDIUM]));
    }

    #[test]
    fn a_large_bound_changes_nothing() {
        let loads = [LARGE, MEDIUM, SMALL];
        let (bound, free) = (sizes(Some(1 << 40), &loads), sizes(None, &loads));
        assert_eq!(bound.free_bytes(&loads), free.free_bytes(&loads));
        assert_eq!(bound.round_records(LARGE, LARGE_ROUND_RECORDS), 256);
    }
}
