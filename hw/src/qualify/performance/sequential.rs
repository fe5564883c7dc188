//! P-01, P-02, P-11: whole zones in a row, from the outer to the inner diameter.

use super::load::{append_raw, start_read};
use crate::qualify::bench::Bench;
use crate::qualify::findings::{Findings, Halt, Mark};
use crate::qualify::statistics::{self, Observed};
use crate::zone::ZoneId;

/// Bytes a position is measured with in virtual time, where they must fit into memory.
const VIRTUAL_BYTES: u64 = 48 << 20;

/// Bytes from which a position's rate is judged.
const JUDGED_BYTES: u64 = 16 << 20;

/// Bytes written or read at a position.
fn stretch(bench: &Bench) -> u64 {
    if bench.subject.virtual_time { bench.capacity().min(VIRTUAL_BYTES) } else { bench.capacity() }
}

/// Times small zones are measured, so that a seek in between does not decide.
fn repeats(bench: &Bench) -> u32 {
    if stretch(bench) < JUDGED_BYTES { 8 } else { 1 }
}

/// P-01.
pub(super) fn writes(bench: &Bench) -> Result<Findings, Halt> {
    profile(bench, "write", |zone| {
        let start_ns = bench.now_ns();
        append_raw(bench, zone, stretch(bench))?;
        let answer = bench.flush()?;
        bench.must(answer, "a flush")?;
        Ok(bench.now_ns() - start_ns)
    })
}

/// P-02.
pub(super) fn reads(bench: &Bench) -> Result<Findings, Halt> {
    profile(bench, "read", |zone| {
        append_raw(bench, zone, stretch(bench))?;
        let answer = bench.flush()?;
        bench.must(answer, "a flush")?;
        let start_ns = bench.now_ns();
        let mut at = 0;
        while at < stretch(bench) {
            let bytes = bench.transfer(stretch(bench) - at);
            let answer = bench.wait(start_read(bench, zone, at, bytes))?;
            bench.must(answer, "a read")?;
            at += bytes;
        }
        Ok(bench.now_ns() - start_ns)
    })
}

fn profile(bench: &Bench, what: &str, measure: impl Fn(ZoneId) -> Result<u64, Halt>) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let zones = bench.spread(bench.scale.positions)?;
    let mut rates = vec![Vec::new(); zones.len()];
    let rounds = repeats(bench);
    for round in 0..rounds {
        for (index, zone) in zones.iter().enumerate() {
            bench.tick(u64::from(round) * zones.len() as u64 + index as u64, u64::from(rounds) * zones.len() as u64)?;
            let took_ns = measure(*zone)?;
            if let Some(rates) = rates.get_mut(index) {
                rates.push(stretch(bench) as f64 * 1e3 / took_ns.max(1) as f64);
            }
            let answer = bench.reset(*zone)?;
            bench.must(answer, "a reset")?;
        }
    }
    let means: Vec<f64> = rates.iter().map(|rates| statistics::mean(rates)).collect();
    let sequential = f64::from(bench.geometry().zones.max(1));
    let points = zones.iter().zip(&means).map(|(zone, rate)| [f64::from(zone.0) / sequential, *rate]).collect();
    findings.curve(&format!("sequential {what}"), "radius (0 outer, 1 inner)", "MB/s", points);
    let mut worst: f64 = 1.0;
    for (index, rate) in means.iter().enumerate() {
        let around = &means[index.saturating_sub(2)..(index + 3).min(means.len())];
        let part = rate / statistics::median(around).max(f64::MIN_POSITIVE);
        if part < 0.7 {
            let mark = Mark { zone: zones[index].0, what: format!("{what} {:.0} % of its neighbours", part * 100.0) };
            findings.marks.push(mark);
        }
        worst = worst.min(part);
    }
    // Of a shorter stretch, the seek and the turn before it are most of the time.
    if stretch(bench) >= JUDGED_BYTES {
        findings.prefer("slowest_of_neighbours >= 0.70", Observed::exact(worst), worst >= 0.70);
    } else {
        findings.marks.clear();
        findings.param("judged", "no: positions are too short");
    }
    findings.metric(&format!("{what}_outer"), "MB/s", Observed::exact(means.first().copied().unwrap_or(0.0)));
    findings.metric(&format!("{what}_inner"), "MB/s", Observed::exact(means.last().copied().unwrap_or(0.0)));
    findings.metric(&format!("{what}_mean"), "MB/s", statistics::mean_of(&means));
    Ok(findings)
}

/// P-11: zones filled one after the other; the rate falls along a line with the radius, and nowhere else.
pub(super) fn fill(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let zones = bench.spread(bench.scale.zones.min(bench.sequential_zones()))?;
    let mut points = Vec::new();
    for (index, zone) in (0u64..).zip(&zones) {
        bench.tick(index, zones.len() as u64)?;
        let start_ns = bench.now_ns();
        append_raw(bench, *zone, stretch(bench))?;
        let answer = bench.flush()?;
        bench.must(answer, "a flush")?;
        points.push((f64::from(zone.0), stretch(bench) as f64 * 1e3 / (bench.now_ns() - start_ns).max(1) as f64));
        if bench.subject.virtual_time {
            let answer = bench.reset(*zone)?;
            bench.must(answer, "a reset")?;
        }
    }
    let (intercept, slope) = statistics::line(&points);
    let cliff = points
        .iter()
        .map(|(zone, rate)| 1.0 - rate / (intercept + slope.v * zone).max(f64::MIN_POSITIVE))
        .fold(0.0, f64::max);
    findings.prefer("deepest_cliff <= 0.20", Observed::exact(cliff), cliff <= 0.20);
    findings.curve("sustained fill", "zone", "MB/s", points.into_iter().map(|(zone, rate)| [zone, rate]).collect());
    Ok(findings)
}
