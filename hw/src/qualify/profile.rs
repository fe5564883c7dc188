//! The drive profile: what a host that serves a drive needs to know of it, measured by a run.
//!
//! Invariant: what a run did not measure is absent, never a guess.

mod check;

use serde::{Deserialize, Serialize};

pub use self::check::{LoadError, Mismatch};
use super::findings::Status;
use super::performance::ACCESS_BY_RADIUS;
use super::report::Report;
use crate::geometry::{Geometry, InKebabCase};

/// The version of the document that is written. What /1 lacks is `access-ms` of an envelope; what /1 and /2 lack is
/// `depths`, and they have `queue-depth` instead.
pub const SCHEMA: &str = "shingle-drive/3";

/// One drive, or its family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MeasuredProfile {
    pub schema: String,
    pub model: String,
    /// Empty: any drive of the model.
    pub serial: String,
    pub firmware: String,
    /// The run it is from.
    pub run: String,
    #[serde(flatten, with = "InKebabCase")]
    pub geometry: Geometry,
    /// Append of the smallest size and flush, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flush_cost_ms: Option<f64>,
    /// Smallest durable batch that reaches 90 % of the best rate of one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_bytes: Option<u64>,
    /// One depth for all sizes: what the size needs that needs most. Not measured any more: larger transfers only wait in
    /// so deep a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_depth: Option<u32>,
    /// A single 4 KiB read at a random place: its mean, in milliseconds. What positioning costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_ms: Option<f64>,
    /// The same read: the time after which another copy should be asked, in milliseconds. The highest of p95 and p90
    /// that is resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_penalty_ms: Option<f64>,
    /// What was flushed survived every power cut of the run; absent: not tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_loss_safe: Option<bool>,
    /// Reads in flight that are worth having, by their size, the smallest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depths: Vec<AtSize>,
    /// Rates and times by radius, outer zones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub envelope: Vec<AtRadius>,
}

/// How deep a queue of reads of one size should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AtSize {
    pub bytes: u64,
    /// The least depth whose rate is within 5 % of the best, among the depths at which none takes more than ten times what
    /// it takes alone.
    pub in_flight: u32,
}

/// What the drive does at a radius.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AtRadius {
    /// 0 at the outer diameter, 1 at the inner one.
    pub radius: f64,
    pub read_mb_s: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_mb_s: Option<f64>,
    /// A single 4 KiB read here, the head coming from anywhere: its mean, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_ms: Option<f64>,
}

/// The curves of P-03, by the size of the reads.
const READS: [(u64, &str); 3] =
    [(4 << 10, "random read of 4 KiB"), (64 << 10, "random read of 64 KiB"), (1 << 20, "random read of 1024 KiB")];

impl MeasuredProfile {
    /// What a report says of its drive.
    pub fn of(report: &Report) -> Self {
        let device = &report.device;
        let single = report.test("P-03").and_then(|test| test.findings.latencies.first());
        let tail = single.and_then(|latency| latency.quantile("p95").or_else(|| latency.quantile("p90")));
        let depth = |(bytes, curve)| Some(AtSize { bytes, in_flight: depth(&points(report, "P-03", curve))? });
        let cuts = report.test("F-01").map(|test| test.status);
        Self {
            serial: device.serial.clone(),
            firmware: device.firmware.clone(),
            run: report.run.id.clone(),
            flush_cost_ms: report.metric("flush_cost"),
            batch_bytes: report.metric("smallest_batch_at_90_percent").map(|kib| (kib * 1024.0) as u64),
            access_ms: report.metric("random_read_4k_1"),
            hedge_ms: tail.map(|tail| tail.v),
            idle_penalty_ms: report.metric("idle_penalty"),
            power_loss_safe: match cuts {
                Some(Status::Pass) => Some(true),
                Some(Status::Fail) => Some(false),
                _ => None,
            },
            depths: READS.into_iter().filter_map(depth).collect(),
            envelope: envelope(report),
            ..Self::unmeasured(&device.model, &device.geometry)
        }
    }

    /// Nothing was measured yet, on any drive of a model.
    pub fn unmeasured(model: &str, geometry: &Geometry) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            model: model.to_owned(),
            serial: String::new(),
            firmware: String::new(),
            run: String::new(),
            geometry: geometry.clone(),
            flush_cost_ms: None,
            batch_bytes: None,
            queue_depth: None,
            access_ms: None,
            hedge_ms: None,
            idle_penalty_ms: None,
            power_loss_safe: None,
            depths: Vec::new(),
            envelope: Vec::new(),
        }
    }

    /// The slowest sequential read of any radius, in 10^6 bytes per second.
    pub fn slowest_read_mb_s(&self) -> Option<f64> {
        self.envelope.iter().map(|at| at.read_mb_s).reduce(f64::min)
    }

    /// What a sequential read moves at a radius, in 10^6 bytes per second, and what a single small one takes there, in
    /// milliseconds; `None` where either was not measured at two radii.
    pub fn at(&self, radius: f64) -> Option<(f64, f64)> {
        let rates: Vec<[f64; 2]> = self.envelope.iter().map(|at| [at.radius, at.read_mb_s]).collect();
        let times: Vec<[f64; 2]> =
            self.envelope.iter().filter_map(|at| at.access_ms.map(|ms| [at.radius, ms])).collect();
        Some((between(&rates, radius)?, between(&times, radius)?))
    }
}

