//! What the engine bench found: as text for people, as JSON for scripts.

use std::fmt;

use serde::Serialize;

use super::memory::Quiet;
use super::profile::Stage;
use crate::ratio::{Ratio, median, range};

const GIB: f64 = (1 << 30) as f64;

/// A ratio with its target.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub ratio: f64,
    /// The lowest and the highest of the rounds.
    pub ratio_range: (f64, f64),
    /// `None`: for information.
    pub target: Option<f64>,
    /// What each round began with.
    pub quiet: Vec<Quiet>,
    #[serde(flatten)]
    pub rounds: Ratio,
}

/// Processor seconds per GiB of payload (fio: of what it transferred), medians.
#[derive(Clone, Debug, Serialize)]
pub struct Cpu {
    pub load: String,
    /// The shard's thread.
    pub thread_seconds_per_gib: f64,
    /// Every thread of the process and the kernel's workers for its ring.
    pub process_seconds_per_gib: f64,
    /// fio's own threads, without the kernel's workers.
    pub fio_seconds_per_gib: f64,
}

/// Bytes written for bytes accepted.
#[derive(Clone, Debug, Serialize)]
pub struct Amplification {
    pub load: String,
    pub accepted_bytes: u64,
    /// Appends and writes of the engine, from the creation of the extents to their end.
    pub device_bytes: u64,
    /// What the process gave to the file system: the emulated drive's own zone table comes on top.
    pub file_bytes: u64,
    pub ratio: f64,
    pub target: f64,
}

/// Where the time of one load goes.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    pub load: String,
    pub cpu_seconds_per_gib: f64,
    pub scopes: Vec<Scope>,
    pub commands: Vec<Commands>,
    /// From samples; empty where perf is missing or not allowed.
    pub stages: Vec<Stage>,
}

/// Time measured by clocks around calls.
#[derive(Clone, Debug, Serialize)]
pub struct Scope {
    pub what: &'static str,
    pub seconds_per_gib: f64,
}

/// Commands of one kind to the drive.
#[derive(Clone, Debug, Serialize)]
pub struct Commands {
    pub what: &'static str,
    pub count: u64,
    pub mean_bytes: u64,
    /// From the call until its answer reached the engine.
    pub mean_us: f64,
    /// In flight on average while the load ran.
    pub mean_in_flight: f64,
}

/// Everything of one run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EngineReport {
    pub conditions: Vec<String>,
    pub comparisons: Vec<Comparison>,
    pub cpu: Vec<Cpu>,
    pub amplification: Vec<Amplification>,
    pub profiles: Vec<Profile>,
}

impl Comparison {
    /// The median of the rounds' ratios: ours and the peer's are measured next to each other, so what disturbs a round
    /// disturbs both.
    pub fn new(rounds: Ratio, target: Option<f64>, quiet: Vec<Quiet>) -> Self {
        let ratios: Vec<f64> = rounds.ours.iter().zip(&rounds.peer).map(|(ours, peer)| ours / peer).collect();
        Self { ratio: median(&ratios), ratio_range: range(&ratios), target, quiet, rounds }
    }
}

impl EngineReport {
    /// What the machine was like meanwhile.
    pub(super) fn memory(&self) -> String {
        let rounds = || self.comparisons.iter().flat_map(|line| &line.quiet);
        let rates: Vec<f64> = rounds().map(|quiet| quiet.gib_per_second).collect();
        let (lowest, highest) = range(&rates);
        format!(
            "memory copied by one core before the rounds: {:.1} GiB/s ({lowest:.1} .. {highest:.1}); {} of {} rounds began \
             undisturbed by others on this computer",
            median(&rates),
            rounds().filter(|quiet| quiet.undisturbed).count(),
            rates.len()
        )
    }
}

/// Seconds per GiB.
pub fn per_gib(seconds: f64, bytes: u64) -> f64 {
    seconds / (bytes as f64 / GIB)
}

