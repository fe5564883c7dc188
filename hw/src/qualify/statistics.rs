//! Estimates with intervals: quantiles, means, proportions, rates of failure. Pure.
//!
//! Invariants: a quantile without at least 100 values beyond it is not an estimate and is not given; every interval
//! is a 95 % one unless it says otherwise.

use serde::{Deserialize, Serialize};

use crate::draw::Draw;

/// Values that must lie beyond a quantile before it is printed.
pub const EXCEEDANCES_MIN: f64 = 100.0;

/// Two-sided 95 % of the normal distribution.
const Z95: f64 = 1.959_964;

/// A value with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    pub v: f64,
    pub ci95: [f64; 2],
    /// Values it is from.
    pub n: u64,
    /// Independent values that would say as much.
    pub n_eff: u64,
}

impl Observed {
    /// A value that was counted or read, not sampled.
    pub fn exact(v: f64) -> Self {
        Self { v, ci95: [v, v], n: 1, n_eff: 1 }
    }

    /// `failures` of `trials`, as a number of failures with the interval the trials allow: none in n trials means at
    /// most 3/n of them (Clopper and Pearson; at zero, the rule of three).
    pub fn failures(failures: u64, trials: u64) -> Self {
        let v = failures as f64;
        let n = trials.max(1) as f64;
        let [low, high] = if failures == 0 { [0.0, 3.0 / n] } else { wilson(v / n, n) };
        Self { v, ci95: [low * n, high * n], n: trials, n_eff: trials }
    }
}

/// The score interval of a proportion (Wilson, 1927).
fn wilson(p: f64, n: f64) -> [f64; 2] {
    let z2 = Z95 * Z95;
    let centre = p + z2 / (2.0 * n);
    let half = Z95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let bound = |value: f64| (value / (1.0 + z2 / n)).clamp(0.0, 1.0);
    [bound(centre - half), bound(centre + half)]
}

/// How many independent values a series is worth: its variance over that of the means of its batches (batch means).
pub fn effective(series: &[f64]) -> u64 {
    let batches = (series.len() as f64).sqrt() as usize;
    if batches < 5 {
        return series.len() as u64;
    }
    let length = series.len() / batches;
    let means: Vec<f64> = series.chunks_exact(length).map(mean).collect();
    let (all, between) = (variance(series), variance(&means));
    if all <= 0.0 || between <= 0.0 {
        return series.len() as u64;
    }
    let worth = series.len() as f64 * all / (between * length as f64);
    (worth.round() as u64).clamp(1, series.len() as u64)
}

pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let centre = mean(values);
    values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

/// The mean of a series in time order.
pub fn mean_of(series: &[f64]) -> Observed {
    let n_eff = effective(series);
    let v = mean(series);
    let half = Z95 * (variance(series) / n_eff.max(1) as f64).sqrt();
    Observed { v, ci95: [v - half, v + half], n: series.len() as u64, n_eff }
}

/// The quantile `q` of a series in time order; `None` while fewer than 100 values lie beyond it. The interval is that
/// of the order statistics, widened for a series that depends on itself.
pub fn quantile_of(series: &[f64], q: f64) -> Option<Observed> {
    let mut sorted = series.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile_sorted(&sorted, q, effective(series))
}

/// As `quantile_of`, of sorted values worth `n_eff` independent ones.
pub fn quantile_sorted(sorted: &[f64], q: f64, n_eff: u64) -> Option<Observed> {
    let n = sorted.len() as f64;
    if n * (1.0 - q) + 1e-9 < EXCEEDANCES_MIN {
        return None;
    }
    let half = Z95 * (q * (1.0 - q) / n_eff.max(1) as f64).sqrt();
    let at = |part: f64| {
        let index = (part.clamp(0.0, 1.0) * n).ceil() as usize;
        sorted.get(index.saturating_sub(1).min(sorted.len() - 1)).copied().unwrap_or(f64::NAN)
    };
    Some(Observed { v: at(q), ci95: [at(q - half), at(q + half)], n: sorted.len() as u64, n_eff })
}

