//! One fuzzer: draws, mutates, seals, decodes, and keeps what led somewhere new.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::memory::asked_bytes;
use super::mutate::mutate;
use super::targets::Target;

/// No decoder needs so long for some kilobytes, however busy the machine is.
const SLOW: Duration = Duration::from_secs(5);
/// A value and its proof that it comes back the same: a few copies of the input.
const ALLOCATED_PER_BYTE_MAX: u64 = 64;
const ALLOCATED_MIN: u64 = 1 << 20;

/// When to stop, whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub time: Duration,
    pub cases: u64,
}

/// What was tried.
#[derive(Debug, Default)]
pub struct Report {
    pub cases: u64,
    /// Different outcomes of decoding.
    pub outcomes: BTreeSet<String>,
    /// The first input that broke a promise: its number, what it broke, and its bytes.
    pub failure: Option<(u64, String, Vec<u8>)>,
}

/// Fuzzes one target until the bounds or the first failure.
pub fn fuzz(target: &Target, seed: u64, bounds: Bounds) -> Report {
    let start = Instant::now();
    let mut draw = StdRng::seed_from_u64(seed);
    let mut corpus = (target.seeds)();
    let mut report = Report::default();
    for input in &corpus {
        attempt(target, input, &mut report);
    }
    while report.failure.is_none() && report.cases < bounds.cases && start.elapsed() < bounds.time {
        let mut input = corpus.choose(&mut draw).cloned().unwrap_or_default();
        mutate(&mut input, &corpus, &mut draw);
        if draw.random() {
            (target.seal)(&mut input);
        }
        if attempt(target, &input, &mut report) {
            corpus.push(input);
        }
    }
    report
}

/// Decodes one input; whether its outcome is new.
fn attempt(target: &Target, input: &[u8], report: &mut Report) -> bool {
    report.cases += 1;
    let (before, start) = (asked_bytes(), Instant::now());
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.decode)(input)));
    let (asked, took) = (asked_bytes() - before, start.elapsed());
    let allowed = ALLOCATED_MIN + ALLOCATED_PER_BYTE_MAX * input.len() as u64;
    let wrong = match &outcome {
        Err(panic) => Some(format!("panic: {}", crate::crash::pool::message(&**panic))),
        Ok(_) if asked > allowed => Some(format!("asked for {asked} bytes of memory for {} of input", input.len())),
        Ok(_) if took > SLOW => Some(format!("took {took:?} for {} bytes", input.len())),
        Ok(_) => None,
    };
    if let Some(wrong) = wrong {
        report.failure = Some((report.cases, wrong, input.to_vec()));
    }
    // Numbers in an outcome are the input's, not the path's.
    outcome.is_ok_and(|outcome| report.outcomes.insert(outcome.replace(|c: char| c.is_ascii_digit(), "")))
}
