//! Section D: is what was written what is read?

mod bursts;

use super::bench::{Bench, Damages};
use super::findings::{Findings, Halt, Tally};
use super::latency::Series;
use super::pattern::Damage;
use super::plan::Plan;
use super::registry::{Need, Test};
use super::statistics::Observed;
use crate::faulty::{CommandKind, Fault};
use crate::zone::ZoneId;

pub(super) const TESTS: &[Test] = &[
    Test::new("D-01", "Surface write and verify", "no sector lost, misdirected, stale or torn", "MACZE").runs(surface),
    Test::new("D-02", "Stale generations", "only the new generation below the pointer", "MAZE")
        .runs(stale_generation)
        .from(Plan::Smoke),
    Test::new("D-03", "Retention ladder", "no errors after a minute to a month", "MACZe")
        .runs(retention)
        .needs(&[Need::Calendar])
        .from(Plan::Quick),
    Test::new("D-04", "Neighbour disturb", "no errors, neighbours' reads within 10 %", "MCe")
        .runs(disturb)
        .from(Plan::Quick),
    Test::new("D-05", "Neighbours of interrupted writes", "no errors in zones beside a cut write", "MACZE")
        .runs(cut_neighbours)
        .needs(&[Need::Power]),
    Test::new("D-06", "First sectors of a burst", "no damage, no more slow reads there than elsewhere", "MCe")
        .runs(bursts::first_sectors),
    Test::new("D-07", "Detection of silent faults", "every one found, its kind and place named", "E")
        .runs(detection)
        .needs(&[Need::Injector]),
    Test::new("D-08", "Background scrub", "every latent error found in one sweep", "E")
        .runs(scrub)
        .needs(&[Need::Injector]),
];

/// Zones a full pass may write.
fn surface_zones(bench: &Bench) -> u32 {
    bench.scale.zones.min(bench.sequential_zones())
}

/// D-01: whole zones, written, read back after all of them are written, after a power cycle where there is one.
fn surface(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("damaged_sectors");
    let zones = bench.spread(surface_zones(bench))?;
    let total = 2 * zones.len() as u64;
    for (index, zone) in (0u64..).zip(&zones) {
        bench.tick(index, total)?;
        bench.must_fill(*zone, 0, bench.capacity())?;
    }
    let answer = bench.flush()?;
    bench.must(answer, "a flush")?;
    if let Some(power) = bench.subject.power.as_deref() {
        power.cycle();
    }
    for (index, zone) in (0u64..).zip(&zones) {
        bench.tick(zones.len() as u64 + index, total)?;
        bench.verify(*zone, 0..bench.capacity(), &mut tally)?;
    }
    if bench.geometry().conventional_zones > 0 {
        conventional(bench, &mut tally)?;
    }
    let bytes = zones.len() as u64 * bench.capacity();
    findings.metric("verified", "bytes", Observed::exact(bytes as f64));
    findings.tally(tally);
    Ok(findings)
}

/// Overwrites in the first conventional zone.
fn conventional(bench: &Bench, tally: &mut Tally) -> Result<(), Halt> {
    let zone = ZoneId(bench.geometry().conventional_zones - 1);
    let bytes = bench.transfer(4 * bench.sector());
    for offset_bytes in [0, bytes, bench.geometry().zone_bytes - bytes, bytes / bench.sector() / 2 * bench.sector()] {
        let answer = bench.write(zone, offset_bytes, bytes)?;
        tally.accepted(&answer, "a write into a conventional zone");
        bench.verify(zone, offset_bytes..offset_bytes + bytes, tally)?;
    }
    bench.verify(zone, 0..2 * bytes, tally)?;
    Ok(())
}

/// D-02: a zone is written, reset, written less, and read whole.
fn stale_generation(bench: &Bench) -> Result<Findings, Halt> {
    let mut tally = Tally::new("stale_sectors");
    let zones = bench.fresh(bench.scale.zones.min(6))?;
    for (index, zone) in (1u64..).zip(&zones) {
        for generation in 0..3 {
            let part = bench.capacity() / (generation + index % 2 + 1);
            let bytes = (part / bench.sector() * bench.sector()).max(bench.sector());
            bench.must_fill(*zone, 0, bytes)?;
            bench.verify(*zone, 0..bytes, &mut tally)?;
            bench.verify_blank(*zone, bytes, &mut tally)?;
            if generation == 1 {
                let answer = bench.finish(*zone)?;
                bench.must(answer, "a finish")?;
                bench.verify(*zone, 0..bytes, &mut tally)?;
                bench.verify_blank(*zone, bytes, &mut tally)?;
            }
            let answer = bench.reset(*zone)?;
            bench.must(answer, "a reset")?;
            bench.verify_blank(*zone, 0, &mut tally)?;
        }
    }
    let mut findings = Findings::new();
    findings.tally(tally);
    Ok(findings)
}

