//! The runner on a sound modelled drive: everything passes, the same way every time; stops and goes on.

use super::*;
use crate::model::profile::DriveProfile;

fn sound(seed: u64) -> Subject {
    Subject::modelled(&DriveProfile::built_in("ci").expect("exists"), seed, crate::qualify::subject::sound)
}

fn options(plan: Plan) -> Options {
    Options { destructive: true, ..Options::new(plan, 1) }
}

#[test]
fn a_sound_drive_passes_the_ci_plan() {
    let outcome = run(&sound(1), &options(Plan::Ci), &mut |event| {
        if let Event::Finished { result, .. } = event {
            let reason = result.reason.as_deref().unwrap_or_default();
            println!("{:6} {:5} {:9.0} ms {} {reason}", result.id, result.status.name(), result.took_ms, result.title);
        }
        true
    });
    let bad: Vec<&TestResult> =
        outcome.results.iter().filter(|result| !matches!(result.status, Status::Pass | Status::Na)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(outcome.results.len() > 50, "{}", outcome.results.len());
}

#[test]
fn the_same_seed_gives_the_same_report() {
    let smoke = || run(&sound(7), &options(Plan::Smoke), &mut |_| true).results;
    assert_eq!(smoke(), smoke());
}

#[test]
fn an_interrupted_run_goes_on_where_it_was() {
    let subject = sound(3);
    let mut left = 4;
    let first = run(&subject, &options(Plan::Smoke), &mut |event| {
        if matches!(event, Event::Finished { .. }) {
            left -= 1;
        }
        left > 0
    });
    assert!(first.interrupted && first.results.len() == 4);
    let rest = Options { done: first.results.clone(), ..options(Plan::Smoke) };
    let mut ran = 0;
    let second = run(&subject, &rest, &mut |event| {
        ran += u32::from(matches!(event, Event::Started { .. }));
        true
    });
    assert_eq!(second.results[..4], first.results[..]);
    assert_eq!(second.results.len(), 4 + ran as usize);
    assert!(!second.interrupted);
}

#[test]
fn nothing_destructive_runs_unless_allowed() {
    let subject = sound(4);
    let outcome = run(&subject, &Options::new(Plan::Ci, 1), &mut |_| true);
    let ran: Vec<&str> = outcome
        .results
        .iter()
        .filter(|result| result.status == Status::Pass)
        .map(|result| result.id.as_str())
        .collect();
    assert_eq!(ran, ["C-01", "E-05"]);
    let written = subject.telemetry.as_ref().expect("counts").counters().get("written_bytes").copied();
    assert_eq!(written.unwrap_or(0), 0);
}
