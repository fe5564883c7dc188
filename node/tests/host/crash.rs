//! Loss of power at every device command of a script that covers an extent's life (invariants 1, 2 and 6).
//!
//! After each: what was acknowledged is there and exact, nothing else is there unless it is exact too, the next put works,
//! and a second loss of power later changes none of that.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use crate::rig;
use crate::rig::power::PowerCut;
use crate::rig::{Block, assert_stored, block, get, new_extent, put, start};
use futures_util::future::join_all;
use shingle_hw::backend::file;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::geometry::Geometry;
use shingle_node::osd::extent::State;
use shingle_node::osd::refusal::Refusal;
use shingle_node::osd::store::Osd;
use shingle_proto::ids::{ExtentId, Generation};
use shingle_seam::World;

/// What was asked for, and what was answered.
#[derive(Clone, Default)]
struct Promises {
    attempted: BTreeSet<(u128, Block)>,
    stored: BTreeSet<(u128, Block)>,
    created: BTreeSet<u128>,
    close_attempted: BTreeSet<u128>,
    closed: BTreeSet<u128>,
}

/// Puts several blocks at once.
async fn put_all(osd: &Rc<Osd>, promises: &RefCell<Promises>, puts: &[(u128, Block)]) {
    promises.borrow_mut().attempted.extend(puts);
    let answers = join_all(puts.iter().map(|(extent, block)| put(osd, *extent, *block))).await;
    for (name, answer) in puts.iter().zip(answers) {
        if answer.is_ok() {
            promises.borrow_mut().stored.insert(*name);
        }
    }
}

async fn create(osd: &Rc<Osd>, promises: &RefCell<Promises>, extent: u128) {
    if osd.create_extent(new_extent(extent)).await.is_ok() {
        promises.borrow_mut().created.insert(extent);
    }
}

async fn close(osd: &Rc<Osd>, promises: &RefCell<Promises>, extent: u128) {
    promises.borrow_mut().close_attempted.insert(extent);
    if osd.close_extent(ExtentId(extent), Generation(0)).await.is_ok() {
        promises.borrow_mut().closed.insert(extent);
    }
}

/// Two extents: small and large records, several at once, a change of zone, a close, and puts after that.
async fn script(osd: &Rc<Osd>, promises: &RefCell<Promises>) {
    create(osd, promises, 1).await;
    put_all(osd, promises, &[(1, block(1, 100))]).await;
    put_all(osd, promises, &[(1, block(2, 70_000)), (1, block(3, 4_000)), (1, block(4, 30_000))]).await;
    create(osd, promises, 2).await;
    put_all(osd, promises, &[(1, block(5, 90_000)), (2, block(6, 9_000)), (2, block(7, 120_000))]).await;
    put_all(osd, promises, &[(1, block(8, 130_000)), (2, block(9, 16))]).await;
    close(osd, promises, 1).await;
    put_all(osd, promises, &[(2, block(10, 150_000)), (2, block(11, 5_000))]).await;
}

/// Slots that held nothing are used again, until the journal has changed its zone more than once.
async fn reuse_script(osd: &Rc<Osd>, promises: &RefCell<Promises>) {
    create(osd, promises, 1).await;
    put_all(osd, promises, &[(1, block(1, 5_000))]).await;
    let slots = u128::from(osd.label.layout.extents);
    for extent in 10..10 + slots - 1 {
        create(osd, promises, extent).await;
        close(osd, promises, extent).await;
    }
    for extent in 30..33 {
        create(osd, promises, extent).await;
        put_all(osd, promises, &[(extent, block(extent as u64, 6_000)), (extent, block(1 + extent as u64, 100))]).await;
        close(osd, promises, extent).await;
    }
}

/// Whether the disk keeps all promises; what it holds beyond them is exact.
async fn check(osd: &Rc<Osd>, promises: &Promises, when: &str) {
    for extent in &promises.created {
        let state = osd.extent(ExtentId(*extent)).map(|extent| extent.state.get());
        let holds = promises.stored.iter().any(|(other, _)| other == extent);
        let expected = match promises.close_attempted.contains(extent) {
            false => state == Some(State::Open),
            true if !holds && state.is_none() => true,
            true if promises.closed.contains(extent) => state == Some(State::Closed),
            true => matches!(state, Some(State::Open | State::Closed)),
        };
        assert!(expected, "{when}: extent {extent} is {state:?}");
    }
    let mut present = 0;
    for (extent, block) in &promises.attempted {
        match get(osd, *extent, *block).await {
            Ok(bytes) => {
                assert!(bytes == block.payload(), "{when}: {block:?} has other bytes");
                present += 1;
            }
            Err(Refusal::BlockNotFound | Refusal::UnknownExtent) => {
                assert!(!promises.stored.contains(&(*extent, *block)), "{when}: {block:?} was acknowledged");
            }
            Err(other) => panic!("{when}: {block:?}: {other}"),
        }
    }
    let held: u32 = (1..40).filter_map(|id| osd.extent(ExtentId(id))).map(|found| found.records.get()).sum();
    assert_eq!(held, present, "{when}: records nobody wrote");
}

