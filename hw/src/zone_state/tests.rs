//! The state machine against the standards' rules and against arbitrary command sequences.

use proptest::prelude::*;

use super::*;

const SECTOR: u64 = 4096;

fn geometry(zones: u32, conventional: u32, open: u32, active: u32) -> Geometry {
    Geometry {
        zones,
        zone_bytes: 16 * SECTOR,
        zone_capacity_bytes: 12 * SECTOR,
        conventional_zones: conventional,
        sector_bytes: SECTOR as u32,
        open_zones_max: open,
        active_zones_max: active,
        transfer_bytes_max: 8 * SECTOR as u32,
    }
}

fn append(states: &mut ZoneStates, zone: u32, sectors: u64) -> Result<u64, DeviceError> {
    let offset = states.begin_append(ZoneId(zone), sectors * SECTOR)?;
    states.end_append(ZoneId(zone), sectors * SECTOR);
    Ok(offset)
}

fn condition(states: &ZoneStates, zone: u32) -> ZoneCondition {
    states.zone(ZoneId(zone)).expect("exists").condition
}

#[test]
fn the_least_recently_used_implicitly_open_zone_makes_room() {
    let mut states = ZoneStates::new(geometry(6, 0, 2, 0));
    append(&mut states, 0, 1).expect("opens");
    append(&mut states, 1, 1).expect("opens");
    append(&mut states, 0, 1).expect("open already");
    append(&mut states, 2, 1).expect("zone 1 makes room");
    assert_eq!(condition(&states, 0), ZoneCondition::ImplicitOpen);
    assert_eq!(condition(&states, 1), ZoneCondition::Closed);
    states.open(ZoneId(0)).expect("becomes explicit");
    states.open(ZoneId(3)).expect("zone 2 makes room");
    assert_eq!(append(&mut states, 4, 1), Err(DeviceError::TooManyOpen { limit: 2 }));
    assert_eq!(states.finish(ZoneId(1)), Err(DeviceError::TooManyOpen { limit: 2 }));
    states.close(ZoneId(3)).expect("closes");
    assert_eq!(condition(&states, 3), ZoneCondition::Empty, "explicitly opened, never written");
    append(&mut states, 4, 1).expect("room again");
}

#[test]
fn the_active_limit_is_freed_by_filling_finishing_and_resetting() {
    let mut states = ZoneStates::new(geometry(8, 1, 0, 2));
    append(&mut states, 1, 1).expect("first");
    append(&mut states, 2, 8).expect("second");
    states.close(ZoneId(1)).expect("closed zones stay active");
    assert_eq!(append(&mut states, 3, 1), Err(DeviceError::TooManyActive { limit: 2 }));
    assert_eq!(states.finish(ZoneId(3)), Err(DeviceError::TooManyActive { limit: 2 }));
    append(&mut states, 2, 4).expect("fills the zone");
    assert_eq!(condition(&states, 2), ZoneCondition::Full);
    append(&mut states, 3, 1).expect("room");
    states.finish(ZoneId(3)).expect("finishes");
    states.begin_reset(ZoneId(1)).expect("resets");
    states.end_reset(ZoneId(1));
    assert_eq!(states.active_zones(), 0);
    append(&mut states, 1, 1).expect("the pointer starts over");
}

#[test]
fn every_condition_refuses_what_it_must() {
    let mut states = ZoneStates::new(geometry(8, 1, 0, 0));
    let zone = ZoneId(2);
    assert_eq!(append(&mut states, 0, 1), Err(DeviceError::Condition { zone: ZoneId(0) }));
    assert_eq!(states.begin_reset(ZoneId(0)), Err(DeviceError::Condition { zone: ZoneId(0) }));
    assert_eq!(states.close(zone), Err(DeviceError::Condition { zone }), "empty");
    assert_eq!(states.check_write(zone, 0, SECTOR), Err(DeviceError::Condition { zone }));
    assert!(matches!(append(&mut states, 8, 1), Err(DeviceError::Boundary { .. })));
    assert!(matches!(append(&mut states, 2, 0), Err(DeviceError::InvalidField { .. })));
    assert!(matches!(append(&mut states, 2, 9), Err(DeviceError::InvalidField { .. })), "above the transfer limit");
    append(&mut states, 2, 8).expect("fits");
    assert!(matches!(append(&mut states, 2, 5), Err(DeviceError::Boundary { .. })));
    states.finish(zone).expect("finishes");
    assert_eq!(append(&mut states, 2, 1), Err(DeviceError::Full { zone }));
    assert_eq!(states.open(zone), Err(DeviceError::Condition { zone }));
    assert_eq!(states.close(zone), Err(DeviceError::Condition { zone }));
    states.finish(zone).expect("stays full");
    assert_eq!(states.check_read(zone, 6 * SECTOR, 4 * SECTOR), Ok(2 * SECTOR), "only what was written");
    states.set_read_only(zone);
    assert_eq!(append(&mut states, 2, 1), Err(DeviceError::ReadOnly { zone }));
    assert_eq!(states.begin_reset(zone), Err(DeviceError::ReadOnly { zone }));
    assert_eq!(states.check_read(zone, 0, SECTOR), Ok(SECTOR));
    states.set_offline(zone);
    assert_eq!(states.check_read(zone, 0, SECTOR), Err(DeviceError::Offline { zone }));
    assert!(matches!(states.check_read(ZoneId(3), 11 * SECTOR, 2 * SECTOR), Err(DeviceError::Boundary { .. })));
    assert!(matches!(
        states.check_read(ZoneId(3), u64::MAX / SECTOR * SECTOR, SECTOR),
        Err(DeviceError::Boundary { .. })
    ));
    assert!(matches!(states.check_read(ZoneId(3), 7, SECTOR), Err(DeviceError::InvalidField { .. })));
    assert_eq!(states.check_write(ZoneId(0), 15 * SECTOR, SECTOR), Ok(()), "conventional zones use their whole size");
}

