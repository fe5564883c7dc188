//! The drive profile: what a host that serves a drive needs to know of it, measured by a run.
//!
//! Invariant: what a run did not measure is absent, never a guess.

mod check;

use serde::{Deserialize, Serialize};

pub use self::check::{LoadError, Mismatch};
use super::findings::Status;
use super::report::Report;
use crate::geometry::{Geometry, InKebabCase};

/// The version of the document.
pub const SCHEMA: &str = "shingle-drive/1";

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
    /// Smallest durable batch that reaches 90 % of the best rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_bytes: Option<u64>,
    /// Reads in flight from which more of them bring less than a tenth more, of whatever size.
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
    /// Rates by radius, outer zones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub envelope: Vec<RadiusRate>,
}

/// Rates at a radius.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RadiusRate {
    /// 0 at the outer diameter, 1 at the inner one.
    pub radius: f64,
    pub read_mb_s: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_mb_s: Option<f64>,
}

/// The curves of P-03.
const READS: [&str; 3] = ["random read of 4 KiB", "random read of 64 KiB", "random read of 1024 KiB"];

impl MeasuredProfile {
    /// What a report says of its drive.
    pub fn of(report: &Report) -> Self {
        let device = &report.device;
        let single = report.test("P-03").and_then(|test| test.findings.latencies.first());
        let tail = single.and_then(|latency| latency.quantile("p95").or_else(|| latency.quantile("p90")));
        let cuts = report.test("F-01").map(|test| test.status);
        Self {
            serial: device.serial.clone(),
            firmware: device.firmware.clone(),
            run: report.run.id.clone(),
            flush_cost_ms: report.metric("flush_cost"),
            batch_bytes: report.metric("smallest_batch_at_90_percent").map(|kib| (kib * 1024.0) as u64),
            queue_depth: READS.iter().filter_map(|curve| knee(&points(report, "P-03", curve))).max(),
            access_ms: report.metric("random_read_4k_1"),
            hedge_ms: tail.map(|tail| tail.v),
            idle_penalty_ms: report.metric("idle_penalty"),
            power_loss_safe: match cuts {
                Some(Status::Pass) => Some(true),
                Some(Status::Fail) => Some(false),
                _ => None,
            },
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
            envelope: Vec::new(),
        }
    }

    /// The slowest sequential read of any radius, in 10^6 bytes per second.
    pub fn slowest_read_mb_s(&self) -> Option<f64> {
        self.envelope.iter().map(|at| at.read_mb_s).reduce(f64::min)
    }
}

/// A curve of a test; empty when there is none.
pub(super) fn points(report: &Report, test: &str, curve: &str) -> Vec<[f64; 2]> {
    let curves = report.test(test).map(|test| test.findings.curves.as_slice()).unwrap_or_default();
    curves.iter().find(|found| found.name == curve).map(|found| found.points.clone()).unwrap_or_default()
}

fn envelope(report: &Report) -> Vec<RadiusRate> {
    let writes = points(report, "P-01", "sequential write");
    let reads = points(report, "P-02", "sequential read");
    let at = |(index, [radius, read_mb_s]): (usize, [f64; 2])| RadiusRate {
        radius,
        read_mb_s,
        write_mb_s: writes.get(index).map(|[_, rate]| *rate),
    };
    reads.into_iter().enumerate().map(at).collect()
}

/// The depth from which the next one brings less than a tenth more.
fn knee(points: &[[f64; 2]]) -> Option<u32> {
    let flat = points.windows(2).find(|pair| pair[1][1] < pair[0][1] * 1.1).map(|pair| pair[0][0]);
    flat.or_else(|| points.last().map(|[depth, _]| *depth)).map(|depth| depth as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knee_is_where_more_depth_brings_little() {
        assert_eq!(knee(&[[1.0, 80.0], [4.0, 120.0], [16.0, 180.0], [32.0, 185.0]]), Some(16));
        assert_eq!(knee(&[[1.0, 80.0], [4.0, 120.0]]), Some(4));
        assert_eq!(knee(&[]), None);
    }
}
