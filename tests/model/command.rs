//! `shingle-tests model`: episodes of operations, each from its own seed.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use super::operation::{Operation, draw};
use super::shrink::{outcome, shrink};

/// Operations of one episode; each begins with a blank disk.
const EPISODE: usize = 1000;

/// The command's flags.
#[derive(Args)]
pub struct Model {
    /// The first episode's; the next one has the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// In episodes of 1000.
    #[arg(long, default_value_t = 100_000)]
    operations: usize,
}

impl Model {
    pub fn run(&self) -> ExitCode {
        let start = Instant::now();
        match check(self.seed, self.operations) {
            Ok(count) => {
                println!("operations {count}, violations 0, {:.1} s", start.elapsed().as_secs_f64());
                ExitCode::SUCCESS
            }
            Err(story) => {
                println!("{story}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Runs so many operations on two threads; the story of the first seed that fails, shrunk.
pub fn check(seed: u64, operations: usize) -> Result<usize, String> {
    const THREADS: usize = 2;
    let episodes: Vec<(u64, usize)> =
        (0..operations.div_ceil(EPISODE)).map(|n| (seed + n as u64, EPISODE.min(operations - n * EPISODE))).collect();
    let failed: Vec<(u64, usize)> = std::thread::scope(|scope| {
        let part = |thread: usize| {
            let mine: Vec<(u64, usize)> = episodes.iter().skip(thread).step_by(THREADS).copied().collect();
            scope.spawn(move || mine.into_iter().find(|(seed, count)| outcome(&draw(*seed, *count), *seed).is_some()))
        };
        let threads: Vec<_> = (0..THREADS).map(part).collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("panics are caught")).collect()
    });
    match failed.first() {
        None => Ok(operations),
        Some((seed, count)) => Err(tell(&draw(*seed, *count), *seed)),
    }
}

fn tell(operations: &[Operation], seed: u64) -> String {
    let Some(what) = outcome(operations, seed) else { return format!("seed {seed} fails now and then") };
    let (shrunk, what) = shrink(operations, seed, what);
    let mut story = format!("VIOLATION: {what}\n");
    for operation in &shrunk {
        writeln!(story, "  {operation:?}").expect("a string takes all");
    }
    story + &format!("  cargo run -p shingle-tests -- model --seed {seed} --operations {}", operations.len())
}
