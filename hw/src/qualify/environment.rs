//! Sections W, V, S and T: power, chassis, the system around the drive, telemetry.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bench::{Bench, Crowd};
use super::findings::{Findings, Halt, Tally};
use super::latency::Series;
use super::plan::Plan;
use super::registry::{Need, Test};
use super::statistics::Observed;

pub(super) const TESTS: &[Test] = &[
    Test::new("W-01", "Watts and watts per terabyte", "table with intervals", "MCZe")
        .needs(&[Need::Meter])
        .from(Plan::Qual),
    Test::new("W-02", "Energy per work", "at most 3 % above the baseline", "MCZe")
        .needs(&[Need::Meter])
        .from(Plan::Qual),
    Test::new("W-03", "Spin-up", "as the data sheet", "MC").needs(&[Need::Meter]).from(Plan::Qual),
    Test::new("W-04", "Power conditions", "wake latency, load cycles in budget", "MCe")
        .needs(&[Need::PowerConditions])
        .from(Plan::Qual),
    Test::new("W-05", "Write surcharge", "reported", "MC").needs(&[Need::Meter]).from(Plan::Qual),
    Test::new("W-06", "Emergency power-off", "claimed cache is safe", "MCZe").needs(&[Need::Meter]).from(Plan::Qual),
    Test::new("V-01", "Temperature", "no error, tail within 10 %", "MCZ").needs(&[Need::Chamber]).from(Plan::Qual),
    Test::new("V-02", "Fans and sound", "writes lose at most 5 %", "MC").needs(&[Need::Chassis]).from(Plan::Qual),
    Test::new("V-03", "Neighbours seeking", "loss at most 5 %", "MC").needs(&[Need::Chassis]).from(Plan::Qual),
    Test::new("V-04", "Slots", "slots differ less than drives", "MC").needs(&[Need::Chassis]).from(Plan::Qual),
    Test::new("S-01", "Topology fairness", "slowest at least 95 % of the fastest", "MCZe")
        .needs(&[Need::Chassis])
        .from(Plan::Qual),
    Test::new("S-02", "All at once", "all ready in time", "MC").needs(&[Need::Chassis]).from(Plan::Qual),
    Test::new("S-03", "Loss of a path", "recovers, nothing acknowledged lost", "MCe")
        .needs(&[Need::Chassis])
        .from(Plan::Qual),
    Test::new("S-04", "Replay of a store", "durable appends and reads as a store sends them", "MCZE").runs(replay),
    Test::new("T-01", "Telemetry delta", "no error counter rises", "MACZE")
        .runs(error_counters)
        .needs(&[Need::Telemetry])
        .from(Plan::Smoke),
    Test::new("T-02", "Covariates", "the host was not the bottleneck", "MACZE").runs(covariates).from(Plan::Smoke),
    Test::new("T-03", "Counter sanity", "monotone, also over a power cycle", "MCZE")
        .runs(counter_sanity)
        .needs(&[Need::Telemetry])
        .from(Plan::Smoke),
];

/// S-04: streams of records, one flush for the records in hand, reads of what was written, all at once: the pattern of a
/// store without its code. The seed is the trace.
fn replay(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("damaged_sectors");
    let (mut puts, mut gets) = (Series::new("durable batch"), Series::new("read of a record"));
    let streams = bench.open_limit().min(4);
    let mut zones: Vec<_> = bench.fresh(streams)?.into_iter().map(|zone| (zone, 0u64)).collect();
    let rounds = bench.scale.samples / 4;
    for round in 0..rounds {
        if round % 64 == 0 {
            bench.tick(round, rounds)?;
        }
        let start_ns = bench.now_ns();
        let mut crowd = Crowd::default();
        for (zone, at) in &mut zones {
            let bytes = bench
                .transfer(((1 + bench.below(16)) * 64) << 10)
                .min(bench.capacity() / 4 / bench.sector() * bench.sector());
            if *at + bytes > bench.capacity() {
                let answer = bench.reset(*zone)?;
                bench.must(answer, "a reset")?;
                *at = 0;
            }
            crowd.push(bench.start_append(*zone, *at, bytes));
            *at += bytes;
        }
        while let Some((_, answer)) = bench.next(&mut crowd)? {
            bench.must(answer, "an append")?;
        }
        let answer = bench.flush()?;
        bench.must(answer, "a flush")?;
        puts.record(start_ns, bench.now_ns() - start_ns);
        let (zone, written) = zones[bench.below(zones.len() as u64) as usize];
        let bytes = bench.transfer((64 << 10u64).min(written));
        let place = bench.below((written - bytes) / bench.sector() + 1) * bench.sector();
        bench.timed(&mut gets, || bench.verify(zone, place..place + bytes, &mut tally))?;
        bench.sleep(Duration::from_nanos(bench.below(20_000_000)))?;
    }
    for series in [&puts, &gets] {
        let (name, tail) = series.best_tail();
        findings.metric(&format!("{}_{name}", series.summary().name.replace(' ', "_")), "ms", tail);
        findings.latencies.push(series.summary());
    }
    findings.tally(tally);
    Ok(findings)
}

