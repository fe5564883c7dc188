//! Section C: rules, limits, discovery.

mod discovery;
mod limits;
mod random;
mod rules;
mod whole;

pub(super) use discovery::malformed;

use super::plan::Plan;
use super::registry::{Need, Test};

pub(super) const TESTS: &[Test] = &[
    Test::new("C-01", "Device passport", "all views agree", "MACZE")
        .runs(discovery::passport)
        .from(Plan::Smoke)
        .harmless(),
    Test::new("C-02", "Zone reports", "contiguous, complete, the same however asked for", "MAZE")
        .runs(discovery::reports)
        .from(Plan::Smoke),
    Test::new("C-03", "State machine", "every state and command as the reference model", "MAZE")
        .runs(rules::state_machine)
        .from(Plan::Smoke),
    Test::new("C-04", "Error classes", "every illegal command refused with its class", "MAZE")
        .runs(rules::error_classes)
        .from(Plan::Smoke),
    Test::new("C-05", "Open and active limits", "never more open or active; the right zone refused", "MZE")
        .runs(limits::limits)
        .needs(&[Need::Limits])
        .from(Plan::Smoke),
    Test::new("C-06", "Random commands against the model", "no divergence of state, pointer, status, data", "MAZE")
        .runs(random::model_based),
    Test::new("C-07", "Alignment", "refused without a trace", "MACZE").runs(rules::alignment),
    Test::new("C-08", "Reads above the write pointer", "never old data", "MAZE").runs(rules::reads_above),
    Test::new("C-09", "Flush contract", "order legal, nothing flushed is lost", "MACZE").runs(rules::flush_contract),
    Test::new("C-10", "Concurrent appends", "dense, disjoint, inside the zone", "ZE").runs(limits::concurrent_appends),
    Test::new("C-11", "ZRWA, descriptors, recommendations", "per specification", "ZE").needs(&[Need::Zrwa]),
    Test::new("C-12", "Path triangulation", "names the guilty layer", "MAZ").needs(&[Need::Paths]).from(Plan::Qual),
    Test::new("C-13", "Firmware update", "data and pointers kept, back within 30 s", "MCZe")
        .needs(&[Need::FirmwareFile])
        .from(Plan::Qual),
    Test::new("C-14", "Sanitize", "all zones empty, no old data", "MCZE")
        .runs(whole::sanitize)
        .needs(&[Need::Sanitize]),
    Test::new("C-15", "Command duration limits", "policies as described", "MCe").needs(&[Need::Cdl]).from(Plan::Qual),
    Test::new("C-16", "Concurrent ranges", "disjoint and complete", "MCE").runs(whole::ranges).needs(&[Need::Ranges]),
    Test::new("C-17", "Elements", "every zone has one head", "MCE").runs(whole::elements).needs(&[Need::Heads]),
    Test::new("C-18", "Whole-drive zone operations", "right end state, reads never fail", "MZE")
        .runs(whole::whole_drive),
    Test::new("C-19", "Counter reconciliation", "device and host count the same", "MZE")
        .runs(whole::counters)
        .needs(&[Need::Telemetry]),
    Test::new("C-20", "Aborted commands", "the pointer is a prefix, no hole", "MACZE").runs(limits::aborts),
];
