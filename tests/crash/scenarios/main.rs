//! Crash states in continuous integration: the proof that a device or a host that lies is found out.

use shingle_tests::crash::run::{Options, run};
use shingle_tests::crash::scripts::{SCRIPTS, Script};
use shingle_tests::crash::stage::Lie;

/// Images that are checked here, about; the command checks all.
const LIMIT: u64 = 400;

fn options(lie: Lie) -> Options {
    Options { seed: 1, limit: Some(LIMIT), image: None, threads: 2, lie }
}

fn script(name: &str) -> &'static Script {
    SCRIPTS.iter().find(|script| script.name == name).expect("a script of this name")
}

#[test]
fn flush_that_does_nothing_is_found_out() {
    let violations = run(script("life"), &options(Lie::FlushesDoNothing)).violations;
    assert!(violations.iter().any(|(found, _)| found.what.contains("was acknowledged and is gone")));
}

#[test]
fn acknowledgement_before_the_flush_is_found_out() {
    let violations = run(script("label"), &options(Lie::AcknowledgedEarly)).violations;
    assert!(violations.iter().any(|(found, _)| found.what.contains("was acknowledged and is gone")));
}
