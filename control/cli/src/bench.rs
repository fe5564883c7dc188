//! `shingle bench`: measurements printed as ratios against a peer in the same run.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;
use shingle_bench::BenchError;
use shingle_bench::append::AppendPlan;
use shingle_bench::copy::CopyPlan;
use shingle_bench::engine::{self, EnginePlan, Measurement};
use shingle_bench::ssd_cache;

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  shingle bench engine --dir /mnt/disk         one OSD without network against fio: appends, reads, CPU, profile
  shingle bench engine --only read-4k          one of its loads alone
  shingle bench engine --only append-64k --records 320
                                               few appends a round, for a disk whose flushes take long
  shingle bench engine --patience 60           a machine with neighbours: rounds wait for quiet moments
  shingle bench ssd-cache --html curves.html   what a staging SSD would change; virtual time, no disk needed
  shingle bench append --at /mnt/disk          durable appends through one host, against fio
  shingle bench copy --rounds 3 --json         cp into a cell, against cp + sync of four copies

engine, append and copy alternate with their peer below --at and remove everything again; append and copy start a
cell of their own there.
Use a release build and an otherwise idle machine; only the ratio compares between machines.";

/// Compare this build with a peer on this machine
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
    /// Directory on the file system to measure
    #[arg(long, visible_alias = "dir", global = true, value_name = "DIR", default_value = ".")]
    at: PathBuf,
    /// Rounds; the medians are compared
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum What {
    /// One OSD on an emulated drive, without network / fio: appends, reads, processor time, write amplification
    Engine {
        /// Measure one load alone
        #[arg(long, value_name = "LOAD", value_parser = measurement())]
        only: Option<Measurement>,
        /// Appends of one round, at most. For disks whose flushes take long, where peers that flush after every write
        /// would take minutes a round, and for small ones: only what so many rounds need is written beforehand (1 GiB
        /// for `--only append-64k --records 320` instead of 4 GiB)
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        records: Option<u64>,
        /// Before each round, wait at most so long until memory is copied at its usual speed, which it is not while
        /// others are at work on the same computer; 0: measure at once
        #[arg(long, value_name = "SECONDS", default_value_t = 5)]
        patience: u16,
    },
    /// Durable 4 MiB appends through one host / fio with the same bytes and flushes
    Append,
    /// `shingle cp` of 1 GiB / `cp` and `sync` of four copies
    Copy,
    /// Direct writes to modelled SMR disks / a staging SSD in front of them, in virtual time
    SsdCache {
        /// The same seed gives the same run
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Also write a page with the curves
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

/// The names of [`Measurement::ALL`].
fn measurement() -> impl TypedValueParser<Value = Measurement> {
    PossibleValuesParser::new(Measurement::ALL.map(|(name, _)| name)).try_map(|given| {
        let found = Measurement::ALL.into_iter().find(|(name, _)| *name == given);
        found.map(|(_, measurement)| measurement).ok_or("not a load of this bench")
    })
}

/// Measures and prints.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(Failure::io("find this program"))?;
    let rounds = usize::from(args.rounds);
    let failed = |error: BenchError| Failure::failed(error.to_string(), "see the message above; nothing was kept");
    match &args.what {
        What::SsdCache { seed, html } => {
            let report = ssd_cache::run(*seed);
            if let Some(file) = html {
                let page = ssd_cache::to_html(&report);
                std::fs::write(file, page).map_err(Failure::io(format!("write {}", file.display())))?;
            }
            print(&report, args.json)
        }
        What::Engine { only, records, patience } => {
            let patience = Duration::from_secs(u64::from(*patience));
            let plan = EnginePlan { rounds, only: *only, records_max: *records, patience };
            print(&engine::run(&args.at, plan).map_err(failed)?, args.json)
        }
        What::Append => {
            let plan = AppendPlan { rounds, ..Default::default() };
            print(&shingle_bench::append::run(&program, &args.at, plan).map_err(failed)?, args.json)
        }
        What::Copy => {
            let plan = CopyPlan { rounds, ..Default::default() };
            print(&shingle_bench::copy::run(&program, &args.at, plan).map_err(failed)?, args.json)
        }
    }
}

fn print<T: Display + Serialize>(result: &T, json: bool) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string(result).map_err(|error| Failure::failed(error.to_string(), ""))?;
        println!("{text}");
    } else {
        println!("{result}");
    }
    Ok(())
}
