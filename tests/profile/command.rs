//! `shingle-tests profile`: a table of both, and their ratios.

use std::process::ExitCode;

use clap::Args;
use shingle_hw::model::profile::{BUILT_IN, DriveProfile, Media};
use shingle_node::osd::policy::DiskPolicy;

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
        tell("as assumed: late after 100 ms", &outcomes);
    }

    fn compare(&self, name: &str, drive: &DriveProfile) {
        let assumed = DiskPolicy::default();
        let measured = assumed.measured(&measure(drive, self.seed));
        let told = |policy: &DiskPolicy| {
            let (depth, batch, cost) = (policy.queue_depth, policy.batch_bytes >> 10, policy.io_cost_bytes >> 10);
            // At the outer edge, in the middle, at the inner edge.
            let prices = [0, 50, 99].map(|zone| policy.prices().at(zone, 100).of(1 << 20) >> 10);
            format!(
                "depth {depth}, batch {batch} KiB, positioning {cost} KiB, {} MB/s, 1 MiB costs {prices:?} KiB",
                policy.bandwidth_bytes / 1_000_000
            )
        };
        println!("{name}: assumed {}\n{:w$}  measured {}", told(&assumed), "", told(&measured), w = name.len() - 1);
        println!("  {:34} {}", "load", header());
        let disk = matches!(drive.media, Media::Disk(_));
        for (what, run, load) in self.loads(disk) {
            tell(what, &[assumed, measured].map(|policy| run(drive, self.seed, policy, load)));
        }
    }

    /// Only a disk has radii.
    fn loads(&self, disk: bool) -> Vec<(&'static str, Run, Load)> {
        let requests = self.requests;
        let small = Load { record_bytes: 60 << 10, clients: 64, requests };
        let large = Load { record_bytes: 1 << 20, clients: 64, requests: requests / 10 };
        let reads = Load { record_bytes: 60 << 10, clients: 4, requests };
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
        }
        loads
    }
}

fn header() -> String {
    let names = QUANTILES.map(|(name, _)| format!("{:>10}", format!("{name} ms"))).join(" ");
    format!("{:>10} {names}", "MB/s")
}

fn tell(what: &str, [without, with]: &[Outcome; 2]) {
    println!("  {what:34} {without}");
    println!("  {:34} {with}", "  with the profile");
    println!("  {:34} {}", "  ratio", with.over(without));
}
