//! P-03, P-04, P-05, P-15, P-19: random reads, alone and beside other work.

use std::collections::BTreeMap;

use super::load::{Field, closed_loop, open_loop, poisson, rate, start_read};
use crate::qualify::bench::Bench;
use crate::qualify::findings::{Findings, Halt};
use crate::qualify::latency::Series;
use crate::qualify::statistics::{self, Observed};
use crate::zone::ZoneId;

/// Bytes per zone that reads are spread over.
const FIELD_BYTES: u64 = 8 << 20;

fn field(bench: &Bench) -> Result<Field, Halt> {
    Field::write(bench, bench.scale.positions.max(12), FIELD_BYTES)
}

/// The curve of P-03 that says what a read takes where.
pub(in crate::qualify) const ACCESS_BY_RADIUS: &str = "single read of 4 KiB by radius";

/// The curves of P-03; the rate of 4 KiB reads, 32 deep.
fn closed_loop_curves(bench: &Bench, findings: &mut Findings) -> Result<f64, Halt> {
    let field = field(bench)?;
    let count = (bench.scale.samples / 10).max(100);
    let mut best = 0.0;
    for bytes in [4 << 10, 64 << 10, 1 << 20] {
        if bytes > u64::from(bench.geometry().transfer_bytes_max).min(field.bytes) {
            continue;
        }
        let mut points: Vec<[f64; 2]> = Vec::new();
        for depth in [1usize, 2, 4, 8, 16, 32, 64, 128, 256] {
            // Beyond what every drive is asked for, only as long as it brings something.
            let flat = points.windows(2).last().is_some_and(|pair| pair[1][1] < pair[0][1] * 1.1);
            if depth > 32 && flat {
                break;
            }
            bench.tick(depth as u64, 512)?;
            let name = format!("{} KiB, {depth} deep", bytes >> 10);
            // What is in flight all the time, not a queue that fills and drains.
            let count = count.max(8 * depth as u64);
            let series = closed_loop(bench, &name, depth, count, || field.read(bench, bytes))?;
            points.push([depth as f64, rate(&series)]);
            if bytes == 4 << 10 && depth == 32 {
                best = rate(&series);
            }
        }
        findings.curve_log(&format!("random read of {} KiB", bytes >> 10), "commands in flight", "reads/s", points);
    }
    Ok(best)
}

/// The mean of the reads of each zone, by where it is. With one in flight they end in the order in which they were sent.
fn by_radius(bench: &Bench, read: &[ZoneId], series: &Series) -> Vec<[f64; 2]> {
    let mut times: BTreeMap<ZoneId, Vec<f64>> = BTreeMap::new();
    read.iter().zip(series.values_ms()).for_each(|(zone, ms)| times.entry(*zone).or_default().push(ms));
    let zones = f64::from(bench.geometry().zones.max(1));
    times.into_iter().map(|(zone, times)| [f64::from(zone.0) / zones, statistics::mean(&times)]).collect()
}

/// P-03.
pub(super) fn closed_loop_reads(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let best = closed_loop_curves(bench, &mut findings)?;
    findings.metric("random_read_4k_32", "1/s", Observed::exact(best));
    let field = field(bench)?;
    let mut read = Vec::new();
    let series = closed_loop(bench, "random read of 4 KiB, 1 deep", 1, bench.scale.samples, || {
        let (zone, at) = field.place(bench, bench.sector());
        read.push(zone);
        start_read(bench, zone, at, bench.sector())
    })?;
    findings.metric("random_read_4k_1", "ms", series.mean());
    findings.curve(ACCESS_BY_RADIUS, "radius (0 outer, 1 inner)", "ms", by_radius(bench, &read, &series));
    findings.latencies.push(series.summary());
    Ok(findings)
}

/// P-04: response time from the intended start at parts of the closed-loop maximum.
pub(super) fn open_loop_reads(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let field = field(bench)?;
    let count = bench.scale.samples;
    let deep = closed_loop(bench, "maximum", 32, count / 4, || field.read(bench, bench.sector()))?;
    let most = rate(&deep);
    let mut points = Vec::new();
    for percent in [10u64, 30, 50, 70, 85, 95] {
        bench.tick(percent, 100)?;
        let at_ns = poisson(bench, most * percent as f64 / 100.0, if percent == 70 { count } else { count / 4 });
        let name = format!("open loop at {percent} %");
        let series = open_loop(bench, &name, &at_ns, || field.read(bench, bench.sector()))?;
        points.push([percent as f64, series.mean().v]);
        if percent == 70 {
            let (name, tail) = series.best_tail();
            findings.metric(&format!("response_70_{name}"), "ms", tail);
            findings.latencies.push(series.summary());
        }
    }
    findings.metric("random_read_max", "1/s", Observed::exact(most));
    findings.curve("response over load", "percent of the maximum", "mean ms", points);
    Ok(findings)
}

