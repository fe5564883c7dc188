//! Latencies of one kind of command: a histogram, quantiles with intervals, blocks to resample, a map over time.
//!
//! Invariant: a quantile that the data do not resolve is said to be unresolved, in the report as everywhere.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use serde::{Deserialize, Serialize};

use super::statistics::{self, Observed};

/// Quantiles a report shows, as far as they are resolved.
pub const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// Consecutive parts of a series that a bootstrap resamples.
const BLOCKS: usize = 24;

/// Columns and rows of the map over time.
const MAP_COLUMNS: usize = 60;

/// Width of a bin of the blocks: 2 %.
const BIN_RATIO: f64 = 1.02;

/// A quantile, or that there is none yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    pub name: String,
    pub q: f64,
    /// Milliseconds; absent: unresolved, fewer than 100 values lie beyond it.
    pub ms: Option<Observed>,
}

/// The latencies of one kind of command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub name: String,
    pub count: u64,
    /// Highest quantile that is resolved.
    pub resolved_to: Option<String>,
    pub quantiles: Vec<Quantile>,
    pub max_ms: f64,
    pub mean_ms: Observed,
    /// Histograms of consecutive parts: bin and count, alternating. `bin_ns` gives a bin's latency.
    pub blocks: Vec<Vec<u32>>,
    /// Columns of time; each row and count, alternating. Rows are 12 per factor of ten from 1 microsecond on.
    pub map: Vec<Vec<u32>>,
    pub map_column_ms: f64,
    /// The line of an HdrHistogram interval log (V2, compressed), in nanoseconds.
    pub hlog: String,
}

/// A series under way.
pub struct Series {
    name: String,
    /// Start and latency of each command, in nanoseconds.
    samples: Vec<(u64, u64)>,
}

impl Series {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), samples: Vec::new() }
    }

    pub fn record(&mut self, start_ns: u64, latency_ns: u64) {
        self.samples.push((start_ns, latency_ns));
    }

    pub fn len(&self) -> usize {
        self.samples.len()
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Latencies in milliseconds, in time order.
    pub fn values_ms(&self) -> Vec<f64> {
        self.samples.iter().map(|(_, latency_ns)| *latency_ns as f64 / 1e6).collect()
    }

    pub fn samples(&self) -> &[(u64, u64)] {
        &self.samples
    }

    /// The quantile in milliseconds, if it is resolved.
    pub fn quantile(&self, q: f64) -> Option<Observed> {
        statistics::quantile_of(&self.values_ms(), q)
    }

    pub fn mean(&self) -> Observed {
        statistics::mean_of(&self.values_ms())
    }

    pub fn max_ms(&self) -> f64 {
        self.samples.iter().map(|(_, latency_ns)| *latency_ns as f64 / 1e6).fold(0.0, f64::max)
    }

    /// The highest quantile of the report that is resolved; the mean's when none is.
    pub fn best_tail(&self) -> (String, Observed) {
        let resolved = QUANTILES.iter().rev().filter(|(_, q)| *q <= 0.99);
        let found = resolved.filter_map(|(name, q)| Some(((*name).to_owned(), self.quantile(*q)?))).next();
        found.unwrap_or_else(|| ("mean".to_owned(), self.mean()))
    }

    /// What a report keeps.
    pub fn summary(&self) -> Latency {
        let values = self.values_ms();
        let n_eff = statistics::effective(&values);
        let mut sorted = values;
        sorted.sort_by(f64::total_cmp);
        let quantiles: Vec<Quantile> = QUANTILES
            .iter()
            .map(|(name, q)| Quantile {
                name: (*name).to_owned(),
                q: *q,
                ms: statistics::quantile_sorted(&sorted, *q, n_eff),
            })
            .collect();
        let resolved = quantiles.iter().rev().find(|quantile| quantile.ms.is_some());
        let (map, map_column_ms) = self.map();
        Latency {
            name: self.name.clone(),
            count: self.samples.len() as u64,
            resolved_to: resolved.map(|quantile| quantile.name.clone()),
            max_ms: self.max_ms(),
            mean_ms: self.mean(),
            blocks: self.blocks(),
            map,
            map_column_ms,
            hlog: self.hlog(),
            quantiles,
        }
    }

    fn blocks(&self) -> Vec<Vec<u32>> {
        let length = self.samples.len().div_ceil(BLOCKS).max(1);
        self.samples
            .chunks(length)
            .map(|chunk| pairs(chunk.iter().map(|(_, latency_ns)| bin_of(*latency_ns))))
            .collect()
    }

    fn map(&self) -> (Vec<Vec<u32>>, f64) {
        let first_ns = self.samples.iter().map(|(start_ns, _)| *start_ns).min().unwrap_or(0);
        let last_ns = self.samples.iter().map(|(start_ns, _)| *start_ns).max().unwrap_or(0);
        let width_ns = ((last_ns - first_ns) / MAP_COLUMNS as u64 + 1).max(1);
        let mut columns: Vec<Vec<u32>> = vec![Vec::new(); MAP_COLUMNS];
        for (start_ns, latency_ns) in &self.samples {
            if let Some(column) = columns.get_mut(((start_ns - first_ns) / width_ns) as usize) {
                column.push(row_of(*latency_ns));
            }
        }
        (columns.into_iter().map(|rows| pairs(rows.into_iter())).collect(), width_ns as f64 / 1e6)
    }

    /// One interval of an HdrHistogram log; empty when there is nothing in it.
    fn hlog(&self) -> String {
        let Some(histogram) = self.histogram() else { return String::new() };
        let mut bytes = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let first_ns = self.samples.first().map_or(0, |(start_ns, _)| *start_ns);
        let last_ns = self.samples.last().map_or(0, |(start_ns, _)| *start_ns);
        let written = IntervalLogWriterBuilder::new()
            .with_base_time(SystemTime::UNIX_EPOCH)
            .begin_log_with(&mut bytes, &mut serializer)
            .map(|mut writer| {
                let tag = hdrhistogram::serialization::interval_log::Tag::new(self.name.as_str());
                let length = Duration::from_nanos(last_ns - first_ns);
                writer.write_histogram(&histogram, Duration::from_nanos(first_ns), length, tag).is_ok()
            });
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let line = text.lines().rfind(|line| !line.starts_with('#') && !line.starts_with('"'));
        if matches!(written, Ok(true)) { line.unwrap_or_default().to_owned() } else { String::new() }
    }

    fn histogram(&self) -> Option<Histogram<u64>> {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 3_600_000_000_000, 3).ok()?;
        for (_, latency_ns) in &self.samples {
            histogram.saturating_record((*latency_ns).max(1));
        }
        (!histogram.is_empty()).then_some(histogram)
    }
}

