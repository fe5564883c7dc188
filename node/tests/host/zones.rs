//! Zones: limits that are never exceeded, bad ones that are retired and told with exactly what they affect.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::device::ZonedDevice;
use shingle_hw::faulty::{CommandKind, Faults, FaultyDevice};
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::ZoneId;
use shingle_node::extent::scan::pointer_counts;
use shingle_node::osd::extent::State;
use shingle_node::osd::refusal::Refusal;
use shingle_node::osd::store::Osd;
use shingle_proto::ids::{BlockHash, ExtentId, Generation};
use shingle_proto::message::FindingKind;
use shingle_seam::World;

use crate::rig::{self, Block, Mounted, assert_stored, block, geometry, memory, new_extent, put, start};

async fn close(osd: &Rc<Osd>, extent: u128) -> Result<u32, Refusal> {
    osd.close_extent(ExtentId(extent), Generation(0)).await.map(|closed| closed.records)
}

async fn active_zones(device: &MemoryDevice) -> u32 {
    let zones = device.report(ZoneId(0), device.geometry().zones).await.unwrap();
    zones.iter().filter(|zone| pointer_counts(zone)).count() as u32
}

/// Small steps of a generator: the same seed, the same run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % bound
    }
}

/// Creations, puts, closings and restarts at random: only ever refused for want of zones or slots, never failed.
async fn live(world: &World, shape: &Geometry, seed: u64) {
    let device = MemoryDevice::new(shape.clone(), "serial-1");
    let mut dice = Dice(seed);
    let mut mounted = start(world, Rc::new(device.clone())).await.unwrap();
    let (mut open, mut stored, mut next) = (Vec::new(), Vec::new(), 0_u128);
    for step in 0..150 {
        match dice.below(10) {
            0..3 => match mounted.osd.create_extent(new_extent(next)).await {
                Ok(_) => {
                    open.push(next);
                    next += 1;
                }
                Err(refused) => assert!(matches!(refused, Refusal::NoFreeExtent(_)), "{refused}"),
            },
            3..8 if !open.is_empty() => {
                let extent = open[dice.below(open.len() as u64) as usize];
                let block = block(1000 + step, 16 + dice.below(120_000) as u32);
                match put(&mounted.osd, extent, block).await {
                    Ok(_) => stored.push((extent, block)),
                    Err(refused) => assert!(matches!(refused, Refusal::ExtentFull { .. }), "{refused}"),
                }
            }
            8 if !open.is_empty() => {
                let extent = open.swap_remove(dice.below(open.len() as u64) as usize);
                close(&mounted.osd, extent).await.unwrap();
            }
            9 => {
                device.crash(step);
                mounted = start(world, Rc::new(device.clone())).await.unwrap();
                assert!(mounted.findings.is_empty(), "{:?}", mounted.findings.batch());
            }
            _ => {}
        }
        let (held, active) = (mounted.osd.zones_held() as u32, active_zones(&device).await);
        assert!(active <= held && held <= shape.active_zones_max, "{active} active, {held} counted");
    }
    for (extent, block) in stored {
        assert_stored(&mounted.osd, extent, block).await;
    }
}

#[test]
fn open_and_active_limits_are_never_exceeded() {
    rig::run(async |world| {
        for conventional_zones in [0, 1, 2, 3, 5] {
            for limit in [2, 3, 6] {
                let capacity = (256 << 10) - 4096 * u64::from(conventional_zones);
                let shape = Geometry {
                    conventional_zones,
                    zone_capacity_bytes: capacity,
                    open_zones_max: limit,
                    active_zones_max: limit,
                    zones: 24,
                    ..geometry()
                };
                for seed in 0..4 {
                    live(&world, &shape, seed).await;
                }
            }
        }
    });
}

