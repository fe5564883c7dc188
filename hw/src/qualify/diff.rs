//! Is B worse than A? Quantiles of every latency both reports have, with bootstrap intervals over drives and blocks of
//! consecutive commands, and a three-way verdict against a stated margin.
//!
//! Invariants: the unit of replication is the drive; with one drive a side the result is about this pair only; a
//! quantile that either side does not resolve is not compared.

use serde::Serialize;

use super::junit::push;
use super::latency::{Latency, bin_ns};
use super::report::Report;
use super::statistics;

/// How much higher a latency of B may be: 10 %.
const MARGIN: f64 = 0.10;

const ROUNDS: usize = 1_000;

/// Chance of a wrong word, over all comparisons together (Holm).
const ALPHA: f64 = 0.05;

/// What a comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Beyond the margin.
    Worse,
    /// Within the margin.
    NonInferior,
    /// The data do not say.
    Unresolved,
}

impl Word {
    /// The word as JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::NonInferior => "non-inferior",
            Self::Unresolved => "unresolved",
        }
    }
}

/// One quantile of one latency.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub test: String,
    pub latency: String,
    pub quantile: String,
    pub a_ms: f64,
    pub b_ms: f64,
    /// B over A, less one.
    pub change: f64,
    pub ci95: [f64; 2],
    pub word: Word,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    pub margin: f64,
    pub drives: [usize; 2],
    /// One drive on a side: nothing is said about the families.
    pub this_pair_only: bool,
    pub rows: Vec<Row>,
    /// Tests that ended differently.
    pub statuses: Vec<String>,
}

/// Blocks of each drive's latency.
type Drives<'a> = Vec<&'a Latency>;

/// Compares reports of A with reports of B, one per drive.
pub fn compare(a: &[Report], b: &[Report]) -> Comparison {
    let mut rows = Vec::new();
    let mut chances = Vec::new();
    for test in a.first().map(|report| report.tests.as_slice()).unwrap_or_default() {
        for latency in &test.findings.latencies {
            let (left, right) = (of(a, &test.id, &latency.name), of(b, &test.id, &latency.name));
            for quantile in &latency.quantiles {
                let resolved = |drives: &Drives| drives.iter().all(|found| found.quantile(&quantile.name).is_some());
                if left.is_empty() || right.is_empty() || !resolved(&left) || !resolved(&right) {
                    continue;
                }
                let (row, chance) = compare_quantile(&left, &right, &test.id, quantile.q, &quantile.name);
                rows.push(row);
                chances.push(chance);
            }
        }
    }
    holm(&mut rows, &chances);
    let statuses = a.first().into_iter().flat_map(|report| &report.tests).filter_map(|test| {
        let other = b.first()?.test(&test.id)?;
        let differs = other.status != test.status;
        differs.then(|| format!("{}: {} in A, {} in B", test.id, test.status.name(), other.status.name()))
    });
    let drives = [a.len(), b.len()];
    Comparison { margin: MARGIN, drives, this_pair_only: drives.contains(&1), statuses: statuses.collect(), rows }
}

fn of<'a>(reports: &'a [Report], test: &str, latency: &str) -> Drives<'a> {
    let found = reports
        .iter()
        .filter_map(|report| report.test(test)?.findings.latencies.iter().find(|found| found.name == latency));
    found.collect()
}