impl Latency {
    /// A named quantile, if it is resolved.
    pub fn quantile(&self, name: &str) -> Option<Observed> {
        self.quantiles.iter().find(|quantile| quantile.name == name)?.ms
    }

    /// The header of an interval log; the lines of any number of latencies follow.
    pub fn hlog_header() -> &'static str {
        "#[Logged by shingle qualify]\n#[Histogram log format version 1.3]\n#[Times in seconds, values in nanoseconds]\n\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n"
    }
}

/// Values as bin and count, alternating.
fn pairs(bins: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
    for bin in bins {
        *counts.entry(bin).or_default() += 1;
    }
    counts.into_iter().flat_map(|(bin, count)| [bin, count]).collect()
}

/// The bin of a latency; a hundred nanoseconds are the first.
fn bin_of(latency_ns: u64) -> u32 {
    ((latency_ns as f64 / 100.0).max(1.0).ln() / BIN_RATIO.ln()).round() as u32
}

/// The latency of a bin, in nanoseconds.
pub fn bin_ns(bin: u32) -> f64 {
    100.0 * BIN_RATIO.powi(i32::try_from(bin).unwrap_or(i32::MAX))
}

fn row_of(latency_ns: u64) -> u32 {
    ((latency_ns as f64 / 1e3).max(1.0).log10() * 12.0) as u32
}

/// The latency at the lower edge of a row, in milliseconds.
pub fn row_ms(row: u32) -> f64 {
    10f64.powf(f64::from(row) / 12.0) / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_it_cannot_resolve() {
        let mut series = Series::new("read");
        for at in 0..3_000u64 {
            series.record(at * 1_000_000, 1_000_000 + at % 97 * 10_000);
        }
        let summary = series.summary();
        assert_eq!(summary.resolved_to.as_deref(), Some("p95"));
        assert!(summary.quantile("p50").is_some() && summary.quantile("p99").is_none());
        assert_eq!(summary.blocks.len(), 24);
        assert!(summary.hlog.starts_with("Tag=read,0.000,"), "{}", summary.hlog);
    }

    #[test]
    fn bins_are_two_percent_wide() {
        for latency_ns in [100u64, 12_345, 8_333_333, 2_000_000_000] {
            let error = bin_ns(bin_of(latency_ns)) / latency_ns as f64 - 1.0;
            assert!(error.abs() < 0.0101, "{latency_ns}: {error}");
        }
    }
}
