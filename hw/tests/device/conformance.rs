//! The conformance body: what every back end does alike. It runs against emulated drives on the host, and inside the
//! guest against drives of the kernel.

use shingle_hw::buffer::BufferPool;
use shingle_hw::device::Part;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::{ZoneCondition, ZoneId};

use crate::rig::{Rig, filled, pattern};

/// One check of a device.
pub type Check = fn(&Rig);

/// The checks, by name. Each one starts from a device whose sequential zones are all empty and have seen no faults.
pub const CHECKS: [(&str, Check); 9] = [
    ("reports", reports),
    ("appends_and_reads", appends_and_reads),
    ("appends_from_several_buffers", appends_from_several_buffers),
    ("conventional_zones", conventional_zones),
    ("limits", limits),
    ("conditions", conditions),
    ("bad_fields", bad_fields),
    ("concurrency", concurrency),
    ("flushes", flushes),
];

/// The first sequential zone.
fn sequential(rig: &Rig) -> u32 {
    rig.device.geometry().conventional_zones
}

fn sector(rig: &Rig) -> usize {
    rig.device.geometry().sector_bytes as usize
}

fn reports(rig: &Rig) {
    let geometry = rig.device.geometry().clone();
    let all = rig.run(rig.device.report(ZoneId(0), u32::MAX)).expect("reports");
    assert_eq!(all.len(), geometry.zones as usize);
    for (id, zone) in (0..).zip(&all) {
        let conventional = id < geometry.conventional_zones;
        assert_eq!(zone.id, ZoneId(id));
        let condition = if conventional { ZoneCondition::NotWritePointer } else { ZoneCondition::Empty };
        assert_eq!(zone.condition, condition);
        let capacity = if conventional { geometry.zone_bytes } else { geometry.zone_capacity_bytes };
        assert_eq!((zone.capacity_bytes, zone.write_pointer_bytes), (capacity, 0));
    }
    let part = rig.run(rig.device.report(ZoneId(geometry.zones - 2), 5)).expect("reports");
    assert_eq!(part, all[all.len() - 2..]);
    assert!(rig.run(rig.device.report(ZoneId(geometry.zones), 5)).expect("reports").is_empty());
}

fn appends_and_reads(rig: &Rig) {
    let (zone, sector) = (sequential(rig), sector(rig));
    let capacity = rig.device.geometry().zone_capacity_bytes as usize;
    let data = pattern(1, capacity);
    let mut at = 0;
    let most = rig.device.geometry().transfer_bytes_max as usize;
    // Pieces are what takes time: behind the first ones they are larger, as many of them in every zone.
    let large = sector * (capacity / sector / 256).max(1);
    let units = [sector; 10].into_iter().chain(std::iter::repeat(large));
    for (count, unit) in [1, 3, 2, 5, 30].iter().cycle().zip(units) {
        let end = (at + (count * unit).min(most)).min(capacity);
        if at == end {
            break;
        }
        assert_eq!(rig.append(zone, &data[at..end]), Ok(at as u64));
        if end < capacity {
            let found = rig.zone(zone);
            assert_eq!((found.condition, found.write_pointer_bytes), (ZoneCondition::ImplicitOpen, end as u64));
            let around = rig.read(zone, 0, sector).expect("reads");
            assert_eq!(around, data[..sector]);
        }
        at = end;
    }
    assert_eq!(rig.zone(zone).condition, ZoneCondition::Full);
    assert_eq!(rig.append(zone, &data[..sector]), Err(DeviceError::Full { zone: ZoneId(zone) }));
    assert_eq!(read_all(rig, zone, capacity), data);
    rig.reset(zone).expect("resets");
    assert_eq!((rig.zone(zone).condition, rig.zone(zone).write_pointer_bytes), (ZoneCondition::Empty, 0));
    assert!(read_all(rig, zone, capacity).iter().all(|byte| *byte == 0), "a reset zone reads as zeroes");
    assert_eq!(rig.append(zone, &data[sector..3 * sector]), Ok(0));
    let mut expected = data[sector..3 * sector].to_vec();
    expected.resize(4 * sector, 0);
    assert_eq!(rig.read(zone, 0, 4 * sector).expect("reads"), expected, "zeroes from the write pointer on");
}

