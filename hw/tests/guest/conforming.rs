//! Every way to a real zoned device passes the conformance body.

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use shingle_hw::backend::{self, OpenError, blkzoned, nvme};
use shingle_hw::buffer::BufferPool;
use shingle_hw::device::ZonedDevice;
use shingle_hw::geometry::Geometry;
use shingle_hw::ring::Ring;
use shingle_hw::zone::{ZoneCondition, ZoneId};

use crate::claims::Shared::{Smr, Zns512, Zns4096};
use crate::claims::claim;
use crate::conformance::CHECKS;
use crate::devices::{NullBlk, scsi_debug, wait_for, zns_block, zns_generic};
use crate::rig::{Rig, new_ring};

/// Small: a drive of our own NVMe driver is shown all of it whenever it is opened, page by page.
pub fn pool() -> BufferPool {
    BufferPool::new(8 << 20).expect("mapped")
}

/// Runs all checks, each on a device opened anew whose zones are empty.
pub fn conforms(expected: &Geometry, open: impl Fn(Rc<Ring>) -> Rc<dyn ZonedDevice>) {
    for (name, check) in CHECKS {
        let since = Instant::now();
        let ring = new_ring();
        let rig = Rig::with(open(Rc::clone(&ring)), ring);
        let geometry = rig.device.geometry().clone();
        let expected = Geometry { transfer_bytes_max: geometry.transfer_bytes_max, ..expected.clone() };
        assert_eq!(geometry, expected, "{name}");
        empty(&rig);
        check(&rig);
        println!("    {name}: {} ms", since.elapsed().as_millis());
    }
}

/// Resets every zone that is not empty.
pub fn empty(rig: &Rig) {
    let zones = rig.run(rig.device.report(ZoneId(0), u32::MAX)).expect("reports");
    for zone in zones {
        if !matches!(zone.condition, ZoneCondition::NotWritePointer | ZoneCondition::Empty) {
            rig.reset(zone.id.0).expect("resets");
        }
    }
}

/// By what the path is. A ring that has ended lets go of its files a moment later.
pub fn open(node: &Path, ring: Rc<Ring>) -> Rc<dyn ZonedDevice> {
    use OpenError::{Block, Nvme};
    wait_for("the end of the last use", || match backend::open(node, Rc::clone(&ring), pool()) {
        Err(Block(blkzoned::OpenError::Held { .. }) | Nvme(nvme::OpenError::Held { .. })) => None,
        outcome => Some(outcome.expect("opens")),
    })
}

/// For devices without a serial number, as `open`.
pub fn open_as(node: &Path, serial: &str, ring: Rc<Ring>) -> Rc<dyn ZonedDevice> {
    wait_for("the end of the last use", || match blkzoned::open_as(node, Some(serial), Rc::clone(&ring), pool()) {
        Err(blkzoned::OpenError::Held { .. }) => None,
        outcome => Some(Rc::new(outcome.expect("opens")) as Rc<dyn ZonedDevice>),
    })
}

const BASE: Geometry = Geometry {
    zones: 32,
    zone_bytes: 1 << 20,
    zone_capacity_bytes: 1 << 20,
    conventional_zones: 0,
    sector_bytes: 4096,
    open_zones_max: 0,
    active_zones_max: 0,
    transfer_bytes_max: 0,
};

fn null_blk_conforms(name: &str, attributes: &[(&str, u32)], expected: &Geometry) {
    let device = NullBlk::zoned(name, attributes);
    conforms(expected, |ring| open_as(&device.node, name, ring));
}

#[test]
fn null_blk_with_open_zones_limited() {
    let attributes = [("size", 32), ("blocksize", 4096), ("zone_size", 1), ("zone_nr_conv", 1), ("zone_max_open", 4)];
    null_blk_conforms("limited", &attributes, &Geometry { conventional_zones: 1, open_zones_max: 4, ..BASE });
}

#[test]
fn null_blk_with_capacity_below_zone_size_and_active_zones_limited() {
    let attributes = [
        ("size", 64),
        ("blocksize", 4096),
        ("zone_size", 2),
        ("zone_capacity", 1),
        ("zone_max_open", 4),
        ("zone_max_active", 6),
    ];
    let expected = Geometry { zone_bytes: 2 << 20, open_zones_max: 4, active_zones_max: 6, ..BASE };
    null_blk_conforms("capacity", &attributes, &expected);
}

#[test]
fn null_blk_with_small_sectors_and_one_open_zone() {
    let attributes = [("size", 32), ("blocksize", 512), ("zone_size", 1), ("zone_nr_conv", 3), ("zone_max_open", 1)];
    let expected = Geometry { sector_bytes: 512, conventional_zones: 3, open_zones_max: 1, ..BASE };
    null_blk_conforms("small", &attributes, &expected);
}

#[test]
fn null_blk_without_limits_and_with_an_odd_last_zone() {
    let attributes = [("size", 61), ("blocksize", 4096), ("zone_size", 2), ("zone_nr_conv", 7)];
    let expected =
        Geometry { zones: 30, zone_bytes: 2 << 20, zone_capacity_bytes: 2 << 20, conventional_zones: 7, ..BASE };
    null_blk_conforms("odd", &attributes, &expected);
}

#[test]
fn scsi_smr_disk() {
    let _claim = claim(&[Smr]);
    let expected = Geometry {
        zone_bytes: 2 << 20,
        zone_capacity_bytes: 2 << 20,
        conventional_zones: 3,
        open_zones_max: 8,
        ..BASE
    };
    let node = scsi_debug();
    conforms(&expected, |ring| open(&node, ring));
}

pub const ZNS_4096: Geometry =
    Geometry { zones: 24, zone_capacity_bytes: 768 << 10, open_zones_max: 4, active_zones_max: 6, ..BASE };

pub const ZNS_512: Geometry = Geometry { zone_capacity_bytes: 200 << 10, sector_bytes: 512, ..BASE };

#[test]
fn zns_by_block_layer() {
    let _claim = claim(&[Zns4096]);
    let node = zns_block("zns-4096");
    conforms(&ZNS_4096, |ring| open(&node, ring));
}

#[test]
fn zns_with_small_sectors_by_block_layer() {
    let _claim = claim(&[Zns512]);
    let node = zns_block("zns-512");
    conforms(&ZNS_512, |ring| open(&node, ring));
}

#[test]
fn zns_by_passthrough() {
    let _claim = claim(&[Zns4096]);
    let node = zns_generic("zns-4096");
    conforms(&ZNS_4096, |ring| open(&node, ring));
}

#[test]
fn zns_with_small_sectors_by_passthrough() {
    let _claim = claim(&[Zns512]);
    let node = zns_generic("zns-512");
    conforms(&ZNS_512, |ring| open(&node, ring));
}
