//! Slots of a disk: they run out, and those of extents that never held a record come back.

use std::rc::Rc;

use crate::rig;
use crate::rig::{assert_stored, block, geometry, memory, new_extent, put, start};
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::geometry::Geometry;
use shingle_node::osd::refusal::Refusal;
use shingle_proto::ids::{ExtentId, Generation};

#[test]
fn disk_runs_out_of_extents_and_of_open_zones() {
    rig::run(async |world| {
        let mounted = start(&world, Rc::new(memory())).await.unwrap();
        let extents = u128::from(mounted.osd.label.layout.extents);
        assert_eq!(extents, 8);
        for number in 0..extents {
            mounted.osd.create_extent(new_extent(number)).await.unwrap();
        }
        let full = mounted.osd.create_extent(new_extent(100)).await;
        assert!(matches!(full, Err(Refusal::NoFreeExtent(_))), "{full:?}");
        let few = Geometry { open_zones_max: 3, active_zones_max: 3, ..geometry() };
        let mounted = start(&world, Rc::new(MemoryDevice::new(few, "few"))).await.unwrap();
        // The journal has the third.
        for number in 0..2 {
            mounted.osd.create_extent(new_extent(number)).await.unwrap();
        }
        let refused = mounted.osd.create_extent(new_extent(9)).await;
        assert!(matches!(refused, Err(Refusal::NoFreeExtent(_))), "{refused:?}");
        mounted.osd.close_extent(ExtentId(1), Generation(1)).await.unwrap();
        mounted.osd.create_extent(new_extent(9)).await.unwrap();
    });
}

#[test]
fn slots_of_extents_that_held_nothing_come_back_and_others_do_not() {
    rig::run(async |world| {
        let device = memory();
        let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
        let osd = &mounted.osd;
        let extents = u128::from(osd.label.layout.extents);
        for number in 0..extents {
            osd.create_extent(new_extent(number)).await.unwrap();
        }
        let kept = block(1, 5000);
        put(osd, 3, kept).await.unwrap();
        for number in 0..extents {
            osd.close_extent(ExtentId(number), Generation(1)).await.unwrap();
        }
        // Closing again is answered alike as long as nobody needs the slot.
        assert_eq!(osd.close_extent(ExtentId(0), Generation(1)).await.unwrap().records, 0);
        for round in 1..4 {
            for number in 1..extents {
                let extent = 100 * round + number;
                osd.create_extent(new_extent(extent)).await.unwrap();
                osd.close_extent(ExtentId(extent), Generation(1)).await.unwrap();
            }
        }
        assert_stored(osd, 3, kept).await;

        // A restart finds the same: one slot is taken for good, all others can be had.
        device.power_cycle();
        let mounted = start(&world, Rc::new(device)).await.unwrap();
        assert_stored(&mounted.osd, 3, kept).await;
        for number in 1..extents {
            mounted.osd.create_extent(new_extent(1000 + number)).await.unwrap();
        }
        let full = mounted.osd.create_extent(new_extent(2000)).await;
        assert!(matches!(full, Err(Refusal::NoFreeExtent(_))), "{full:?}");
        assert_stored(&mounted.osd, 3, kept).await;
    });
}
