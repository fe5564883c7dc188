//! C-14, C-16 to C-19: the drive as a whole.

use std::collections::BTreeSet;

use crate::qualify::bench::{Bench, Crowd};
use crate::qualify::findings::{Findings, Halt, Tally};
use crate::qualify::latency::Series;
use crate::qualify::statistics::Observed;
use crate::zone::{ZoneCondition, ZoneId};

/// C-14: after a sanitize nothing of before can be read.
pub(super) fn sanitize(bench: &Bench) -> Result<Findings, Halt> {
    let mut tally = Tally::new("old_sectors_readable");
    let mut states = Tally::new("zones_not_empty");
    let Some(sanitizer) = bench.subject.sanitizer.as_deref() else {
        return Err(Halt::NotApplicable("no sanitize command".to_owned()));
    };
    let zones = bench.fresh(4)?;
    for zone in &zones {
        bench.must_fill(*zone, 0, bench.capacity() / 2 / bench.sector() * bench.sector())?;
    }
    let conventional = bench.geometry().conventional_zones > 0;
    if conventional {
        let answer = bench.write(ZoneId(0), 0, bench.sector())?;
        bench.must(answer, "a write")?;
    }
    sanitizer.sanitize();
    let lines = bench.report(ZoneId(0), u32::MAX)?;
    for line in bench.must(lines, "a report")? {
        let fresh = matches!(line.condition, ZoneCondition::Empty | ZoneCondition::NotWritePointer);
        states.check(fresh, || format!("zone {} is {}", line.id.0, line.condition.name()));
    }
    for zone in &zones {
        bench.verify_blank(*zone, 0, &mut tally)?;
    }
    if conventional && let Ok(data) = bench.read(ZoneId(0), 0, bench.sector())? {
        tally.check(!crate::qualify::pattern::is_stamped(&data), || "zone 0 at 0".to_owned());
    }
    let mut findings = Findings::new();
    findings.tally(states);
    findings.tally(tally);
    Ok(findings)
}

/// C-16: each zone belongs to one actuator.
pub(super) fn ranges(bench: &Bench) -> Result<Findings, Halt> {
    let Some(elements) = bench.subject.elements.as_deref() else {
        return Err(Halt::NotApplicable("no ranges".to_owned()));
    };
    let ranges = elements.ranges();
    let mut tally = Tally::new("zones_misassigned");
    for zone in 0..bench.geometry().zones {
        let owners = ranges.iter().filter(|range| range.contains(&zone)).count();
        tally.check(owners == 1, || format!("zone {zone} is in {owners} ranges"));
    }
    let mut findings = Findings::new();
    findings.metric("ranges", "", Observed::exact(ranges.len() as f64));
    findings.tally(tally);
    Ok(findings)
}

/// C-17: each zone belongs to one head; together they are the capacity.
pub(super) fn elements(bench: &Bench) -> Result<Findings, Halt> {
    let Some(elements) = bench.subject.elements.as_deref() else {
        return Err(Halt::NotApplicable("no elements".to_owned()));
    };
    let heads = elements.heads();
    let mut tally = Tally::new("zones_misassigned");
    let mut seen = BTreeSet::new();
    for (head, zones) in heads.iter().enumerate() {
        for zone in zones {
            tally.check(seen.insert(*zone), || format!("zone {} has two heads, one of them {head}", zone.0));
        }
    }
    let zones = bench.geometry().zones as usize;
    tally.check(seen.len() == zones, || format!("{} of {zones} zones have a head", seen.len()));
    let mut findings = Findings::new();
    findings.metric("heads", "", Observed::exact(heads.len() as f64));
    findings.tally(tally);
    Ok(findings)
}

