//! F-06, F-07, F-08, F-15, F-16: zones and heads that fail, reports that lie, open zones that others hold.

use crate::qualify::bench::Bench;
use crate::qualify::conformance::malformed;
use crate::qualify::findings::{Findings, Halt, Tally};
use crate::qualify::statistics::Observed;
use crate::zone::{Zone, ZoneCondition, ZoneId};

/// F-06.
pub(super) fn read_only(bench: &Bench) -> Result<Findings, Halt> {
    failing(bench, ZoneCondition::ReadOnly)
}

/// F-07.
pub(super) fn offline(bench: &Bench) -> Result<Findings, Halt> {
    failing(bench, ZoneCondition::Offline)
}

/// Zones fail while open, closed and full; nothing else changes, and their open resources are free again.
fn failing(bench: &Bench, condition: ZoneCondition) -> Result<Findings, Halt> {
    let mut tally = Tally::new("wrong_answers");
    let mut others = Tally::new("other_zones_changed");
    let (class, sector) = (condition.name(), bench.sector());
    let limit = bench.open_limit();
    let zones = bench.fresh(4 + limit.min(16))?;
    let bytes = bench.transfer(2 * sector);
    let broken = &zones[..3.min(zones.len() - 1)];
    for (index, zone) in broken.iter().enumerate() {
        bench.must_append(*zone, 0, bytes)?;
        let answer = match index {
            1 => bench.close(*zone)?,
            2 => bench.finish(*zone)?,
            _ => Ok(()),
        };
        bench.must(answer, "a zone command")?;
    }
    let witness = zones[3.min(zones.len() - 1)];
    bench.must_append(witness, 0, bytes)?;
    for zone in broken {
        bench.break_zone(*zone, condition)?;
        let answer = bench.append(*zone, bytes, sector)?;
        tally.refused(&answer, &[class], &format!("append to zone {}", zone.0));
        if condition == ZoneCondition::ReadOnly {
            bench.verify(*zone, 0..bytes, &mut tally)?;
        } else {
            let answer = bench.read(*zone, 0, sector)?;
            tally.refused(&answer, &[class], &format!("read of zone {}", zone.0));
        }
        let answer = bench.reset(*zone)?;
        tally.refused(&answer, &[class], &format!("reset of zone {}", zone.0));
        bench.verify(witness, 0..bytes, &mut others)?;
    }
    let lines = bench.report(zones[0], zones.len() as u32)?;
    for line in bench.must(lines, "a report")? {
        let failed = line.condition == condition;
        others
            .check(failed == broken.contains(&line.id), || format!("zone {} is {}", line.id.0, line.condition.name()));
    }
    // The witness holds one place; the broken ones must hold none.
    let free = (limit as usize - 1).min(zones.len().saturating_sub(4));
    for zone in zones.iter().skip(4).take(free) {
        let answer = bench.open(*zone)?;
        tally.accepted(&answer, "an open within the limit, beside failed zones");
    }
    let mut findings = Findings::new();
    findings.metric("repair_bytes", "bytes", Observed::exact(broken.len() as f64 * bytes as f64));
    findings.tally(tally);
    findings.tally(others);
    Ok(findings)
}

/// F-08.
pub(super) fn head_removal(bench: &Bench) -> Result<Findings, Halt> {
    let mut lost = Tally::new("zones_of_other_heads_lost");
    let mut data = Tally::new("damaged_sectors");
    let Some(elements) = bench.subject.elements.as_deref() else {
        return Err(Halt::NotApplicable("no heads".to_owned()));
    };
    let heads = elements.heads();
    let victim = heads.len() / 2;
    let dead: &[ZoneId] = heads.get(victim).map_or(&[], Vec::as_slice);
    let zones = bench.spread(bench.scale.zones.saturating_mul(4).min(64))?;
    let bytes = bench.transfer(4 * bench.sector());
    for zone in &zones {
        bench.must_append(*zone, 0, bytes)?;
        let answer = bench.finish(*zone)?;
        bench.must(answer, "a finish")?;
    }
    let answer = bench.flush()?;
    bench.must(answer, "a flush")?;
    bench.note_broken();
    let began_ns = bench.now_ns();
    elements.remove(victim);
    let lines = bench.report(ZoneId(0), u32::MAX)?;
    let lines = bench.must(lines, "a report")?;
    let service_ms = (bench.now_ns() - began_ns) as f64 / 1e6;
    for line in &lines {
        let offline = line.condition == ZoneCondition::Offline;
        lost.check(offline == dead.contains(&line.id), || format!("zone {} is {}", line.id.0, line.condition.name()));
    }
    for zone in zones.iter().filter(|zone| !dead.contains(zone)) {
        bench.verify(*zone, 0..bytes, &mut data)?;
    }
    let repair = zones.iter().filter(|zone| dead.contains(zone)).count() as f64 * bytes as f64;
    let mut findings = Findings::new();
    findings.metric("time_to_service", "ms", Observed::exact(service_ms));
    findings.metric("repair_bytes", "bytes", Observed::exact(repair));
    findings.tally(lost);
    findings.tally(data);
    Ok(findings)
}

