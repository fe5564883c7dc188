//! P-12, P-13, P-18: what the drive does by itself, where it is weak, how long it takes to come up.

use std::time::Duration;

use super::load::{Field, start_read};
use crate::qualify::bench::Bench;
use crate::qualify::findings::{Findings, Halt, Mark};
use crate::qualify::latency::Series;
use crate::qualify::statistics::{self, Observed};
use crate::zone::ZoneId;

/// P-12: one read at a fixed pace; what returns at regular times is the drive's own work.
pub(super) fn periodic(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let field = Field::write(bench, 8, 4 << 20)?;
    let pace_ms = 50u64;
    let count = bench.scale.samples.max(1_000);
    let mut series = Series::new("probe read");
    let began_ns = bench.now_ns();
    for index in 0..count {
        if index % 100 == 0 {
            bench.tick(index, count)?;
        }
        bench.wait(bench.subject.driver.sleep_until(began_ns + index * pace_ms * 1_000_000))?;
        let answer = bench.timed(&mut series, || bench.wait(field.read(bench, bench.sector())))?;
        bench.must(answer, "a read")?;
    }
    let values = series.values_ms();
    let (lag, strength) = strongest_period(&values);
    let spectrum: Vec<[f64; 2]> =
        lags(&values).map(|lag| [(lag as u64 * pace_ms) as f64, correlation(&values, lag)]).collect();
    let longest = series.max_ms();
    findings.require("longest_read_ms <= 1000", Observed::exact(longest), longest <= 1_000.0);
    // Four times what noise reaches once in all lags.
    let noise = 4.0 / (values.len() as f64).sqrt();
    let found = if strength > noise { (lag as u64 * pace_ms) as f64 } else { 0.0 };
    findings.metric("period", "ms", Observed::exact(found));
    findings.metric("period_strength", "", Observed::exact(strength));
    findings.curve("autocorrelation of read latency", "lag, ms", "correlation", spectrum);
    findings.latencies.push(series.summary());
    Ok(findings)
}

fn lags(values: &[f64]) -> impl Iterator<Item = usize> {
    2..(values.len() / 4).min(600)
}

/// The lag at which a series resembles itself most, and how much.
fn strongest_period(values: &[f64]) -> (usize, f64) {
    lags(values)
        .map(|lag| (lag, correlation(values, lag)))
        .max_by(|left, right| left.1.total_cmp(&right.1))
        .unwrap_or((0, 0.0))
}

fn correlation(values: &[f64], lag: usize) -> f64 {
    let centre = statistics::mean(values);
    let spread: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    let together: f64 =
        values.iter().zip(values.iter().skip(lag)).map(|(left, right)| (left - centre) * (right - centre)).sum();
    if spread > 0.0 { together / spread } else { 0.0 }
}

/// P-13: places that are slow every time they are read.
pub(super) fn slow_spots(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let field = Field::write(bench, bench.scale.positions, 1 << 20)?;
    let repeats = 6;
    let spots = (bench.scale.samples / repeats / 2).max(40);
    let mut fastest: Vec<(ZoneId, u64, f64)> = Vec::new();
    for spot in 0..spots {
        if spot % 16 == 0 {
            bench.tick(spot, spots)?;
        }
        let (zone, at) = field.place(bench, bench.sector());
        let mut least = f64::INFINITY;
        for _ in 0..repeats {
            // From the same zone's other end, so that the arm comes the same way and the caches do not help.
            let away = if at >= field.bytes / 2 { 0 } else { field.bytes - bench.sector() };
            let answer = bench.wait(start_read(bench, zone, away, bench.sector()))?;
            bench.must(answer, "a read")?;
            bench.sleep(Duration::from_micros(bench.below(8_000)))?;
            let mut series = Series::new("read");
            let answer = bench.timed(&mut series, || bench.wait(start_read(bench, zone, at, bench.sector())))?;
            bench.must(answer, "a read")?;
            least = least.min(series.max_ms());
        }
        fastest.push((zone, at, least));
    }
    let times: Vec<f64> = fastest.iter().map(|(_, _, least)| *least).collect();
    // A revolution at 7200 rpm more than usual, at least; flash has no revolutions, and no spots beyond noise.
    let bound = statistics::median(&times) + 8.0;
    let slow: Vec<&(ZoneId, u64, f64)> = fastest.iter().filter(|(_, _, least)| *least > bound).collect();
    for (zone, at, least) in &slow {
        findings.marks.push(Mark { zone: zone.0, what: format!("slow spot at {at}: {least:.1} ms") });
    }
    findings.metric("slow_spots", "", Observed::failures(slow.len() as u64, spots));
    let share = slow.len() as f64 / spots as f64;
    findings.prefer("slow_spot_share <= 0.01", Observed::exact(share), share <= 0.01);
    Ok(findings)
}

/// P-18: from power on to the first read and the whole report.
pub(super) fn time_to_ready(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let field = Field::write(bench, 2, 1 << 20)?;
    let power = bench.power()?;
    let (mut first, mut whole) = (Series::new("first read"), Series::new("whole report"));
    for _ in 0..10 {
        power.cycle();
        let answer = bench.timed(&mut first, || bench.wait(field.read(bench, bench.sector())))?;
        bench.must(answer, "the first read")?;
        let answer = bench.timed(&mut whole, || bench.report(ZoneId(0), u32::MAX))?;
        bench.must(answer, "a report")?;
    }
    let slowest = first.max_ms() + whole.max_ms();
    findings.metric("first_read", "ms", first.mean());
    findings.metric("whole_report", "ms", whole.mean());
    findings.prefer("ready_ms <= 30000", Observed::exact(slowest), slowest <= 30_000.0);
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_period_is_found_and_noise_is_not() {
        let mut draw = crate::draw::Draw::new(2);
        let mut noise = || draw.below(1000) as f64 / 1000.0;
        let values: Vec<f64> = (0..4_000).map(|at| noise() + if at % 40 == 0 { 8.0 } else { 0.0 }).collect();
        let (lag, strength) = strongest_period(&values);
        assert!(lag % 40 == 0 && strength > 0.5, "{lag} {strength}");
        let plain: Vec<f64> = (0..4_000).map(|_| noise()).collect();
        assert!(strongest_period(&plain).1 < 4.0 / 4_000f64.sqrt());
    }
}
