//! The registry: every test of the plan, run or not, with what it needs and what it would prove.
//!
//! Invariant: a test that cannot run says why; it is never left out.

use super::bench::Bench;
use super::findings::{Findings, Halt, Status};
use super::plan::Plan;
use super::subject::Subject;

/// A test's body.
pub type Run = fn(&Bench) -> Result<Findings, Halt>;

/// What a test needs besides a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The device reports a limit of open zones.
    Limits,
    Power,
    Injector,
    Heads,
    Ranges,
    Sanitize,
    Telemetry,
    /// Zone random write area.
    Zrwa,
    Cdl,
    /// More than one way to the device.
    Paths,
    FirmwareFile,
    PowerConditions,
    /// Days or months.
    Calendar,
    /// An emulated cohort, or eight drives.
    Cohort,
    Meter,
    Chamber,
    Chassis,
}

/// One test.
pub struct Test {
    pub id: &'static str,
    /// Raised when results stop being comparable.
    pub version: u32,
    pub title: &'static str,
    /// What passing proves.
    pub criterion: &'static str,
    pub destructive: bool,
    pub needs: &'static [Need],
    /// Kinds of drives: M SMR host-managed, A host-aware, C CMR, Z ZNS, E emulated, e emulated as a check of the
    /// harness only.
    pub applies: &'static str,
    /// The smallest plan that has it; it is in all larger ones.
    pub plan: Plan,
    /// Absent: present in the plan, and not run by this version.
    pub run: Option<Run>,
}

impl Test {
    /// A test of every plan from `ci` on; the setters below change that.
    pub const fn new(id: &'static str, title: &'static str, criterion: &'static str, applies: &'static str) -> Self {
        let (needs, plan) = (&[] as &[Need], Plan::Ci);
        Self { id, version: 1, title, criterion, destructive: true, needs, applies, plan, run: None }
    }

    pub const fn runs(mut self, run: Run) -> Self {
        self.run = Some(run);
        self
    }

    pub const fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    pub const fn from(mut self, plan: Plan) -> Self {
        self.plan = plan;
        self
    }

    /// Its results are not comparable with those of the versions before.
    pub const fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// It only looks.
    pub const fn harmless(mut self) -> Self {
        self.destructive = false;
        self
    }

    /// Its section: the letter in front.
    pub fn section(&self) -> &'static str {
        self.id.get(..1).unwrap_or_default()
    }

    /// Whether a plan has it.
    pub fn is_in(&self, plan: Plan) -> bool {
        plan >= self.plan
    }

    /// Why it cannot run on a device; `None` when it can.
    pub fn obstacle(&self, subject: &Subject) -> Option<(Status, String)> {
        let missing = self.needs.iter().find_map(|need| need.missing(subject));
        let unwritten = || (Status::Skip, "not run by this version".to_owned());
        missing.or_else(|| self.run.is_none().then(unwritten))
    }
}

impl Need {
    /// The status and the reason when a device does not have it.
    pub fn missing(self, subject: &Subject) -> Option<(Status, String)> {
        let feature = |name: &str| subject.passport.features.iter().any(|feature| feature == name);
        let (present, status, reason) = match self {
            Self::Limits => {
                (subject.passport.geometry.open_zones_max > 0, Status::Na, "the device reports no limit of open zones")
            }
            Self::Power => (subject.power.is_some(), Status::Skip, "no power relay"),
            Self::Injector => (subject.injector.is_some(), Status::Skip, "no fault injector"),
            Self::Heads => (subject.elements.is_some(), Status::Na, "the device does not report its heads"),
            Self::Ranges => (feature("ranges"), Status::Na, "the device has one actuator"),
            Self::Sanitize => (subject.sanitizer.is_some(), Status::Na, "no sanitize command is known for the device"),
            Self::Telemetry => (subject.telemetry.is_some(), Status::Na, "no counters are known for the device"),
            Self::Zrwa => (feature("zrwa"), Status::Na, "the device has no zone random write area"),
            Self::Cdl => (feature("cdl"), Status::Na, "the device has no command duration limits"),
            Self::Paths => (feature("paths"), Status::Skip, "one path to the device"),
            Self::FirmwareFile => (feature("firmware-file"), Status::Skip, "no firmware file"),
            Self::PowerConditions => (feature("epc"), Status::Na, "the device has no power conditions"),
            Self::Calendar => (subject.virtual_time, Status::Skip, "takes days: run the soak plan"),
            Self::Cohort => (subject.cohort.is_some(), Status::Skip, "fewer than 8 drives"),
            Self::Meter => (feature("meter"), Status::Skip, "no power meter"),
            Self::Chamber => (feature("chamber"), Status::Skip, "no climate chamber"),
            Self::Chassis => (feature("chassis"), Status::Skip, "no chassis with other drives"),
        };
        (!present).then(|| (status, reason.to_owned()))
    }
}

/// All 88 tests in the order of the plan.
pub fn all() -> Vec<&'static Test> {
    let sections: [&'static [Test]; 6] = [
        super::conformance::TESTS,
        super::integrity::TESTS,
        super::performance::TESTS,
        super::endurance::TESTS,
        super::faults::TESTS,
        super::environment::TESTS,
    ];
    sections.into_iter().flatten().collect()
}

/// Names of the sections.
pub const SECTIONS: [(&str, &str); 9] = [
    ("C", "conformance and discovery"),
    ("D", "data integrity"),
    ("P", "performance"),
    ("E", "endurance and drift"),
    ("F", "faults"),
    ("W", "power"),
    ("V", "environment"),
    ("S", "system"),
    ("T", "telemetry"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_registry_is_the_plan() {
        let tests = all();
        let count = |section: &str| tests.iter().filter(|test| test.section() == section).count();
        let counts: Vec<usize> = SECTIONS.iter().map(|(section, _)| count(section)).collect();
        assert_eq!(counts, [20, 8, 20, 7, 16, 6, 4, 4, 3]);
        let ids: BTreeSet<&str> = tests.iter().map(|test| test.id).collect();
        assert_eq!((tests.len(), ids.len()), (88, 88));
    }

    #[test]
    fn every_test_that_means_something_on_an_emulated_drive_runs() {
        let meaningful: Vec<_> = all().into_iter().filter(|test| test.applies.contains('E')).collect();
        let missing: Vec<&str> =
            meaningful.iter().filter(|test| test.run.is_none() && test.id != "C-11").map(|test| test.id).collect();
        // C-11 is about a feature that no emulated drive has; it answers `na`.
        assert_eq!((meaningful.len(), missing), (44, Vec::<&str>::new()));
    }
}