/// Makes a report wrong.
type Lie<'a> = &'a dyn Fn(&mut Vec<Zone>);

/// F-15: a report is made wrong in every way, and the check of reports must notice.
pub(super) fn lying_reports(bench: &Bench) -> Result<Findings, Halt> {
    let mut missed = Tally::new("lies_missed");
    let zone = bench.fresh(1)?[0];
    bench.must_append(zone, 0, bench.sector())?;
    let lines = bench.report(ZoneId(0), u32::MAX)?;
    let truth = bench.must(lines, "a report")?;
    let at = zone.0 as usize;
    let capacity = bench.capacity();
    let lies: [(&str, Lie); 8] = [
        ("a pointer beyond the capacity", &|lines| lines[at].write_pointer_bytes = capacity + 4096),
        ("a pointer inside a sector", &|lines| lines[at].write_pointer_bytes += 1),
        ("an empty zone with data", &|lines| lines[at].condition = ZoneCondition::Empty),
        ("a closed zone without data", &|lines| {
            (lines[at].condition, lines[at].write_pointer_bytes) = (ZoneCondition::Closed, 0);
        }),
        ("a sequential zone shown as conventional", &|lines| lines[at].condition = ZoneCondition::NotWritePointer),
        ("a duplicate zone", &|lines| lines[at + 1] = lines[at]),
        ("a missing zone", &|lines| {
            lines.remove(at);
        }),
        ("another capacity", &|lines| lines[at].capacity_bytes -= 4096),
    ];
    for (name, lie) in lies {
        let mut lines = truth.clone();
        if at + 1 >= lines.len() {
            break;
        }
        lie(&mut lines);
        let short = lines.len() != truth.len();
        let noticed = (0u32..).zip(&lines).any(|(index, line)| malformed(bench, index, line).is_some());
        missed.check(short || noticed, || name.to_owned());
    }
    let honest = (0u32..).zip(&truth).find_map(|(index, line)| malformed(bench, index, line));
    missed.check(honest.is_none(), || format!("the honest report is called wrong: {honest:?}"));
    let mut findings = Findings::new();
    findings.tally(missed);
    Ok(findings)
}

/// F-16: somebody else holds every open zone.
pub(super) fn starvation(bench: &Bench) -> Result<Findings, Halt> {
    let mut tally = Tally::new("wrong_answers");
    let limit = bench.geometry().open_zones_max;
    let zones = bench.fresh(limit.saturating_add(1))?;
    if zones.len() as u32 <= limit {
        return Err(Halt::NotApplicable("fewer zones than the limit of open ones".to_owned()));
    }
    let (held, mine) = zones.split_at(limit as usize);
    for zone in held {
        let answer = bench.open(*zone)?;
        tally.accepted(&answer, "an open within the limit");
    }
    let mine = mine[0];
    let answer = bench.append(mine, 0, bench.sector())?;
    tally.refused(&answer, &["too-many-open", "too-many-active"], "an append while others hold every open zone");
    let pointer = bench.zone(mine)?.write_pointer_bytes;
    tally.check(pointer == 0, || format!("the refused append moved the pointer to {pointer}"));
    let answer = bench.close(held[0])?;
    tally.accepted(&answer, "a close");
    let answer = bench.append(mine, 0, bench.sector())?;
    tally.accepted(&answer, "an append after a place was freed");
    bench.verify(mine, 0..bench.sector(), &mut tally)?;
    for zone in held.iter().skip(1) {
        let condition = bench.zone(*zone)?.condition;
        tally.check(condition == ZoneCondition::ExplicitOpen, || {
            format!("zone {}, opened explicitly, became {}", zone.0, condition.name())
        });
    }
    let mut findings = Findings::new();
    findings.tally(tally);
    Ok(findings)
}
