//! Records that are checked in slices: nothing of them is served unproven, and nobody waits for all of one.

use std::cell::RefCell;
use std::rc::Rc;

use futures_util::future::join_all;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::geometry::Geometry;
use shingle_node::extent::placement::Spot;
use shingle_node::extent::record::record_bytes;
use shingle_node::osd::refusal::Refusal;
use shingle_proto::ids::ExtentId;
use shingle_proto::limits::{KIB, MIB};

use crate::rig::{self, Block, assert_stored, block, get, new_extent, put, start};

/// Ten zones of 8 MiB, extents of two.
fn geometry() -> Geometry {
    Geometry { zones: 10, zone_bytes: 8 * MIB, zone_capacity_bytes: 8 * MIB, ..rig::geometry() }
}

#[test]
fn a_flip_anywhere_in_a_long_record_is_never_served() {
    rig::run(async |world| {
        let device = MemoryDevice::new(geometry(), "long");
        let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
        mounted.osd.create_extent(new_extent(1)).await.unwrap();
        let long = block(1, MIB as u32 + 5000);
        let at = put(&mounted.osd, 1, long).await.unwrap().offset_bytes;
        let (layout, extent) = (mounted.osd.label.layout, mounted.osd.extent(ExtentId(1)).unwrap());
        let spot = Spot::at(at, &layout).unwrap();
        let zone = layout.zone(extent.header.slot, spot.zone);
        let last = record_bytes(long.bytes) - 1;
        for offset_bytes in (0..last).step_by(64 * KIB as usize).chain([last]) {
            device.flip(zone, spot.offset_bytes + offset_bytes, 0x10);
            let read = get(&mounted.osd, 1, long).await;
            assert!(
                matches!(read, Err(Refusal::RecordDamaged(_))),
                "byte {offset_bytes}: {:?}",
                read.map(|it| it.len())
            );
            device.flip(zone, spot.offset_bytes + offset_bytes, 0x10);
        }
        assert_stored(&mounted.osd, 1, long).await;
    });
}

#[test]
fn a_short_record_passes_long_ones_which_are_answered_in_order() {
    rig::run(async |world| {
        let mounted = start(&world, Rc::new(MemoryDevice::new(geometry(), "long"))).await.unwrap();
        mounted.osd.create_extent(new_extent(1)).await.unwrap();
        let blocks = [block(1, 3 * MIB as u32), block(2, MIB as u32), block(3, 4000)];
        for block in blocks {
            put(&mounted.osd, 1, block).await.unwrap();
        }
        let answered = RefCell::new(Vec::new());
        let reads = blocks.map(async |block: Block| {
            assert_stored(&mounted.osd, 1, block).await;
            answered.borrow_mut().push(block.bytes);
        });
        join_all(reads).await;
        assert_eq!(*answered.borrow(), [4000, 3 * MIB as u32, MIB as u32]);
    });
}

#[test]
fn a_reader_who_gives_up_leaves_the_turn_to_the_next() {
    rig::run(async |world| {
        let mounted = start(&world, Rc::new(MemoryDevice::new(geometry(), "long"))).await.unwrap();
        mounted.osd.create_extent(new_extent(1)).await.unwrap();
        let long = block(1, 3 * MIB as u32);
        put(&mounted.osd, 1, long).await.unwrap();
        for steps in 1..40 {
            let mut given_up = Box::pin(get(&mounted.osd, 1, long));
            for _ in 0..steps {
                if futures_util::poll!(given_up.as_mut()).is_ready() {
                    break;
                }
                world.tasks.yield_now().await;
            }
            drop(given_up);
            assert_stored(&mounted.osd, 1, long).await;
        }
        assert_eq!(mounted.budgets.read.used_bytes(), 0, "and the memory");
    });
}