/// Puts into every open extent, after the crash.
async fn go_on(osd: &Rc<Osd>, promises: &RefCell<Promises>, round: u64) {
    if osd.extent(ExtentId(3)).is_none() {
        create(osd, promises, 3).await;
    }
    for extent in [1, 2, 3_u128] {
        let open = osd.extent(ExtentId(extent)).is_some_and(|extent| extent.state.get() == State::Open);
        if open {
            let name = (extent, block(100 * round + extent as u64, 6_000));
            put_all(osd, promises, &[name]).await;
            assert!(promises.borrow().stored.contains(&name), "the next put into extent {extent} works");
            assert_stored(osd, name.0, name.1).await;
        }
    }
}

async fn cut_and_recover(
    world: &World,
    shape: &Geometry,
    script: impl AsyncFn(&Rc<Osd>, &RefCell<Promises>),
    (cut_at, seed, interleave): (u64, u64, bool),
) -> bool {
    let device = MemoryDevice::new(shape.clone(), "serial-1");
    if interleave {
        device.yield_up_to(3, seed);
    }
    let cut = PowerCut::new(device.clone(), cut_at, seed);
    let promises = RefCell::new(Promises::default());
    if let Ok(mounted) = start(world, cut.clone()).await {
        script(&mounted.osd, &promises).await;
    }
    if !cut.is_off() {
        return false;
    }
    for round in 1..=3 {
        let when = format!("cut at {cut_at}, seed {seed}, restart {round}");
        let mounted = start(world, Rc::new(device.clone())).await.expect("a disk mounts after a loss of power");
        assert!(mounted.findings.is_empty(), "{when}: a torn tail is no damage: {:?}", mounted.findings.batch());
        let promised = promises.borrow().clone();
        check(&mounted.osd, &promised, &when).await;
        go_on(&mounted.osd, &promises, round).await;
        device.crash(seed + round);
    }
    true
}

#[test]
fn nothing_acknowledged_is_lost_whenever_power_is() {
    rig::run(async |world| {
        for seed in 0..16 {
            let mut cuts = 0;
            while cut_and_recover(&world, &rig::geometry(), script, (cuts, seed, seed % 2 == 1)).await {
                cuts += 1;
            }
            assert!(cuts >= 35, "the script has more commands than {cuts}");
        }
    });
}

#[test]
fn nothing_is_lost_or_comes_back_when_slots_are_used_again() {
    rig::run(async |world| {
        for conventional_zones in [0, 1, 2, 3] {
            let (zones, zone_bytes) = (12, 64 << 10);
            let shape =
                Geometry { conventional_zones, zones, zone_bytes, zone_capacity_bytes: zone_bytes, ..rig::geometry() };
            for seed in 0..3 {
                let mut cuts = 0;
                while cut_and_recover(&world, &shape, reuse_script, (cuts, seed, seed == 1)).await {
                    cuts += 1;
                }
                assert!(cuts >= 100, "the script has more commands than {cuts}");
            }
        }
    });
}

/// The same on an emulated drive in a file, whose process ends at the command: what the kernel has, it keeps.
async fn kill_and_recover(world: &World, path: &Path, kill_at: u64) -> bool {
    let promises = RefCell::new(Promises::default());
    {
        let cut = PowerCut::around(rig::open_file(world, path).await, kill_at, || ());
        if let Ok(mounted) = start(world, cut.clone()).await {
            script(&mounted.osd, &promises).await;
        }
        if !cut.is_off() {
            return false;
        }
    }
    for round in 1..=2 {
        let when = format!("killed at {kill_at}, restart {round}");
        let device = rig::open_file(world, path).await;
        let mounted = start(world, device).await.expect("a disk mounts after its process was killed");
        assert!(mounted.findings.is_empty(), "{when}: {:?}", mounted.findings.batch());
        let promised = promises.borrow().clone();
        check(&mounted.osd, &promised, &when).await;
        go_on(&mounted.osd, &promises, round).await;
    }
    true
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_ends() {
    let directory = tempfile::tempdir().unwrap();
    rig::run(async |world| {
        let mut kills = 0;
        loop {
            let path = directory.path().join(format!("disk-{kills}"));
            file::create(&path, &rig::geometry(), "serial-1").unwrap();
            if !kill_and_recover(&world, &path, kills).await {
                break;
            }
            kills += 1;
        }
        assert!(kills >= 35, "the script has more commands than {kills}");
    });
}
