//! What an OSD promises: group commit, parallel extents, fences, findings, and an end for whatever fails.

use std::rc::Rc;
use std::time::Duration;

use crate::rig;
use crate::rig::{append_key, assert_stored, block, geometry, get, memory, new_extent, put, read_key, start};
use futures_util::FutureExt;
use futures_util::future::join_all;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::faulty::{CommandKind, Fault, Faults, FaultyDevice};
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::ZoneId;
use shingle_node::osd::extent::State;
use shingle_node::osd::mount::MountError;
use shingle_node::osd::refusal::Refusal;
use shingle_node::osd::store::{NewExtent, Osd};
use shingle_proto::ids::{BucketId, ExtentId, Generation};
use shingle_proto::limits::OSD_QUEUE_RECORDS_MAX;
use shingle_proto::message::{FindingKind, OsdState};
use shingle_seam::World;

const EXTENT: ExtentId = ExtentId(1);

fn faulty(world: &World, device: &MemoryDevice) -> (Rc<FaultyDevice>, Faults) {
    let tasks = world.tasks.clone();
    let sleep = Rc::new(move |duration: Duration| tasks.sleep(duration));
    let faulty = Rc::new(FaultyDevice::new(Rc::new(device.clone()), sleep, 1));
    let faults = faulty.faults();
    (faulty, faults)
}

async fn with_extent(world: &World, device: Rc<dyn ZonedDevice>) -> rig::Mounted {
    let mounted = start(world, device).await.unwrap();
    mounted.osd.create_extent(new_extent(1)).await.unwrap();
    mounted
}

fn state(osd: &Osd) -> State {
    osd.extent(EXTENT).unwrap().state.get()
}

async fn close(osd: &Rc<Osd>) -> Result<u32, Refusal> {
    osd.close_extent(EXTENT, Generation(0)).await.map(|closed| closed.records)
}

#[test]
fn records_survive_closing_and_restarting() {
    rig::run(async |world| {
        let device = memory();
        let mounted = with_extent(&world, Rc::new(device.clone())).await;
        let blocks: Vec<_> = [16, 100, 4096 - 128, 4096, 65_536, 200_000].into_iter().zip(1..).collect();
        for (bytes, number) in &blocks {
            put(&mounted.osd, 1, block(*number, *bytes)).await.unwrap();
        }
        assert_eq!(close(&mounted.osd).await, Ok(6));
        assert_eq!(close(&mounted.osd).await, Ok(6), "closing again is answered alike");
        assert_eq!(put(&mounted.osd, 1, block(9, 16)).await, Err(Refusal::ExtentClosed));
        device.power_cycle();
        let mounted = start(&world, Rc::new(device)).await.unwrap();
        assert_eq!((mounted.report.closed, mounted.report.outcomes.whole), (1, 6));
        assert_eq!(close(&mounted.osd).await, Ok(6));
        assert_eq!(put(&mounted.osd, 1, block(9, 16)).await, Err(Refusal::ExtentClosed));
        for (bytes, number) in blocks {
            assert_stored(&mounted.osd, 1, block(number, bytes)).await;
        }
        assert_eq!(get(&mounted.osd, 1, block(99, 16)).await, Err(Refusal::BlockNotFound));
        assert_eq!(get(&mounted.osd, 5, block(1, 16)).await, Err(Refusal::UnknownExtent));
    });
}

#[test]
fn same_put_again_is_answered_with_the_same_place() {
    rig::run(async |world| {
        let device = memory();
        let mounted = with_extent(&world, Rc::new(device.clone())).await;
        let twice = [put(&mounted.osd, 1, block(1, 5000)), put(&mounted.osd, 1, block(1, 5000))];
        let places = join_all(twice).await;
        assert_eq!(places[0].as_ref().unwrap().offset_bytes, places[1].as_ref().unwrap().offset_bytes);
        device.power_cycle();
        let mounted = start(&world, Rc::new(device)).await.unwrap();
        let again = put(&mounted.osd, 1, block(1, 5000)).await.unwrap();
        assert_eq!(again.offset_bytes, places[0].as_ref().unwrap().offset_bytes);
        let other_attempt = append_key(1, block(1, 5000));
        let other_attempt = shingle_node::osd::store::AppendKey { put_id: rig::block(2, 0).put_id(), ..other_attempt };
        let buffer = mounted.osd.receive_buffer(EXTENT, 5000).unwrap();
        let other = mounted.osd.append(other_attempt, buffer).await.unwrap();
        assert_ne!(other.offset_bytes, again.offset_bytes, "another attempt is another record");
        assert_eq!(mounted.osd.extent(EXTENT).unwrap().records.get(), 2);
    });
}

