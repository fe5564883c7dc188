//! What the comparison found, beside what was published, with the reasons for the differences.

use std::fmt;

use serde::Serialize;

use super::host::Point;
use super::parameters::{
    AVERAGE_SHARE, PEAK_SHARE, Parameters, SEED_P95_AT_AVERAGE_PERCENT, SEED_P95_AT_PEAK_PERCENT, SEED_PEAK_RATIO,
};

/// One set of parameters.
#[derive(Clone, Debug, Serialize)]
pub struct Variant {
    pub name: &'static str,
    pub what: &'static str,
    pub parameters: Parameters,
}

impl Variant {
    pub fn new(name: &'static str, what: &'static str, parameters: Parameters) -> Self {
        Self { name, what, parameters }
    }
}

/// Both designs under one set of parameters.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub variant: Variant,
    pub staged_peak_mb_s: f64,
    pub direct_peak_mb_s: f64,
    /// Staged and direct at the same load: just below the staged host's peak, and at a part of it.
    pub at_peak: (Point, Point),
    pub at_average: (Point, Point),
    pub staged: Vec<Point>,
    pub direct: Vec<Point>,
    /// Why it is so, and not as published.
    pub explanations: Vec<String>,
}

/// Everything of one run.
#[derive(Clone, Debug, Serialize)]
pub struct SsdCacheReport {
    pub seed: u64,
    pub comparisons: Vec<Comparison>,
}

impl Comparison {
    /// Peak throughput, direct / staged.
    pub fn peak_ratio(&self) -> f64 {
        self.direct_peak_mb_s / self.staged_peak_mb_s
    }
}

/// Change of p95 from staged to direct, in percent.
pub fn p95_change_percent((staged, direct): &(Point, Point)) -> f64 {
    100.0 * (direct.p95_ms / staged.p95_ms - 1.0)
}

impl fmt::Display for SsdCacheReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "direct writes to SMR disks / a write-back staging SSD in front of them; virtual time, seed {}",
            self.seed
        )?;
        writeln!(f, "\n  {:<26} {:>12} {:>16} {:>16}", "", "peak ratio", "p95 at peak", "p95 at average")?;
        let (ratio, peak, average) = (SEED_PEAK_RATIO, SEED_P95_AT_PEAK_PERCENT, SEED_P95_AT_AVERAGE_PERCENT);
        writeln!(
            f,
            "  {:<26} {:>12} {:>16} {:>16}",
            "published (2022)",
            format!("{}-{}", ratio.0, ratio.1),
            format!("{} .. {} %", peak.1, peak.0),
            format!("+{} .. +{} %", average.0, average.1)
        )?;
        for comparison in &self.comparisons {
            writeln!(
                f,
                "  {:<26} {:>12.2} {:>14.0} % {:>14.0} %",
                comparison.variant.name,
                comparison.peak_ratio(),
                p95_change_percent(&comparison.at_peak),
                p95_change_percent(&comparison.at_average)
            )?;
        }
        self.comparisons.iter().try_for_each(|comparison| comparison.fmt(f))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}: {}", self.variant.name, self.variant.what)?;
        writeln!(
            f,
            "  peak: staged {:.2} GB/s, direct {:.2} GB/s",
            self.staged_peak_mb_s / 1e3,
            self.direct_peak_mb_s / 1e3
        )?;
        for (name, share, (staged, direct)) in
            [("at peak", PEAK_SHARE, &self.at_peak), ("at average", AVERAGE_SHARE, &self.at_average)]
        {
            writeln!(
                f,
                "  {name} ({share} of the staged peak, {:.2} GB/s): p50 {:.1} -> {:.1} ms, p95 {:.1} -> {:.1} ms, p99 {:.1} -> {:.1} ms",
                staged.offered_mb_s / 1e3,
                staged.p50_ms,
                direct.p50_ms,
                staged.p95_ms,
                direct.p95_ms,
                staged.p99_ms,
                direct.p99_ms
            )?;
        }
        self.explanations.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