/// One extent whose records lie in both of its zones; with the blocks of each.
async fn two_zones(world: &World, device: &MemoryDevice) -> (Mounted, [Vec<Block>; 2]) {
    let mounted = start(world, Rc::new(device.clone())).await.unwrap();
    mounted.osd.create_extent(new_extent(1)).await.unwrap();
    mounted.osd.create_extent(new_extent(2)).await.unwrap();
    put(&mounted.osd, 2, block(50, 5000)).await.unwrap();
    let mut blocks = [Vec::new(), Vec::new()];
    for number in 0..6 {
        let block = block(number, 60_000);
        let place = put(&mounted.osd, 1, block).await.unwrap();
        blocks[usize::from(place.offset_bytes >= 256 << 10)].push(block);
    }
    assert!(blocks.iter().all(|blocks| blocks.len() >= 2));
    (mounted, blocks)
}

/// The blocks that findings of a kind name in an extent.
fn named(mounted: &Mounted, kind: FindingKind, extent: u128) -> BTreeSet<BlockHash> {
    let (findings, _) = mounted.findings.batch();
    let of_extent = |id| Some(&id) == findings.iter().map(|finding| &finding.extent).find(|other| **other == id);
    assert!(of_extent(ExtentId(extent).into()), "{findings:?}");
    assert!(
        findings.iter().all(|finding| finding.kind == kind && finding.extent == ExtentId(extent).into()),
        "{findings:?}"
    );
    findings.iter().filter_map(|finding| finding.hash.as_ref()).map(BlockHash::from).collect()
}

fn hashes(blocks: &[Block]) -> BTreeSet<BlockHash> {
    blocks.iter().map(|block| block.hash()).collect()
}

async fn settle(world: &World) {
    world.tasks.sleep(Duration::from_millis(2)).await;
}

#[test]
fn zone_lost_while_open_ends_its_extent_and_names_its_blocks() {
    rig::run(async |world| {
        for offline in [false, true] {
            for zone in 0..2 {
                let device = memory();
                let (mounted, blocks) = two_zones(&world, &device).await;
                let kind = match offline {
                    true => FindingKind::ZoneOffline,
                    false => FindingKind::ZoneReadOnly,
                };
                match offline {
                    true => device.set_offline(ZoneId(3 + zone)),
                    false => device.set_read_only(ZoneId(3 + zone)),
                }
                mounted.osd.check_zones().await.unwrap();
                mounted.osd.check_zones().await.unwrap();
                settle(&world).await;
                assert_eq!(mounted.osd.extent(ExtentId(1)).unwrap().state.get(), State::Failed);
                assert_eq!(named(&mounted, kind, 1), hashes(&blocks[zone as usize]));
                assert!(put(&mounted.osd, 1, block(9, 100)).await.is_err());
                put(&mounted.osd, 2, block(51, 5000)).await.unwrap();
                for block in &blocks[1 - zone as usize] {
                    assert_stored(&mounted.osd, 1, *block).await;
                }
            }
        }
    });
}

/// A disk whose flushes take a while from now on, and its faults.
async fn slow_flushes(world: &World, device: &MemoryDevice) -> (Mounted, Faults) {
    let tasks = world.tasks.clone();
    let sleep = Rc::new(move |duration: Duration| tasks.sleep(duration));
    let faulty = Rc::new(FaultyDevice::new(Rc::new(device.clone()), sleep, 1));
    let mounted = start(world, faulty.clone()).await.unwrap();
    let slow = Duration::from_millis(50);
    faulty.faults().set_delay(CommandKind::Flush, Some(slow..=slow));
    (mounted, faulty.faults())
}

/// Loses zone 3 while the next flush is under way, and sees to it that this is noticed.
async fn lose_under_flush(world: &World, device: &MemoryDevice, mounted: &Mounted, faults: &Faults, offline: bool) {
    let flushes = faults.seen(CommandKind::Flush);
    rig::until(world, "a flush", || faults.seen(CommandKind::Flush) > flushes).await;
    match offline {
        true => device.set_offline(ZoneId(3)),
        false => device.set_read_only(ZoneId(3)),
    }
    mounted.osd.check_zones().await.unwrap();
}