/// D-03: the same samples after growing pauses.
fn retention(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("damaged_sectors");
    let zones = bench.spread(8)?;
    let bytes = bench.transfer(64 * bench.sector());
    for zone in &zones {
        bench.must_append(*zone, 0, bytes)?;
    }
    let mut points = Vec::new();
    for (step, seconds) in (0u64..).zip([60, 3_600, 86_400, 604_800, 2_592_000]) {
        bench.tick(step, 5)?;
        bench.sleep(std::time::Duration::from_secs(seconds))?;
        let mut series = Series::new("read");
        for zone in &zones {
            bench.timed(&mut series, || bench.verify(*zone, 0..bytes, &mut tally))?;
        }
        points.push([seconds as f64, series.mean().v]);
    }
    findings.curve_log("read time after a pause", "seconds", "ms", points);
    findings.tally(tally);
    Ok(findings)
}

/// D-04: one zone is rewritten often; its neighbours are verified and timed against zones far away.
fn disturb(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut tally = Tally::new("damaged_sectors");
    let zones = bench.fresh(3)?;
    let control = bench.spread(2)?;
    let bytes = bench.transfer(16 * bench.sector());
    let [before, target, after] = zones[..] else { return Err(Halt::NotApplicable("too few zones".to_owned())) };
    for zone in [before, after].into_iter().chain(control.iter().copied()).filter(|zone| *zone != target) {
        if bench.zone(zone)?.write_pointer_bytes == 0 {
            bench.must_append(zone, 0, bytes)?;
        }
    }
    let rounds = (bench.scale.samples / 100).max(20);
    for round in 0..rounds {
        bench.tick(round, rounds)?;
        bench.must_append(target, 0, bytes)?;
        let answer = bench.reset(target)?;
        bench.must(answer, "a reset")?;
    }
    let (mut near, mut far) = (Series::new("neighbours"), Series::new("control"));
    for round in 0..bench.scale.samples / 10 {
        let (zone, other) = if round % 2 == 0 { (before, control[0]) } else { (after, control[control.len() - 1]) };
        bench.timed(&mut near, || bench.verify(zone, 0..bytes, &mut tally))?;
        bench.timed(&mut far, || bench.verify(other, 0..bytes, &mut tally))?;
    }
    let ratio = near.mean().v / far.mean().v.max(f64::MIN_POSITIVE);
    findings.prefer("neighbour_read_ratio <= 1.10", Observed::exact(ratio), ratio <= 1.10);
    findings.tally(tally);
    Ok(findings)
}

/// D-05: cuts in the middle of appends; the zones on either side are untouched.
fn cut_neighbours(bench: &Bench) -> Result<Findings, Halt> {
    let mut tally = Tally::new("damaged_sectors");
    let power = bench.power()?;
    let zones = bench.fresh(3)?;
    let [before, target, after] = zones[..] else { return Err(Halt::NotApplicable("too few zones".to_owned())) };
    let bytes = bench.transfer(8 * bench.sector());
    bench.must_fill(before, 0, bytes)?;
    bench.must_fill(after, 0, bytes)?;
    let answer = bench.flush()?;
    bench.must(answer, "a flush")?;
    let rounds = bench.scale.cuts.min(200);
    for round in 0..rounds {
        bench.tick(round, rounds)?;
        let mut at = bench.zone(target)?.write_pointer_bytes;
        if at + bytes > bench.capacity() {
            let answer = bench.reset(target)?;
            bench.must(answer, "a reset")?;
            at = 0;
        }
        {
            let mut append = bench.start_append(target, at, bytes);
            bench.steps(append.as_mut(), bench.below(3))?;
            power.cut(bench.below(u64::MAX));
        }
        bench.verify(before, 0..bytes, &mut tally)?;
        bench.verify(after, 0..bytes, &mut tally)?;
        for (zone, whole) in [(before, bytes), (after, bytes)] {
            let pointer = bench.zone(zone)?.write_pointer_bytes;
            tally.check(pointer == whole, || format!("zone {}: pointer {pointer} instead of {whole}", zone.0));
        }
    }
    let mut findings = Findings::new();
    findings.tally(tally);
    Ok(findings)
}

/// Whether damage is of the kind that was injected.
type Names = fn(&Damage) -> bool;

