//! Two things measured alternately, and what came out.

use serde::Serialize;

/// The result of a comparison. Rates share one unit; larger is better.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    pub name: String,
    pub unit: &'static str,
    pub ours: Vec<f64>,
    pub peer_name: String,
    pub peer: Vec<f64>,
    /// Anything a reader needs to repeat or judge it.
    pub notes: Vec<String>,
}

impl Ratio {
    pub fn new(name: impl Into<String>, peer_name: impl Into<String>, unit: &'static str) -> Self {
        let (name, peer_name) = (name.into(), peer_name.into());
        Self { name, unit, ours: Vec::new(), peer_name, peer: Vec::new(), notes: Vec::new() }
    }

    /// Median of ours over median of the peer's.
    pub fn ratio(&self) -> f64 {
        median(&self.ours) / median(&self.peer)
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let spread = |values: &[f64]| {
            let (low, high) = range(values);
            format!("{:.1} {} (of {}: {low:.1} .. {high:.1})", median(values), self.unit, values.len())
        };
        writeln!(f, "{:.2}  {} / {}", self.ratio(), self.name, self.peer_name)?;
        writeln!(f, "      {}: {}", self.name, spread(&self.ours))?;
        write!(f, "      {}: {}", self.peer_name, spread(&self.peer))?;
        self.notes.iter().try_for_each(|note| write!(f, "\n      {note}"))
    }
}

/// The middle value; of an even number, the mean of the middle two. NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length.is_multiple_of(2) => (sorted[length / 2 - 1] + sorted[length / 2]) / 2.0,
        length => sorted[length / 2],
    }
}

/// The lowest and the highest value; the infinities, the wrong way round, of none.
pub fn range(values: &[f64]) -> (f64, f64) {
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    (lowest, values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_range_is_of_the_lowest_and_the_highest() {
        assert_eq!(range(&[2.0, -1.0, 7.0, 3.0]), (-1.0, 7.0));
        assert_eq!(range(&[5.0]), (5.0, 5.0));
    }

    #[test]
    fn a_ratio_is_of_medians_not_of_means() {
        let mut ratio = Ratio::new("a", "b", "MiB/s");
        ratio.ours.extend([10.0, 10.0, 1000.0]);
        ratio.peer.extend([20.0, 20.0, 1.0]);
        assert_eq!(ratio.ratio(), 0.5);
        assert!(ratio.to_string().starts_with("0.50  a / b"));
    }
}