/// Reads a zone in pieces of the transfer limit.
fn appends_from_several_buffers(rig: &Rig) {
    let (zone, sector) = (sequential(rig), sector(rig));
    let data = pattern(3, 6 * sector);
    let append = |parts: Vec<Part>| rig.run(rig.device.append_parts(ZoneId(zone), parts));
    let part =
        |from: usize, to: usize| (filled(&*rig.device, &data[from * sector..to * sector]), 0..(to - from) * sector);
    let (landed, parts) = append(vec![part(0, 1), part(1, 2)]);
    assert_eq!(landed, Ok(0));
    assert_eq!(parts.len(), 2, "the buffers come back");
    assert_eq!(parts[1].0[..sector], data[sector..2 * sector]);
    // The middle of a buffer, and nothing of another one.
    let middle = (filled(&*rig.device, &data[sector..4 * sector]), sector..3 * sector);
    let nothing = (filled(&*rig.device, &data[..sector]), 0..0);
    assert_eq!(append(vec![middle, nothing, part(4, 6)]).0, Ok(2 * sector as u64));
    assert_eq!(read_all(rig, zone, 6 * sector), data);
    assert_eq!(rig.zone(zone).write_pointer_bytes, 6 * sector as u64);
    let mut halves = [part(0, 1), part(1, 2)];
    halves.iter_mut().for_each(|(_, bytes)| bytes.end = sector / 2);
    let outside = (filled(&*rig.device, &data[..sector]), 0..64 * sector.max(4096));
    for bad in [halves.into(), vec![part(0, 1), outside]] {
        let (refused, parts) = append(bad);
        assert!(matches!(refused, Err(DeviceError::InvalidField { .. })), "{refused:?}");
        assert_eq!(parts.len(), 2);
    }
    rig.run(rig.device.flush()).expect("flushes");
    assert_eq!(rig.zone(zone).write_pointer_bytes, 6 * sector as u64, "what was refused has written nothing");
}

fn read_all(rig: &Rig, zone: u32, capacity: usize) -> Vec<u8> {
    let most = rig.device.geometry().transfer_bytes_max as usize;
    (0..capacity)
        .step_by(most)
        .flat_map(|at| rig.read(zone, at as u64, most.min(capacity - at)).expect("reads"))
        .collect()
}

fn conventional_zones(rig: &Rig) {
    let (zone, sector) = (ZoneId(sequential(rig)), sector(rig));
    let data = pattern(2, 2 * sector);
    assert_eq!(rig.write(zone.0, 0, &data), Err(DeviceError::Condition { zone }), "sequential zones are appended to");
    if rig.device.geometry().conventional_zones == 0 {
        return;
    }
    let zone = ZoneId(0);
    let last = rig.device.geometry().zone_bytes - 2 * sector as u64;
    rig.write(0, last, &data).expect("writes up to the end");
    rig.write(0, 0, &data).expect("writes anywhere");
    rig.write(0, sector as u64, &data).expect("overwrites");
    assert_eq!(rig.read(0, 0, sector).expect("reads"), data[..sector]);
    assert_eq!(rig.read(0, sector as u64, 2 * sector).expect("reads"), data);
    assert_eq!(rig.read(0, last, 2 * sector).expect("reads"), data);
    assert_eq!(rig.zone(0).condition, ZoneCondition::NotWritePointer);
    assert!(matches!(rig.write(0, last + sector as u64, &data), Err(DeviceError::Boundary { .. })));
    assert_eq!(rig.append(0, &data), Err(DeviceError::Condition { zone }));
    assert_eq!(rig.reset(0), Err(DeviceError::Condition { zone }));
    assert_eq!(rig.run(rig.device.open(zone)), Err(DeviceError::Condition { zone }));
    assert_eq!(rig.run(rig.device.finish(zone)), Err(DeviceError::Condition { zone }));
}