impl fmt::Display for EngineReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.conditions.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        writeln!(f, "\nagainst fio (median of the rounds' ratios; rates are medians)")?;
        writeln!(
            f,
            "  {:>5} {:>13}  {:>6}  {:<70} {:>9} {:>9}  unit",
            "ratio", "of the rounds", "target", "what", "ours", "fio"
        )?;
        for line in &self.comparisons {
            let target = line.target.map_or("-".to_owned(), |target| format!(">={target}"));
            let (ours, peer) = (median(&line.rounds.ours), median(&line.rounds.peer));
            let name = format!("{} / {}", line.rounds.name, line.rounds.peer_name);
            let range = format!("{:.2} .. {:.2}", line.ratio_range.0, line.ratio_range.1);
            let unit = line.rounds.unit;
            writeln!(f, "  {:>5.2} {range:>13}  {target:>6}  {name:<70} {ours:>9.0} {peer:>9.0}  {unit}", line.ratio)?;
            line.rounds.notes.iter().try_for_each(|note| writeln!(f, "                               {note}"))?;
        }
        writeln!(f, "\nprocessor seconds per GiB")?;
        writeln!(f, "  {:<36} {:>12} {:>12} {:>12}", "load", "shard thread", "process", "fio threads")?;
        for line in &self.cpu {
            let (thread, process) = (line.thread_seconds_per_gib, line.process_seconds_per_gib);
            writeln!(f, "  {:<36} {thread:>12.3} {process:>12.3} {:>12.3}", line.load, line.fio_seconds_per_gib)?;
        }
        writeln!(f, "\nbytes written / bytes accepted, from the creation of the extents to their end")?;
        for line in &self.amplification {
            let with_drive = line.file_bytes as f64 / line.accepted_bytes as f64;
            writeln!(
                f,
                "  {:>6.4}  <={:<5} {:<30} ({with_drive:.4} with the emulated drive's own zone table)",
                line.ratio, line.target, line.load
            )?;
        }
        self.profiles.iter().try_for_each(|profile| profile.fmt(f))
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nprofile of {}: {:.3} processor s/GiB", self.load, self.cpu_seconds_per_gib)?;
        for scope in &self.scopes {
            writeln!(f, "  {:>8.4} s/GiB  by clocks  {}", scope.seconds_per_gib, scope.what)?;
        }
        for commands in self.commands.iter().filter(|commands| commands.count > 0) {
            writeln!(
                f,
                "  {:>8} {:<8} of {} bytes, answered in {:.0} us, {:.1} in flight (means)",
                commands.count, commands.what, commands.mean_bytes, commands.mean_us, commands.mean_in_flight
            )?;
        }
        if self.stages.is_empty() {
            return writeln!(f, "  no samples: perf is not installed or may not look at this process");
        }
        for stage in &self.stages {
            let functions: Vec<&str> = stage.functions.iter().take(3).map(|(name, _)| name.as_str()).collect();
            let seconds = stage.share * self.cpu_seconds_per_gib;
            let functions = functions.join(", ");
            writeln!(f, "  {seconds:>8.4} s/GiB  {:>5.1} %  {:<40} {functions}", 100.0 * stage.share, stage.stage)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_rounds_next_to_each_other() {
        let mut rounds = Ratio::new("ours", "fio", "MiB/s");
        rounds.ours.extend([10.0, 100.0, 30.0]);
        rounds.peer.extend([10.0, 50.0, 20.0]);
        let quiet = [(12.0, true), (4.0, false), (11.0, true)];
        let quiet = quiet.map(|(gib_per_second, undisturbed)| Quiet { gib_per_second, undisturbed });
        let comparison = Comparison::new(rounds, Some(0.95), quiet.to_vec());
        assert_eq!((comparison.ratio, comparison.ratio_range), (1.5, (1.0, 2.0)));
        let report = EngineReport { comparisons: vec![comparison], ..EngineReport::default() };
        assert!(report.memory().contains("11.0 GiB/s (4.0 .. 12.0); 2 of 3 rounds"), "{}", report.memory());
    }
}
