//! P-20: one drive against its cohort: latency regressed on throughput, windows above the bound counted
//! (after Perseus, FAST 2023).

use super::load::{Field, closed_loop, rate};
use crate::qualify::bench::Bench;
use crate::qualify::findings::{Findings, Halt};
use crate::qualify::statistics::{self, Observed};

/// Drives of a cohort.
const DRIVES: u64 = 8;

/// Windows of each drive.
const WINDOWS: u64 = 24;

/// What no drive is called slow for, as a part of the cohort's median latency: drives that are alike to the microsecond
/// have a bound so narrow that chance crosses it.
const SLOWER_MIN: f64 = 0.1;

/// P-20.
pub(super) fn deviation(bench: &Bench) -> Result<Findings, Halt> {
    let Some(make) = bench.subject.cohort.as_ref() else {
        return Err(Halt::Skip("fewer than 8 drives".to_owned()));
    };
    let mut drives = Vec::new();
    for number in 0..DRIVES {
        bench.tick(number, DRIVES)?;
        if number == 0 {
            drives.push(windows(bench)?);
            continue;
        }
        let other = make(1_000 + number);
        drives.push(windows(&Bench::new(&other, bench.scale, number, Box::new(|_| true)))?);
    }
    let shares = shares_above(&drives);
    let worst = shares.iter().copied().fold(0.0, f64::max);
    let mut findings = Findings::new();
    findings.require("windows_above_bound <= 0.05 of a drive", Observed::exact(worst), worst <= 0.05);
    let points = drives.concat().into_iter().map(|(rate, ms)| [rate, ms]).collect();
    findings.curve("cohort", "reads/s", "ms", points);
    Ok(findings)
}

/// Throughput and latency of windows at different depths.
fn windows(bench: &Bench) -> Result<Vec<(f64, f64)>, Halt> {
    let field = Field::write(bench, 12, 1 << 20)?;
    let mut found = Vec::new();
    for window in 0..WINDOWS {
        let depth = 1 + (window % 6) as usize;
        let series = closed_loop(bench, "window", depth, 60, || field.read(bench, bench.sector()))?;
        found.push((rate(&series), series.mean().v));
    }
    bench.tidy()?;
    Ok(found)
}

/// The share of each drive's windows that lie above the upper bound of the cohort's regression. The bound is that of
/// new windows at 99.9 %, from the middle of the residuals, so that one bad drive does not hide itself.
fn shares_above(drives: &[Vec<(f64, f64)>]) -> Vec<f64> {
    let all = drives.concat();
    let slopes = statistics::line(&all);
    let rest = |(rate, ms): &(f64, f64)| ms - slopes.0 - slopes.1.v * rate;
    let residuals: Vec<f64> = all.iter().map(rest).collect();
    let centre = statistics::median(&residuals);
    let spread = statistics::median(&residuals.iter().map(|value| (value - centre).abs()).collect::<Vec<_>>()) * 1.4826;
    let latency = statistics::median(&all.iter().map(|(_, ms)| *ms).collect::<Vec<_>>());
    let bound = centre + (3.3 * spread).max(SLOWER_MIN * latency);
    let share = |windows: &Vec<(f64, f64)>| {
        windows.iter().filter(|window| rest(window) > bound).count() as f64 / windows.len().max(1) as f64
    };
    drives.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_drive_stands_out_of_its_cohort() {
        let mut draw = crate::draw::Draw::new(8);
        let mut window = |extra: f64| {
            let rate = 80.0 + draw.below(100) as f64;
            (rate, 30.0 - rate / 10.0 + draw.below(1000) as f64 / 500.0 + extra)
        };
        let mut drives: Vec<Vec<(f64, f64)>> = (0..8).map(|_| (0..24).map(|_| window(0.0)).collect()).collect();
        assert!(shares_above(&drives).iter().all(|share| *share <= 0.05), "{:?}", shares_above(&drives));
        drives[3] = (0..24).map(|_| window(12.0)).collect();
        let shares = shares_above(&drives);
        assert!(
            shares[3] > 0.5 && shares.iter().enumerate().all(|(at, share)| at == 3 || *share <= 0.05),
            "{shares:?}"
        );
    }
}