/// The middle value, without an interval.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Straight line through points by least squares: intercept and slope, the slope with its interval.
pub fn line(points: &[(f64, f64)]) -> (f64, Observed) {
    let n = points.len() as f64;
    let (xs, ys): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
    let (x_mean, y_mean) = (mean(&xs), mean(&ys));
    let spread: f64 = xs.iter().map(|x| (x - x_mean).powi(2)).sum();
    if points.len() < 3 || spread == 0.0 {
        return (
            y_mean,
            Observed { v: 0.0, ci95: [f64::NEG_INFINITY, f64::INFINITY], n: points.len() as u64, n_eff: 0 },
        );
    }
    let slope = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum::<f64>() / spread;
    let intercept = y_mean - slope * x_mean;
    let rest: f64 = points.iter().map(|(x, y)| (y - intercept - slope * x).powi(2)).sum();
    let half = Z95 * (rest / (n - 2.0) / spread).sqrt();
    let count = points.len() as u64;
    (intercept, Observed { v: slope, ci95: [slope - half, slope + half], n: count, n_eff: count })
}

/// The highest annual failure rate that `failures` in `drive_years` do not exclude at 90 % (chi squared; exact at
/// zero: 2.303 over the drive-years).
pub fn failure_rate_bound(failures: u64, drive_years: f64) -> f64 {
    // 90 % quantile of chi squared with 2k+2 degrees of freedom, halved (Wilson and Hilferty); exact for k = 0.
    let freedom = 2.0 * (failures as f64 + 1.0);
    let cube = 1.0 - 2.0 / (9.0 * freedom) + 1.281_552 * (2.0 / (9.0 * freedom)).sqrt();
    let half_chi = if failures == 0 { 10f64.ln() } else { freedom * cube.powi(3) / 2.0 };
    half_chi / drive_years.max(f64::MIN_POSITIVE)
}

/// The 95 % interval of a statistic of resampled groups, and every replicate, sorted.
pub fn bootstrap(
    rounds: usize,
    seed: u64,
    mut statistic: impl FnMut(&mut dyn FnMut(usize) -> usize) -> f64,
) -> Vec<f64> {
    let mut draw = Draw::new(seed);
    let mut replicates: Vec<f64> = (0..rounds)
        .map(|_| statistic(&mut |bound| draw.below(bound as u64) as usize))
        .filter(|value| value.is_finite())
        .collect();
    replicates.sort_by(f64::total_cmp);
    replicates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize) -> Vec<f64> {
        let mut draw = Draw::new(9);
        (0..count).map(|_| draw.below(1_000_000) as f64 / 1e6).collect()
    }

    #[test]
    fn quantiles_need_a_hundred_values_beyond_them() {
        let values = noise(9_999);
        assert!(quantile_of(&values, 0.99).is_none());
        let found = quantile_of(&noise(20_000), 0.99).expect("resolved");
        assert!(found.ci95[0] < 0.99 && found.ci95[1] > 0.99 && (found.v - 0.99).abs() < 0.005, "{found:?}");
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let mut draw = Draw::new(4);
        let mut held = 0;
        for _ in 0..400 {
            let values: Vec<f64> = (0..500).map(|_| draw.below(1_000_000) as f64 / 1e6).collect();
            let found = quantile_of(&values, 0.5).expect("resolved");
            held += u32::from(found.ci95[0] <= 0.5 && 0.5 <= found.ci95[1]);
        }
        assert!((365..=395).contains(&held), "{held} of 400");
    }

    #[test]
    fn values_that_depend_on_each_other_count_less() {
        let steps = noise(100);
        let series: Vec<f64> = steps.iter().flat_map(|step| [*step; 50]).collect();
        assert!(effective(&series) < 400, "{}", effective(&series));
        assert!(effective(&noise(5_000)) > 2_000);
    }

    #[test]
    fn zero_failures_prove_little() {
        assert!((failure_rate_bound(0, 658.0) - 0.0035).abs() < 1e-5, "658 drive-years for 0.35 %");
        assert!((failure_rate_bound(0, 100.0 * 30.0 / 365.0) - 0.28).abs() < 0.005, "100 drives for 30 days: 28 %");
        assert!((failure_rate_bound(2, 1.0) - 5.32).abs() < 0.02);
        assert_eq!(Observed::failures(0, 1000).ci95, [0.0, 3.0]);
    }

    #[test]
    fn a_line_is_found_through_noise() {
        let points: Vec<(f64, f64)> =
            noise(200).iter().enumerate().map(|(x, y)| (x as f64, 5.0 + 0.5 * x as f64 + y)).collect();
        let (intercept, slope) = line(&points);
        assert!((slope.v - 0.5).abs() < 0.01 && slope.ci95[0] < 0.5 && 0.5 < slope.ci95[1]);
        assert!((intercept - 5.5).abs() < 0.3);
    }
}