/// Counters that must not rise by themselves.
const ERROR_COUNTERS: [&str; 3] = ["uncorrected_reads", "failed_commands", "crc_errors"];

/// T-01: legal work raises no error counter. (The runner attaches the delta of every test as well.)
fn error_counters(bench: &Bench) -> Result<Findings, Halt> {
    let Some(telemetry) = bench.subject.telemetry.as_deref() else {
        return Err(Halt::NotApplicable("no counters".to_owned()));
    };
    let before = telemetry.counters();
    legal_work(bench)?;
    let after = telemetry.counters();
    let mut tally = Tally::new("error_counters_risen");
    for name in ERROR_COUNTERS {
        let of = |counters: &BTreeMap<String, u64>| counters.get(name).copied().unwrap_or(0);
        tally.check(of(&after) == of(&before), || format!("{name}: {} to {}", of(&before), of(&after)));
    }
    let mut findings = Findings::new();
    findings.tally(tally);
    Ok(findings)
}

fn legal_work(bench: &Bench) -> Result<(), Halt> {
    let mut tally = Tally::new("");
    let zone = bench.fresh(1)?[0];
    let bytes = bench.transfer(8 * bench.sector());
    bench.must_append(zone, 0, bytes)?;
    let answer = bench.flush()?;
    bench.must(answer, "a flush")?;
    bench.verify(zone, 0..bytes, &mut tally)?;
    Ok(())
}

/// T-02: how busy the host is beside the test; numbers of a busy host are not the drive's.
fn covariates(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    if bench.subject.virtual_time {
        findings.param("clock", "virtual: the host's load changes nothing");
        findings.require("host_share == 0", Observed::exact(0.0), true);
        return Ok(findings);
    }
    let load = std::fs::read_to_string("/proc/loadavg").ok();
    let load = load.as_deref().and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    let Some(load) = load else { return Err(Halt::Harness("the host's load cannot be read".to_owned())) };
    let cpus = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    let share = load / cpus;
    findings.metric("load", "", Observed::exact(load));
    findings.prefer("load_per_processor <= 0.5", Observed::exact(share), share <= 0.5);
    Ok(findings)
}

/// T-03: counters only grow, and survive a loss of power.
fn counter_sanity(bench: &Bench) -> Result<Findings, Halt> {
    let Some(telemetry) = bench.subject.telemetry.as_deref() else {
        return Err(Halt::NotApplicable("no counters".to_owned()));
    };
    let mut tally = Tally::new("counters_fallen");
    let mut last = telemetry.counters();
    for round in 0..6 {
        legal_work(bench)?;
        if let Some(power) = bench.subject.power.as_deref().filter(|_| round % 2 == 1) {
            power.cut(bench.below(u64::MAX));
        }
        let now = telemetry.counters();
        for (name, before) in &last {
            let after = now.get(name).copied();
            tally.check(after.is_some_and(|after| after >= *before), || format!("{name}: {before} to {after:?}"));
        }
        tally.check(now.get("written_bytes") > last.get("written_bytes"), || "written_bytes does not count".to_owned());
        last = now;
    }
    let mut findings = Findings::new();
    findings.tally(tally);
    Ok(findings)
}
