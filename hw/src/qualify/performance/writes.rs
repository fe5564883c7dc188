//! P-06 to P-10: appends as a store does them, and the commands around them.

use std::time::Duration;

use super::load::append_raw;
use crate::qualify::bench::{Bench, Crowd, ZoneOperation};
use crate::qualify::findings::{Findings, Halt};
use crate::qualify::latency::Series;
use crate::qualify::statistics::Observed;

/// P-06: appends round-robin over more and more zones.
pub(super) fn many_zones(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut points = Vec::new();
    let mut longest_ms: f64 = 0.0;
    let bytes =
        bench.transfer(256 << 10).min(bench.capacity() / 4 / bench.sector() * bench.sector()).max(bench.sector());
    let limit = bench.open_limit();
    let mut count = 1;
    while count <= limit {
        bench.tick(u64::from(count), u64::from(limit))?;
        let zones = bench.fresh(count)?;
        let start_ns = bench.now_ns();
        let rounds = (bench.capacity() / bytes).min(4);
        let mut series = Series::new("append");
        for _ in 0..rounds {
            let mut crowd = Crowd::default();
            let began_ns = bench.now_ns();
            for zone in &zones {
                let buffer = bench.device().alloc_buffer(bytes as usize);
                let append = bench.device().append(*zone, buffer, 0..bytes as usize);
                crowd.push(Box::pin(async move { append.await.0 }));
            }
            while let Some((_, answer)) = bench.next(&mut crowd)? {
                bench.must(answer, "an append")?;
                series.record(began_ns, bench.now_ns() - began_ns);
            }
        }
        let answer = bench.flush()?;
        bench.must(answer, "a flush")?;
        let took_ns = (bench.now_ns() - start_ns).max(1);
        points.push([f64::from(count), (rounds * u64::from(count) * bytes) as f64 * 1e3 / took_ns as f64]);
        longest_ms = longest_ms.max(series.max_ms());
        bench.tidy()?;
        count *= 2;
    }
    findings.require("longest_append_ms <= 1000", Observed::exact(longest_ms), longest_ms <= 1_000.0);
    findings.curve_log("appends over open zones", "open zones", "MB/s", points);
    Ok(findings)
}

/// P-07: zone commands by how full the zone is.
pub(super) fn zone_commands(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let rounds = (bench.scale.samples / 200).clamp(5, 50);
    for operation in [ZoneOperation::Reset, ZoneOperation::Finish, ZoneOperation::Open, ZoneOperation::Close] {
        let mut points = Vec::new();
        for percent in [0u64, 25, 50, 99] {
            let mut series = Series::new("zone command");
            for _ in 0..rounds {
                let zone = bench.fresh(1)?[0];
                let bytes = (bench.capacity().min(32 << 20) * percent / 100) / bench.sector() * bench.sector();
                let least = if operation == ZoneOperation::Close { bench.sector() } else { 0 };
                append_raw(bench, zone, bytes.max(least))?;
                let answer = bench.timed(&mut series, || bench.zone_op(operation, zone))?;
                bench.must(answer, "a zone command")?;
                bench.tidy()?;
            }
            points.push([percent as f64, series.mean().v]);
        }
        let worst = points.iter().map(|[_, ms]| *ms).fold(0.0, f64::max);
        let name = format!("{operation:?}").to_lowercase();
        findings.metric(&format!("{name}_worst_mean"), "ms", Observed::exact(worst));
        findings.curve(&name, "percent full", "ms", points);
    }
    Ok(findings)
}

/// What the batches of each size above the largest transfer write in all.
const BATCH_BYTES: u64 = 1 << 30;

/// P-08: append and flush, the store's way to write, by size.
pub(super) fn durable_append(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut points = Vec::new();
    let mut rates = Vec::new();
    let sizes = [4u64 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];
    let fits = |bytes: &u64| *bytes <= bench.capacity() && *bytes >= bench.sector();
    let sizes: Vec<u64> = sizes.into_iter().filter(fits).collect();
    let most = bench.transfer(u64::MAX);
    let longest = sizes.iter().copied().filter(|bytes| *bytes <= most).max();
    for (index, bytes) in (0u64..).zip(&sizes) {
        bench.tick(index, sizes.len() as u64)?;
        // The size that the largest transfer allows of the store's records gets the long series.
        let long = Some(*bytes) == longest || *bytes == 64 << 10;
        let count = if long { bench.scale.samples.min((8 << 30) / bytes) } else { bench.scale.samples / 10 };
        // A batch of several transfers is there for its rate, which few of them show.
        let count = if *bytes > most { count.min(BATCH_BYTES / bytes) } else { count };
        let series = append_and_flush(bench, *bytes, count.max(20))?;
        points.push([*bytes as f64 / 1024.0, series.mean().v]);
        rates.push([*bytes as f64 / 1024.0, *bytes as f64 / 1e3 / series.mean().v]);
        if long {
            let (name, tail) = series.best_tail();
            findings.metric(&format!("durable_append_{}k_{name}", bytes >> 10), "ms", tail);
            findings.latencies.push(series.summary());
        }
    }
    let best = rates.iter().map(|[_, rate]| *rate).fold(0.0, f64::max);
    let enough = rates.iter().find(|[_, rate]| *rate >= 0.9 * best).map_or(0.0, |[size, _]| *size);
    findings.metric("smallest_batch_at_90_percent", "KiB", Observed::exact(enough));
    let smallest = points.first().map_or(0.0, |[_, ms]| *ms);
    findings.metric("flush_cost", "ms", Observed::exact(smallest));
    findings.curve_log("durable append", "KiB", "ms", points);
    findings.curve_log("durable append rate", "KiB", "MB/s", rates);
    Ok(findings)
}

