//! Section F: what a drive does when something breaks, and what a host can rely on then.

mod cuts;
mod media;
mod zones;

use super::plan::Plan;
use super::registry::{Need, Test};

pub(super) const TESTS: &[Test] = &[
    Test::new("F-01", "Power cut in appends", "what was flushed is there, readable up to the pointer", "MACZE")
        .runs(cuts::appends)
        .needs(&[Need::Power])
        .from(Plan::Smoke),
    Test::new("F-02", "Power cut in zone commands", "each zone in the old or the new state", "MZE")
        .runs(cuts::zone_commands)
        .needs(&[Need::Power]),
    Test::new("F-03", "Power cut in firmware update or sanitize", "the drive comes back", "MCZe")
        .needs(&[Need::FirmwareFile])
        .from(Plan::Qual),
    Test::new("F-04", "Unreadable sector", "right class and place, neighbours fine", "MACZE")
        .runs(media::unreadable)
        .needs(&[Need::Injector]),
    Test::new("F-05", "Write error in a zone", "no hole, no double data after going on", "MZE")
        .runs(media::write_error)
        .needs(&[Need::Injector]),
    Test::new("F-06", "Zone turns read-only", "reads go on, writes are refused, limits are right", "MZE")
        .runs(zones::read_only)
        .needs(&[Need::Injector]),
    Test::new("F-07", "Zone turns offline", "exactly that zone is lost", "MZE")
        .runs(zones::offline)
        .needs(&[Need::Injector]),
    Test::new("F-08", "Data-preserving head removal", "only that head's zones go", "ME")
        .runs(zones::head_removal)
        .needs(&[Need::Heads, Need::Injector]),
    Test::new("F-09", "Link reset under load", "no acknowledged write lost", "MCZe")
        .needs(&[Need::Chassis])
        .from(Plan::Qual),
    Test::new("F-10", "Unplug and replug", "the same drive, pointers reconciled", "MCZE")
        .runs(cuts::unplug)
        .needs(&[Need::Injector, Need::Power]),
    Test::new("F-11", "Stuck command", "others are not held up", "MCZE").runs(media::stuck).needs(&[Need::Injector]),
    Test::new("F-12", "Link errors", "retried, counted, no corruption", "MCe").needs(&[Need::Chassis]).from(Plan::Qual),
    Test::new("F-13", "Pointers the host believed in", "the device's pointer is adopted, torn tails dropped", "MZE")
        .runs(cuts::divergence)
        .needs(&[Need::Power]),
    Test::new("F-14", "Lying flush (negative control)", "the power-cut test fails such a drive", "E")
        .runs(cuts::lying_flush)
        .needs(&[Need::Injector, Need::Power]),
    Test::new("F-15", "Lying reports (negative control)", "every lie is noticed", "E").runs(zones::lying_reports),
    Test::new("F-16", "Starved of open zones", "a clear refusal, recovery when freed", "MZE")
        .runs(zones::starvation)
        .needs(&[Need::Limits]),
];
