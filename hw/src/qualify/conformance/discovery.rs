//! C-01 and C-02: what the device says of itself.

use crate::qualify::bench::Bench;
use crate::qualify::findings::{Findings, Halt, Tally};
use crate::qualify::statistics::Observed;
use crate::zone::{Zone, ZoneCondition, ZoneId};

/// C-01: geometry, identity and report tell the same story.
pub(super) fn passport(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut views = Tally::new("views_disagreeing");
    let geometry = bench.geometry().clone();
    let passport = &bench.subject.passport;
    let identity = bench.device().identity();
    views.check(!identity.serial.trim().is_empty(), || "no serial number".to_owned());
    views.check(identity.serial == passport.serial, || "the serial number changed".to_owned());
    views.check(geometry.check().is_ok(), || format!("the geometry contradicts itself: {:?}", geometry.check()));
    let zones = bench.report(ZoneId(0), u32::MAX)?;
    let zones = bench.must(zones, "a report")?;
    views.check(zones.len() == geometry.zones as usize, || {
        format!("{} zones reported, {} in the geometry", zones.len(), geometry.zones)
    });
    let conventional = zones.iter().filter(|zone| zone.condition == ZoneCondition::NotWritePointer).count();
    // Conventional zones that failed are read-only or offline.
    let expected = geometry.conventional_zones as usize;
    views.check(conventional <= expected, || format!("{conventional} conventional zones instead of {expected}"));
    let bytes: u64 = zones.iter().map(|zone| zone.capacity_bytes).sum();
    findings.metric("capacity", "bytes", Observed::exact(bytes as f64));
    for (condition, name) in CONDITIONS {
        let count = zones.iter().filter(|zone| zone.condition == condition).count();
        findings.metric(&format!("zones_{name}"), "", Observed::exact(count as f64));
    }
    findings.tally(views);
    Ok(findings)
}

const CONDITIONS: [(ZoneCondition, &str); 4] = [
    (ZoneCondition::NotWritePointer, "conventional"),
    (ZoneCondition::Empty, "empty"),
    (ZoneCondition::ReadOnly, "read_only"),
    (ZoneCondition::Offline, "offline"),
];

/// C-02: the same zones however they are asked for.
pub(super) fn reports(bench: &Bench) -> Result<Findings, Halt> {
    let mut findings = Findings::new();
    let mut shape = Tally::new("malformed_lines");
    let mut same = Tally::new("reports_disagreeing");
    let written = prepare(bench)?;
    let geometry = bench.geometry().clone();
    let whole = bench.report(ZoneId(0), u32::MAX)?;
    let whole = bench.must(whole, "a report")?;
    shape.check(whole.len() == geometry.zones as usize, || {
        format!("{} lines for {} zones", whole.len(), geometry.zones)
    });
    for (index, zone) in (0u32..).zip(&whole) {
        let complaint = malformed(bench, index, zone);
        shape.check(complaint.is_none(), || complaint.clone().unwrap_or_default());
    }
    for (zone, bytes) in written {
        let line = whole.get(zone.0 as usize).map(|line| line.write_pointer_bytes);
        shape.check(line == Some(bytes), || {
            format!("zone {}: {bytes} bytes were written, the write pointer is {line:?}", zone.0)
        });
    }
    let last = geometry.zones - 1;
    let mut asks = vec![(0, 1), (0, 7), (last, 1), (last, 9), (last / 2, 3), (geometry.zones, 4), (u32::MAX, 1)];
    for _ in 0..20 {
        asks.push((bench.below(u64::from(geometry.zones)) as u32, bench.below(40) as u32 + 1));
    }
    for (first, count) in asks {
        let end = first.saturating_add(count).min(geometry.zones) as usize;
        let expected = whole.get((first as usize).min(end)..end).unwrap_or_default();
        match bench.report(ZoneId(first), count)? {
            Ok(lines) => {
                same.check(lines == expected, || format!("{count} zones from {first} on differ from the whole report"));
            }
            // Beyond the end, a refusal is as good as an empty report.
            Err(error) => {
                same.check(expected.is_empty(), || format!("{count} zones from {first} on: {error}"));
            }
        }
    }
    findings.tally(shape);
    findings.tally(same);
    Ok(findings)
}

/// Brings zones into different states.
fn prepare(bench: &Bench) -> Result<Vec<(ZoneId, u64)>, Halt> {
    let zones = bench.fresh(4.min(bench.open_limit()))?;
    let mut written = Vec::new();
    for (index, zone) in (1u64..).zip(&zones) {
        let bytes = bench.transfer(index * bench.sector());
        bench.must_append(*zone, 0, bytes)?;
        written.push((*zone, bytes));
    }
    if let Some((zone, bytes)) = written.first().copied() {
        let closed = bench.close(zone)?;
        bench.must(closed, "a close")?;
        let grown = bench.transfer(bench.sector());
        bench.must_append(zone, bytes, grown)?;
        written[0].1 = bytes + grown;
    }
    Ok(written)
}

/// What is wrong with a line of the whole report.
pub(in crate::qualify) fn malformed(bench: &Bench, index: u32, zone: &Zone) -> Option<String> {
    let geometry = bench.geometry();
    let conventional = index < geometry.conventional_zones;
    let dead = matches!(zone.condition, ZoneCondition::ReadOnly | ZoneCondition::Offline);
    let capacity = if conventional { geometry.zone_bytes } else { geometry.zone_capacity_bytes };
    let pointer = zone.write_pointer_bytes;
    let bounded = match zone.condition {
        ZoneCondition::Empty => pointer == 0,
        ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen => pointer < capacity,
        ZoneCondition::Closed => pointer > 0 && pointer < capacity,
        _ => true,
    };
    match () {
        () if zone.id.0 != index => Some(format!("line {index} is about zone {}", zone.id.0)),
        () if zone.capacity_bytes != capacity => {
            Some(format!("zone {index} has a capacity of {}", zone.capacity_bytes))
        }
        () if !dead && conventional != (zone.condition == ZoneCondition::NotWritePointer) => {
            Some(format!("zone {index} has the wrong type: {}", zone.condition.name()))
        }
        () if !bounded || !pointer.is_multiple_of(bench.sector()) => {
            Some(format!("zone {index} is {} with a write pointer of {pointer}", zone.condition.name()))
        }
        () => None,
    }
}
