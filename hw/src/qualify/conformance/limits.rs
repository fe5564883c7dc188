//! C-05, C-10, C-20: limits of open zones, appends side by side, commands nobody waits for.

use std::pin::pin;
use std::time::Duration;

use super::rules::act;
use crate::error::DeviceError;
use crate::qualify::bench::{Bench, Crowd};
use crate::qualify::findings::{Findings, Halt, Tally};
use crate::qualify::reference::{Act, Reference};
use crate::qualify::statistics::Observed;
use crate::zone::ZoneId;

/// C-05: sequences around the limits, each step against the reference model.
pub(super) fn limits(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("steps_wrong");
    let geometry = bench.geometry().clone();
    let most = geometry.open_zones_max.max(geometry.active_zones_max);
    let zones = bench.fresh(most.saturating_add(4))?;
    let open_max = geometry.open_zones_max;
    if (zones.len() as u32) < open_max + 2 {
        return Err(Halt::NotApplicable(format!("{} zones cannot exceed a limit of {open_max}", zones.len())));
    }
    let append = Act::Append { bytes: bench.transfer(bench.sector()) };
    let all = |what: Act| -> Vec<(usize, Act)> { (0..zones.len()).map(|index| (index, what)).collect() };
    let mixed = |index: usize| if index.is_multiple_of(2) { Act::Open } else { append };
    let half = open_max as usize / 2;
    let sequences: Vec<(&str, Vec<(usize, Act)>)> = vec![
        ("implicit", all(append)),
        ("explicit", all(Act::Open)),
        ("mixed", (0..zones.len()).map(|index| (index, mixed(index))).collect()),
        ("explicit, then implicit", [all(Act::Open), all(append)].concat()),
        ("implicit, then explicit", [all(append), all(Act::Open)].concat()),
        ("finish at the limit", [all(Act::Open), all(Act::Finish)].concat()),
        ("close and open again", [all(append), all(Act::Close), all(Act::Open), all(Act::Close)].concat()),
        (
            "half explicit, then many implicit",
            [all(Act::Open)[..half.max(1)].to_vec(), all(append), all(append)].concat(),
        ),
        ("reset frees a place", [all(Act::Open), vec![(0, Act::Reset)], all(append)].concat()),
    ];
    let mut most_open = 0;
    for (name, steps) in sequences {
        clear(bench, &zones)?;
        let lines = bench.report(zones[0], zones.len() as u32)?;
        let mut reference = Reference::new(&geometry, &bench.must(lines, "a report")?);
        for (number, (index, step)) in steps.into_iter().enumerate() {
            let zone = zones[index];
            let answer = act(bench, &reference, zone, step)?;
            let lines = bench.report(zones[0], zones.len() as u32)?;
            let lines = bench.must(lines, "a report")?;
            let open = lines.iter().filter(|line| line.condition.name().ends_with("-open")).count();
            most_open = most_open.max(open);
            match reference.observe(zone, step, &answer, &lines) {
                Ok(variant) => {
                    tally.checks += 1;
                    variant.into_iter().for_each(|rule| {
                        findings.variant(rule, answer.as_ref().err().map_or("accepted", DeviceError::class))
                    });
                }
                Err(complaint) => {
                    tally.check(false, || format!("{name}, step {number}: {complaint}"));
                    break;
                }
            }
        }
    }
    clear(bench, &zones)?;
    findings.metric("most_zones_open", "", Observed::exact(most_open as f64));
    findings.param("open_zones_max", open_max);
    findings.param("active_zones_max", geometry.active_zones_max);
    findings.tally(tally);
    Ok(findings)
}

fn clear(bench: &Bench, zones: &[ZoneId]) -> Result<(), Halt> {
    for zone in zones {
        let answer = bench.reset(*zone)?;
        bench.must(answer, "a reset")?;
    }
    Ok(())
}

/// C-10: appends to several zones at once land where nothing else does.
pub(super) fn concurrent_appends(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("appends_misplaced");
    let zones = bench.fresh(bench.open_limit())?;
    let mut at = 0;
    for round in 1..=8u64 {
        let bytes = bench.transfer(round * bench.sector());
        if at + bytes > bench.capacity() {
            break;
        }
        let mut crowd = Crowd::default();
        for zone in &zones {
            crowd.push(bench.start_append(*zone, at, bytes));
        }
        while let Some((number, answer)) = bench.next(&mut crowd)? {
            let zone = zones.get(number as usize - 1).map_or(0, |zone| zone.0);
            tally.check(answer == Ok(at), || format!("zone {zone}: an append at {at} answered {answer:?}"));
        }
        at += bytes;
    }
    for zone in &zones {
        let pointer = bench.zone(*zone)?.write_pointer_bytes;
        tally.check(pointer == at, || format!("zone {}: pointer {pointer}, appended {at}", zone.0));
        bench.verify(*zone, 0..at, &mut tally)?;
    }
    let oversize = bench.geometry().transfer_bytes_max as usize + bench.sector() as usize;
    let answer = bench.append_raw(zones[0], 0..oversize)?;
    tally.refused(&answer, &["invalid-field", "boundary"], "append above the transfer limit");
    findings.param("zones", zones.len());
    findings.tally(tally);
    Ok(findings)
}

/// Longer than any drive takes for an append that was given up.
const ABORTED_ENDS: Duration = Duration::from_millis(500);

/// C-20: appends that nobody waits for any more happen or do not, and leave no hole.
pub(super) fn aborts(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("holes");
    let zones = bench.fresh(bench.open_limit().min(8))?;
    let bytes = bench.transfer(4 * bench.sector());
    for round in 0..8 {
        let mut pointers = Vec::new();
        for zone in &zones {
            pointers.push(bench.zone(*zone)?.write_pointer_bytes);
        }
        if pointers.iter().any(|pointer| pointer + 2 * bytes > bench.capacity()) {
            break;
        }
        let mut crowd = Crowd::default();
        for (zone, at) in zones.iter().zip(&pointers) {
            crowd.push(bench.start_append(*zone, *at, bytes));
        }
        {
            let mut first = pin!(crowd.next());
            bench.steps(first.as_mut(), round % 4)?;
        }
        drop(crowd);
        // What nobody waits for ends all the same; a zone takes its next append only then.
        bench.sleep(ABORTED_ENDS)?;
        for (zone, before) in zones.iter().zip(&pointers) {
            let pointer = bench.zone(*zone)?.write_pointer_bytes;
            tally.check(pointer == *before || pointer == before + bytes, || {
                format!("zone {}: the pointer went from {before} to {pointer} by an aborted append of {bytes}", zone.0)
            });
            bench.verify(*zone, 0..pointer, &mut tally)?;
            // The zone is not stuck.
            bench.must_append(*zone, pointer, bench.sector())?;
        }
    }
    findings.tally(tally);
    Ok(findings)
}
