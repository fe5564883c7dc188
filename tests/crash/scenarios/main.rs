//! Crash states in continuous integration: every script, every boundary, every class of images, one image in some; and
//! the proof that a device or a host that lies is found out.

use shingle_tests::crash::run::{Options, Outcome, run};
use shingle_tests::crash::scripts::{SCRIPTS, Script};
use shingle_tests::crash::stage::Lie;
use shingle_tests::crash::table::Table;

/// Images of each script that are checked here, about; the command checks all.
const LIMIT: u64 = 1000;

fn options(lie: Lie) -> Options {
    Options { seed: 1, limit: Some(LIMIT), image: None, threads: 2, lie }
}

fn script(name: &str) -> &'static Script {
    SCRIPTS.iter().find(|script| script.name == name).expect("a script of this name")
}

#[test]
fn every_promise_holds_in_a_part_of_all_crash_states() {
    let mut table = Table::default();
    for script in SCRIPTS {
        let Outcome { images, distinct, checked, table: own, violations } = run(script, &options(Lie::None));
        println!("{:18} images {images}, distinct {}, checked here {checked}", script.name, distinct.len());
        assert!(violations.is_empty(), "{}: {} violations: {:#?}", script.name, violations.len(), violations.first());
        table.add(&own);
    }
    println!("{}", table.print());
    assert_eq!(table.empty(), Vec::<String>::new(), "boundaries x variants that no script covers");
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
