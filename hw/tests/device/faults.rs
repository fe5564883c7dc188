//! Every fault of the faulty device, over a device in memory.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::faulty::{CommandKind, Fault, Faults, FaultyDevice};
use shingle_hw::zone::{ZoneCondition, ZoneId};

use crate::emulated::geometries;
use crate::rig::{Rig, new_ring, pattern};

const SECTOR: usize = 4096;

struct Faulty {
    rig: Rig,
    faults: Faults,
    memory: MemoryDevice,
    slept: Rc<RefCell<Vec<Duration>>>,
}

fn faulty(seed: u64) -> Faulty {
    let memory = MemoryDevice::new(geometries().swap_remove(0), "m");
    let slept = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&slept);
    let sleep = move |time| -> shingle_hw::device::Command<()> {
        log.borrow_mut().push(time);
        Box::pin(std::future::ready(()))
    };
    let device = FaultyDevice::new(Rc::new(memory.clone()), Rc::new(sleep), seed);
    let faults = device.faults();
    Faulty { rig: Rig::with(Rc::new(device), new_ring()), faults, memory, slept }
}

#[test]
fn an_armed_error_strikes_the_nth_command_once() {
    let Faulty { rig, faults, .. } = faulty(1);
    let error = DeviceError::Failed { reason: "test", errno: 5 };
    faults.arm(2, Fault::Error { command: CommandKind::Append, error: error.clone() });
    let data = pattern(1, SECTOR);
    assert_eq!(rig.append(1, &data), Ok(0));
    rig.flush().expect("another kind");
    assert_eq!(faults.armed(), 1);
    assert_eq!(rig.append(1, &data), Err(error));
    assert_eq!(rig.append(1, &data), Ok(SECTOR as u64), "the failed one did nothing");
    assert_eq!((faults.armed(), faults.seen(CommandKind::Append)), (0, 3));
}

#[test]
fn a_torn_append_leaves_some_of_its_first_sectors() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let Faulty { rig, faults, .. } = faulty(seed);
        faults.arm(1, Fault::TornAppend);
        let data = pattern(2, 4 * SECTOR);
        assert!(matches!(rig.append(1, &data), Err(DeviceError::Failed { .. })));
        let written = rig.zone(1).write_pointer_bytes as usize;
        assert_eq!(rig.read(1, 0, 4 * SECTOR).expect("reads")[..written], data[..written]);
        lengths.insert(written / SECTOR);
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn a_lost_flush_loses_bytes_in_the_next_crash() {
    for standing in [false, true] {
        let Faulty { rig, faults, memory, .. } = faulty(1);
        if standing {
            faults.set_lose_flushes(true)
        } else {
            faults.arm(1, Fault::LostFlush)
        }
        let mut lost = false;
        rig.append(1, &pattern(3, SECTOR)).expect("appends");
        for seed in 0..20 {
            rig.flush().expect("a lie");
            memory.crash(seed);
            lost |= rig.zone(1).write_pointer_bytes == 0;
        }
        assert!(lost || !standing);
    }
}

#[test]
fn flipped_and_misdirected_reads_deliver_wrong_bytes_once() {
    let Faulty { rig, faults, .. } = faulty(4);
    let data = pattern(4, 4 * SECTOR);
    rig.append(1, &data).expect("appends");
    faults.arm(1, Fault::FlippedRead);
    let found = rig.read(1, 0, 2 * SECTOR).expect("reads");
    let different: u32 = found.iter().zip(&data).map(|(one, two)| (one ^ two).count_ones()).sum();
    assert_eq!(different, 1);
    for _ in 0..10 {
        faults.arm(1, Fault::MisdirectedRead);
        assert_ne!(rig.read(1, SECTOR as u64, SECTOR).expect("reads"), data[SECTOR..2 * SECTOR]);
    }
    assert_eq!(rig.read(1, 0, 4 * SECTOR).expect("reads"), data);
}

