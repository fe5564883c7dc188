//! Runs a plan: test after test, each from a tidy device, each with its telemetry, interruptible between and within.
//!
//! Invariants: a test that was not run says why; a run that was interrupted goes on where it was; nothing destructive
//! runs unless the caller said that it may.

use std::collections::BTreeMap;

use super::bench::Bench;
use super::findings::{Findings, Halt, Status};
use super::plan::Plan;
use super::registry::{self, Test};
use super::report::TestResult;
use super::subject::Subject;
use crate::zone::{ZoneCondition, ZoneId};

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub plan: Plan,
    pub seed: u64,
    /// Data on the device may be destroyed.
    pub destructive: bool,
    /// Only tests whose id starts with one of these; empty: all of the plan.
    pub only: Vec<String>,
    /// Results of an earlier part of this run: these tests are not run again.
    pub done: Vec<TestResult>,
    /// End at the first failure.
    pub fail_fast: bool,
}

impl Options {
    pub fn new(plan: Plan, seed: u64) -> Self {
        Self { plan, seed, destructive: false, only: Vec::new(), done: Vec::new(), fail_fast: false }
    }

    fn wants(&self, test: &Test) -> bool {
        let named = self.only.is_empty() || self.only.iter().any(|prefix| test.id.starts_with(prefix.as_str()));
        named && test.is_in(self.plan)
    }
}

/// What happens in a run.
pub enum Event<'a> {
    Started {
        index: usize,
        total: usize,
        test: &'a Test,
    },
    /// How far the test is, from 0 to 1.
    Progress {
        index: usize,
        total: usize,
        fraction: f64,
    },
    Finished {
        index: usize,
        total: usize,
        result: &'a TestResult,
    },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub results: Vec<TestResult>,
    /// Stopped before its end; the results so far are `done` of the next part.
    pub interrupted: bool,
}

/// Runs a plan. The observer is told of every event; when it answers false the run stops as soon as it can.
pub fn run(subject: &Subject, options: &Options, observer: &mut dyn FnMut(&Event) -> bool) -> Outcome {
    let tests: Vec<&Test> = registry::all().into_iter().filter(|test| options.wants(test)).collect();
    let total = tests.len();
    let mut results = Vec::new();
    if options.destructive
        && options.done.is_empty()
        && let Err(halt) = empty_zones(subject)
    {
        tracing::warn!(?halt, "the device was not emptied before the tests");
    }
    for (index, test) in tests.into_iter().enumerate() {
        if let Some(done) = options.done.iter().find(|done| done.id == test.id) {
            results.push(done.clone());
            continue;
        }
        if !observer(&Event::Started { index, total, test }) {
            return Outcome { results, interrupted: true };
        }
        let result =
            run_test(subject, options, test, &mut |fraction| observer(&Event::Progress { index, total, fraction }));
        let Some(result) = result else { return Outcome { results, interrupted: true } };
        let go_on = observer(&Event::Finished { index, total, result: &result });
        let failed = matches!(result.status, Status::Fail | Status::Error);
        results.push(result);
        if !go_on || (options.fail_fast && failed) {
            return Outcome { results, interrupted: !go_on };
        }
    }
    Outcome { results, interrupted: false }
}

/// One test; nothing when the user stopped it.
fn run_test(
    subject: &Subject,
    options: &Options,
    test: &Test,
    tick: &mut dyn FnMut(f64) -> bool,
) -> Option<TestResult> {
    let began_ns = subject.driver.now_ns();
    let before = counters(subject);
    let (status, reason, findings) = match test.obstacle(subject) {
        Some((status, reason)) => (status, Some(reason), Findings::new()),
        None if test.destructive && !options.destructive => {
            (Status::Skip, Some("destroys data, which was not allowed".to_owned()), Findings::new())
        }
        None => {
            let seed = options.seed ^ seed_of(test.id);
            let bench = Bench::new(subject, options.plan.scale(), seed, Box::new(tick));
            let outcome = test.run.map_or(Err(Halt::Skip("not run by this version".to_owned())), |run| run(&bench));
            bench.renew();
            let tidied = bench.tidy();
            judge(outcome, tidied)?
        }
    };
    Some(TestResult {
        id: test.id.to_owned(),
        version: test.version,
        title: test.title.to_owned(),
        criterion: test.criterion.to_owned(),
        status,
        reason,
        took_ms: (subject.driver.now_ns() - began_ns) as f64 / 1e6,
        findings,
        telemetry_delta: delta(&before, &counters(subject)),
    })
}

type Judged = (Status, Option<String>, Findings);

/// The status of what a test returned; nothing when it was interrupted.
fn judge(outcome: Result<Findings, Halt>, tidied: Result<(), Halt>) -> Option<Judged> {
    let stopped = |status, reason| Some((status, Some(reason), Findings::new()));
    match (outcome, tidied) {
        (Err(Halt::Interrupted), _) => None,
        (Err(Halt::Drive(reason)), _) => stopped(Status::Fail, reason),
        (Err(Halt::Harness(reason)), _) => stopped(Status::Error, reason),
        (Err(Halt::NotApplicable(reason)), _) => stopped(Status::Na, reason),
        (Err(Halt::Skip(reason)), _) => stopped(Status::Skip, reason),
        (Ok(findings), Err(Halt::Drive(reason))) => {
            Some((Status::Fail, Some(format!("after the test: {reason}")), findings))
        }
        (Ok(findings), _) => Some((findings.status(), findings.reason(), findings)),
    }
}

fn seed_of(id: &str) -> u64 {
    id.bytes().fold(0, |seed, byte| seed * 131 + u64::from(byte))
}

fn counters(subject: &Subject) -> BTreeMap<String, u64> {
    subject.telemetry.as_deref().map(super::subject::Telemetry::counters).unwrap_or_default()
}

fn delta(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, i64> {
    let changed = after.iter().map(|(name, value)| {
        let old = before.get(name).copied().unwrap_or(0);
        (name.clone(), i64::try_from(i128::from(*value) - i128::from(old)).unwrap_or(i64::MAX))
    });
    changed.filter(|(_, delta)| *delta != 0).collect()
}

/// Resets every sequential zone that is not empty, so that no test meets the leftovers of another user.
fn empty_zones(subject: &Subject) -> Result<(), Halt> {
    let bench = Bench::new(subject, Plan::Smoke.scale(), 0, Box::new(|_| true));
    let lines = bench.report(ZoneId(0), u32::MAX)?;
    for line in bench.must(lines, "a report")? {
        let leftover = matches!(
            line.condition,
            ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed | ZoneCondition::Full
        );
        if leftover {
            let answer = bench.reset(line.id)?;
            bench.must(answer, "a reset")?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