/// P-05: a grid of write and read load.
pub(super) fn read_under_write(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let field = field(bench)?;
    let count = bench.scale.samples / 4;
    let most = rate(&closed_loop(bench, "maximum", 8, count, || field.read(bench, bench.sector()))?);
    let bytes = bench.transfer(1 << 20);
    for share in [0u64, 25, 50] {
        let zone = bench.fresh(1)?[0];
        let mut points = Vec::new();
        for percent in [10u64, 30, 50] {
            bench.tick(share + percent, 120)?;
            let at_ns = poisson(bench, most * percent as f64 / 100.0, count);
            let mut turn = 0u64;
            let mut written = 0;
            let series = open_loop(bench, &format!("{share} % writes, {percent} % reads"), &at_ns, || {
                turn += 1;
                // One write of 1 MiB weighs about as much as ten reads.
                if share > 0 && turn.is_multiple_of(1000 / share) && written + bytes <= bench.capacity() {
                    written += bytes;
                    let append = bench.start_append(zone, written - bytes, bytes);
                    return Box::pin(async move { append.await.map(|_| ()) });
                }
                field.read(bench, bench.sector())
            })?;
            points.push([percent as f64, series.best_tail().1.v]);
        }
        findings.curve(&format!("read tail beside {share} % writes"), "percent of read maximum", "ms", points);
    }
    Ok(findings)
}

/// P-15: reads beside a scrub of growing share.
pub(super) fn verification_share(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let field = field(bench)?;
    let count = bench.scale.samples / 4;
    let most = rate(&closed_loop(bench, "maximum", 8, count, || field.read(bench, bench.sector()))?);
    let mut points = Vec::new();
    for share in [0u64, 10, 30, 50, 70] {
        bench.tick(share, 80)?;
        let at_ns = poisson(bench, most * 0.4, count);
        let series = open_loop(bench, "foreground beside scrub", &at_ns, || {
            let scrubs = bench.below(100) < share;
            field.read(bench, if scrubs { 64 << 10 } else { bench.sector() })
        })?;
        points.push([share as f64, series.best_tail().1.v]);
    }
    findings.curve("foreground tail over scrub share", "scrub percent", "ms", points);
    Ok(findings)
}

/// P-19: 32 reads at once, most near each other, some far away. What the longest wait is held against is 32 reads that
/// are spread evenly: near ones are quick, and a drive that is quicker with them starves nobody by that.
pub(super) fn starvation(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let field = field(bench)?;
    let count = (bench.scale.samples / 4).max(200);
    let even = closed_loop(bench, "evenly spread reads", 32, count, || field.read(bench, bench.sector()))?;
    let near = Field { zones: field.zones.iter().copied().take(2).collect(), bytes: field.bytes };
    let series = closed_loop(bench, "near and far reads", 32, bench.scale.samples, || {
        let source = if bench.below(20) == 0 { &field } else { &near };
        source.read(bench, bench.sector())
    })?;
    let factor = series.max_ms() / statistics::median(&even.values_ms()).max(f64::MIN_POSITIVE);
    findings.prefer("longest_over_median_of_even_reads <= 20", Observed::exact(factor), factor <= 20.0);
    findings.latencies.push(series.summary());
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::profile::{DriveProfile, Media};
    use crate::qualify::findings::Status;
    use crate::qualify::plan::Plan;
    use crate::qualify::subject::{Subject, sound};

    #[test]
    fn a_drive_that_leaves_far_reads_waiting_is_told_from_one_that_does_not() {
        let status = |name: &str, starve_ms: Option<f64>| {
            let mut profile = DriveProfile::built_in(name).expect("exists").for_memory();
            if let (Media::Disk(disk), Some(ms)) = (&mut profile.media, starve_ms) {
                disk.starve_ms = ms;
            }
            let subject = Subject::modelled(&profile, 1, sound);
            let bench = Bench::new(&subject, Plan::Ci.scale(), 1, Box::new(|_| true));
            let findings = starvation(&bench).expect("runs");
            (findings.status(), findings.reason())
        };
        for family in ["ci", "smr", "hamr"] {
            assert_eq!(status(family, None), (Status::Pass, None), "{family}");
        }
        assert_eq!(status("smr", Some(60_000.0)).0, Status::Warn);
    }
}
