//! The report: one document with everything, versioned.
//!
//! Invariant: `schema` changes when a reader of the old one would misread the new one. Readers ignore what they do not
//! know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::findings::{Findings, Status};
use super::plan::Plan;
use super::registry;
use super::subject::Passport;

/// The version of the document.
pub const SCHEMA: &str = "shingle-qualify/1";

/// One test's outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    pub id: String,
    pub version: u32,
    pub title: String,
    /// What passing proves.
    pub criterion: String,
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Time on the test's clock, in milliseconds: virtual on modelled drives.
    pub took_ms: f64,
    #[serde(flatten)]
    pub findings: Findings,
    /// What the drive's counters rose by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub telemetry_delta: BTreeMap<String, i64>,
}

/// The run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunHead {
    pub id: String,
    pub plan: Plan,
    pub tool: String,
    pub seed: u64,
    /// Seconds since 1970, given by the caller.
    pub started_s: u64,
    /// `virtual` or `mono`.
    pub clock: String,
    /// The command that repeats it.
    pub command: String,
}

/// Where it ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub kernel: String,
    pub cpu: String,
    pub processors: u32,
}

/// What the tests say together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// No test failed, and none is missing because the harness failed.
    pub qualified: bool,
    /// Tests that failed.
    pub blocking: Vec<String>,
    pub warnings: Vec<String>,
    /// What was not proven, with the reason.
    pub unproven: Vec<String>,
}

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub schema: String,
    pub run: RunHead,
    pub host: Host,
    pub device: Passport,
    pub tests: Vec<TestResult>,
    pub verdict: Verdict,
}

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("it is no report: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("its schema is {found}, this program reads {SCHEMA}")]
    Schema { found: String },
}

impl Report {
    /// Puts a document together.
    pub fn new(run: RunHead, host: Host, device: Passport, tests: Vec<TestResult>) -> Self {
        let verdict = Verdict::of(&tests);
        Self { schema: SCHEMA.to_owned(), run, host, device, tests, verdict }
    }

    /// Reads a document.
    pub fn parse(text: &str) -> Result<Self, ReportError> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        let found = value.get("schema").and_then(serde_json::Value::as_str).unwrap_or("absent");
        if found != SCHEMA {
            return Err(ReportError::Schema { found: found.to_owned() });
        }
        Ok(serde_json::from_value(value)?)
    }

    pub fn to_json(&self) -> Result<String, ReportError> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    pub fn test(&self, id: &str) -> Option<&TestResult> {
        self.tests.iter().find(|test| test.id == id)
    }

    /// A metric of any test.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let mut metrics = self.tests.iter().flat_map(|test| &test.findings.metrics);
        metrics.find(|metric| metric.name == name).map(|metric| metric.observed.v)
    }

    /// Tests by status.
    pub fn count(&self, status: Status) -> usize {
        self.tests.iter().filter(|test| test.status == status).count()
    }

    /// The run in a few lines of text.
    pub fn summary(&self) -> String {
        let counted: Vec<String> = STATUSES
            .iter()
            .filter(|status| self.count(**status) > 0)
            .map(|status| format!("{} {}", self.count(*status), status.name()))
            .collect();
        let word = if self.verdict.qualified { "QUALIFIED" } else { "NOT QUALIFIED" };
        let mut lines = vec![format!("{word}: {} {} ({})", self.device.model, self.device.serial, counted.join(", "))];
        for id in self.verdict.blocking.iter().chain(&self.verdict.warnings) {
            if let Some(test) = self.test(id) {
                let reason = test.reason.as_deref().unwrap_or_default();
                lines.push(format!("  {} {} {}: {reason}", test.status.name(), test.id, test.title));
            }
        }
        lines.join("\n")
    }
}

/// Every status, the most telling first.
pub const STATUSES: [Status; 6] = [Status::Fail, Status::Error, Status::Warn, Status::Pass, Status::Na, Status::Skip];

impl Verdict {
    fn of(tests: &[TestResult]) -> Self {
        let with = |status| tests.iter().filter(move |test| test.status == status);
        let ids = |status| with(status).map(|test| test.id.clone()).collect::<Vec<_>>();
        let told = |test: &TestResult| format!("{}: {}", test.id, test.reason.as_deref().unwrap_or("not run"));
        let mut unproven: Vec<String> = with(Status::Error).chain(with(Status::Skip)).map(told).collect();
        let missing = registry::all().len().saturating_sub(tests.len());
        if missing > 0 {
            unproven.push(format!("{missing} tests are not in this plan"));
        }
        let blocking = ids(Status::Fail);
        let qualified =
            blocking.is_empty() && with(Status::Error).next().is_none() && with(Status::Pass).next().is_some();
        Self { qualified, blocking, warnings: ids(Status::Warn), unproven }
    }
}