#[test]
fn damage_at_rest_stays_until_the_zone_is_reset() {
    let Faulty { rig, faults, memory, .. } = faulty(5);
    let data = pattern(5, 2 * SECTOR);
    rig.append(1, &data).expect("appends");
    faults.flip_at_rest(ZoneId(1), 5000, 0x81);
    memory.flip(ZoneId(1), 100, 1);
    for _ in 0..2 {
        let mut expected = data.clone();
        expected[5000] ^= 0x81;
        expected[100] ^= 1;
        assert_eq!(rig.read(1, 0, 2 * SECTOR).expect("reads"), expected);
    }
    rig.reset(1).expect("resets");
    rig.append(1, &data).expect("appends");
    assert_eq!(rig.read(1, 0, 2 * SECTOR).expect("reads"), data);
}

#[test]
fn zones_turn_read_only_and_offline() {
    let Faulty { rig, faults, memory, .. } = faulty(6);
    let data = pattern(6, SECTOR);
    for zone in 1..5 {
        rig.append(zone, &data).expect("appends");
    }
    faults.set_read_only(ZoneId(1));
    faults.set_offline(ZoneId(2));
    memory.set_read_only(ZoneId(3));
    memory.set_offline(ZoneId(4));
    for (zone, condition) in [
        (1, ZoneCondition::ReadOnly),
        (3, ZoneCondition::ReadOnly),
        (2, ZoneCondition::Offline),
        (4, ZoneCondition::Offline),
    ] {
        assert_eq!(rig.zone(zone).condition, condition);
        let id = ZoneId(zone);
        let read_only = condition == ZoneCondition::ReadOnly;
        let error = if read_only { DeviceError::ReadOnly { zone: id } } else { DeviceError::Offline { zone: id } };
        assert_eq!(rig.append(zone, &data), Err(error.clone()));
        assert_eq!(rig.reset(zone), Err(error.clone()));
        assert_eq!(rig.run(rig.device.finish(id)), Err(error.clone()));
        assert_eq!(rig.read(zone, 0, SECTOR), if read_only { Ok(data.clone()) } else { Err(error) });
    }
    memory.crash(1);
    assert_eq!(rig.zone(3).condition, ZoneCondition::ReadOnly, "for good");
    faults.clear();
    assert_eq!(rig.zone(1).condition, ZoneCondition::Closed);
}

#[test]
fn delays_use_the_given_clock_and_a_dead_or_stalled_disk_answers_nothing_good() {
    let Faulty { rig, faults, slept, .. } = faulty(7);
    let data = pattern(7, SECTOR);
    let range = Duration::from_millis(5)..=Duration::from_millis(9);
    faults.set_delay(CommandKind::Append, Some(range.clone()));
    for _ in 0..20 {
        rig.append(1, &data).expect("appends");
    }
    rig.flush().expect("not delayed");
    assert_eq!(slept.borrow().len(), 20);
    assert!(slept.borrow().iter().all(|time| range.contains(time)));
    faults.set_delay(CommandKind::Append, None);
    faults.set_dead(true);
    assert!(matches!(rig.flush(), Err(DeviceError::Failed { .. })));
    assert!(matches!(rig.append(1, &data), Err(DeviceError::Failed { .. })));
    assert!(matches!(rig.read(1, 0, SECTOR), Err(DeviceError::Failed { .. })));
    faults.set_dead(false);
    faults.set_stalled(true);
    let mut stalled = rig.device.flush();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(stalled.as_mut().poll(&mut context).is_pending());
    faults.set_stalled(false);
    assert!(stalled.as_mut().poll(&mut context).is_pending(), "what stalled stays so");
    rig.flush().expect("answers again");
}

#[test]
fn the_same_seed_gives_the_same_faults() {
    let run = |seed| {
        let Faulty { rig, faults, .. } = faulty(seed);
        let data = pattern(8, 32 * SECTOR);
        (0..5)
            .map(|_| {
                faults.arm(1, Fault::TornAppend);
                drop(rig.append(1, &data));
                rig.zone(1).write_pointer_bytes
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}
