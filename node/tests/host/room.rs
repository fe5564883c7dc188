//! Room below an emulated disk: without it the disk is full for a while, and nothing fails.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::faulty::FaultyDevice;
use shingle_hw::geometry::Geometry;
use shingle_node::osd::refusal::Refusal;
use shingle_proto::limits::{DISK_ROOM_RESERVE_BYTES, DISK_ROOM_STEP_BYTES};
use shingle_proto::message::OsdState;

use crate::rig::{self, assert_stored, block, geometry, new_extent, put, start};

/// Where a shard would listen; only named in reports.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

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
        assert_eq!(osd.state(), OsdState::Healthy);
        assert_stored(osd, 1, kept).await;

        faults.set_room(None);
        assert_eq!(osd.report(ADDRESS).extents_free, free);
        put(osd, 1, block(number, 100_000)).await.unwrap();
        osd.create_extent(new_extent(2)).await.unwrap();
    });
}
