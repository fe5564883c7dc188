//! C-03, C-04, C-07, C-08, C-09: what a drive accepts, what it refuses, and what it promises.

use crate::error::DeviceError;
use crate::qualify::bench::{Answer, Bench, ZoneOperation};
use crate::qualify::findings::{Findings, Halt, Tally};
use crate::qualify::latency::Series;
use crate::qualify::reference::{Act, Reference};
use crate::zone::{ZoneCondition, ZoneId};

/// Sends a command of the state machine.
pub(super) fn act(bench: &Bench, reference: &Reference, zone: ZoneId, act: Act) -> Result<Answer<()>, Halt> {
    match act {
        Act::Open => bench.open(zone),
        Act::Close => bench.close(zone),
        Act::Finish => bench.finish(zone),
        Act::Reset => bench.reset(zone),
        Act::Append { bytes } => {
            let at = reference.state(zone).map_or(0, |state| state.written_bytes);
            Ok(bench.append(zone, at, bytes)?.map(|_| ()))
        }
    }
}

/// States of a zone and how to get there from empty.
fn ways(bench: &Bench) -> Vec<(&'static str, Vec<Act>)> {
    let append = Act::Append { bytes: bench.transfer(2 * bench.sector()) };
    vec![
        ("empty", vec![]),
        ("implicit-open", vec![append]),
        ("explicit-open", vec![Act::Open]),
        ("explicit-open with data", vec![Act::Open, append]),
        ("closed", vec![append, Act::Close]),
        ("full", vec![append, Act::Finish]),
        ("full from empty", vec![Act::Finish]),
    ]
}

/// C-03: every command in every state, against the reference model.
pub(super) fn state_machine(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("transitions_wrong");
    let append = Act::Append { bytes: bench.transfer(bench.sector()) };
    let acts = [Act::Open, Act::Close, Act::Finish, Act::Reset, append];
    let zones = bench.fresh(3)?;
    let (zone, count) = (zones[0], zones.len() as u32);
    for (state, way) in ways(bench) {
        for last in acts {
            for prior in &zones {
                let cleared = bench.reset(*prior)?;
                bench.must(cleared, "a reset")?;
            }
            let lines = bench.report(zone, count)?;
            let lines = bench.must(lines, "a report")?;
            let mut reference = Reference::new(bench.geometry(), &lines);
            for step in way.iter().copied().chain([last]) {
                let answer = act(bench, &reference, zone, step)?;
                let lines = bench.report(zone, count)?;
                let lines = bench.must(lines, "a report")?;
                match reference.observe(zone, step, &answer, &lines) {
                    Ok(variant) => {
                        tally.checks += 1;
                        let answered = answer.as_ref().err().map_or("accepted", DeviceError::class);
                        variant
                            .into_iter()
                            .for_each(|rule| findings.variant(rule, &format!("{step:?} when {state}: {answered}")));
                    }
                    Err(complaint) => {
                        tally.check(false, || complaint);
                        break;
                    }
                }
            }
        }
    }
    broken_zones(bench, &mut tally)?;
    findings.tally(tally);
    Ok(findings)
}

/// Read-only and offline zones refuse what they must, where they can be made.
fn broken_zones(bench: &Bench, tally: &mut Tally) -> Result<(), Halt> {
    if bench.subject.injector.is_none() {
        return Ok(());
    }
    let zones = bench.fresh(2)?;
    let bytes = bench.transfer(2 * bench.sector());
    for (zone, condition) in zones.iter().copied().zip([ZoneCondition::ReadOnly, ZoneCondition::Offline]) {
        bench.must_append(zone, 0, bytes)?;
        bench.break_zone(zone, condition)?;
        let class = condition.name();
        for operation in [ZoneOperation::Open, ZoneOperation::Close, ZoneOperation::Finish, ZoneOperation::Reset] {
            let answer = bench.zone_op(operation, zone)?;
            tally.refused(&answer, &[class], &format!("{operation:?} of a zone that is {class}"));
        }
        let answer = bench.append(zone, bytes, bench.transfer(bench.sector()))?;
        tally.refused(&answer, &[class], &format!("append to a zone that is {class}"));
        if condition == ZoneCondition::ReadOnly {
            bench.verify(zone, 0..bytes, tally)?;
        } else {
            let answer = bench.read(zone, 0, bytes)?;
            tally.refused(&answer, &["offline"], "read of an offline zone");
        }
        let shown = bench.zone(zone)?.condition;
        tally.check(shown == condition, || format!("a zone that is {class} is reported as {}", shown.name()));
    }
    Ok(())
}

