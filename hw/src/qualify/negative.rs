//! Negative controls: the `ci` plan against planted bugs. What it does not fail, it does not test.
//!
//! Invariant: a control counts as caught only when a test failed on it, and only if the same tests pass on the sound
//! drive.

use serde::Serialize;

use super::findings::Status;
use super::plan::Plan;
use super::planted::{self, Bug};
use super::run::{self, Options};
use super::subject::{self, Subject};
use crate::model::profile::DriveProfile;

/// Tests that must catch bugs. Of performance only what decides whether a drive can be used at all: the rest judges speed.
const SECTIONS: [&str; 6] = ["C", "D", "P-14", "F", "T", "E-03"];

/// One planted bug and who caught it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Control {
    pub bug: String,
    pub what: &'static str,
    /// The first test that failed, and why.
    pub caught_by: Option<String>,
    pub reason: Option<String>,
}

/// The outcome of all controls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Controls {
    /// Tests that failed on the sound drive: none, or nothing here means anything.
    pub false_alarms: Vec<String>,
    pub controls: Vec<Control>,
}

impl Controls {
    pub fn caught(&self) -> usize {
        self.controls.iter().filter(|control| control.caught_by.is_some()).count()
    }

    /// Every bug was caught, and the sound drive passed.
    pub fn hold(&self) -> bool {
        self.false_alarms.is_empty() && self.caught() == self.controls.len()
    }

    /// `caught N of M`.
    pub fn summary(&self) -> String {
        format!("caught {} of {}", self.caught(), self.controls.len())
    }
}

/// Runs every control; the observer sees each as it ends.
pub fn run_controls(seed: u64, observer: &mut dyn FnMut(&Control)) -> Controls {
    let profile = DriveProfile::built_in("ci").unwrap_or_default();
    let sound = Subject::modelled(&profile, seed, subject::sound);
    let false_alarms = failures(&sound, seed, false).into_iter().map(|(id, _)| id).collect();
    let mut controls = Vec::new();
    for (bug, what) in Bug::ALL {
        let caught = failures(&planted::subject(bug, &profile, seed), seed, true).into_iter().next();
        let (caught_by, reason) = caught.map_or((None, None), |(id, reason)| (Some(id), Some(reason)));
        let control = Control { bug: bug.name(), what, caught_by, reason };
        observer(&control);
        controls.push(control);
    }
    Controls { false_alarms, controls }
}

fn failures(subject: &Subject, seed: u64, fail_fast: bool) -> Vec<(String, String)> {
    let only = SECTIONS.iter().map(|section| (*section).to_owned()).collect();
    let options = Options { destructive: true, only, fail_fast, ..Options::new(Plan::Ci, seed) };
    let outcome = run::run(subject, &options, &mut |_| true);
    let failed = outcome.results.into_iter().filter(|result| matches!(result.status, Status::Fail | Status::Error));
    failed.map(|result| (result.id, result.reason.unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ci_plan_catches_every_planted_bug() {
        let controls = run_controls(1, &mut |control| {
            let caught = control.caught_by.as_deref().unwrap_or("MISSED");
            println!("{caught:7} {:20} {}", control.bug, control.reason.as_deref().unwrap_or(control.what));
        });
        assert!(controls.hold(), "{}: {controls:#?}", controls.summary());
        assert!(controls.controls.len() >= 20);
        let caught_by = |bug: Bug| {
            let control = controls.controls.iter().find(|control| control.bug == bug.name()).expect("is there");
            control.caught_by.clone().expect("caught")
        };
        assert_eq!([Bug::WeakAfterPause, Bug::StreamsFirst].map(caught_by), ["D-06", "P-14"]);
    }
}