#[test]
fn extent_that_ends_while_its_header_becomes_durable_is_not_created() {
    rig::run(async |world| {
        for offline in [false, true] {
            let device = memory();
            let (mounted, faults) = slow_flushes(&world, &device).await;
            let lose = lose_under_flush(&world, &device, &mounted, &faults, offline);
            let (created, ()) = join(mounted.osd.create_extent(new_extent(1)), lose).await;
            assert!(matches!(created, Err(Refusal::DeviceFailed(_))), "{created:?}");
            let again = mounted.osd.create_extent(new_extent(1)).await;
            assert!(matches!(again, Err(Refusal::DeviceFailed(_))), "{again:?}");
            assert!(put(&mounted.osd, 1, block(1, 5000)).await.is_err());
            mounted.osd.create_extent(new_extent(2)).await.unwrap();
            put(&mounted.osd, 2, block(2, 5000)).await.unwrap();
        }
    });
}

#[test]
fn extent_that_ends_while_its_closing_record_becomes_durable_stays_ended() {
    rig::run(async |world| {
        for offline in [false, true] {
            let device = memory();
            let (mounted, faults) = slow_flushes(&world, &device).await;
            mounted.osd.create_extent(new_extent(1)).await.unwrap();
            put(&mounted.osd, 1, block(1, 5000)).await.unwrap();
            let lose = lose_under_flush(&world, &device, &mounted, &faults, offline);
            let (closed, ()) = join(close(&mounted.osd, 1), lose).await;
            assert_eq!(closed, Ok(1), "the fence holds: nothing follows");
            let extent = mounted.osd.extent(ExtentId(1)).unwrap();
            assert_eq!((extent.state.get(), extent.footer.get()), (State::Failed, None));
            assert_eq!(close(&mounted.osd, 1).await, Ok(1));
        }
    });
}

#[test]
fn record_whose_zone_fails_before_it_is_durable_is_named_or_refused() {
    rig::run(async |world| {
        for offline in [false, true] {
            let device = memory();
            let (mounted, faults) = slow_flushes(&world, &device).await;
            mounted.osd.create_extent(new_extent(1)).await.unwrap();
            let (before, late) = (block(1, 5000), block(2, 5000));
            put(&mounted.osd, 1, before).await.unwrap();
            let lose = lose_under_flush(&world, &device, &mounted, &faults, offline);
            let (stored, ()) = join(put(&mounted.osd, 1, late), lose).await;
            settle(&world).await;
            if offline {
                assert!(matches!(stored, Err(Refusal::DeviceFailed(_))), "nobody can read it: {stored:?}");
                assert_eq!(named(&mounted, FindingKind::ZoneOffline, 1), hashes(&[before]));
            } else {
                stored.unwrap();
                assert_stored(&mounted.osd, 1, late).await;
                assert_eq!(named(&mounted, FindingKind::ZoneReadOnly, 1), hashes(&[before, late]));
            }
        }
    });
}

#[test]
fn write_error_of_a_zone_retires_it() {
    rig::run(async |world| {
        let device = memory();
        let (mounted, blocks) = two_zones(&world, &device).await;
        device.set_read_only(ZoneId(4));
        let refused = put(&mounted.osd, 1, block(9, 100)).await;
        assert!(matches!(refused, Err(Refusal::DeviceFailed(_))), "{refused:?}");
        settle(&world).await;
        assert_eq!(named(&mounted, FindingKind::ZoneReadOnly, 1), hashes(&blocks[1]));
        assert_eq!(close(&mounted.osd, 1).await, Ok(6), "a fence needs no zone that cannot be written anyway");
        for block in blocks.iter().flatten() {
            assert_stored(&mounted.osd, 1, *block).await;
        }
    });
}

#[test]
fn read_of_an_offline_zone_retires_it() {
    rig::run(async |world| {
        let device = memory();
        let (mounted, blocks) = two_zones(&world, &device).await;
        close(&mounted.osd, 1).await.unwrap();
        device.set_offline(ZoneId(3));
        assert!(rig::get(&mounted.osd, 1, blocks[0][0]).await.is_err());
        settle(&world).await;
        assert_eq!(
            named(&mounted, FindingKind::ZoneOffline, 1),
            hashes(&blocks[0]),
            "from the footer in the other zone"
        );
        assert_eq!(mounted.osd.extent(ExtentId(1)).unwrap().state.get(), State::Closed);
    });
}

