//! What a load saw: bytes per second, and how long its requests took.
//!
//! Invariant: a quantile is a number only where at least 100 requests lie beyond it.

use std::fmt;
use std::time::Duration;

/// Requests that must lie beyond a quantile.
const BEYOND_MIN: f64 = 100.0;

/// Quantiles shown.
pub const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// One load's outcome.
pub struct Outcome {
    /// In 10^6 bytes per second, where the load is there for its rate.
    pub mb_s: Option<f64>,
    /// As [`QUANTILES`], in milliseconds.
    pub quantiles_ms: [Option<f64>; QUANTILES.len()],
}

impl Outcome {
    /// `moved`: how many bytes in which time.
    pub fn of(moved: Option<(u64, Duration)>, mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let quantiles_ms = QUANTILES.map(|(_, q)| {
            let beyond = (1.0 - q) * latencies.len() as f64;
            let value = latencies.get((q * latencies.len() as f64) as usize)?;
            (beyond + 1e-9 >= BEYOND_MIN).then_some(value.as_secs_f64() * 1e3)
        });
        let mb_s = moved.map(|(bytes, took)| bytes as f64 / 1e6 / took.as_secs_f64().max(f64::MIN_POSITIVE));
        Self { mb_s, quantiles_ms }
    }

    /// How it compares: this over `other`, in the order of the columns.
    pub fn over(&self, other: &Self) -> String {
        let ratio = |ours: Option<f64>, theirs: Option<f64>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => format!("{:>10.2}", ours / theirs.max(f64::MIN_POSITIVE)),
            _ => format!("{:>10}", "-"),
        };
        let rates = ratio(self.mb_s, other.mb_s);
        let pairs = self.quantiles_ms.iter().zip(other.quantiles_ms);
        pairs.fold(rates, |line, (ours, theirs)| format!("{line} {}", ratio(*ours, theirs)))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mb_s {
            Some(mb_s) => write!(formatter, "{mb_s:>10.1}")?,
            None => write!(formatter, "{:>10}", "-")?,
        }
        for quantile in self.quantiles_ms {
            match quantile {
                Some(ms) => write!(formatter, " {ms:>10.2}")?,
                None => write!(formatter, " {:>10}", "-")?,
            }
        }
        Ok(())
    }
}
