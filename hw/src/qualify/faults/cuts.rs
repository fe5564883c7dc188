//! F-01, F-02, F-10, F-13, F-14: power goes at any event.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::qualify::bench::{Bench, Crowd, ZoneOperation};
use crate::qualify::findings::{Findings, Halt, Tally};
use crate::qualify::statistics::Observed;
use crate::zone::{ZoneCondition, ZoneId};

/// What the host knows of a zone when power goes.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Covered by a flush that ended.
    flushed: u64,
    /// Appends that ended.
    acknowledged: u64,
    /// Appends that were sent.
    submitted: u64,
}

type Book = RefCell<BTreeMap<ZoneId, Known>>;

/// What so many cuts did.
struct CutOutcome {
    lost: Tally,
    unsound: Tally,
    /// Acknowledged bytes that no flush covered, and how many of them were gone.
    unflushed_bytes: u64,
    unflushed_lost_bytes: u64,
    cuts: u64,
}

/// F-01.
pub(super) fn appends(bench: &Bench) -> Result<Findings, Halt> {
    let outcome = cut_appends(bench, bench.scale.cuts)?;
    let mut findings = Findings::new();
    findings.param("cuts", outcome.cuts);
    let share = outcome.unflushed_lost_bytes as f64 / outcome.unflushed_bytes.max(1) as f64;
    findings.metric("unflushed_share_lost", "", Observed::exact(share));
    findings.tally(outcome.lost);
    findings.tally(outcome.unsound);
    Ok(findings)
}

/// F-14: the same test on a drive whose flushes do nothing must fail.
pub(super) fn lying_flush(bench: &Bench) -> Result<Findings, Halt> {
    let injector = bench.injector()?;
    injector.faults().set_lose_flushes(true);
    let outcome = cut_appends(bench, bench.scale.cuts.max(40));
    injector.faults().set_lose_flushes(false);
    let found = outcome?.lost.failures;
    let mut findings = Findings::new();
    findings.require("losses_noticed > 0", Observed::exact(found as f64), found > 0);
    Ok(findings)
}

fn cut_appends(bench: &Bench, cuts: u64) -> Result<CutOutcome, Halt> {
    let power = bench.power()?;
    let zones = bench.fresh(bench.open_limit().min(6))?;
    let book: Book = RefCell::new(zones.iter().map(|zone| (*zone, Known::default())).collect());
    let mut outcome = CutOutcome {
        lost: Tally::new("flushed_sectors_lost"),
        unsound: Tally::new("zones_unsound"),
        unflushed_bytes: 0,
        unflushed_lost_bytes: 0,
        cuts: 0,
    };
    for round in 0..cuts {
        bench.tick(round, cuts)?;
        make_room(bench, &book)?;
        {
            let mut work = Box::pin(workload(bench, &zones, &book));
            let ended = bench.steps(work.as_mut(), 1 + bench.below(60))?;
            // The drive loses power before anybody lets go of the commands in flight.
            power.cut(bench.below(u64::MAX));
            if let Some(Err(halt)) = ended {
                return Err(halt);
            }
        }
        outcome.cuts += 1;
        look_after_cut(bench, &book, &mut outcome)?;
    }
    Ok(outcome)
}

/// Appends, several at once, and flushes in between, until it is dropped or the zones are full.
async fn workload(bench: &Bench<'_>, zones: &[ZoneId], book: &Book) -> Result<(), Halt> {
    let refused = |error| Halt::Drive(format!("a legal command was refused: {error}"));
    loop {
        if bench.below(3) == 0 {
            let covered = book.borrow().clone();
            bench.device().flush().await.map_err(refused)?;
            for (zone, known) in covered {
                if let Some(now) = book.borrow_mut().get_mut(&zone) {
                    now.flushed = now.flushed.max(known.acknowledged);
                }
            }
            continue;
        }
        let mut crowd = Crowd::default();
        let mut sent = BTreeMap::new();
        for zone in zones {
            let bytes = bench.transfer((1 + bench.below(6)) * bench.sector());
            let at = book.borrow().get(zone).map_or(0, |known| known.submitted);
            if bench.coin() && at + bytes <= bench.capacity() {
                let number = crowd.push(bench.start_append(*zone, at, bytes));
                sent.insert(number, (*zone, at + bytes));
                if let Some(known) = book.borrow_mut().get_mut(zone) {
                    known.submitted = at + bytes;
                }
            }
        }
        let full = book.borrow().values().all(|known| known.submitted + bench.transfer(u64::MAX) > bench.capacity());
        if sent.is_empty() && full {
            return Ok(());
        }
        while let Some((number, answer)) = crowd.next().await {
            answer.map_err(refused)?;
            if let Some((zone, until)) = sent.get(&number)
                && let Some(known) = book.borrow_mut().get_mut(zone)
            {
                known.acknowledged = *until;
            }
        }
    }
}

