//! Room below an emulated disk: without it the disk is full for a while, and what fails all the same ends an extent only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::faulty::{CommandKind, Fault, Faults, FaultyDevice};
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::ZoneId;
use shingle_node::osd::extent::State;
use shingle_node::osd::refusal::Refusal;
use shingle_proto::ids::{ExtentId, Generation};
use shingle_proto::limits::{DISK_ROOM_RESERVE_BYTES, DISK_ROOM_STEP_BYTES};
use shingle_proto::message::OsdState;
use shingle_seam::World;

use crate::rig::{self, assert_stored, block, geometry, memory, new_extent, put, start};

/// Where a shard would listen; only named in reports.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

fn faulty(memory: &MemoryDevice) -> (Rc<FaultyDevice>, Faults) {
    let device = Rc::new(FaultyDevice::new(Rc::new(memory.clone()), Rc::new(|_| Box::pin(async {})), 1));
    let faults = device.faults();
    (device, faults)
}

async fn with_extent(world: &World, device: Rc<dyn ZonedDevice>) -> rig::Mounted {
    let mounted = start(world, device).await.unwrap();
    mounted.osd.create_extent(new_extent(1)).await.unwrap();
    mounted
}

#[test]
fn disk_without_room_is_full_until_there_is_room_again() {
    rig::run(async |world| {
        // An extent holds more than one look allows.
        let large = Geometry { zone_bytes: 16 << 20, zone_capacity_bytes: 16 << 20, ..geometry() };
        let device = FaultyDevice::new(Rc::new(MemoryDevice::new(large, "large")), Rc::new(|_| Box::pin(async {})), 1);
        let faults = device.faults();
        let mounted = start(&world, Rc::new(device)).await.unwrap();
        let osd = &mounted.osd;
        osd.create_extent(new_extent(1)).await.unwrap();
        let kept = block(1, 5000);
        put(osd, 1, kept).await.unwrap();
        let free = osd.report(ADDRESS).extents_free;
        assert!(free > 0);

        // What the last look allowed may still be taken, no more.
        faults.set_room(Some(DISK_ROOM_RESERVE_BYTES - 1));
        let (mut taken_bytes, mut number) = (0, 2);
        let refused = loop {
            match put(osd, 1, block(number, 100_000)).await {
                Ok(_) => taken_bytes += 100_000,
                Err(refused) => break refused,
            }
            number += 1;
            assert!(taken_bytes <= DISK_ROOM_STEP_BYTES, "{taken_bytes} bytes were taken without room");
        };
        assert_eq!(refused, Refusal::ExtentFull { free_bytes: 0 });
        let refused = osd.create_extent(new_extent(2)).await;
        assert!(matches!(refused, Err(Refusal::NoFreeExtent(_))), "{refused:?}");
        assert_eq!(osd.report(ADDRESS).extents_free, 0);
        assert_eq!(osd.report(ADDRESS).state, OsdState::NoSpace, "it says so");
        assert_stored(osd, 1, kept).await;

        faults.set_room(None);
        assert_eq!(osd.report(ADDRESS).extents_free, free);
        put(osd, 1, block(number, 100_000)).await.unwrap();
        osd.create_extent(new_extent(2)).await.unwrap();
    });
}

#[test]
fn a_limit_that_is_met_ends_the_extent_and_fills_the_disk_until_a_restart() {
    rig::run(async |world| {
        let memory = memory();
        let (device, faults) = faulty(&memory);
        let mounted = with_extent(&world, device).await;
        mounted.osd.create_extent(new_extent(2)).await.unwrap();
        put(&mounted.osd, 1, block(1, 100)).await.unwrap();
        let error = DeviceError::NoSpace { zone: ZoneId(3), length_bytes: 8192 };
        faults.arm(1, Fault::Error { command: CommandKind::Append, error });
        assert!(matches!(put(&mounted.osd, 1, block(2, 5000)).await, Err(Refusal::DeviceFailed(_))));
        let ended = mounted.osd.extent(ExtentId(1)).unwrap().state.get();
        assert_eq!(ended, State::Failed, "a failed append ends its extent");
        assert_eq!(mounted.osd.report(ADDRESS).state, OsdState::NoSpace);
        assert!(matches!(mounted.osd.create_extent(new_extent(3)).await, Err(Refusal::NoFreeExtent(_))));
        // The next append would end its extent as well.
        assert_eq!(put(&mounted.osd, 2, block(3, 100)).await, Err(Refusal::ExtentFull { free_bytes: 0 }));
        assert_stored(&mounted.osd, 1, block(1, 100)).await;
        let closed = mounted.osd.close_extent(ExtentId(1), Generation(0)).await;
        assert_eq!(closed.map(|closed| closed.records), Ok(1), "it can be fenced");
        memory.power_cycle();
        let mounted = start(&world, Rc::new(memory)).await.unwrap();
        assert_eq!(mounted.osd.report(ADDRESS).state, OsdState::Healthy);
        mounted.osd.create_extent(new_extent(3)).await.unwrap();
        put(&mounted.osd, 3, block(2, 5000)).await.unwrap();
        put(&mounted.osd, 2, block(3, 100)).await.unwrap();
        assert_stored(&mounted.osd, 2, block(3, 100)).await;
    });
}

#[test]
fn a_disk_starts_without_space_for_its_journal_and_serves_reads() {
    rig::run(async |world| {
        let memory = memory();
        let mounted = with_extent(&world, Rc::new(memory.clone())).await;
        put(&mounted.osd, 1, block(1, 100)).await.unwrap();
        for round in 0..2 {
            memory.power_cycle();
            let (device, faults) = faulty(&memory);
            let error = DeviceError::NoSpace { zone: ZoneId(1), length_bytes: 4096 };
            (1..=2).for_each(|count| {
                faults.arm(count, Fault::Error { command: CommandKind::Append, error: error.clone() });
            });
            let mounted = start(&world, device).await.unwrap();
            assert_eq!(mounted.osd.report(ADDRESS).state, OsdState::NoSpace, "round {round}");
            assert_stored(&mounted.osd, 1, block(1, 100)).await;
        }
        memory.power_cycle();
        let mounted = start(&world, Rc::new(memory)).await.unwrap();
        assert_eq!(mounted.osd.report(ADDRESS).state, OsdState::Healthy);
        assert_stored(&mounted.osd, 1, block(1, 100)).await;
    });
}