/// A curve of a test; empty when there is none.
pub(super) fn points(report: &Report, test: &str, curve: &str) -> Vec<[f64; 2]> {
    let curves = report.test(test).map(|test| test.findings.curves.as_slice()).unwrap_or_default();
    curves.iter().find(|found| found.name == curve).map(|found| found.points.clone()).unwrap_or_default()
}

fn envelope(report: &Report) -> Vec<AtRadius> {
    let writes = points(report, "P-01", "sequential write");
    let reads = points(report, "P-02", "sequential read");
    let accesses = points(report, "P-03", ACCESS_BY_RADIUS);
    let at = |(index, [radius, read_mb_s]): (usize, [f64; 2])| AtRadius {
        radius,
        read_mb_s,
        write_mb_s: writes.get(index).map(|[_, rate]| *rate),
        access_ms: between(&accesses, radius),
    };
    reads.into_iter().enumerate().map(at).collect()
}

/// The value at `x` on the straight lines between points, which are in order; that of the nearest end beyond them.
fn between(points: &[[f64; 2]], x: f64) -> Option<f64> {
    let ([[first, y_first], ..], [.., [last, y_last]]) = (points, points) else { return None };
    if points.len() < 2 {
        return None;
    }
    let inside = points.windows(2).find_map(|pair| match pair {
        [[left, y_left], [right, y_right]] if (*left..=*right).contains(&x) => {
            let part = (x - left) / (right - left).max(f64::MIN_POSITIVE);
            Some(y_left + (y_right - y_left) * part)
        }
        _ => None,
    });
    inside.or(if x < *first { Some(*y_first) } else { (x > *last).then_some(*y_last) })
}

/// Part of the best rate that is as good as it.
const NEAR_BEST: f64 = 0.95;
/// Times what a read takes alone that one may take in a queue.
const WAIT_FACTOR: f64 = 10.0;

/// The least depth of a curve whose rate is near the best, among the depths at which a read takes at most ten times what it
/// takes alone. Deeper queues move more, but what is in the drive is beyond the host's say who goes first.
fn depth(points: &[[f64; 2]]) -> Option<u32> {
    let alone = points.iter().find(|[depth, _]| *depth == 1.0)?;
    let wait = |[depth, rate]: &[f64; 2]| depth / rate;
    let pays = |point: &&[f64; 2]| wait(point) <= WAIT_FACTOR * wait(alone);
    let best = points.iter().filter(pays).map(|[_, rate]| *rate).fold(0.0, f64::max);
    points.iter().filter(pays).find(|[_, rate]| *rate >= NEAR_BEST * best).map(|[depth, _]| *depth as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_as_deep_as_it_pays_and_waits_stay_bounded() {
        let disk = [[1.0, 85.0], [4.0, 125.0], [16.0, 219.0], [32.0, 317.0], [64.0, 361.0], [128.0, 451.0]];
        assert_eq!(depth(&disk), Some(32), "64 reads in flight take 177 ms each, 15 times one alone");
        let flash = [[1.0, 14_457.0], [16.0, 189_389.0], [64.0, 387_754.0], [128.0, 437_193.0], [256.0, 483_071.0]];
        assert_eq!(depth(&flash), Some(256), "each depth brings a tenth more");
        let saturated = [[1.0, 12_000.0], [2.0, 23_000.0], [4.0, 42_000.0], [8.0, 49_900.0], [32.0, 50_000.0]];
        assert_eq!(depth(&saturated), Some(8), "deeper queues only make reads wait");
        assert_eq!(depth(&[[1.0, 80.0], [4.0, 82.0]]), Some(1));
        assert_eq!((depth(&[]), depth(&disk[1..])), (None, None), "nobody knows what one takes alone");
    }

    #[test]
    fn between_measured_radii_runs_a_straight_line() {
        let points = [[0.1, 10.0], [0.5, 20.0], [0.9, 16.0]];
        let at = |x| between(&points, x);
        assert_eq!([at(0.0), at(0.3), at(0.5), at(0.7), at(1.0)].map(Option::unwrap), [10.0, 15.0, 20.0, 18.0, 16.0]);
        assert_eq!((between(&points[..1], 0.1), between(&[], 0.1)), (None, None), "one radius says nothing of others");
    }
}
