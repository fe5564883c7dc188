//! `shingle cp` of a folder into a cell, against `cp` + `sync` of four plain copies on the same file system.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::cell::Cell;
use crate::error::BenchError;
use crate::ratio::Ratio;

const COPIES: usize = 4;

/// How much is copied.
#[derive(Clone, Copy, Debug)]
pub struct CopyPlan {
    pub rounds: usize,
    pub files: usize,
    pub file_bytes: usize,
}

impl Default for CopyPlan {
    /// 1 GiB a round, new bytes each time: nothing is found in the index.
    fn default() -> Self {
        Self { rounds: 5, files: 64, file_bytes: 16 << 20 }
    }
}

/// Starts a cell below `parent` and compares.
pub fn run(program: &Path, parent: &Path, plan: CopyPlan) -> Result<Ratio, BenchError> {
    let cell = Cell::start(program, parent, &["--disk-size", "16GiB"])?;
    let mib = (plan.files * plan.file_bytes) as f64 / (1 << 20) as f64;
    let mut ratio = Ratio::new("shingle cp, every block on four hosts", "cp + sync of four copies", "MiB/s");
    for round in 0..plan.rounds {
        let source = cell.scratch().join(format!("source-{round}"));
        make_files(&source, plan, round as u64)?;
        let start = Instant::now();
        cell.run(&["cp", "-r", &source.display().to_string(), &format!("sh://bench/round-{round}")])?;
        ratio.ours.push(mib / start.elapsed().as_secs_f64());
        ratio.peer.push(mib / plain_copies(&source, cell.scratch())?);
        fs::remove_dir_all(&source).map_err(BenchError::io("remove the source"))?;
    }
    ratio.notes.push(format!("{} files of {} MiB, half of each compressible", plan.files, plan.file_bytes >> 20));
    Ok(ratio)
}

/// Files whose first half is noise and whose second half repeats itself a little.
fn make_files(folder: &Path, plan: CopyPlan, seed: u64) -> Result<(), BenchError> {
    fs::create_dir_all(folder).map_err(BenchError::io("make the source"))?;
    let mut random = StdRng::seed_from_u64(seed);
    for number in 0..plan.files {
        let mut content = vec![0; plan.file_bytes];
        let (noise, text) = content.split_at_mut(plan.file_bytes / 2);
        random.fill_bytes(noise);
        for word in text.chunks_mut(8) {
            let letter = random.random_range(b'a'..=b'z');
            word.fill(letter);
        }
        fs::write(folder.join(format!("{number:03}")), content).map_err(BenchError::io("make the source"))?;
    }
    sync()
}

/// Seconds that four plain copies and a sync take.
fn plain_copies(source: &Path, parent: &Path) -> Result<f64, BenchError> {
    let target = parent.join("copies");
    fs::create_dir_all(&target).map_err(BenchError::io("make the copies' folder"))?;
    let start = Instant::now();
    for copy in 0..COPIES {
        let mut command = Command::new("cp");
        command.arg("-r").arg(source).arg(target.join(copy.to_string()));
        succeed(command)?;
    }
    sync()?;
    let seconds = start.elapsed().as_secs_f64();
    fs::remove_dir_all(&target).map_err(BenchError::io("remove the copies"))?;
    Ok(seconds)
}

fn sync() -> Result<(), BenchError> {
    succeed(Command::new("sync"))
}

fn succeed(mut command: Command) -> Result<(), BenchError> {
    let output = command.output().map_err(BenchError::io(format!("{command:?}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(BenchError::Command { command: format!("{command:?}"), status: output.status, output: text })
}
