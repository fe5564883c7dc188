//! Long tests, by hand: `cargo run --release -p shingle-tests -- sim --seed 1 --count 1000`, and the others of `--help`.

use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use shingle_tests::crash::command::Crash;
use shingle_tests::fuzz::command::Fuzz;
use shingle_tests::fuzz::memory::Counting;
use shingle_tests::model::command::Model;
use shingle_tests::profile::command::Profile;
use shingle_tests::soak::{Soak, run};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Parser)]
#[command(about = "Long-running tests of Shingle; each failing seed is replayed with --seed SEED --count 1")]
struct Arguments {
    #[command(subcommand)]
    soak: Kind,
}

#[derive(Subcommand)]
enum Kind {
    /// A simulated cell under random trouble, one seed after the other.
    Sim {
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many seeds.
        #[arg(long, default_value_t = 100)]
        count: u64,
        /// Operations of each of the four clients.
        #[arg(long, default_value_t = 100)]
        operations: u64,
        /// Rounds of trouble.
        #[arg(long, default_value_t = 5)]
        rounds: u64,
        /// Eight small disks per host, so that volumes fill up.
        #[arg(long)]
        small_extents: bool,
    },
    /// Every state a loss of power can leave a disk in, along scripts that cover an extent's whole life.
    Crash(Crash),
    /// Random operations on one disk, against a model of it.
    Model(Model),
    /// Mutated bytes into every decoder of disks.
    Fuzz(Fuzz),
    /// What a drive's profile is worth to its host: the same loads with and without it, in virtual time.
    Profile(Profile),
}

fn main() -> ExitCode {
    match Arguments::parse().soak {
        Kind::Sim { seed, count, operations, rounds, small_extents } => {
            simulate(seed..seed.saturating_add(count), Soak { seed, clients: 4, operations, rounds, small_extents })
        }
        Kind::Crash(crash) => crash.run(),
        Kind::Model(model) => model.run(),
        Kind::Fuzz(fuzz) => fuzz.run(),
        Kind::Profile(profile) => profile.run(),
    }
}

fn simulate(seeds: Range<u64>, soak: Soak) -> ExitCode {
    let start = Instant::now();
    let count = seeds.end - seeds.start;
    let mut acknowledged = 0;
    for seed in seeds {
        eprintln!("seed {seed}");
        acknowledged += run(Soak { seed, ..soak }).acknowledged;
    }
    println!("seeds {count}, acknowledged {acknowledged}, violations 0, {:.1} s", start.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}
