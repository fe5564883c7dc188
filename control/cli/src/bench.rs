//! `shingle bench`: measurements printed as ratios against a peer in the same run.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use shingle_bench::append::AppendPlan;
use shingle_bench::copy::CopyPlan;
use shingle_bench::ratio::Ratio;

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  shingle bench append --at /mnt/disk          durable appends through one host, against fio
  shingle bench copy --rounds 3 --json         cp into a cell, against cp + sync of four copies

Each starts a cell of its own below --at, alternates with its peer and removes everything again.
Use a release build and an otherwise idle machine; only the ratio compares between machines.";

/// Compare this build with a peer on this machine
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
    /// Directory on the file system to measure
    #[arg(long, global = true, value_name = "DIR", default_value = ".")]
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
    /// Durable 4 MiB appends through one host / fio with the same bytes and flushes
    Append,
    /// `shingle cp` of 1 GiB / `cp` and `sync` of four copies
    Copy,
}

/// Measures and prints.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(Failure::io("find this program"))?;
    let rounds = usize::from(args.rounds);
    let measured = match args.what {
        What::Append => shingle_bench::append::run(&program, &args.at, AppendPlan { rounds, ..Default::default() }),
        What::Copy => shingle_bench::copy::run(&program, &args.at, CopyPlan { rounds, ..Default::default() }),
    };
    let ratio =
        measured.map_err(|error| Failure::failed(error.to_string(), "see the message above; nothing was kept"))?;
    print(&ratio, args.json)
}

fn print(ratio: &Ratio, json: bool) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string(ratio).map_err(|error| Failure::failed(error.to_string(), ""))?;
        println!("{text}");
    } else {
        println!("{ratio}");
    }
    Ok(())
}