/// C-18: every zone is opened, closed, finished and reset, in mixed states, while other zones are read.
pub(super) fn whole_drive(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("wrong_end_states");
    let mut reads = Tally::new("reads_failed");
    let mut resets = Series::new("reset of all");
    let zones = bench.fresh(bench.sequential_zones().min(bench.scale.zones.saturating_mul(8)))?;
    let (kept, rest) = zones.split_first().ok_or_else(|| Halt::NotApplicable("no zones".to_owned()))?;
    let bytes = bench.transfer(4 * bench.sector());
    bench.must_append(*kept, 0, bytes)?;
    let answer = bench.finish(*kept)?;
    bench.must(answer, "a finish")?;
    for (index, zone) in rest.iter().enumerate() {
        bench.tick(index as u64, 2 * rest.len() as u64)?;
        if index.is_multiple_of(2) {
            bench.must_append(*zone, 0, bytes)?;
        }
        let pace = index.is_multiple_of(3);
        let done = if pace { bench.finish(*zone)? } else { Ok(()) };
        if done.is_err() || !pace {
            // An active limit: only full and empty zones can be many.
            let active = bench.geometry().active_zones_max;
            if active > 0 {
                let answer = bench.finish(*zone)?;
                bench.must(answer, "a finish")?;
            }
        }
    }
    for (index, zone) in rest.iter().enumerate() {
        bench.tick((rest.len() + index) as u64, 2 * rest.len() as u64)?;
        let mut crowd = Crowd::default();
        crowd.push(bench.start_read(*kept, 0, bytes));
        let answer = bench.timed(&mut resets, || bench.reset(*zone))?;
        tally.accepted(&answer, "a reset");
        while let Some((_, data)) = bench.next(&mut crowd)? {
            let sound = data.as_ref().is_ok_and(|data| bench.judge(*kept, 0, data).is_empty());
            reads.check(sound, || format!("a read of zone {} beside a reset of zone {}", kept.0, zone.0));
        }
    }
    let lines = bench.report(zones[0], zones.len() as u32)?;
    for line in bench.must(lines, "a report")? {
        let wanted = if line.id == *kept { ZoneCondition::Full } else { ZoneCondition::Empty };
        tally.check(line.condition == wanted, || format!("zone {} is {}", line.id.0, line.condition.name()));
    }
    bench.verify(*kept, 0..bytes, &mut reads)?;
    findings.metric("reset", "ms", resets.mean());
    findings.tally(tally);
    findings.tally(reads);
    Ok(findings)
}

/// C-19: what the device counted is what the host did.
pub(super) fn counters(bench: &Bench) -> Result<Findings, Halt> {
    let Some(telemetry) = bench.subject.telemetry.as_deref() else {
        return Err(Halt::NotApplicable("no counters".to_owned()));
    };
    let zones = bench.fresh(3.min(bench.open_limit()))?;
    let (device_before, host_before) = (telemetry.counters(), bench.counts());
    for (round, zone) in zones.iter().enumerate() {
        let bytes = bench.transfer((round as u64 + 1) * bench.sector());
        bench.must_append(*zone, 0, bytes)?;
        bench.must_append(*zone, bytes, bench.sector())?;
        bench.read(*zone, 0, bytes)?.ok();
        bench.flush()?.ok();
    }
    let answer = bench.finish(zones[0])?;
    bench.must(answer, "a finish")?;
    let answer = bench.reset(zones[0])?;
    bench.must(answer, "a reset")?;
    let (device_after, host_after) = (telemetry.counters(), bench.counts());
    let delta = |name: &str| {
        let of = |counters: &std::collections::BTreeMap<String, u64>| counters.get(name).copied().unwrap_or(0);
        of(&device_after).wrapping_sub(of(&device_before))
    };
    let mut tally = Tally::new("counters_disagreeing");
    let pairs = [
        ("written_bytes", host_after.written_bytes - host_before.written_bytes),
        ("read_bytes", host_after.read_bytes - host_before.read_bytes),
        ("flushes", host_after.flushes - host_before.flushes),
        ("zones_finished", host_after.finishes - host_before.finishes),
        ("zones_reset", host_after.resets - host_before.resets),
    ];
    let mut findings = Findings::new();
    for (name, host) in pairs {
        let device = delta(name);
        findings.metric(&format!("{name}_delta"), "", Observed::exact(device as f64 - host as f64));
        tally.check(device == host, || format!("{name}: the device counted {device}, the host {host}"));
    }
    findings.tally(tally);
    Ok(findings)
}