/// A row, and the chance that its word is wrong.
fn compare_quantile(a: &Drives, b: &Drives, test: &str, q: f64, name: &str) -> (Row, f64) {
    let all = |bound: usize, at: usize| if bound == 0 { 0 } else { at % bound };
    let whole = |drives: &Drives| {
        let blocks: Vec<&Vec<u32>> = drives.iter().flat_map(|latency| &latency.blocks).collect();
        quantile_of(&blocks, q)
    };
    let (a_ns, b_ns) = (whole(a), whole(b));
    let replicates = statistics::bootstrap(ROUNDS, 17, |draw| {
        let mut resampled = |drives: &Drives| {
            let mut blocks = Vec::new();
            for _ in drives {
                // Drives first, then blocks within the drive.
                let Some(latency) = drives.get(all(drives.len(), draw(drives.len()))) else { continue };
                for _ in &latency.blocks {
                    blocks.extend(latency.blocks.get(draw(latency.blocks.len())));
                }
            }
            quantile_of(&blocks, q)
        };
        let (left, right) = (resampled(a), resampled(b));
        right / left - 1.0
    });
    let at = |part: f64| replicates.get((part * (replicates.len().max(1) - 1) as f64) as usize).copied().unwrap_or(0.0);
    let share = |beyond: &dyn Fn(f64) -> bool| {
        let count = replicates.iter().filter(|change| beyond(**change)).count();
        (count + 1) as f64 / (replicates.len() + 1) as f64
    };
    let (not_worse, not_better) = (share(&|change| change <= MARGIN), share(&|change| change >= MARGIN));
    let word = if not_worse < not_better { Word::Worse } else { Word::NonInferior };
    let row = Row {
        test: test.to_owned(),
        latency: a.first().map(|latency| latency.name.clone()).unwrap_or_default(),
        quantile: name.to_owned(),
        a_ms: a_ns / 1e6,
        b_ms: b_ns / 1e6,
        change: b_ns / a_ns - 1.0,
        ci95: [at(0.025), at(0.975)],
        word,
    };
    (row, 2.0 * not_worse.min(not_better))
}

/// The quantile of merged histograms, in nanoseconds.
fn quantile_of(blocks: &[&Vec<u32>], q: f64) -> f64 {
    let mut counts = std::collections::BTreeMap::new();
    for pair in blocks.iter().flat_map(|block| block.chunks_exact(2)) {
        *counts.entry(pair[0]).or_insert(0u64) += u64::from(pair[1]);
    }
    let total: u64 = counts.values().sum();
    let wanted = q * total as f64;
    let mut seen = 0.0;
    for (bin, count) in counts {
        let count = count as f64;
        if seen + count >= wanted && count > 0.0 {
            // Values are taken to lie evenly in their bin: its width must not decide at the margin.
            let part = ((wanted - seen) / count).clamp(0.0, 1.0) - 0.5;
            return bin_ns(bin) * (bin_ns(1) / bin_ns(0)).powf(part);
        }
        seen += count;
    }
    f64::NAN
}

/// Words stand only as far as all of them together are wrong with a chance of at most ALPHA.
fn holm(rows: &mut [Row], chances: &[f64]) {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|left, right| chances[*left].total_cmp(&chances[*right]));
    let mut stands = true;
    for (rank, index) in order.into_iter().enumerate() {
        stands &= chances[index] * (chances.len() - rank) as f64 <= ALPHA;
        if !stands {
            rows[index].word = Word::Unresolved;
        }
    }
}

impl Comparison {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let pair = if self.this_pair_only { ": this pair only, not the families" } else { "" };
        let [a, b] = self.drives;
        push(&mut out, format_args!("{a} drives against {b}{pair}; margin {:+.0} %\n", self.margin * 100.0));
        for row in &self.rows {
            let word = if row.word == Word::Worse { "WORSE" } else { row.word.name() };
            push(
                &mut out,
                format_args!(
                    "{:12} {:5} {:32} {:6} {:9.3} -> {:9.3} ms  {:+6.1} % [{:+.1}, {:+.1}]\n",
                    word,
                    row.test,
                    row.latency,
                    row.quantile,
                    row.a_ms,
                    row.b_ms,
                    row.change * 100.0,
                    row.ci95[0] * 100.0,
                    row.ci95[1] * 100.0
                ),
            );
        }
        for status in &self.statuses {
            push(&mut out, format_args!("{status}\n"));
        }
        out.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qualify::latency::Series;

    fn drive(factor: f64, seed: u64) -> Latency {
        let mut draw = crate::draw::Draw::new(seed);
        let mut series = Series::new("read");
        for at in 0..12_000u64 {
            series.record(at * 1_000_000, ((4e6 + draw.below(8_000_000) as f64) * factor) as u64);
        }
        series.summary()
    }

    fn word(factor: f64) -> Word {
        let (a, b) = (drive(1.0, 1), drive(factor, 2));
        let (row, chance) = compare_quantile(&vec![&a], &vec![&b], "P-03", 0.95, "p95");
        let mut rows = [row];
        holm(&mut rows, &[chance]);
        rows[0].word
    }

    #[test]
    fn three_words_for_three_cases() {
        assert_eq!(word(1.0), Word::NonInferior);
        assert_eq!(word(1.3), Word::Worse);
        assert_eq!(word(1.10), Word::Unresolved);
    }
}
