//! Section P: how fast, and how evenly. On modelled drives these check the harness, not a drive.

mod background;
mod cohort;
mod load;
mod random;
mod rebuild;
mod sequential;
mod writes;

pub(super) use load::{Field, probe};
pub(super) use random::ACCESS_BY_RADIUS;

use super::plan::Plan;
use super::registry::{Need, Test};

pub(super) const TESTS: &[Test] = &[
    Test::new("P-01", "Sequential write profile", "no position below 70 % of its neighbours", "MACZe")
        .runs(sequential::writes),
    Test::new("P-02", "Sequential read profile", "no position below 70 % of its neighbours", "MACZe")
        .runs(sequential::reads),
    Test::new("P-03", "Random read, closed loop", "curves by size and depth", "MACZe").runs(random::closed_loop_reads),
    Test::new("P-04", "Random read, open loop", "tail at 70 % load from the intended start", "MACZe")
        .runs(random::open_loop_reads),
    Test::new("P-05", "Read under write", "read tail at half of both", "MACZe")
        .runs(random::read_under_write)
        .from(Plan::Quick),
    Test::new("P-06", "Many open zones", "no command above 1 s below the limit", "MZe").runs(writes::many_zones),
    Test::new("P-07", "Zone command latency", "by fill, idle", "MZe").runs(writes::zone_commands),
    Test::new("P-08", "Durable append", "append and flush by size", "MCZe").runs(writes::durable_append),
    Test::new("P-09", "Idle-gap penalty", "first write after a pause against streaming", "MCZe").runs(writes::idle_gap),
    Test::new("P-10", "Burst length", "rate by burst, the smallest that reaches 90 %", "MCe").runs(writes::bursts),
    Test::new("P-11", "Sustained fill", "no cliff above 20 % outside the radial model", "MACZe")
        .runs(sequential::fill)
        .from(Plan::Quick),
    Test::new("P-12", "Hidden background work", "no periodic component above 1 s", "MACZe").runs(background::periodic),
    Test::new("P-13", "Slow spots", "places that always need another turn", "MACe").runs(background::slow_spots),
    Test::new(
        "P-14",
        "Rebuild source and target",
        "a rate beside which the foreground tail is at most doubled",
        "MCZe",
    )
    .runs(rebuild::rebuild)
    .version(2),
    Test::new("P-15", "Verification share", "foreground tail by scrub share", "MCZe")
        .runs(random::verification_share)
        .from(Plan::Quick),
    Test::new("P-16", "Duration limits and priority", "limited reads' tail 30 % lower", "MCe")
        .needs(&[Need::Cdl])
        .from(Plan::Qual),
    Test::new("P-17", "Dual actuator", "together 1.8 times one", "MCe").needs(&[Need::Ranges]).from(Plan::Qual),
    Test::new("P-18", "Time to ready", "first read and report after power on", "MACZe")
        .runs(background::time_to_ready)
        .needs(&[Need::Power]),
    Test::new("P-19", "Starvation", "longest wait at most 20 times that of even reads", "MACe")
        .runs(random::starvation)
        .version(2),
    Test::new("P-20", "Cohort deviation", "no drive above the bound in 5 % of windows", "MCZE")
        .runs(cohort::deviation)
        .needs(&[Need::Cohort]),
];