/// D-07: the host's own check finds every injected fault, and names it.
fn detection(bench: &Bench) -> Result<Findings, Halt> {
    let mut missed = Tally::new("faults_missed");
    let injector = bench.injector()?;
    let faults = injector.faults();
    let bytes = bench.transfer(8 * bench.sector());
    let kinds: [(&str, Names); 5] = [
        ("flipped bit on the way", |damage| matches!(damage, Damage::Corrupt)),
        ("flipped bit at rest", |damage| matches!(damage, Damage::Corrupt)),
        ("misdirected read", |damage| matches!(damage, Damage::Misdirected { .. } | Damage::Lost)),
        ("unreadable sector", |_| true),
        ("stale sector", |damage| matches!(damage, Damage::Stale { .. })),
    ];
    for round in 0..20 {
        bench.tidy()?;
        let zone = bench.fresh(1)?[0];
        bench.must_fill(zone, 0, 2 * bytes)?;
        for (kind, names) in kinds {
            let at = bench.below(bytes / bench.sector()) * bench.sector();
            let mut tally = Tally::new(kind);
            match kind {
                "flipped bit on the way" => faults.arm(1, Fault::FlippedRead),
                "flipped bit at rest" => faults.flip_at_rest(zone, at + 9, 4),
                "misdirected read" => faults.arm(1, Fault::MisdirectedRead),
                "unreadable sector" => faults.set_unreadable(zone, at),
                _ => {}
            }
            let found: Damages = if kind == "stale sector" {
                // What a drive would show that had lost a rewrite: the bytes of one generation before.
                let data = bench.read(zone, 0, bytes)?.unwrap_or_default();
                let answer = bench.reset(zone)?;
                bench.must(answer, "a reset")?;
                bench.judge(zone, 0, &data)
            } else {
                bench.verify(zone, 0..bytes, &mut tally)?
            };
            let caught = if kind == "unreadable sector" {
                tally.failures > 0
            } else {
                found.iter().any(|(_, _, damage)| names(damage))
            };
            missed.check(caught, || format!("round {round}: {kind} in zone {}: found {found:?}", zone.0));
            faults.clear();
        }
    }
    torn_append(bench, &mut missed)?;
    let mut findings = Findings::new();
    findings.tally(missed);
    Ok(findings)
}

/// An append that fails in the middle: the host sees the error, and the pointer tells how far it came.
fn torn_append(bench: &Bench, missed: &mut Tally) -> Result<(), Halt> {
    let faults = bench.injector()?.faults();
    let zone = bench.fresh(1)?[0];
    let bytes = bench.transfer(8 * bench.sector());
    faults.arm(1, Fault::TornAppend);
    let answer = bench.append(zone, 0, bytes)?;
    missed.check(answer.is_err(), || "a torn append was acknowledged".to_owned());
    let pointer = bench.zone(zone)?.write_pointer_bytes;
    missed.check(pointer < bytes, || format!("a torn append of {bytes} bytes left the pointer at {pointer}"));
    bench.verify(zone, 0..pointer, missed)?;
    missed.check(faults.seen(CommandKind::Append) > 0, || "the injector saw no append".to_owned());
    faults.clear();
    Ok(())
}

/// D-08: latent errors are planted; one sweep of a paced scrub finds them all.
fn scrub(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut missed = Tally::new("errors_missed");
    let faults = bench.injector()?.faults();
    for share in [0.1, 0.5] {
        let zones = bench.fresh(bench.scale.zones.min(8))?;
        for zone in &zones {
            bench.must_fill(*zone, 0, bench.capacity())?;
        }
        let mut planted: Vec<(ZoneId, u64)> = Vec::new();
        for index in 0..24u64 {
            let zone = zones[bench.below(zones.len() as u64) as usize];
            let at = bench.below(bench.capacity() / bench.sector()) * bench.sector();
            if planted.contains(&(zone, at)) {
                continue;
            }
            if index % 3 == 0 {
                faults.set_unreadable(zone, at)
            } else {
                faults.flip_at_rest(zone, at + 77, 1)
            }
            planted.push((zone, at));
        }
        let began_ns = bench.now_ns();
        let mut found: Vec<(ZoneId, u64, u64)> = Vec::new();
        for zone in &zones {
            let mut at = 0;
            while at < bench.capacity() {
                let start_ns = bench.now_ns();
                let bad = match bench.read(*zone, at, bench.sector())? {
                    Ok(data) => !bench.judge(*zone, at, &data).is_empty(),
                    Err(_) => true,
                };
                if bad {
                    found.push((*zone, at, bench.now_ns() - began_ns));
                }
                let busy_ns = (bench.now_ns() - start_ns) as f64;
                bench.sleep(std::time::Duration::from_nanos((busy_ns * (1.0 - share) / share) as u64))?;
                at += bench.sector();
            }
        }
        for (zone, at) in &planted {
            let seen = found.iter().any(|(found_zone, found_at, _)| (found_zone, found_at) == (zone, at));
            missed.check(seen, || format!("zone {} at {at}, scrub at {:.0} %", zone.0, share * 100.0));
        }
        missed.check(found.len() == planted.len(), || format!("{} found, {} planted", found.len(), planted.len()));
        let times: Vec<f64> = found.iter().map(|(_, _, time_ns)| *time_ns as f64 / 1e9).collect();
        let name = format!("time_to_detect_{:.0}_percent", share * 100.0);
        findings.metric(&name, "s", super::statistics::mean_of(&times));
        faults.clear();
    }
    findings.tally(missed);
    Ok(findings)
}