#[test]
fn start_tells_what_a_lost_zone_of_a_closed_extent_held() {
    rig::run(async |world| {
        let device = memory();
        let (mounted, blocks) = two_zones(&world, &device).await;
        close(&mounted.osd, 1).await.unwrap();
        settle(&world).await;
        device.set_offline(ZoneId(3));
        device.power_cycle();
        let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
        settle(&world).await;
        assert_eq!(mounted.report.by_footer, 1);
        assert_eq!(named(&mounted, FindingKind::ZoneOffline, 1), hashes(&blocks[0]));
        for block in &blocks[1] {
            assert_stored(&mounted.osd, 1, *block).await;
        }
    });
}

#[test]
fn block_whose_name_went_with_its_zone_is_told_when_it_is_asked_for() {
    rig::run(async |world| {
        for offline in [false, true] {
            let device = memory();
            let (_, blocks) = two_zones(&world, &device).await;
            match offline {
                true => device.set_offline(ZoneId(4)),
                false => device.set_read_only(ZoneId(4)),
            }
            device.power_cycle();
            let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
            settle(&world).await;
            let asked = blocks[1][0];
            if offline {
                let refused = rig::get(&mounted.osd, 1, asked).await;
                assert!(matches!(refused, Err(Refusal::RecordDamaged(_))), "{refused:?}");
                assert!(named(&mounted, FindingKind::ZoneOffline, 1).contains(&asked.hash()));
            } else {
                assert_stored(&mounted.osd, 1, asked).await;
                assert_eq!(named(&mounted, FindingKind::ZoneReadOnly, 1), hashes(&blocks[1]));
            }
            assert_eq!(rig::get(&mounted.osd, 2, block(99, 100)).await, Err(Refusal::BlockNotFound));
        }
    });
}

#[test]
fn extent_of_which_nothing_is_left_is_still_named() {
    rig::run(async |world| {
        let device = memory();
        let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
        mounted.osd.create_extent(new_extent(7)).await.unwrap();
        put(&mounted.osd, 7, block(1, 100)).await.unwrap();
        device.set_offline(ZoneId(3));
        device.power_cycle();
        let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
        settle(&world).await;
        assert!(named(&mounted, FindingKind::ZoneOffline, 7).is_empty());
        assert_eq!((mounted.report.retired, mounted.report.free), (1, 7));
    });
}

#[test]
fn extent_whose_reset_a_bad_zone_stopped_does_not_come_back() {
    rig::run(async |world| {
        let device = memory();
        let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
        let slots = u128::from(mounted.osd.label.layout.extents);
        for number in 0..slots {
            mounted.osd.create_extent(new_extent(number)).await.unwrap();
            close(&mounted.osd, number).await.unwrap();
        }
        device.set_read_only(ZoneId(3));
        let refused = mounted.osd.create_extent(new_extent(100)).await;
        assert!(matches!(refused, Err(Refusal::DeviceFailed(_))), "{refused:?}");
        mounted.osd.create_extent(new_extent(101)).await.unwrap();
        settle(&world).await;
        for _ in 0..3 {
            device.power_cycle();
            let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
            assert!(mounted.osd.extent(ExtentId(0)).is_none());
            assert_eq!((mounted.report.retired, mounted.report.free, mounted.report.open), (1, 0, 1));
        }
    });
}

#[test]
fn slot_with_a_bad_zone_is_never_used_again() {
    rig::run(async |world| {
        let device = memory();
        let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
        device.set_read_only(ZoneId(6));
        mounted.osd.check_zones().await.unwrap();
        settle(&world).await;
        let slots = u128::from(mounted.osd.label.layout.extents);
        let mut mounted = mounted;
        for round in 0..3 {
            for number in 0..slots - 1 {
                mounted.osd.create_extent(new_extent(100 * round + number)).await.unwrap();
            }
            assert!(matches!(mounted.osd.create_extent(new_extent(9999)).await, Err(Refusal::NoFreeExtent(_))));
            for number in 0..slots - 1 {
                let extent = mounted.osd.extent(ExtentId(100 * round + number)).unwrap();
                assert_ne!(extent.header.slot, 1);
                close(&mounted.osd, 100 * round + number).await.unwrap();
            }
            device.power_cycle();
            mounted = start(&world, Rc::new(device.clone())).await.unwrap();
        }
    });
}
