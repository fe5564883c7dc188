//! `shingle-tests fuzz`: one target, or all of them side by side.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::run::{Bounds, Report, fuzz};
use super::targets::{TARGETS, Target};

/// The command's flags.
#[derive(Args)]
pub struct Fuzz {
    /// What to fuzz; all targets without one.
    #[arg(value_parser = names())]
    target: Option<String>,
    /// How long, each.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// At most so many inputs: a failure names how many lead to it.
    #[arg(long, default_value_t = u64::MAX)]
    cases: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn names() -> clap::builder::PossibleValuesParser {
    TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().into()
}

impl Fuzz {
    pub fn run(&self) -> ExitCode {
        let bounds = Bounds { time: Duration::from_secs(self.seconds), cases: self.cases };
        let chosen = |target: &&Target| self.target.as_ref().is_none_or(|name| name == target.name);
        let targets: Vec<&Target> = TARGETS.iter().filter(chosen).collect();
        let reports = fuzz_all(&targets, self.seed, bounds);
        let failed = reports.iter().any(|(_, report)| report.failure.is_some());
        for (target, report) in reports {
            println!("{}", describe(target, &report, self.seed));
        }
        if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// Fuzzes targets side by side, a thread each.
pub fn fuzz_all<'a>(targets: &[&'a Target], seed: u64, bounds: Bounds) -> Vec<(&'a Target, Report)> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            targets.iter().map(|target| (*target, scope.spawn(move || fuzz(target, seed, bounds)))).collect();
        threads.into_iter().map(|(target, thread)| (target, thread.join().expect("panics are caught"))).collect()
    })
}

/// A line for people; with a failure, how to see it again and its bytes.
pub fn describe(target: &Target, report: &Report, seed: u64) -> String {
    let line = format!("{:8} cases {}, outcomes {}", target.name, report.cases, report.outcomes.len());
    match &report.failure {
        None => format!("{line}, failures 0"),
        Some((case, what, input)) => {
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            let replay = format!("fuzz {} --seed {seed} --cases {case} --seconds 3600", target.name);
            format!("{line}\nFAILURE: {what}\n  cargo run --release -p shingle-tests -- {replay}\n  {hex}")
        }
    }
}