#[test]
fn concurrent_records_share_flushes() {
    rig::run(async |world| {
        let (device, faults) = faulty(&world, &memory());
        let mounted = with_extent(&world, device).await;
        mounted.osd.create_extent(new_extent(2)).await.unwrap();
        let before = faults.seen(CommandKind::Flush);
        faults.set_delay(CommandKind::Flush, Some(Duration::from_millis(20)..=Duration::from_millis(20)));
        let puts = (0..64).map(|number| put(&mounted.osd, 1 + u128::from(number % 2 == 0), block(number, 2000)));
        assert!(join_all(puts).await.iter().all(Result::is_ok));
        let flushes = faults.seen(CommandKind::Flush) - before;
        assert!(flushes <= 3, "64 records in hand took {flushes} flushes");
        // Records that arrive while a flush runs share the next one. It begins after a quarter of the last one at most: so
        // long it waits for company.
        let first = put(&mounted.osd, 1, block(100, 2000));
        let late = (101..110).map(|number| {
            let (osd, tasks) = (mounted.osd.clone(), world.tasks.clone());
            async move {
                tasks.sleep(Duration::from_millis(12)).await;
                put(&osd, 1, block(number, 2000)).await
            }
        });
        let before = faults.seen(CommandKind::Flush);
        let (first, late) = futures_util::join!(first, join_all(late));
        assert!(first.is_ok() && late.iter().all(Result::is_ok));
        assert_eq!(faults.seen(CommandKind::Flush) - before, 2);
    });
}

#[test]
fn nothing_is_answered_before_its_flush_has_ended() {
    rig::run(async |world| {
        let (device, faults) = faulty(&world, &memory());
        let mounted = with_extent(&world, device).await;
        faults.set_delay(CommandKind::Flush, Some(Duration::from_millis(50)..=Duration::from_millis(50)));
        let mut first = Box::pin(put(&mounted.osd, 1, block(1, 100)));
        assert!(first.as_mut().now_or_never().is_none());
        world.tasks.sleep(Duration::from_millis(20)).await;
        assert!(first.as_mut().now_or_never().is_none(), "the flush still runs");
        assert_eq!(get(&mounted.osd, 1, block(1, 100)).await, Err(Refusal::BlockNotFound), "not readable either");
        assert!(first.await.is_ok());
        assert_stored(&mounted.osd, 1, block(1, 100)).await;
    });
}