fn limits(rig: &Rig) {
    let geometry = rig.device.geometry().clone();
    let (first, data) = (sequential(rig), pattern(3, sector(rig)));
    let open = geometry.open_zones_max;
    if open > 0 {
        for zone in first..first + open + 1 {
            rig.append(zone, &data).expect("the least recently used zone is closed");
        }
        assert_eq!(rig.zone(first).condition, ZoneCondition::Closed);
        assert_eq!(rig.zone(first + open).condition, ZoneCondition::ImplicitOpen);
        for zone in first..first + open {
            rig.run(rig.device.open(ZoneId(zone))).expect("opens");
        }
        assert_eq!(rig.append(first + open, &data), Err(DeviceError::TooManyOpen { limit: open }));
        rig.run(rig.device.close(ZoneId(first))).expect("closes");
        rig.append(first + open, &data).expect("a place is free");
    }
    let active = geometry.active_zones_max;
    if active > 0 {
        let used: Vec<u32> = (first..geometry.zones).filter(|zone| rig.zone(*zone).write_pointer_bytes > 0).collect();
        for zone in first + used.len() as u32..first + active {
            rig.append(zone, &data).expect("within the limit");
        }
        let next = first + active;
        assert_eq!(rig.append(next, &data), Err(DeviceError::TooManyActive { limit: active }));
        rig.run(rig.device.finish(ZoneId(first + 1))).expect("finishes");
        rig.append(next, &data).expect("a place is free");
    }
}

fn conditions(rig: &Rig) {
    let (zone, data) = (ZoneId(sequential(rig) + 1), pattern(4, sector(rig)));
    let condition = || rig.zone(zone.0).condition;
    assert_eq!(rig.run(rig.device.close(zone)), Err(DeviceError::Condition { zone }), "an empty zone is not closed");
    rig.run(rig.device.open(zone)).expect("opens");
    assert_eq!(condition(), ZoneCondition::ExplicitOpen);
    rig.run(rig.device.close(zone)).expect("closes");
    assert_eq!(condition(), ZoneCondition::Empty);
    rig.append(zone.0, &data).expect("appends");
    rig.run(rig.device.open(zone)).expect("opens");
    rig.run(rig.device.close(zone)).expect("closes");
    assert_eq!(condition(), ZoneCondition::Closed);
    rig.run(rig.device.close(zone)).expect("stays closed");
    rig.append(zone.0, &data).expect("opens a closed zone");
    rig.run(rig.device.finish(zone)).expect("finishes");
    assert_eq!(condition(), ZoneCondition::Full);
    rig.run(rig.device.finish(zone)).expect("stays full");
    assert_eq!(rig.run(rig.device.open(zone)), Err(DeviceError::Condition { zone }));
    assert_eq!(rig.run(rig.device.close(zone)), Err(DeviceError::Condition { zone }));
    assert_eq!(rig.append(zone.0, &data), Err(DeviceError::Full { zone }));
    let found = rig.read(zone.0, 0, 3 * data.len()).expect("reads");
    assert_eq!((&found[..data.len()], &found[data.len()..2 * data.len()]), (&data[..], &data[..]));
    assert!(found[2 * data.len()..].iter().all(|byte| *byte == 0), "a finished zone is zeroes behind its data");
    rig.reset(zone.0).expect("resets");
    assert_eq!(condition(), ZoneCondition::Empty);
    rig.reset(zone.0).expect("an empty zone stays empty");
}