/// Empties zones that are nearly full.
fn make_room(bench: &Bench, book: &Book) -> Result<(), Halt> {
    let fullish: Vec<ZoneId> = book
        .borrow()
        .iter()
        .filter(|(_, known)| known.submitted + bench.transfer(u64::MAX) > bench.capacity())
        .map(|(zone, _)| *zone)
        .collect();
    for zone in fullish {
        let answer = bench.reset(zone)?;
        bench.must(answer, "a reset")?;
        book.borrow_mut().insert(zone, Known::default());
    }
    Ok(())
}

fn look_after_cut(bench: &Bench, book: &Book, outcome: &mut CutOutcome) -> Result<(), Halt> {
    let before = book.borrow().clone();
    for (zone, known) in before {
        let line = bench.zone(zone)?;
        let (id, unsound) = (zone.0, &mut outcome.unsound);
        let open = matches!(line.condition, ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen);
        unsound.check(!open, || format!("zone {id} is still {} after a power cut", line.condition.name()));
        let pointer = match line.condition {
            ZoneCondition::Full => bench.capacity(),
            _ => line.write_pointer_bytes,
        };
        unsound.check(pointer <= known.submitted, || {
            format!("zone {id}: the pointer is at {pointer}, only {} were ever sent", known.submitted)
        });
        outcome.lost.check(pointer >= known.flushed, || {
            format!("zone {id}: the pointer is at {pointer}, flushed up to {}", known.flushed)
        });
        bench.verify(zone, 0..pointer.min(known.flushed), &mut outcome.lost)?;
        bench.verify(zone, known.flushed.min(pointer)..pointer, unsound)?;
        bench.verify_blank(zone, pointer, unsound)?;
        outcome.unflushed_bytes += known.acknowledged.saturating_sub(known.flushed);
        outcome.unflushed_lost_bytes += known.acknowledged.saturating_sub(pointer.max(known.flushed));
        let adopted = Known { flushed: pointer, acknowledged: pointer, submitted: pointer };
        book.borrow_mut().insert(zone, adopted);
    }
    // What survived one cut is durable: the drive said so by its pointers.
    let answer = bench.flush()?;
    bench.must(answer, "a flush after a power cut")?;
    Ok(())
}

/// F-02.
pub(super) fn zone_commands(bench: &Bench) -> Result<Findings, Halt> {
    let mut tally = Tally::new("zones_in_neither_state");
    let power = bench.power()?;
    let rounds = bench.scale.cuts;
    let bytes = bench.transfer(4 * bench.sector());
    let operations = [ZoneOperation::Reset, ZoneOperation::Finish, ZoneOperation::Open, ZoneOperation::Close];
    for round in 0..rounds {
        bench.tick(round, rounds)?;
        bench.tidy()?;
        let zone = bench.fresh(1)?[0];
        let operation = operations[(round % 4) as usize];
        bench.must_append(zone, 0, bytes)?;
        let answer = bench.flush()?;
        bench.must(answer, "a flush")?;
        let ended = {
            let mut command = bench.start_zone_op(operation, zone);
            let ended = bench.steps(command.as_mut(), bench.below(4))?;
            power.cut(bench.below(u64::MAX));
            ended
        };
        let line = bench.zone(zone)?;
        let done = matches!(ended, Some(Ok(())));
        let kept = match operation {
            // A reset is durable when it ends; finish only with the next flush.
            ZoneOperation::Reset if done => vec![ZoneCondition::Empty],
            ZoneOperation::Reset => vec![ZoneCondition::Empty, ZoneCondition::Closed],
            ZoneOperation::Finish => vec![ZoneCondition::Full, ZoneCondition::Closed],
            _ => vec![ZoneCondition::Closed],
        };
        tally.check(kept.contains(&line.condition), || {
            format!("round {round}: {operation:?} (ended: {done}) of zone {} left it {}", zone.0, line.condition.name())
        });
        if line.condition == ZoneCondition::Empty {
            bench.renewed(zone);
            bench.verify_blank(zone, 0, &mut tally)?;
        } else {
            bench.verify(zone, 0..bytes, &mut tally)?;
        }
    }
    durable_finish(bench, &mut tally)?;
    let mut findings = Findings::new();
    findings.param("cuts", rounds);
    findings.tally(tally);
    Ok(findings)
}