fn append_and_flush(bench: &Bench, bytes: u64, count: u64) -> Result<Series, Halt> {
    let mut series = Series::new(&format!("durable append of {} KiB", bytes >> 10));
    let mut zone = bench.fresh(1)?[0];
    let mut at = 0;
    for _ in 0..count {
        if at + bytes > bench.capacity() {
            let answer = bench.reset(zone)?;
            bench.must(answer, "a reset")?;
            zone = bench.fresh(1)?[0];
            at = 0;
        }
        let answer = bench.timed(&mut series, || {
            append_raw(bench, zone, bytes)?;
            bench.flush()
        })?;
        bench.must(answer, "a flush")?;
        at += bytes;
        // A store thinks in between: the disk does not wait at the right angle.
        bench.sleep(Duration::from_nanos(bench.below(9_000_000)))?;
    }
    Ok(series)
}

/// P-09: one durable write after a pause, against streaming.
pub(super) fn idle_gap(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let bytes = bench.transfer(64 << 10);
    let rounds = (bench.scale.samples / 100).clamp(12, 100);
    let mut zone = bench.fresh(1)?[0];
    let mut at = 0;
    let mut points = Vec::new();
    for gap_ms in [0u64, 1, 10, 50, 100, 500, 2_000, 10_000, 60_000] {
        if !bench.subject.virtual_time && gap_ms > 2_000 && bench.scale.hours < 1.0 {
            continue;
        }
        bench.tick(points.len() as u64, 9)?;
        let mut series = Series::new("first write");
        for _ in 0..rounds {
            if at + bytes > bench.capacity() {
                let answer = bench.reset(zone)?;
                bench.must(answer, "a reset")?;
                zone = bench.fresh(1)?[0];
                at = 0;
            }
            // Not at a multiple of a turn.
            bench.sleep(Duration::from_micros(gap_ms * 1000 + if gap_ms == 0 { 0 } else { bench.below(8_000) }))?;
            let answer = bench.timed(&mut series, || {
                let appended = bench.append_raw(zone, 0..bytes as usize)?;
                bench.must(appended, "an append")?;
                bench.flush()
            })?;
            bench.must(answer, "a flush")?;
            at += bytes;
        }
        points.push([(gap_ms as f64).max(0.1), series.mean().v]);
    }
    let baseline = points.get(1).map_or(0.0, |[_, ms]| *ms);
    let penalty = points.iter().skip(2).map(|[_, ms]| ms - baseline).fold(0.0, f64::max);
    let onset =
        points.iter().skip(2).find(|[_, ms]| ms - baseline > (penalty / 2.0).max(0.5)).map_or(0.0, |[gap, _]| *gap);
    findings.metric("idle_penalty", "ms", Observed::exact(penalty));
    findings.metric("idle_penalty_from", "ms", Observed::exact(if penalty > 1.0 { onset } else { 0.0 }));
    findings.curve_log("first write after a pause", "pause, ms", "ms", points);
    Ok(findings)
}

/// P-10: bursts of growing length into one zone, and over several.
pub(super) fn bursts(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    for interleave in [1u32, 4] {
        if interleave > bench.open_limit() {
            continue;
        }
        let mut points = Vec::new();
        let mut bytes = 64u64 << 10;
        while bytes <= bench.capacity().min(32 << 20) {
            bench.tick(points.len() as u64, 12)?;
            let mut took_ns = 0;
            let rounds = 4u64;
            for _ in 0..rounds {
                let zones = bench.fresh(interleave)?;
                bench.sleep(Duration::from_millis(200))?;
                let start_ns = bench.now_ns();
                for zone in &zones {
                    append_raw(bench, *zone, bytes / u64::from(interleave) / bench.sector() * bench.sector())?;
                }
                let answer = bench.flush()?;
                bench.must(answer, "a flush")?;
                took_ns += bench.now_ns() - start_ns;
                bench.tidy()?;
            }
            points.push([bytes as f64 / 1024.0, (rounds * bytes) as f64 * 1e3 / took_ns.max(1) as f64]);
            bytes *= 4;
        }
        let best = points.iter().map(|[_, rate]| *rate).fold(0.0, f64::max);
        let enough = points.iter().find(|[_, rate]| *rate >= 0.9 * best).map_or(0.0, |[size, _]| *size);
        findings.metric(&format!("burst_for_90_percent_over_{interleave}"), "KiB", Observed::exact(enough));
        findings.curve_log(&format!("bursts over {interleave} zones"), "KiB", "MB/s", points);
    }
    Ok(findings)
}
