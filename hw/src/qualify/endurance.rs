//! Section E: what changes with use and time.

use std::time::Duration;

use super::bench::Bench;
use super::findings::{Findings, Halt, Tally};
use super::latency::Series;
use super::plan::Plan;
use super::registry::{Need, Test};
use super::statistics::{self, Observed};

/// 550 TB a year on a 20 TB drive, as fills of the whole drive per hour.
const FILLS_PER_HOUR: f64 = 550.0 / 20.0 / 8_766.0;

/// Annual failure rate of the manuals: 0.35 % (Ultrastar HC580, at 40 degrees).
const AFR_CLAIMED: f64 = 0.0035;

pub(super) const TESTS: &[Test] = &[
    Test::new("E-01", "Workload-rate soak", "nothing uncorrected, latency does not drift", "MACZE")
        .runs(soak)
        .needs(&[Need::Calendar]),
    Test::new("E-02", "Write wear per head", "no more retries on the written head", "MCe")
        .needs(&[Need::Heads])
        .from(Plan::Qual),
    Test::new("E-03", "Zone cycling", "no damage, reset does not slow down", "MZE").runs(cycling),
    Test::new("E-04", "Load and unload, start and stop", "counters advance exactly", "MCe")
        .needs(&[Need::PowerConditions])
        .from(Plan::Qual),
    Test::new("E-05", "Demonstrated failure rate", "the bound, and the drive-days still missing", "MCZE")
        .runs(failure_rate)
        .harmless(),
    Test::new("E-06", "Latency drift", "no alarm of the cumulative sum", "MACZE").runs(drift).needs(&[Need::Calendar]),
    Test::new("E-07", "Flash wear", "write amplification by workload", "Ze").needs(&[Need::Zrwa]).from(Plan::Qual),
];

/// E-01: writes at the rated workload with reads in between; latency over time must not rise.
fn soak(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("uncorrected_errors");
    let hours = (bench.scale.hours * 240.0).max(24.0) as u64;
    let drive_bytes = u64::from(bench.sequential_zones()) * bench.capacity();
    let rated = drive_bytes as f64 * FILLS_PER_HOUR;
    let bytes_per_hour = (rated as u64).clamp(bench.transfer(u64::MAX), 64 << 20);
    let mut points = Vec::new();
    let zones = bench.fresh(bench.sequential_zones().min(64))?;
    let (mut index, mut at) = (0usize, 0u64);
    for hour in 0..hours {
        bench.tick(hour, hours)?;
        let mut left = bytes_per_hour;
        let mut reads = Series::new("read");
        while left > 0 {
            let zone = zones[index % zones.len()];
            if at + bench.sector() > bench.capacity() {
                bench.verify(zone, 0..at, &mut tally)?;
                index += 1;
                at = 0;
                let answer = bench.reset(zones[index % zones.len()])?;
                bench.must(answer, "a reset")?;
                continue;
            }
            let bytes = bench.transfer(left.min(bench.capacity() - at));
            bench.must_append(zone, at, bytes)?;
            at += bytes;
            left = left.saturating_sub(bytes);
        }
        let answer = bench.flush()?;
        bench.must(answer, "a flush")?;
        for _ in 0..8 {
            let zone = zones[index % zones.len()];
            let place = bench.below(at / bench.sector()) * bench.sector();
            bench.timed(&mut reads, || bench.verify(zone, place..place + bench.sector(), &mut tally))?;
        }
        points.push((hour as f64, reads.mean().v));
        bench.sleep(Duration::from_secs(3_500))?;
    }
    let (_, slope) = statistics::line(&points);
    findings.prefer("read_drift_ms_per_hour <= 0 within its interval", slope, slope.ci95[0] <= 0.0);
    findings.curve("read latency over the soak", "hours", "ms", points.iter().map(|(hour, ms)| [*hour, *ms]).collect());
    findings.param("hours", hours);
    findings.param("bytes_per_hour", bytes_per_hour);
    findings.tally(tally);
    Ok(findings)
}

/// E-03: few zones are written and reset again and again.
fn cycling(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("damaged_sectors");
    let cycles = (bench.scale.commands / 10).max(50);
    let zones = bench.fresh(2)?;
    let mut points = Vec::new();
    let bytes = bench.transfer(4 * bench.sector());
    for cycle in 0..cycles {
        if cycle % 50 == 0 {
            bench.tick(cycle, cycles)?;
        }
        let zone = zones[(cycle % zones.len() as u64) as usize];
        bench.must_append(zone, 0, bytes)?;
        bench.verify(zone, 0..bytes, &mut tally)?;
        let mut series = Series::new("reset");
        let answer = bench.timed(&mut series, || bench.reset(zone))?;
        bench.must(answer, "a reset")?;
        points.push((cycle as f64, series.max_ms()));
    }
    bench.verify_blank(zones[0], 0, &mut tally)?;
    let (_, slope) = statistics::line(&points);
    findings.prefer("reset_drift_ms_per_cycle <= 0 within its interval", slope, slope.ci95[0] <= 1e-12);
    findings.param("cycles", cycles);
    findings.tally(tally);
    Ok(findings)
}

/// E-05: what this run proves about the failure rate, which is little, and how much is missing.
fn failure_rate(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let years = (bench.now_ns() as f64 / 1e9 / 86_400.0 / 365.0).max(1.0 / 86_400.0 / 365.0);
    let bound = statistics::failure_rate_bound(0, years);
    let needed = 10f64.ln() / AFR_CLAIMED;
    findings.metric("afr_upper_bound_90", "per drive-year", Observed::exact(bound));
    findings.metric("drive_years_observed", "years", Observed::exact(years));
    findings.metric("drive_years_missing_for_0.35_percent", "years", Observed::exact((needed - years).max(0.0)));
    findings.require("afr_upper_bound_90 > 0", Observed::exact(bound), bound > 0.0);
    Ok(findings)
}

/// E-06: the same small probe night after night; a cumulative sum against its own beginning.
fn drift(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let nights = if bench.scale.hours < 1.0 { 14 } else { 30 };
    let field = super::performance::Field::write(bench, 12, 1 << 20)?;
    let mut means = Vec::new();
    for night in 0..nights {
        bench.tick(night, nights)?;
        means.push(super::performance::probe(bench, &field, 200)?.mean().v);
        bench.sleep(Duration::from_secs(86_000))?;
    }
    let (first, rest) = means.split_at(means.len() / 3);
    let (centre, spread) = (statistics::mean(first), statistics::mean_of(first));
    let sigma = ((spread.ci95[1] - spread.ci95[0]) / 3.92 * (first.len() as f64).sqrt()).max(centre * 0.01);
    let mut sum: f64 = 0.0;
    let mut highest: f64 = 0.0;
    for value in rest {
        sum = (sum + (value - centre) / sigma - 0.5).max(0.0);
        highest = highest.max(sum);
    }
    findings.prefer("cumulative_sum <= 8", Observed::exact(highest), highest <= 8.0);
    let points = means.iter().enumerate().map(|(night, ms)| [night as f64, *ms]).collect();
    findings.curve("nightly probe", "night", "mean ms", points);
    Ok(findings)
}