/// C-04: illegal commands, each with the class it must be refused with, and without an effect.
pub(super) fn error_classes(bench: &Bench) -> Result<Findings, Halt> {
    let mut tally = Tally::new("wrong_answers");
    let geometry = bench.geometry().clone();
    let zones = bench.fresh(3.min(bench.open_limit().max(2)))?;
    let (zone, other) = (zones[0], zones[1]);
    let (sector, bytes) = (bench.sector(), bench.transfer(2 * bench.sector()));
    bench.must_append(zone, 0, bytes)?;
    let beyond = ZoneId(geometry.zones);
    for operation in [ZoneOperation::Open, ZoneOperation::Close, ZoneOperation::Finish, ZoneOperation::Reset] {
        let answer = bench.zone_op(operation, beyond)?;
        tally.refused(&answer, &["boundary", "invalid-field"], &format!("{operation:?} beyond the last zone"));
        if geometry.conventional_zones > 0 {
            let answer = bench.zone_op(operation, ZoneId(0))?;
            tally.refused(&answer, &["condition"], &format!("{operation:?} of a conventional zone"));
        }
    }
    let answer = bench.append(beyond, 0, sector)?;
    tally.refused(&answer, &["boundary", "invalid-field"], "append beyond the last zone");
    let answer = bench.read(beyond, 0, sector)?;
    tally.refused(&answer, &["boundary", "invalid-field"], "read beyond the last zone");
    let answer = bench.read(zone, bench.capacity(), sector)?;
    tally.refused(&answer, &["boundary"], "read behind the capacity");
    let across = bench.transfer(2 * sector);
    if across > sector {
        let answer = bench.read(zone, bench.capacity() - sector, across)?;
        tally.refused(&answer, &["boundary"], "read across the capacity");
    }
    for offset_bytes in [0, bytes, bytes + sector] {
        let answer = bench.write(zone, offset_bytes, sector)?;
        let what = format!("write at {offset_bytes} of a sequential zone written up to {bytes}");
        if offset_bytes == bytes && answer.is_ok() {
            // A write at the pointer is what an append is made of: legal on devices that take it.
            bench.must(answer, "a write")?;
        } else {
            tally.refused(&answer, &["write-pointer", "condition"], &what);
        }
    }
    let pointer = bench.zone(zone)?.write_pointer_bytes;
    tally.check(pointer == bytes || pointer == bytes + sector, || {
        format!("refused commands moved the pointer to {pointer}")
    });
    bench.verify(zone, 0..bytes, &mut tally)?;
    full_and_crossing(bench, other, &mut tally)?;
    if geometry.conventional_zones > 0 {
        let answer = bench.append(ZoneId(0), 0, sector)?;
        tally.refused(&answer, &["condition"], "append to a conventional zone");
    }
    let mut findings = Findings::new();
    findings.tally(tally);
    Ok(findings)
}

fn full_and_crossing(bench: &Bench, zone: ZoneId, tally: &mut Tally) -> Result<(), Halt> {
    let (sector, capacity) = (bench.sector(), bench.capacity());
    bench.must_fill(zone, 0, capacity - sector)?;
    let across = bench.transfer(2 * sector);
    if across > sector {
        let answer = bench.append(zone, capacity - sector, across)?;
        tally.refused(&answer, &["boundary"], "append across the capacity");
        let pointer = bench.zone(zone)?.write_pointer_bytes;
        tally.check(pointer == capacity - sector, || format!("a refused append moved the pointer to {pointer}"));
    }
    bench.must_append(zone, capacity - sector, sector)?;
    let condition = bench.zone(zone)?.condition;
    tally.check(condition == ZoneCondition::Full, || format!("a zone written to its end is {}", condition.name()));
    let answer = bench.append(zone, 0, sector)?;
    tally.refused(&answer, &["full"], "append to a full zone");
    bench.verify(zone, 0..capacity, tally)?;
    Ok(())
}

