//! How much a run appends, and how much space is written for it beforehand.
//!
//! Invariant: what a run appends, and what its peers write, lies in space that was written before it is measured; the
//! file takes no more room while it runs.

use shingle_hw::geometry::Geometry;
use shingle_proto::limits::{DISK_ROOM_RESERVE_BYTES, GIB, MIB};

use super::EnginePlan;
use super::load::Load;
use super::rounds::RUNS_PER_ROUND;

/// 104 zones of 256 MiB: room for twenty-five extents of 1 GiB. The file is sparse.
pub const DISK_BYTES: u64 = 26 * GIB;
/// Records of one run, which are all in memory before it starts, at most.
const RUN_BYTES_MAX: u64 = 600 * MIB;
/// Byte budget of the shard, at least.
const BUDGET_BYTES_MIN: u64 = 512 * MIB;
/// What a zone of an extent is filled with: header, reserves and records that do not fit its end take the rest.
const ZONE_FILL_BYTES: u64 = 250 * MIB;
/// What an extent takes beside its records, at most: header, footer, a zone's reserve; and the drive's journal.
const EXTENT_EXTRA_BYTES: u64 = 8 * MIB;
/// Runs beside the measured ones: one to warm up, one to profile.
const OTHER_RUNS: u64 = 2;

/// The sizes of one run.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    rounds: u64,
    /// Appends of one round, if people bound them.
    records_max: Option<u64>,
}

impl Sizes {
    /// The sizes of a run.
    pub fn of(plan: &EnginePlan) -> Self {
        Self { rounds: plan.rounds as u64, records_max: plan.records_max }
    }

    /// Runs of ours: as many as all peers have together, and the others.
    pub fn runs(&self, load: Load) -> u64 {
        self.rounds * (load.peers.len().max(1) * RUNS_PER_ROUND) as u64 + OTHER_RUNS
    }

    /// Appends of one run, where `wanted` are wanted: all runs fit into the load's extents, one into memory, and every
    /// writer has as many.
    pub fn run_records(&self, load: Load, wanted: u64) -> u64 {
        let bound = self.records_max.map_or(u64::MAX, run_of).min(RUN_BYTES_MAX / load.record_bytes());
        let records = wanted.min(bound).min(fitting(load) / self.runs(load));
        let writers = load.writers as u64;
        if records < writers { records } else { records - records % writers }
    }

    /// Byte budget of a shard that receives all records of a run; three quarters of it are for what is received.
    pub fn budget_bytes(&self, loads: &[Load]) -> u64 {
        let run_bytes = |load: &Load| self.run_records(*load, u64::MAX) * load.record_bytes();
        let most = loads.iter().map(run_bytes).max().unwrap_or(0);
        BUDGET_BYTES_MIN.max((most / 3 * 4).next_multiple_of(MIB))
    }

    /// Records stored at once to be read.
    pub fn fill_records(&self, load: Load) -> u64 {
        BUDGET_BYTES_MIN / 2 / load.record_bytes()
    }

    /// Records stored to be read, where no appends were measured: as many as that would have left.
    pub fn records_to_read(&self, load: Load) -> u64 {
        fitting(load).min(load.records_to_read).min(self.appended(load).unwrap_or(u64::MAX))
    }

    /// What all runs append, if that is bounded.
    fn appended(&self, load: Load) -> Option<u64> {
        self.records_max.map(|records| fitting(load).min(run_of(records).min(fitting(load)) * self.runs(load)))
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

    /// What a run of these loads needs of the file system.
    pub fn free_bytes(&self, loads: &[Load]) -> u64 {
        let extents_bytes: u64 = loads.iter().map(|load| load.extents as u64 * self.extent_bytes(*load)).sum();
        extents_bytes + DISK_ROOM_RESERVE_BYTES + EXTENT_EXTRA_BYTES
    }
}

/// Appends of one run, of a round's.
fn run_of(round_records: u64) -> u64 {
    round_records.div_ceil(RUNS_PER_ROUND as u64)
}

/// Records that fit into the load's extents.
fn fitting(load: Load) -> u64 {
    load.extents as u64 * load.zones_per_extent * ZONE_FILL_BYTES / load.record_bytes()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{LARGE, LARGE_AGAIN, LARGE_RUN_RECORDS, MEDIUM, MEDIUM_RUN_RECORDS, SMALL};
    use super::*;

    fn sizes(records_max: Option<u64>) -> Sizes {
        Sizes::of(&EnginePlan { rounds: 5, only: None, records_max, patience: Duration::ZERO })
    }

    #[test]
    fn without_a_bound_whole_zones_are_written() {
        let loads = [LARGE, LARGE_AGAIN, MEDIUM, SMALL];
        let sizes = sizes(None);
        assert_eq!(loads.map(|load| sizes.extent_bytes(load)), [GIB, GIB, 512 * MIB, 256 * MIB]);
        assert_eq!([sizes.runs(LARGE), sizes.runs(MEDIUM), sizes.runs(SMALL)], [12, 72, 12]);
        assert_eq!(sizes.run_records(LARGE, LARGE_RUN_RECORDS), 144);
        assert_eq!(sizes.run_records(MEDIUM, MEDIUM_RUN_RECORDS), 832);
        assert_eq!([MEDIUM, SMALL].map(|load| sizes.records_to_read(load)), [24 * 1024, 32 * 1024]);
        assert_eq!([sizes.budget_bytes(&loads), sizes.budget_bytes(&[MEDIUM])].map(|bytes| bytes / MIB), [769, 512]);
        assert!(sizes.free_bytes(&loads) < 23 * GIB, "{}", sizes.free_bytes(&loads));
    }

    #[test]
    fn a_bound_on_the_appends_of_a_round_bounds_the_space() {
        let sizes = sizes(Some(320));
        assert_eq!(sizes.run_records(MEDIUM, MEDIUM_RUN_RECORDS), 160);
        assert_eq!(sizes.run_records(MEDIUM, 100), 96, "it only ever lowers, and every writer has as many");
        assert_eq!(sizes.run_records(MEDIUM, 20), 20);
        assert!(sizes.extent_bytes(MEDIUM) * 8 >= 72 * 160 * MEDIUM.record_bytes());
        assert_eq!(sizes.records_to_read(MEDIUM), 72 * 160, "what all runs leave");
        assert!(sizes.free_bytes(&[MEDIUM]) < 9 * GIB / 8, "{}", sizes.free_bytes(&[MEDIUM]));
    }

    #[test]
    fn a_run_fits_into_memory_however_few_rounds_there_are() {
        let sizes = Sizes::of(&EnginePlan { rounds: 1, only: None, records_max: None, patience: Duration::ZERO });
        assert_eq!(sizes.run_records(LARGE, LARGE_RUN_RECORDS), 144);
        assert!(sizes.budget_bytes(&[LARGE, MEDIUM]) < 800 * MIB);
    }

    #[test]
    fn a_large_bound_changes_nothing() {
        let loads = [LARGE, MEDIUM, SMALL];
        let (bound, free) = (sizes(Some(1 << 40)), sizes(None));
        assert_eq!(bound.free_bytes(&loads), free.free_bytes(&loads));
        assert_eq!(bound.run_records(LARGE, LARGE_RUN_RECORDS), 144);
    }
}
