//! What a test found: criteria with observed values, metrics, curves, latencies, marks on zones.
//!
//! Invariant: a test fails by a criterion that names a number, or by a refusal that is quoted; never silently.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::statistics::Observed;
use crate::error::DeviceError;

/// Examples of a violation that are kept.
const EXAMPLES_MAX: usize = 5;

/// Why a test ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The user asked; the test is run again when the run is resumed.
    Interrupted,
    /// The drive did something that no drive may do, and the test cannot go on: it fails.
    Drive(String),
    /// The harness could not do its part: nothing is known about the drive.
    Harness(String),
    /// The drive has no such feature.
    NotApplicable(String),
    /// Not run, and why.
    Skip(String),
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Pass,
    Warn,
    Fail,
    /// The drive does not have the feature.
    Na,
    /// Not run.
    Skip,
    /// The harness failed, not the drive.
    Error,
}

impl Status {
    /// The status as reports print it; it never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Na => "na",
            Self::Skip => "skip",
            Self::Error => "error",
        }
    }
}

/// Something that must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    /// As in the plan, with the value's name: `violations == 0`.
    pub expr: String,
    pub observed: Observed,
    pub ok: bool,
    /// A violated one is a warning, not a failure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soft: bool,
    /// Examples of violations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

/// A number worth keeping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub name: String,
    pub unit: String,
    #[serde(flatten)]
    pub observed: Observed,
}

/// Points of a diagram.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    pub name: String,
    pub x: String,
    pub y: String,
    /// A logarithmic x axis.
    #[serde(default)]
    pub log_x: bool,
    pub points: Vec<[f64; 2]>,
}

/// A zone that is not as its neighbours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub zone: u32,
    pub what: String,
}

/// Behaviour that standards leave open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Variant {
    pub rule: String,
    pub behaviour: String,
}

/// Everything a test found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub criteria: Vec<Criterion>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Curve>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latencies: Vec<Latency>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
}

impl Findings {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn param(&mut self, name: &str, value: impl ToString) {
        self.params.insert(name.to_owned(), value.to_string());
    }

    pub fn metric(&mut self, name: &str, unit: &str, observed: Observed) {
        self.metrics.push(Metric { name: name.to_owned(), unit: unit.to_owned(), observed });
    }

    /// Something that must hold, with the value that was seen.
    pub fn require(&mut self, expr: &str, observed: Observed, ok: bool) {
        self.criteria.push(Criterion { expr: expr.to_owned(), observed, ok, soft: false, examples: Vec::new() });
    }

    /// Something that should hold: a warning when it does not.
    pub fn prefer(&mut self, expr: &str, observed: Observed, ok: bool) {
        self.criteria.push(Criterion { expr: expr.to_owned(), observed, ok, soft: true, examples: Vec::new() });
    }

    /// `name == 0` over everything the tally checked.
    pub fn tally(&mut self, tally: Tally) {
        let observed = Observed::failures(tally.failures, tally.checks);
        let expr = format!("{} == 0", tally.name);
        let ok = tally.failures == 0;
        self.criteria.push(Criterion { expr, observed, ok, soft: false, examples: tally.examples });
    }

    pub fn variant(&mut self, rule: &str, behaviour: &str) {
        let variant = Variant { rule: rule.to_owned(), behaviour: behaviour.to_owned() };
        if !self.variants.contains(&variant) {
            self.variants.push(variant);
        }
    }

    pub fn curve(&mut self, name: &str, x: &str, y: &str, points: Vec<[f64; 2]>) {
        let log_x = false;
        self.curves.push(Curve { name: name.to_owned(), x: x.to_owned(), y: y.to_owned(), log_x, points });
    }

    pub fn curve_log(&mut self, name: &str, x: &str, y: &str, points: Vec<[f64; 2]>) {
        self.curve(name, x, y, points);
        if let Some(curve) = self.curves.last_mut() {
            curve.log_x = true;
        }
    }

    /// The status the criteria say.
    pub fn status(&self) -> Status {
        let violated = |soft| self.criteria.iter().any(|criterion| !criterion.ok && criterion.soft == soft);
        match () {
            () if violated(false) => Status::Fail,
            () if violated(true) => Status::Warn,
            () => Status::Pass,
        }
    }

    /// The first violated criterion in words.
    pub fn reason(&self) -> Option<String> {
        let violated = self.criteria.iter().filter(|criterion| !criterion.ok).min_by_key(|criterion| criterion.soft)?;
        let example = violated.examples.first().map(|example| format!(": {example}")).unwrap_or_default();
        Some(format!("{} does not hold ({}){example}", violated.expr, violated.observed.v))
    }
}

/// Counts checks of one kind and keeps examples of those that failed.
#[derive(Clone, Debug)]
pub struct Tally {
    name: String,
    pub checks: u64,
    pub failures: u64,
    examples: Vec<String>,
}

impl Tally {
    /// `name` is what is counted: `lost_sectors`.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), checks: 0, failures: 0, examples: Vec::new() }
    }

    /// Checks something; `example` tells what was wrong.
    pub fn check(&mut self, ok: bool, example: impl FnOnce() -> String) -> bool {
        self.checks += 1;
        if !ok {
            self.failures += 1;
            if self.examples.len() < EXAMPLES_MAX {
                self.examples.push(example());
            }
        }
        ok
    }

    /// Checks that a command was refused with one of these classes.
    pub fn refused<T: std::fmt::Debug>(
        &mut self,
        answer: &Result<T, DeviceError>,
        classes: &[&str],
        what: &str,
    ) -> bool {
        let found = answer.as_ref().err().map(DeviceError::class);
        self.check(found.is_some_and(|class| classes.contains(&class)), || match answer {
            Ok(_) => format!("{what}: accepted, should be refused as {}", classes.join(" or ")),
            Err(error) => format!("{what}: refused as {} instead of {}", error.class(), classes.join(" or ")),
        })
    }

    /// Checks that a command was accepted.
    pub fn accepted<T>(&mut self, answer: &Result<T, DeviceError>, what: &str) -> bool {
        self.check(answer.is_ok(), || match answer {
            Err(error) => format!("{what}: refused: {error}"),
            Ok(_) => String::new(),
        })
    }
}