/// C-07: lengths and places that are not whole sectors.
pub(super) fn alignment(bench: &Bench) -> Result<Findings, Halt> {
    let mut tally = Tally::new("wrong_answers");
    let zone = bench.fresh(1)?[0];
    let (sector, most) = (bench.sector() as usize, bench.geometry().transfer_bytes_max as usize);
    let bytes = bench.transfer(u64::MAX);
    bench.must_append(zone, 0, bench.sector())?;
    for range in [0..sector - 1, 0..1, 0..sector + 512 % sector.max(513), 1..sector + 1, 0..0, 0..most + sector] {
        if range.len().is_multiple_of(sector)
            && range.start.is_multiple_of(sector)
            && !range.is_empty()
            && range.len() <= most
        {
            continue;
        }
        let answer = bench.append_raw(zone, range.clone())?;
        tally.refused(
            &answer,
            &["invalid-field", "boundary"],
            &format!("append of {} bytes from {}", range.len(), range.start),
        );
        let pointer = bench.zone(zone)?.write_pointer_bytes;
        tally.check(pointer == bench.sector(), || format!("it moved the write pointer to {pointer}"));
    }
    for (offset, length) in
        [(1, sector as u64), (0, sector as u64 - 1), (512 % sector as u64 + 1, sector as u64), (0, 0)]
    {
        let answer = bench.read(zone, offset, length)?;
        tally.refused(&answer, &["invalid-field"], &format!("read of {length} bytes at {offset}"));
    }
    if bench.geometry().conventional_zones > 0 {
        let answer = bench.write(ZoneId(0), 1, sector as u64)?;
        tally.refused(&answer, &["invalid-field"], "write at 1");
    }
    bench.must_append(zone, bench.sector(), bytes.min(bench.capacity() - bench.sector()))?;
    bench.verify(zone, 0..bench.sector(), &mut tally)?;
    let mut findings = Findings::new();
    findings.tally(tally);
    Ok(findings)
}

/// C-08: what a read behind the write pointer shows.
pub(super) fn reads_above(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("old_sectors_readable");
    let (mut above, mut below) = (Series::new("read above the pointer"), Series::new("read below the pointer"));
    let zones = bench.fresh(4)?;
    let (sector, capacity) = (bench.sector(), bench.capacity());
    for zone in zones {
        bench.must_fill(zone, 0, capacity)?;
        let answer = bench.reset(zone)?;
        bench.must(answer, "a reset")?;
        bench.verify_blank(zone, 0, &mut tally)?;
        bench.must_append(zone, 0, sector)?;
        bench.verify_blank(zone, sector, &mut tally)?;
        // Across the pointer: what is below must be new, what is above must not be old.
        if bench.transfer(2 * sector) > sector
            && let Ok(data) = bench.read(zone, 0, 2 * sector)?
        {
            let (new, old) = data.split_at(sector as usize);
            tally.check(bench.judge(zone, 0, new).is_empty(), || {
                format!("zone {}: no new data below the pointer", zone.0)
            });
            tally.check(!crate::qualify::pattern::is_stamped(old), || {
                format!("zone {}: old data across the pointer", zone.0)
            });
        }
        for _ in 0..20 {
            let offset = sector * (1 + bench.below((capacity / sector).saturating_sub(1)));
            bench.timed(&mut above, || bench.read(zone, offset.min(capacity - sector), sector))?.ok();
            bench.timed(&mut below, || bench.read(zone, 0, sector))?.ok();
        }
    }
    findings.metric("read_above_pointer", "ms", above.mean());
    findings.metric("read_below_pointer", "ms", below.mean());
    findings.tally(tally);
    Ok(findings)
}

/// C-09: a flush ends, with and without anything to do; what it covered stays through a cut.
pub(super) fn flush_contract(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("promises_broken");
    let mut lost = Tally::new("flushed_sectors_lost");
    let mut idle = Series::new("flush of nothing");
    let mut dirty = Series::new("flush of one write");
    let zone = bench.fresh(1)?[0];
    let bytes = bench.transfer(bench.sector());
    let mut at = 0;
    for round in 0..20 {
        let answer = bench.flush()?;
        tally.accepted(&answer, "flush");
        let answer = bench.timed(&mut idle, || bench.flush())?;
        tally.accepted(&answer, "flush of nothing");
        if at + 2 * bytes > bench.capacity() {
            break;
        }
        bench.must_append(zone, at, bytes)?;
        bench.verify(zone, at..at + bytes, &mut tally)?;
        let answer = bench.timed(&mut dirty, || bench.flush())?;
        tally.accepted(&answer, "flush of one write");
        bench.verify(zone, at..at + bytes, &mut tally)?;
        at += bytes;
        // Behind the flush, and not covered by it.
        bench.must_append(zone, at, bytes)?;
        if let Some(power) = bench.subject.power.as_deref() {
            power.cut(bench.below(u64::MAX));
            let line = bench.zone(zone)?;
            let pointer = line.write_pointer_bytes;
            lost.check(pointer >= at, || format!("round {round}: write pointer {pointer}, flushed up to {at}"));
            bench.verify(zone, 0..at, &mut lost)?;
            tally.check(pointer <= at + bytes, || {
                format!("round {round}: write pointer {pointer} beyond what was sent")
            });
            if !(at..=at + bytes).contains(&pointer) {
                break;
            }
            at = pointer;
        } else {
            at += bytes;
        }
    }
    findings.metric("flush_of_nothing", "ms", idle.mean());
    findings.metric("flush_of_one_write", "ms", dirty.mean());
    findings.tally(tally);
    findings.tally(lost);
    Ok(findings)
}
