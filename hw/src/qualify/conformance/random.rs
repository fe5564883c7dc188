//! C-06: random commands against the reference model, then the data of every zone; a failure is made small.

use super::rules::act;
use crate::qualify::bench::{Bench, Crowd};
use crate::qualify::findings::{Findings, Halt, Tally};
use crate::qualify::reference::{Act, Reference};
use crate::zone::{ZoneCondition, ZoneId};

/// Commands between two looks at the whole window, and per shrinking.
const CHUNK: u64 = 400;

/// Attempts to make a failing sequence smaller.
const SHRINK_ROUNDS: usize = 60;

type Step = (usize, Act);

/// C-06.
pub(super) fn model_based(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("divergences");
    let limit = bench.geometry().open_zones_max.max(bench.geometry().active_zones_max);
    let zones = bench.fresh(limit.saturating_add(6).clamp(8, 160))?;
    let mut left = bench.scale.commands;
    while left > 0 && tally.failures == 0 {
        bench.tick(bench.scale.commands - left, bench.scale.commands)?;
        let steps = draw_steps(bench, zones.len(), CHUNK.min(left));
        left -= steps.len() as u64;
        match replay(bench, &zones, &steps, &mut tally)? {
            None => tally.checks += steps.len() as u64,
            Some(complaint) => {
                let small = shrink(bench, &zones, steps)?;
                let complaint = replay(bench, &zones, &small, &mut tally)?.unwrap_or(complaint);
                tally.check(false, || format!("{complaint}; the shortest way found: {small:?}"));
            }
        }
        bursts(bench, &zones, &mut tally)?;
    }
    findings.param("commands", bench.scale.commands - left);
    findings.tally(tally);
    Ok(findings)
}

fn draw_steps(bench: &Bench, zones: usize, count: u64) -> Vec<Step> {
    let draw = |_| {
        // Few zones often, many zones sometimes: limits are met from both sides.
        let bound = if bench.coin() { zones } else { zones.min(3) };
        let zone = bench.below(bound as u64) as usize;
        let bytes = bench.transfer((bench.below(4) + 1) * bench.sector());
        let act = match bench.below(16) {
            0..=1 => Act::Open,
            2..=3 => Act::Close,
            4 => Act::Finish,
            5..=6 => Act::Reset,
            7 => Act::Append { bytes: bench.transfer(u64::MAX) },
            _ => Act::Append { bytes },
        };
        (zone, act)
    };
    (0..count).map(draw).collect()
}

/// Runs steps from empty zones on; what diverged, if anything did.
fn replay(bench: &Bench, zones: &[ZoneId], steps: &[Step], tally: &mut Tally) -> Result<Option<String>, Halt> {
    for zone in zones {
        let answer = bench.reset(*zone)?;
        bench.must(answer, "a reset")?;
    }
    let lines = bench.report(zones[0], zones.len() as u32)?;
    let mut reference = Reference::new(bench.geometry(), &bench.must(lines, "a report")?);
    let mut written = vec![0; zones.len()];
    for (index, what) in steps {
        let Some(zone) = zones.get(*index).copied() else { continue };
        let answer = act(bench, &reference, zone, *what)?;
        let lines = bench.report(zones[0], zones.len() as u32)?;
        let lines = bench.must(lines, "a report")?;
        if let Err(complaint) = reference.observe(zone, *what, &answer, &lines) {
            return Ok(Some(complaint));
        }
        if let (Some(written), Ok(())) = (written.get_mut(*index), &answer) {
            match what {
                Act::Append { bytes } => *written += bytes,
                Act::Reset => *written = 0,
                _ => {}
            }
        }
    }
    let mut data = Tally::new("damaged_sectors");
    for (zone, written) in zones.iter().zip(written) {
        bench.verify(*zone, 0..written, &mut data)?;
        bench.verify_blank(*zone, written, &mut data)?;
    }
    tally.checks += data.checks;
    if data.failures == 0 {
        return Ok(None);
    }
    let mut told = Findings::new();
    told.tally(data);
    Ok(told.reason())
}

/// A shorter sequence that still diverges: parts are left out, halves first.
fn shrink(bench: &Bench, zones: &[ZoneId], steps: Vec<Step>) -> Result<Vec<Step>, Halt> {
    let mut small = steps;
    let mut part = small.len() / 2;
    let mut ignored = Tally::new("");
    let mut rounds = 0;
    while part > 0 && rounds < SHRINK_ROUNDS {
        let mut at = 0;
        while at < small.len() && rounds < SHRINK_ROUNDS {
            let without: Vec<Step> = small.iter().take(at).chain(small.iter().skip(at + part)).copied().collect();
            rounds += 1;
            if !without.is_empty() && replay(bench, zones, &without, &mut ignored)?.is_some() {
                small = without;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
    Ok(small)
}

/// Appends and reads side by side, up to the open limit at once.
fn bursts(bench: &Bench, zones: &[ZoneId], tally: &mut Tally) -> Result<(), Halt> {
    for zone in zones {
        let answer = bench.reset(*zone)?;
        bench.must(answer, "a reset")?;
    }
    let count = bench.open_limit().min(zones.len() as u32) as usize;
    let bytes = bench.transfer(bench.sector() * (1 + bench.below(4)));
    let mut at = 0;
    while at + bytes <= bench.capacity() && at < 4 * bytes {
        let mut appends = Crowd::default();
        let mut reads = Crowd::default();
        for zone in zones.iter().take(count) {
            appends.push(bench.start_append(*zone, at, bytes));
            if at > 0 {
                reads.push(bench.start_read(*zone, at - bytes, bytes));
            }
        }
        while let Some((number, data)) = bench.next(&mut reads)? {
            let zone = zones[number as usize - 1];
            let found = data.as_ref().map(|data| bench.judge(zone, at - bytes, data));
            tally.check(found.as_ref().is_ok_and(Vec::is_empty), || {
                format!("zone {} at {}: read beside appends: {found:?}", zone.0, at - bytes)
            });
        }
        while let Some((number, answer)) = bench.next(&mut appends)? {
            let zone = zones[number as usize - 1];
            tally.check(answer == Ok(at), || format!("zone {}: {count} appends at once at {at}: {answer:?}", zone.0));
        }
        at += bytes;
    }
    for zone in zones.iter().take(count) {
        let line = bench.zone(*zone)?;
        let sound = line.write_pointer_bytes == at || line.condition == ZoneCondition::Full;
        tally.check(sound, || format!("zone {}: pointer {} after {at} bytes", zone.0, line.write_pointer_bytes));
        bench.verify(*zone, 0..at, tally)?;
    }
    Ok(())
}