#[test]
fn a_loss_of_power_closes_open_zones() {
    let mut states = ZoneStates::new(geometry(4, 0, 0, 0));
    append(&mut states, 0, 1).expect("appends");
    states.open(ZoneId(1)).expect("opens");
    states.begin_append(ZoneId(2), SECTOR).expect("in flight");
    states.power_cycle();
    let found: Vec<_> = states.report(ZoneId(0), 9).iter().map(|zone| zone.condition).collect();
    use ZoneCondition::{Closed, Empty};
    assert_eq!(found, [Closed, Empty, Empty, Empty]);
    append(&mut states, 2, 1).expect("nothing is in flight any more");
}

#[derive(Debug, Clone)]
enum Step {
    Begin(u32, u64),
    End(u32, bool),
    Open(u32),
    Close(u32),
    Finish(u32),
    Reset(u32),
    Fault(u32, bool),
    PowerCycle,
}

fn step() -> impl Strategy<Value = Step> {
    let zone = 0u32..9;
    prop_oneof![
        8 => (zone.clone(), 0u64..9).prop_map(|(zone, sectors)| Step::Begin(zone, sectors)),
        8 => (zone.clone(), any::<bool>()).prop_map(|(zone, well)| Step::End(zone, well)),
        2 => zone.clone().prop_map(Step::Open),
        2 => zone.clone().prop_map(Step::Close),
        1 => zone.clone().prop_map(Step::Finish),
        2 => zone.clone().prop_map(Step::Reset),
        1 => (zone, any::<bool>()).prop_map(|(zone, offline)| Step::Fault(zone, offline)),
        1 => Just(Step::PowerCycle),
    ]
}

/// Takes one step; returns the zone whose write pointer may have gone back.
fn take(states: &mut ZoneStates, in_flight: &mut [Option<u64>], step: Step) -> Option<u32> {
    match step {
        Step::Begin(zone, sectors) => {
            let idle = in_flight.get(zone as usize).is_none_or(Option::is_none);
            if idle && states.begin_append(ZoneId(zone), sectors * SECTOR).is_ok() {
                in_flight[zone as usize] = Some(sectors * SECTOR);
            }
        }
        Step::End(zone, well) => {
            if let Some(bytes) = in_flight.get_mut(zone as usize).and_then(Option::take) {
                states.end_append(ZoneId(zone), if well { bytes } else { 0 });
            }
        }
        Step::Open(zone) => drop(states.open(ZoneId(zone))),
        Step::Close(zone) => drop(states.close(ZoneId(zone))),
        Step::Finish(zone) => drop(states.finish(ZoneId(zone))),
        Step::Reset(zone) => {
            if states.begin_reset(ZoneId(zone)).is_ok() {
                states.end_reset(ZoneId(zone));
                return Some(zone);
            }
        }
        Step::Fault(zone, true) => states.set_offline(ZoneId(zone)),
        Step::Fault(zone, false) => states.set_read_only(ZoneId(zone)),
        Step::PowerCycle => {
            states.power_cycle();
            in_flight.fill(None);
        }
    }
    None
}

proptest! {
    #[test]
    fn limits_hold_and_write_pointers_only_grow(
        open in 0u32..4, more in 0u32..3, conventional in 0u32..3, steps in prop::collection::vec(step(), 1..200),
    ) {
        let active = if open == 0 { more } else { open + more };
        let geometry = geometry(8, conventional, open, active);
        let mut states = ZoneStates::new(geometry.clone());
        let mut in_flight = [None; 8];
        let mut before: Vec<u64> = vec![0; 8];
        for step in steps {
            let reset = take(&mut states, &mut in_flight, step);
            prop_assert!(open == 0 || states.open_zones() <= open);
            prop_assert!(active == 0 || states.active_zones() <= active);
            let report = states.report(ZoneId(0), u32::MAX);
            let count = |wanted: &[ZoneCondition]| report.iter().filter(|zone| wanted.contains(&zone.condition)).count();
            let opened = count(&[ZoneCondition::ImplicitOpen, ZoneCondition::ExplicitOpen]);
            prop_assert_eq!(opened as u32, states.open_zones());
            prop_assert_eq!((opened + count(&[ZoneCondition::Closed])) as u32, states.active_zones());
            for (zone, before) in (0u32..).zip(&mut before) {
                let written = states.written_bytes(ZoneId(zone));
                prop_assert!(written >= *before || reset == Some(zone));
                prop_assert!(written <= geometry.zone_capacity_bytes);
                if condition(&states, zone) == ZoneCondition::Empty {
                    prop_assert_eq!(written, 0);
                }
                *before = written;
            }
        }
    }
}
