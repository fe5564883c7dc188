//! `shingle-tests profile`: a table of both, and their ratios.

use std::process::ExitCode;

use clap::Args;
use shingle_hw::model::profile::{BUILT_IN, DriveProfile, Media};
use shingle_node::osd::policy::DiskPolicy;
use shingle_proto::limits::SHARD_BUDGET_BYTES_DEFAULT;

use super::hedge::{READS, family, first_reads};
use super::load::{self, Load};
use super::outcome::{Outcome, QUANTILES};
use super::stage::measure;

/// The command's flags.
#[derive(Args)]
pub struct Profile {
    /// Modelled drives.
    #[arg(default_values = ["smr", "hamr", "zns"])]
    drives: Vec<String>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests of the loads of small records; ten thousand resolve a p99. Of large ones it is a tenth.
    #[arg(long, default_value_t = 10_000)]
    requests: u64,
}

const PROFILED: &str = "with the profile";
/// A flush beyond what the data takes, in microseconds: a third of what 64 MiB take the modelled disk.
const SLOW_FLUSH_US: f64 = 100_000.0;

type Run = fn(&DriveProfile, u64, DiskPolicy, Load) -> Outcome;

impl Profile {
    pub fn run(&self) -> ExitCode {
        for name in &self.drives {
            let Some(drive) = DriveProfile::built_in(name) else {
                eprintln!("{name}: one of {}", BUILT_IN.join(", "));
                return ExitCode::FAILURE;
            };
            self.compare(name, &drive.for_memory());
        }
        if let Some(drive) = DriveProfile::built_in("smr").map(DriveProfile::for_memory) {
            self.compare_memory(&drive);
            self.compare_slow_flushes(drive);
        }
        self.compare_first_reads();
        ExitCode::SUCCESS
    }

    /// Reads of gateways that have just started, each from its own seed.
    fn compare_first_reads(&self) {
        let cells = self.requests.div_ceil(10 * READS);
        println!("first reads of a gateway, {cells} simulated cells of five hosts, one of them slow");
        println!("  {:34} {}", "", header());
        let outcomes = [None, Some(family())].map(|profile| {
            let reads = (0..cells).flat_map(|cell| first_reads(self.seed + cell, profile.clone())).collect();
            Outcome::of(None, reads)
        });
        tell("as assumed: late after 100 ms", PROFILED, &outcomes);
    }

    /// Large reads where memory for them is short and where it is not: what waits for memory waits in the same order.
    fn compare_memory(&self, drive: &DriveProfile) {
        let load = Load { record_bytes: 1 << 20, clients: 4, requests: self.requests / 10, budget_bytes: 0 };
        println!("smr: memory of the shard");
        println!("  {:34} {}", "4 reads of 1 MiB beside 48", header());
        let outcomes = [1, 8].map(|times| {
            let load = Load { budget_bytes: times * SHARD_BUDGET_BYTES_DEFAULT, ..load };
            load::reads(drive, self.seed, DiskPolicy::default(), load)
        });
        tell("as by default", "8 times as much", &outcomes);
    }

    /// A disk on which it is worth ending a batch early.
    fn compare_slow_flushes(&self, mut drive: DriveProfile) {
        drive.cache.flush_us = SLOW_FLUSH_US;
        let measured = DiskPolicy::default().measured(&measure(&drive, self.seed));
        println!("smr with flushes of {} ms: measured batch {} KiB", SLOW_FLUSH_US / 1e3, measured.batch_bytes >> 10);
        println!("  {:34} {}", "load", header());
        let load = Load {
            record_bytes: 1 << 20,
            clients: 64,
            requests: self.requests / 10,
            budget_bytes: SHARD_BUDGET_BYTES_DEFAULT,
        };
        let outcomes = [DiskPolicy::default(), measured].map(|policy| load::appends(&drive, self.seed, policy, load));
        tell("64 durable appends of 1 MiB", PROFILED, &outcomes);
    }

    fn compare(&self, name: &str, drive: &DriveProfile) {
        let assumed = DiskPolicy::default();
        let measured = assumed.measured(&measure(drive, self.seed));
        let told = |policy: &DiskPolicy| {
            let (batch, cost) = (policy.batch_bytes >> 10, policy.io_cost_bytes >> 10);
            let depths = [4 << 10, 64 << 10, 1 << 20].map(|bytes| policy.depths().in_flight(bytes));
            // At the outer edge, in the middle, at the inner edge.
            let prices = [0, 50, 99].map(|zone| policy.prices().at(zone, 100).of(1 << 20) >> 10);
            format!(
                "depths {depths:?}, batch {batch} KiB, positioning {cost} KiB, {} MB/s, 1 MiB costs {prices:?} KiB",
                policy.bandwidth_bytes / 1_000_000
            )
        };
        println!("{name}: assumed {}\n{:w$}  measured {}", told(&assumed), "", told(&measured), w = name.len() - 1);
        println!("  {:34} {}", "load", header());
        let disk = matches!(drive.media, Media::Disk(_));
        for (what, run, load) in self.loads(disk) {
            tell(what, PROFILED, &[assumed, measured].map(|policy| run(drive, self.seed, policy, load)));
        }
    }

    /// Only a disk has radii.
    fn loads(&self, disk: bool) -> Vec<(&'static str, Run, Load)> {
        let requests = self.requests;
        let budget_bytes = SHARD_BUDGET_BYTES_DEFAULT;
        let small = Load { record_bytes: 60 << 10, clients: 64, requests, budget_bytes };
        let large = Load { record_bytes: 1 << 20, requests: requests / 10, ..small };
        let reads = Load { clients: 4, ..small };
        let whole = Load { record_bytes: 1 << 20, requests: requests / 10, ..reads };
        let mut loads: Vec<(&'static str, Run, Load)> = vec![
            ("64 durable appends of 60 KiB", load::appends, small),
            ("64 durable appends of 1 MiB", load::appends, large),
            ("4 reads of 60 KiB beside 48", load::reads, reads),
            ("4 reads of 1 MiB beside 48", load::reads, whole),
        ];
        if disk {
            // As many that clients want more than their share.
            let many = Load { clients: 64, ..whole };
            loads.push(("64 outer of 1 MiB beside 48 inner", load::reads_apart, many));
        } else {
            // As many as small reads need to keep the drive busy.
            let many = Load { record_bytes: 3 << 10, clients: 100, ..small };
            loads.push(("100 reads of 3 KiB beside 48", load::reads, many));
        }
        loads
    }
}

fn header() -> String {
    let names = QUANTILES.map(|(name, _)| format!("{:>10}", format!("{name} ms"))).join(" ");
    format!("{:>10} {names}", "MB/s")
}

fn tell(what: &str, other: &str, [without, with]: &[Outcome; 2]) {
    println!("  {what:34} {without}");
    println!("    {other:32} {with}");
    println!("  {:34} {}", "  ratio", with.over(without));
}