#[test]
fn two_extents_are_appended_to_at_once() {
    rig::run(async |world| {
        let (device, faults) = faulty(&world, &memory());
        let mounted = with_extent(&world, device).await;
        mounted.osd.create_extent(new_extent(2)).await.unwrap();
        let (before, hour) = (faults.seen(CommandKind::Append), Duration::from_secs(3600));
        faults.set_delay(CommandKind::Append, Some(hour..=hour));
        let mut puts = Box::pin(join_all([put(&mounted.osd, 1, block(1, 100)), put(&mounted.osd, 2, block(2, 100))]));
        while faults.seen(CommandKind::Append) - before < 2 {
            assert!(puts.as_mut().now_or_never().is_none(), "neither append ends within the hour");
            world.tasks.sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn full_extent_refuses_before_anything_is_written() {
    rig::run(async |world| {
        let (device, faults) = faulty(&world, &memory());
        let mounted = with_extent(&world, device).await;
        let mut stored = Vec::new();
        let refused = loop {
            let next = block(stored.len() as u64, 60_000);
            let appends = faults.seen(CommandKind::Append);
            match put(&mounted.osd, 1, next).await {
                Ok(_) => stored.push(next),
                Err(refused) => {
                    assert_eq!(faults.seen(CommandKind::Append), appends);
                    break refused;
                }
            }
        };
        assert!(matches!(refused, Refusal::ExtentFull { .. }), "{refused}");
        assert!(stored.len() >= 6, "two zones of 256 KiB hold {}", stored.len());
        assert_eq!(state(&mounted.osd), State::Open);
        assert_eq!(close(&mounted.osd).await, Ok(stored.len() as u32), "there is always room for closing");
        for block in stored {
            assert_stored(&mounted.osd, 1, block).await;
        }
        let large = mounted.osd.receive_buffer(EXTENT, 300_000).err();
        assert_eq!(large, Some(Refusal::ExtentClosed));
        mounted.osd.create_extent(new_extent(2)).await.unwrap();
        let large = mounted.osd.receive_buffer(ExtentId(2), 300_000).err();
        assert_eq!(large, Some(Refusal::RecordTooLarge { bytes: 300_000 }), "no zone is that large");
    });
}

#[test]
fn failed_flush_ends_the_extents_it_covered_and_no_other() {
    rig::run(async |world| {
        let memory = memory();
        let (device, faults) = faulty(&world, &memory);
        let mounted = with_extent(&world, device).await;
        mounted.osd.create_extent(new_extent(2)).await.unwrap();
        put(&mounted.osd, 1, block(1, 100)).await.unwrap();
        let error = DeviceError::Failed { reason: "flushing", errno: 5 };
        faults.arm(1, Fault::Error { command: CommandKind::Flush, error });
        let lost = put(&mounted.osd, 1, block(2, 100)).await;
        assert!(matches!(lost, Err(Refusal::DeviceFailed(_))), "{lost:?}");
        assert_eq!(state(&mounted.osd), State::Failed);
        assert_eq!(mounted.osd.state(), OsdState::Healthy, "the device answers, one extent has ended");
        assert!(matches!(put(&mounted.osd, 1, block(3, 100)).await, Err(Refusal::DeviceFailed(_))));
        assert_eq!(get(&mounted.osd, 1, block(2, 100)).await, Err(Refusal::BlockNotFound));
        assert_stored(&mounted.osd, 1, block(1, 100)).await;
        put(&mounted.osd, 2, block(4, 100)).await.unwrap();
        assert_eq!(close(&mounted.osd).await, Ok(1), "a failed extent can be fenced");
        memory.power_cycle();
        let mounted = start(&world, Rc::new(memory)).await.unwrap();
        assert_eq!(state(&mounted.osd), State::Failed, "a restart does not open it again");
        assert!(matches!(put(&mounted.osd, 1, block(5, 100)).await, Err(Refusal::DeviceFailed(_))));
        assert_stored(&mounted.osd, 1, block(1, 100)).await;
    });
}

#[test]
fn append_under_way_while_a_flush_fails_is_never_called_durable() {
    rig::run(async |world| {
        let (device, faults) = faulty(&world, &memory());
        let mounted = with_extent(&world, device).await;
        mounted.osd.create_extent(new_extent(2)).await.unwrap();
        let every = |ms| Some(Duration::from_millis(ms)..=Duration::from_millis(ms));
        let error = DeviceError::Failed { reason: "flushing", errno: 5 };
        faults.set_delay(CommandKind::Flush, every(200));
        faults.arm(1, Fault::Error { command: CommandKind::Flush, error });
        let first = put(&mounted.osd, 1, block(1, 100));
        let later = async {
            world.tasks.sleep(Duration::from_millis(10)).await;
            faults.set_delay(CommandKind::Append, every(400));
            join_all([put(&mounted.osd, 1, block(2, 100)), put(&mounted.osd, 2, block(3, 100))]).await
        };
        let (first, later) = futures_util::future::join(first, later).await;
        for answer in later.iter().chain([&first]) {
            assert!(matches!(answer, Err(Refusal::DeviceFailed(_))), "{answer:?}");
        }
        assert_eq!(state(&mounted.osd), State::Failed);
        assert_eq!(mounted.osd.extent(ExtentId(2)).unwrap().state.get(), State::Failed);
        assert_eq!(mounted.budgets.receive.used_bytes(), 0);
    });
}

#[test]
fn torn_append_ends_the_extent() {
    rig::run(async |world| {
        let (device, faults) = faulty(&world, &memory());
        let mounted = with_extent(&world, device).await;
        faults.arm(2, Fault::TornAppend);
        let puts = (0..4).map(|number| put(&mounted.osd, 1, block(number, 60_000)));
        let answers = join_all(puts).await;
        assert!(answers[0].is_ok(), "it was appended before the failure, and flushed");
        assert!(answers[1..].iter().all(|answer| matches!(answer, Err(Refusal::DeviceFailed(_)))), "{answers:?}");
        assert_eq!(state(&mounted.osd), State::Failed);
        assert_stored(&mounted.osd, 1, block(0, 60_000)).await;
        assert_eq!(mounted.budgets.receive.used_bytes(), 0, "failed puts give their memory back");
    });
}

#[test]
fn dead_disk_fails_the_osd() {
    rig::run(async |world| {
        let (device, faults) = faulty(&world, &memory());
        let mounted = with_extent(&world, device).await;
        mounted.osd.create_extent(new_extent(2)).await.unwrap();
        put(&mounted.osd, 2, block(1, 100)).await.unwrap();
        faults.set_dead(true);
        assert!(matches!(put(&mounted.osd, 1, block(2, 100)).await, Err(Refusal::DeviceFailed(_))));
        rig::until(&world, "the OSD has failed", || mounted.osd.state() == OsdState::Failed).await;
        assert!(matches!(put(&mounted.osd, 2, block(3, 100)).await, Err(Refusal::DeviceFailed(_))));
        assert!(matches!(get(&mounted.osd, 2, block(1, 100)).await, Err(Refusal::DeviceFailed(_))));
        assert!(matches!(mounted.osd.create_extent(new_extent(3)).await, Err(Refusal::DeviceFailed(_))));
        assert!(matches!(close(&mounted.osd).await, Err(Refusal::DeviceFailed(_))));
    });
}

#[test]
fn damaged_record_is_never_served_and_becomes_one_finding() {
    rig::run(async |world| {
        let (device, faults) = faulty(&world, &memory());
        let mounted = with_extent(&world, device).await;
        let (good, bad) = (block(1, 5000), block(2, 5000));
        put(&mounted.osd, 1, good).await.unwrap();
        let offset_bytes = put(&mounted.osd, 1, bad).await.unwrap().offset_bytes;
        // Slot 0 starts at zone 3. Header, payload, and the padding's last byte.
        for (at, places) in [0, 40, 127, 128, 3000, 8191].into_iter().zip(1..) {
            faults.flip_at_rest(ZoneId(3), offset_bytes + at, 0x10);
            let read = get(&mounted.osd, 1, bad).await;
            assert!(matches!(read, Err(Refusal::RecordDamaged(_))), "{places} bytes flipped: {read:?}");
            faults.flip_at_rest(ZoneId(3), offset_bytes + at, 0x10);
            assert_stored(&mounted.osd, 1, bad).await;
        }
        let (findings, number) = mounted.findings.batch();
        assert_eq!(findings.len(), 1, "one damaged record is one finding");
        assert_eq!(findings[0].kind, FindingKind::RecordDamaged);
        assert_eq!(findings[0].hash, Some(bad.hash().into()));
        mounted.findings.acknowledge(number);
        assert!(mounted.findings.is_empty());
        faults.arm(1, Fault::MisdirectedRead);
        let elsewhere = get(&mounted.osd, 1, good).await;
        assert!(matches!(elsewhere, Err(Refusal::RecordDamaged(_))), "{elsewhere:?}");
        assert_stored(&mounted.osd, 1, good).await;
    });
}

#[test]
fn cancelled_requests_leave_nothing_behind() {
    rig::run(async |world| {
        let (device, faults) = faulty(&world, &memory());
        let mounted = with_extent(&world, device).await;
        faults.set_delay(CommandKind::Append, Some(Duration::from_millis(5)..=Duration::from_millis(5)));
        for number in 0..8 {
            let mut dropped = Box::pin(put(&mounted.osd, 1, block(number, 9000)));
            assert!(dropped.as_mut().now_or_never().is_none());
        }
        let mut dropped = Box::pin(mounted.osd.create_extent(new_extent(2)));
        assert!(dropped.as_mut().now_or_never().is_none());
        drop(dropped);
        put(&mounted.osd, 1, block(8, 100)).await.unwrap();
        faults.set_delay(CommandKind::Read, Some(Duration::from_millis(5)..=Duration::from_millis(5)));
        let mut dropped = Box::pin(get(&mounted.osd, 1, block(8, 100)));
        assert!(dropped.as_mut().now_or_never().is_none());
        drop(dropped);
        let mut dropped = Box::pin(close(&mounted.osd));
        assert!(dropped.as_mut().now_or_never().is_none());
        drop(dropped);
        assert_eq!(close(&mounted.osd).await, Ok(9));
        assert_eq!(put(&mounted.osd, 2, block(1, 100)).await.map(drop), Ok(()), "the extent was created all the same");
        assert_eq!(mounted.budgets.receive.used_bytes() + mounted.budgets.read.used_bytes(), 0);
    });
}

#[test]
fn creating_again_is_answered_alike_and_never_twice() {
    rig::run(async |world| {
        let mounted = with_extent(&world, Rc::new(memory())).await;
        let payload_bytes = mounted.osd.create_extent(new_extent(1)).await.unwrap();
        let other = NewExtent { bucket: BucketId(81), ..new_extent(1) };
        assert_eq!(mounted.osd.create_extent(other).await, Err(Refusal::ExtentExists));
        let both = [mounted.osd.create_extent(new_extent(2)), mounted.osd.create_extent(new_extent(2))];
        assert_eq!(join_all(both).await, [Ok(payload_bytes), Ok(payload_bytes)]);
        close(&mounted.osd).await.unwrap();
        assert_eq!(mounted.osd.create_extent(new_extent(1)).await, Err(Refusal::ExtentClosed));
    });
}

#[test]
fn older_generation_is_refused() {
    rig::run(async |world| {
        let mounted = with_extent(&world, Rc::new(memory())).await;
        put(&mounted.osd, 1, block(1, 100)).await.unwrap();
        let read = |generation| {
            let key =
                shingle_node::osd::fetch::ReadKey { generation: Generation(generation), ..read_key(1, block(1, 100)) };
            let osd = mounted.osd.clone();
            async move { osd.read_block(key).await.map(drop) }
        };
        assert_eq!(read(5).await, Ok(()));
        assert_eq!(read(4).await, Err(Refusal::StaleGeneration(Generation(5))));
        assert_eq!(read(0).await, Ok(()), "0 claims none");
        assert_eq!(
            mounted.osd.close_extent(EXTENT, Generation(3)).await.err(),
            Some(Refusal::StaleGeneration(Generation(5)))
        );
        assert_eq!(put(&mounted.osd, 1, block(2, 100)).await.map(drop), Ok(()));
    });
}

#[test]
fn spent_budget_tells_callers_to_slow_down() {
    rig::run(async |world| {
        let mounted = with_extent(&world, Rc::new(memory())).await;
        let mut held = Vec::new();
        let refused = loop {
            match mounted.osd.receive_buffer(EXTENT, 250_000) {
                Ok(buffer) => held.push(buffer),
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, Refusal::Busy(_)), "{refused}");
        drop(held);
        assert!(mounted.osd.receive_buffer(EXTENT, 250_000).is_ok());
    });
}

#[test]
fn full_queue_tells_callers_to_slow_down() {
    rig::run(async |world| {
        let large = Geometry { zone_bytes: 8 << 20, zone_capacity_bytes: 8 << 20, ..geometry() };
        let mounted = with_extent(&world, Rc::new(MemoryDevice::new(large, "large"))).await;
        let mut waiting = Vec::new();
        let refused = loop {
            let mut next = Box::pin(put(&mounted.osd, 1, block(waiting.len() as u64, 16)));
            match next.as_mut().now_or_never() {
                None => waiting.push(next),
                Some(answer) => break answer,
            }
        };
        assert!(matches!(refused, Err(Refusal::Busy(_))), "{refused:?}");
        assert_eq!(waiting.len(), OSD_QUEUE_RECORDS_MAX);
        assert!(join_all(waiting).await.iter().all(Result::is_ok));
        assert!(put(&mounted.osd, 1, block(1 << 20, 16)).await.is_ok());
    });
}

#[test]
fn foreign_disks_are_refused_and_left_alone() {
    rig::run(async |world| {
        let foreign = memory();
        let mut buffer = foreign.alloc_buffer(8192);
        buffer[..8192].fill(0xab);
        let (landed, _) = foreign.append(ZoneId(7), buffer, 0..8192).await;
        landed.unwrap();
        let refused = start(&world, Rc::new(foreign.clone())).await.err().unwrap();
        assert!(matches!(refused, MountError::Garbage { .. }), "{refused}");

        let file_system = memory();
        let mut buffer = file_system.alloc_buffer(4096);
        buffer[..4096].fill(0xcd);
        let (written, _) = file_system.write(ZoneId(0), 65_536, buffer, 0..4096).await;
        written.unwrap();
        let refused = start(&world, Rc::new(file_system)).await.err().unwrap();
        assert!(matches!(refused, MountError::Garbage { .. }), "{refused}");

        let ours = memory();
        with_extent(&world, Rc::new(ours.clone())).await;
        ours.flip(ZoneId(0), 300, 1);
        ours.flip(ZoneId(19), 300, 1);
        let refused = start(&world, Rc::new(ours.clone())).await.err().unwrap();
        assert!(matches!(refused, MountError::LabelDamaged { .. }), "{refused}");
        ours.flip(ZoneId(0), 300, 1);
        assert!(start(&world, Rc::new(ours)).await.is_ok());
    });
}

#[test]
fn all_shapes_of_disks_work() {
    rig::run(async |world| {
        let shapes = [
            Geometry { conventional_zones: 0, ..geometry() },
            Geometry { sector_bytes: 512, transfer_bytes_max: 20_992, ..geometry() },
            Geometry { zone_capacity_bytes: 200 << 10, conventional_zones: 0, ..geometry() },
            Geometry { zone_capacity_bytes: (200 << 10) + 512, sector_bytes: 512, ..geometry() },
            Geometry { conventional_zones: 5, ..geometry() },
        ];
        for shape in shapes {
            let device = MemoryDevice::new(shape.clone(), "shape");
            let mounted = with_extent(&world, Rc::new(device.clone())).await;
            let mut stored = Vec::new();
            while put(&mounted.osd, 1, block(stored.len() as u64, 50_000)).await.is_ok() {
                stored.push(block(stored.len() as u64, 50_000));
            }
            assert!(stored.len() >= 3, "{shape:?}");
            device.power_cycle();
            let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
            close(&mounted.osd).await.unwrap();
            device.power_cycle();
            let mounted = start(&world, Rc::new(device)).await.unwrap();
            for block in stored {
                assert_stored(&mounted.osd, 1, block).await;
            }
        }
    });
}

#[test]
fn zone_that_died_is_reported_with_its_extent() {
    rig::run(async |world| {
        let device = memory();
        let mounted = with_extent(&world, Rc::new(device.clone())).await;
        put(&mounted.osd, 1, block(1, 1000)).await.unwrap();
        put(&mounted.osd, 1, block(2, 220_000)).await.unwrap();
        put(&mounted.osd, 1, block(3, 220_000)).await.unwrap();
        device.set_offline(ZoneId(4));
        device.power_cycle();
        let mounted = start(&world, Rc::new(device)).await.unwrap();
        assert_eq!(state(&mounted.osd), State::Failed);
        assert_stored(&mounted.osd, 1, block(1, 1000)).await;
        assert_stored(&mounted.osd, 1, block(2, 220_000)).await;
        let (findings, _) = mounted.findings.batch();
        assert!(findings.iter().any(|finding| finding.kind == FindingKind::ZoneOffline), "{findings:?}");
    });
}
