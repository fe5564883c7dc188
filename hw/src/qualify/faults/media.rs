//! F-04, F-05, F-11: single commands that fail, tear or hang.

use std::time::Duration;

use crate::error::DeviceError;
use crate::faulty::{CommandKind, Fault};
use crate::qualify::bench::{Bench, Crowd};
use crate::qualify::findings::{Findings, Halt, Tally};
use crate::qualify::latency::Series;
use crate::qualify::statistics::Observed;

/// F-04.
pub(super) fn unreadable(bench: &Bench) -> Result<Findings, Halt> {
    let mut tally = Tally::new("wrong_answers");
    let faults = bench.injector()?.faults();
    let (sector, bytes) = (bench.sector(), bench.transfer(16 * bench.sector()));
    for _ in 0..10 {
        bench.tidy()?;
        let zone = bench.fresh(1)?[0];
        bench.must_fill(zone, 0, bytes)?;
        let at = bench.below(bytes / sector) * sector;
        faults.set_unreadable(zone, at);
        for (offset, length) in [(at, sector), (0, bytes)] {
            let answer = bench.read(zone, offset, length)?;
            tally.refused(&answer, &["unreadable"], &format!("read of {length} bytes at {offset}, bad at {at}"));
            let named = matches!(&answer, Err(DeviceError::Unreadable { zone: bad, offset_bytes }) if (*bad, *offset_bytes) == (zone, at));
            tally.check(named, || format!("the error names another place than {at}: {answer:?}"));
        }
        bench.verify(zone, 0..at, &mut tally)?;
        bench.verify(zone, at + sector..bytes, &mut tally)?;
        let pointer = bench.zone(zone)?.write_pointer_bytes;
        tally.check(pointer == bytes, || format!("the pointer moved to {pointer}"));
        bench.must_append(zone, bytes, sector)?;
        let answer = bench.reset(zone)?;
        tally.accepted(&answer, "a reset of a zone with a bad sector");
        bench.must_append(zone, 0, bytes)?;
        bench.verify(zone, 0..bytes, &mut tally)?;
    }
    let mut findings = Findings::new();
    findings.tally(tally);
    Ok(findings)
}

/// F-05: after an append that failed in the middle, the host asks for the pointer and goes on.
pub(super) fn write_error(bench: &Bench) -> Result<Findings, Halt> {
    let mut tally = Tally::new("holes_or_doubles");
    let faults = bench.injector()?.faults();
    let bytes = bench.transfer(8 * bench.sector());
    for _ in 0..10 {
        bench.tidy()?;
        let zone = bench.fresh(1)?[0];
        bench.must_append(zone, 0, bytes)?;
        faults.arm(1, Fault::TornAppend);
        let answer = bench.append(zone, bytes, bytes)?;
        tally.check(answer.is_err(), || "an append that failed was acknowledged".to_owned());
        let pointer = bench.zone(zone)?.write_pointer_bytes;
        tally.check((bytes..2 * bytes).contains(&pointer), || format!("the pointer is at {pointer}"));
        bench.must_append(zone, pointer, bytes)?;
        bench.verify(zone, 0..pointer + bytes, &mut tally)?;
        faults.arm(
            1,
            Fault::Error {
                command: CommandKind::Append,
                error: DeviceError::Failed { reason: "injected", errno: libc::EIO },
            },
        );
        let at = pointer + bytes;
        let answer = bench.append(zone, at, bytes)?;
        tally.refused(&answer, &["failed"], "an append that did nothing");
        let pointer = bench.zone(zone)?.write_pointer_bytes;
        tally.check(pointer == at, || format!("an append that did nothing moved the pointer to {pointer}"));
    }
    let mut findings = Findings::new();
    findings.tally(tally);
    Ok(findings)
}

/// F-11: one append hangs; reads of other zones do not notice.
pub(super) fn stuck(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let faults = bench.injector()?.faults();
    let zones = bench.fresh(3)?;
    let bytes = bench.transfer(4 * bench.sector());
    for zone in &zones {
        bench.must_append(*zone, 0, bytes)?;
    }
    let answer = bench.flush()?;
    bench.must(answer, "a flush")?;
    let probe = |name: &str| -> Result<Series, Halt> {
        let mut series = Series::new(name);
        for round in 0..200usize {
            let answer = bench.timed(&mut series, || bench.read(zones[1 + round % 2], 0, bytes))?;
            bench.must(answer, "a read")?;
        }
        Ok(series)
    };
    let quiet = probe("reads alone")?;
    let mut worst: f64 = 0.0;
    for seconds in [1, 5, 30] {
        let delay = Duration::from_secs(seconds);
        faults.set_delay(CommandKind::Append, Some(delay..=delay));
        let mut crowd = Crowd::default();
        let began_ns = bench.now_ns();
        crowd.push(bench.start_append(zones[0], bench.zone(zones[0])?.write_pointer_bytes, bytes));
        faults.set_delay(CommandKind::Append, None);
        let beside = probe("reads beside a stuck append")?;
        worst = worst.max(beside.mean().v / quiet.mean().v);
        let held = bench.next(&mut crowd)?;
        let took_s = (bench.now_ns() - began_ns) as f64 / 1e9;
        let ended = matches!(held, Some((_, Ok(_)))) && took_s >= seconds as f64;
        findings.require(&format!("stuck_{seconds}_s_ends"), Observed::exact(took_s), ended);
    }
    findings.require("head_of_line_factor <= 1.5", Observed::exact(worst), worst <= 1.5);
    Ok(findings)
}
