//! D-06: the first sectors of a burst that follows a pause. A heated head is cold then, and what it writes first is what
//! would need more tries to be read.

use std::ops::Range;
use std::time::Duration;

use crate::qualify::bench::Bench;
use crate::qualify::findings::{Findings, Halt, Tally};
use crate::qualify::latency::Series;
use crate::qualify::statistics::{Observed, quantile_sorted};
use crate::zone::ZoneId;

/// Pauses before bursts, in milliseconds: around the idle gaps that vendors' patents and power conditions name.
const GAPS_MS: [u64; 4] = [10, 100, 1_000, 10_000];
/// What is written behind a pause.
const BURST_BYTES: u64 = 1 << 20;
/// What is looked at: as much of the burst's beginning, and of the rest.
const PART_BYTES: u64 = 64 << 10;
/// Reads of the rest beyond this part of them are slow.
const SLOW: f64 = 0.9;

/// A part of a burst that is read back.
struct Part {
    zone: ZoneId,
    bytes: Range<u64>,
    first: bool,
}

/// D-06.
pub(super) fn first_sectors(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("damaged_sectors");
    let rounds = (bench.scale.samples / 200).clamp(8, 100);
    let (mut first, mut rest) = (Series::new("first sectors"), Series::new("rest of the burst"));
    let (mut retries_first, mut retries_rest) = (0, 0);
    for (index, gap_ms) in (0u64..).zip(GAPS_MS) {
        let mut parts = bursts(bench, gap_ms, rounds, index)?;
        if let Some(power) = bench.subject.power.as_deref() {
            power.cycle();
        }
        // In any order: the drive has read ahead of nothing, and both kinds meet the same seeks.
        while !parts.is_empty() {
            let part = parts.swap_remove(bench.below(parts.len() as u64) as usize);
            let before = retries(bench);
            let series = if part.first { &mut first } else { &mut rest };
            bench.timed(series, || bench.verify(part.zone, part.bytes.clone(), &mut tally))?;
            let more = retries(bench).saturating_sub(before);
            *(if part.first { &mut retries_first } else { &mut retries_rest }) += more;
            bench.sleep(Duration::from_nanos(bench.below(9_000_000)))?;
        }
    }
    judge(&mut findings, &first, &rest);
    if bench.subject.telemetry.is_some() {
        findings.metric("retries_first", "reads", Observed::failures(retries_first, first.len() as u64));
        findings.metric("retries_rest", "reads", Observed::failures(retries_rest, rest.len() as u64));
    }
    findings.latencies.extend([first.summary(), rest.summary()]);
    findings.tally(tally);
    Ok(findings)
}

/// Writes a burst behind each of `rounds` pauses, and flushes; the parts of them to read back.
fn bursts(bench: &Bench, gap_ms: u64, rounds: u64, index: u64) -> Result<Vec<Part>, Halt> {
    let sectors = |bytes: u64| (bytes / bench.sector() * bench.sector()).max(bench.sector());
    let burst = sectors(BURST_BYTES.min(bench.capacity() / 2));
    let part = sectors(PART_BYTES.min(burst / 4));
    let mut parts = Vec::new();
    let (mut zone, mut at) = (bench.fresh(1)?[0], 0);
    for round in 0..rounds {
        bench.tick(index * rounds + round, GAPS_MS.len() as u64 * rounds)?;
        if at + burst > bench.capacity() {
            let answer = bench.finish(zone)?;
            bench.must(answer, "a finish")?;
            (zone, at) = (bench.fresh(1)?[0], 0);
        }
        bench.sleep(Duration::from_millis(gap_ms))?;
        bench.must_fill(zone, at, at + burst)?;
        let answer = bench.flush()?;
        bench.must(answer, "a flush")?;
        let later = at + part + bench.below(burst.saturating_sub(2 * part) / bench.sector() + 1) * bench.sector();
        parts.push(Part { zone, bytes: at..at + part, first: true });
        parts.push(Part { zone, bytes: later..later + part, first: false });
        at += burst;
    }
    Ok(parts)
}

/// Standard deviations beyond which an excess is a warning, and beyond which no chance explains it.
const DEVIATIONS: [f64; 2] = [3.0, 6.0];

/// Reads of first sectors that are slower than nine in ten of the others; a tenth of them is what chance makes slow.
fn judge(findings: &mut Findings, first: &Series, rest: &Series) {
    let mut others = rest.values_ms();
    others.sort_by(f64::total_cmp);
    let count = first.len() as u64;
    let Some(slow_ms) = others.get((others.len() as f64 * SLOW) as usize).copied() else { return };
    let slow = first.values_ms().iter().filter(|ms| **ms > slow_ms).count() as u64;
    let observed = Observed::failures(slow, count);
    // Of the difference of two such shares.
    let deviation = (2.0 * SLOW * (1.0 - SLOW) / count.max(1) as f64).sqrt();
    let [warn, fail] = DEVIATIONS.map(|times| ((1.0 - SLOW + times * deviation) * count as f64).floor() as u64);
    let expr = |bound: u64| format!("slow_first_reads <= {bound} of {count}");
    findings.prefer(&expr(warn), observed, slow <= warn);
    findings.require(&expr(fail), observed, slow <= fail);
    for (name, series) in [("first_median", first), ("rest_median", rest)] {
        let mut values = series.values_ms();
        values.sort_by(f64::total_cmp);
        if let Some(median) = quantile_sorted(&values, 0.5, values.len() as u64) {
            findings.metric(name, "ms", median);
        }
    }
}

fn retries(bench: &Bench) -> u64 {
    let counters = bench.subject.telemetry.as_deref().map(|telemetry| telemetry.counters()).unwrap_or_default();
    counters.get("read_retries").copied().unwrap_or(0)
}