/// A finish that a flush covered stays; a second cut changes nothing any more.
fn durable_finish(bench: &Bench, tally: &mut Tally) -> Result<(), Halt> {
    let power = bench.power()?;
    bench.tidy()?;
    let zones = bench.fresh(2)?;
    let bytes = bench.transfer(2 * bench.sector());
    bench.must_append(zones[0], 0, bytes)?;
    let answer = bench.finish(zones[0])?;
    bench.must(answer, "a finish")?;
    let answer = bench.flush()?;
    bench.must(answer, "a flush")?;
    for _ in 0..4 {
        power.cut(bench.below(u64::MAX));
        let condition = bench.zone(zones[0])?.condition;
        tally
            .check(condition == ZoneCondition::Full, || format!("a finished and flushed zone is {}", condition.name()));
        bench.verify(zones[0], 0..bytes, tally)?;
    }
    Ok(())
}

/// F-10: the drive goes in the middle of appends and comes back.
pub(super) fn unplug(bench: &Bench) -> Result<Findings, Halt> {
    let mut tally = Tally::new("reconciliations_failed");
    let (power, injector) = (bench.power()?, bench.injector()?);
    let serial = bench.device().identity().serial.clone();
    let zones = bench.fresh(bench.open_limit().min(4))?;
    let bytes = bench.transfer(4 * bench.sector());
    for zone in &zones {
        bench.must_append(*zone, 0, bytes)?;
    }
    let answer = bench.flush()?;
    bench.must(answer, "a flush")?;
    let mut crowd = Crowd::default();
    for zone in &zones {
        crowd.push(bench.start_append(*zone, bytes, bytes));
    }
    injector.faults().set_dead(true);
    power.cut(bench.below(u64::MAX));
    let mut failed = 0u64;
    while let Some((_, answer)) = bench.next(&mut crowd)? {
        failed += u64::from(answer.is_err());
    }
    let answer = bench.read(zones[0], 0, bench.sector())?;
    tally.refused(&answer, &["failed"], "a read of an unplugged drive");
    injector.faults().set_dead(false);
    tally.check(bench.device().identity().serial == serial, || "the drive came back as another one".to_owned());
    for zone in &zones {
        let pointer = bench.zone(*zone)?.write_pointer_bytes;
        tally.check((bytes..=2 * bytes).contains(&pointer), || format!("zone {}: pointer {pointer}", zone.0));
        bench.verify(*zone, 0..pointer, &mut tally)?;
        bench.must_append(*zone, pointer, bench.sector())?;
    }
    let mut findings = Findings::new();
    findings.metric("appends_failed", "", Observed::exact(failed as f64));
    findings.tally(tally);
    Ok(findings)
}

/// F-13: whatever the host believed, after a cut the device's pointer is the truth and appends go on from there.
pub(super) fn divergence(bench: &Bench) -> Result<Findings, Halt> {
    let mut tally = Tally::new("zones_not_reconciled");
    let mut torn = 0u64;
    let power = bench.power()?;
    let record = bench.transfer(8 * bench.sector());
    for _ in 0..bench.scale.cuts.min(100) {
        bench.tidy()?;
        let zone = bench.fresh(1)?[0];
        let mut believed = 0;
        for _ in 0..=bench.below(3) {
            if believed + record <= bench.capacity() / 2 {
                bench.must_append(zone, believed, record)?;
                believed += record;
            }
        }
        {
            let mut append = bench.start_append(zone, believed, record);
            bench.steps(append.as_mut(), bench.below(2))?;
            power.cut(bench.below(u64::MAX));
        }
        let pointer = bench.zone(zone)?.write_pointer_bytes;
        tally
            .check(pointer <= believed + record, || format!("zone {}: pointer {pointer} beyond what was sent", zone.0));
        torn += u64::from(pointer % record != 0);
        bench.verify(zone, 0..pointer, &mut tally)?;
        bench.must_append(zone, pointer, bench.sector())?;
        bench.verify(zone, 0..pointer + bench.sector(), &mut tally)?;
    }
    let mut findings = Findings::new();
    findings.metric("torn_tails", "", Observed::exact(torn as f64));
    findings.tally(tally);
    Ok(findings)
}
