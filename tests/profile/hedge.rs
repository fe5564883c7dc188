//! The first reads of a gateway that has just started, in a cell where one host's disks have become slow: when is a read
//! late, if nobody has read anything yet?

use std::rc::Rc;
use std::time::Duration;

use shingle_hw::faulty::CommandKind;
use shingle_hw::qualify::profile::MeasuredProfile;

use crate::sim::cell::{CellShape, SimCell};
use crate::sim::workload::{create_bucket, get, put};

/// Reads, each of another block: fewer than make a cohort known.
pub const READS: u64 = 24;
/// What a read takes of a disk that is well.
const WELL_MS: std::ops::RangeInclusive<u64> = 4..=12;
/// What it takes of the slow host's disks.
const SLOW: Duration = Duration::from_millis(600);
const SLOW_HOST: u32 = 2;
/// Where the simulated disks' reads have their p95.
const LATE_MS: f64 = 12.0;

/// What qualification would have measured on the cell's disks, when all of them were well.
pub fn family() -> MeasuredProfile {
    let run = "simulated".to_owned();
    let geometry = CellShape::default().geometry();
    MeasuredProfile { run, hedge_ms: Some(LATE_MS), ..MeasuredProfile::unmeasured("Shingle memory", &geometry) }
}

/// How long those reads took; the hosts have profiles of their disks, or none.
pub fn first_reads(seed: u64, profile: Option<MeasuredProfile>) -> Vec<Duration> {
    let cell = SimCell::new(seed, CellShape { disks: 1, ..CellShape::default() });
    cell.profile_disks(profile.map(Rc::new));
    let inside = cell.clone();
    cell.executor.run(Duration::from_secs(600), async move {
        inside.start().await;
        create_bucket(&inside.core(0)).await.expect("a cell takes buckets");
        for number in 0..READS {
            put(&inside.core(0), &format!("{number}"), number.to_le_bytes().repeat(2_000)).await.expect("stored");
        }
        let millis = Duration::from_millis;
        for host in 1..=CellShape::default().hosts {
            let well = millis(*WELL_MS.start())..=millis(*WELL_MS.end());
            let delay = if host == SLOW_HOST { SLOW..=SLOW } else { well };
            inside.faults(host, 1).set_delay(CommandKind::Read, Some(delay));
        }
        let mut took = Vec::new();
        for number in 0..READS {
            let began = inside.executor.now();
            let bytes = get(&inside.core(1), &format!("{number}")).await.expect("three members are well");
            assert!(bytes == number.to_le_bytes().repeat(2_000), "what was stored is what is read");
            took.push(inside.executor.now() - began);
        }
        took
    })
}
