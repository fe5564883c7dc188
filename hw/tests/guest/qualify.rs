//! The rules of the qualification suite on real kernel drives: nothing fails there, and nothing is unknown.

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use shingle_hw::qualify::findings::Status;
use shingle_hw::qualify::plan::Plan;
use shingle_hw::qualify::real_clock::RealClock;
use shingle_hw::qualify::run::{self, Event, Options};
use shingle_hw::qualify::subject::{DeviceKind, Passport, Subject};

use crate::claims::Shared::{Smr, Zns4096};
use crate::claims::claim;
use crate::conforming::open;
use crate::devices::{scsi_debug, zns_block, zns_generic};
use crate::rig::new_ring;

/// Sections that judge rules; speed in the guest says nothing.
const RULES: [&str; 7] = ["C-01", "C-02", "C-03", "C-04", "C-05", "C-07", "C-08"];
/// And data. It writes the whole drive, which is for small ones.
const DATA: &str = "D-02";

fn qualifies(node: &Path, kind: DeviceKind, sections: &[&str]) {
    let since = Instant::now();
    let ring = new_ring();
    let device = open(node, Rc::clone(&ring));
    let passport = Passport::of(&*device, kind, "guest");
    let subject = Subject::bare(device, Rc::new(RealClock::new(ring)), passport);
    let only = sections.iter().copied().map(str::to_owned).collect();
    let options = Options { destructive: true, only, ..Options::new(Plan::Ci, 1) };
    let outcome = run::run(&subject, &options, &mut |event| {
        if let Event::Finished { result, .. } = event {
            println!("    {} {:?}, after {} ms", result.id, result.status, since.elapsed().as_millis());
        }
        true
    });
    for result in &outcome.results {
        let known = matches!(result.status, Status::Pass | Status::Warn | Status::Na);
        assert!(known, "{}: {} {:?}", node.display(), result.id, result.reason);
    }
    assert!(outcome.results.iter().filter(|result| result.status == Status::Pass).count() >= 5);
    println!("    {}: {} tests, {} ms", node.display(), outcome.results.len(), since.elapsed().as_millis());
}

#[test]
fn a_zoned_namespace_keeps_the_rules_by_block_layer_and_by_passthrough() {
    let _claim = claim(&[Zns4096]);
    let sections = [&RULES[..], &[DATA]].concat();
    qualifies(&zns_block("zns-4096"), DeviceKind::Zns, &sections);
    qualifies(&zns_generic("zns-4096"), DeviceKind::Zns, &sections);
}

#[test]
fn an_smr_disk_of_the_kernel_keeps_the_rules() {
    let _claim = claim(&[Smr]);
    qualifies(&scsi_debug(), DeviceKind::SmrHm, &RULES);
}