fn bad_fields(rig: &Rig) {
    let geometry = rig.device.geometry().clone();
    let (zone, sector) = (sequential(rig), sector(rig));
    let invalid = |outcome: Result<u64, DeviceError>| matches!(outcome, Err(DeviceError::InvalidField { .. }));
    let data = pattern(5, 4 * sector);
    assert!(invalid(rig.append(zone, &data[..sector - 1])));
    assert!(invalid(rig.append(zone, &[])));
    // The limit may be a gigabyte: none of it is touched.
    let above = geometry.transfer_bytes_max as usize + sector;
    let untouched = BufferPool::new(above).expect("mapped").try_alloc(above).expect("it is as large as that");
    assert!(invalid(rig.run(rig.device.append(ZoneId(zone), untouched, 0..above)).0), "above the transfer limit");
    for bytes in [1..sector + 1, sector..sector * 1000, sector..0] {
        let buffer = filled(&*rig.device, &data[..4 * sector]);
        let (outcome, buffer) = rig.run(rig.device.append(ZoneId(zone), buffer, bytes));
        assert!(invalid(outcome));
        assert!(buffer.len() >= 4 * sector, "the buffer comes back with an error too");
    }
    assert!(matches!(rig.read(zone, 1, sector), Err(DeviceError::InvalidField { .. })));
    let capacity = geometry.zone_capacity_bytes;
    assert!(matches!(rig.read(zone, capacity - sector as u64, 2 * sector), Err(DeviceError::Boundary { .. })));
    assert!(matches!(rig.read(geometry.zones, 0, sector), Err(DeviceError::Boundary { .. })));
    assert!(matches!(rig.append(geometry.zones, &data[..sector]), Err(DeviceError::Boundary { .. })));
    assert!(matches!(rig.reset(u32::MAX), Err(DeviceError::Boundary { .. })));
    assert_eq!(rig.zone(zone).condition, ZoneCondition::Empty, "refused commands change nothing");
    let buffer = filled(&*rig.device, &data[..4 * sector]);
    let (outcome, _) = rig.run(rig.device.append(ZoneId(zone), buffer, sector..3 * sector));
    assert_eq!(outcome, Ok(0));
    assert_eq!(rig.read(zone, 0, 2 * sector).expect("reads"), data[sector..3 * sector], "the middle of a buffer");
}

/// Appends to several zones, reads and a flush, all in flight together.
fn concurrency(rig: &Rig) {
    let geometry = rig.device.geometry().clone();
    let (first, sector) = (sequential(rig), sector(rig));
    let count = if geometry.open_zones_max == 0 { 20 } else { geometry.open_zones_max };
    for round in 0..4u64 {
        let commands: Vec<_> = (first..first + count)
            .map(|zone| {
                let data = pattern(u64::from(zone) * 10 + round, 2 * sector);
                rig.device.append(ZoneId(zone), filled(&*rig.device, &data), 0..data.len())
            })
            .collect();
        let flush = rig.device.flush();
        let read = rig.device.read(ZoneId(first), 0, rig.device.alloc_buffer(sector), 0..sector);
        for command in commands {
            assert_eq!(rig.run(command).0, Ok(round * 2 * sector as u64));
        }
        rig.run(flush).expect("flushes");
        rig.run(read).0.expect("reads");
    }
    for zone in first..first + count {
        for round in 0..4u64 {
            let expected = pattern(u64::from(zone) * 10 + round, 2 * sector);
            assert_eq!(rig.read(zone, round * 2 * sector as u64, 2 * sector).expect("reads"), expected);
        }
    }
}

/// Many flushes at once, and futures that nobody polls.
fn flushes(rig: &Rig) {
    let (zone, data) = (sequential(rig), pattern(6, sector(rig)));
    rig.flush().expect("nothing to flush");
    let dropped = rig.device.append(ZoneId(zone), filled(&*rig.device, &data), 0..data.len());
    drop(dropped);
    drop(rig.device.flush());
    let flushes: Vec<_> = (0..5).map(|_| rig.device.flush()).collect();
    for flush in flushes {
        rig.run(flush).expect("flushes");
    }
    while rig.zone(zone).write_pointer_bytes == 0 {
        rig.ring.wait();
    }
    assert_eq!(
        rig.append(zone, &data),
        Ok(data.len() as u64),
        "an append whose future was dropped happens all the same"
    );
    assert_eq!(rig.read(zone, 0, data.len()).expect("reads"), data);
}
