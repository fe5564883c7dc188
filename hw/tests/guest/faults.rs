//! What goes wrong on a block device: zones that fail, sectors that fail, writers nobody knows of.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;

use shingle_hw::buffer::Buffer;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::{ZoneCondition, ZoneId};

use crate::claims::Shared::{Smr, Zns4096};
use crate::claims::claim;
use crate::conforming::{empty, open, open_as};
use crate::devices::{NullBlk, scsi_debug, zns_block};
use crate::rig::{Rig, new_ring, pattern};

const SECTOR: usize = 4096;
const ZONE: u64 = 1 << 20;

fn null_blk(name: &str) -> (NullBlk, Rig) {
    let device = NullBlk::zoned(name, &[("size", 16), ("blocksize", 4096), ("zone_size", 1), ("zone_max_open", 4)]);
    let ring = new_ring();
    let rig = Rig::with(open_as(&device.node, name, Rc::clone(&ring)), ring);
    (device, rig)
}

/// How null_blk names a zone: by its first 512-byte sector.
fn sector_of(zone: u64) -> String {
    (zone * ZONE / 512).to_string()
}

#[test]
fn a_zone_gone_read_only_or_offline_is_named_and_no_other_zone_suffers() {
    let (device, rig) = null_blk("gone");
    let data = pattern(1, 4 * SECTOR);
    for zone in 0..4 {
        rig.append(zone, &data).expect("appends");
    }
    device.set("zone_readonly", &sector_of(1));
    device.set("zone_offline", &sector_of(2));
    assert_eq!(rig.append(1, &data), Err(DeviceError::ReadOnly { zone: ZoneId(1) }));
    assert_eq!(rig.append(2, &data), Err(DeviceError::Offline { zone: ZoneId(2) }));
    assert_eq!(rig.append(1, &data), Err(DeviceError::ReadOnly { zone: ZoneId(1) }), "and again");
    assert_eq!(rig.read(1, 0, data.len()).expect("a read-only zone is read"), data);
    assert_eq!(rig.read(2, 0, data.len()), Err(DeviceError::Offline { zone: ZoneId(2) }));
    assert_eq!(rig.run(rig.device.finish(ZoneId(1))), Err(DeviceError::ReadOnly { zone: ZoneId(1) }));
    assert_eq!(rig.reset(2), Err(DeviceError::Offline { zone: ZoneId(2) }));
    for zone in [0, 3] {
        assert_eq!(rig.append(zone, &data), Ok(data.len() as u64));
        assert_eq!(rig.read(zone, 0, data.len()).expect("reads"), data);
    }
    rig.flush().expect("flushes");
    let found: Vec<_> = (0..4).map(|zone| rig.zone(zone).condition).collect();
    use ZoneCondition::{ImplicitOpen, Offline, ReadOnly};
    assert_eq!(found, [ImplicitOpen, ReadOnly, Offline, ImplicitOpen]);
}

#[test]
fn a_zone_that_fails_unnoticed_shows_in_the_next_report_or_command() {
    let (device, rig) = null_blk("unnoticed");
    let data = pattern(2, SECTOR);
    rig.append(3, &data).expect("appends");
    device.set("zone_offline", &sector_of(3));
    device.set("zone_readonly", &sector_of(5));
    assert_eq!(rig.reset(3), Err(DeviceError::Offline { zone: ZoneId(3) }));
    assert_eq!(rig.zone(5).condition, ZoneCondition::ReadOnly);
    assert_eq!(rig.run(rig.device.open(ZoneId(5))), Err(DeviceError::ReadOnly { zone: ZoneId(5) }));
}

#[test]
fn a_failed_write_leaves_the_zone_in_order_for_the_next_one() {
    let (device, rig) = null_blk("bad");
    let data = pattern(3, 2 * SECTOR);
    rig.append(4, &data).expect("appends");
    let bad = (4 * ZONE + 2 * SECTOR as u64) / 512;
    device.set("badblocks", &format!("+{bad}-{}", bad + 7));
    let failed = rig.append(4, &data).expect_err("the medium is bad there");
    assert!(matches!(failed, DeviceError::Failed { .. }), "{failed}");
    assert_eq!(rig.zone(4).write_pointer_bytes, 2 * SECTOR as u64, "nothing was written");
    assert_eq!(rig.append(5, &data), Ok(0), "another zone");
    device.set("badblocks", &format!("-{bad}-{}", bad + 7));
    assert_eq!(rig.append(4, &data), Ok(2 * SECTOR as u64), "the kernel takes writes again after the report");
    device.set("badblocks", &format!("+{bad}-{}", bad + 7));
    let unreadable = DeviceError::Unreadable { zone: ZoneId(4), offset_bytes: 2 * SECTOR as u64 };
    assert_eq!(rig.read(4, 2 * SECTOR as u64, SECTOR), Err(unreadable));
    assert_eq!(rig.read(4, 0, 2 * SECTOR).expect("reads what is in order"), data);
    assert_eq!(rig.read(4, 3 * SECTOR as u64, SECTOR).expect("reads what is in order"), data[SECTOR..]);
    device.set("badblocks", &format!("-{bad}-{}", bad + 7));
}

/// Writes one sector past the device that has the node.
fn intrude(node: &Path, at: u64) {
    let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(node).expect("opens");
    let mut buffer = Buffer::new_unpooled(SECTOR);
    buffer.fill(0xee);
    file.write_all_at(&buffer, at).expect("writes");
}

#[test]
fn a_foreign_write_is_an_error_and_the_pointer_is_believed_afterwards() {
    let _claim = claim(&[Zns4096, Smr]);
    let (device, rig) = null_blk("foreign");
    let zns = zns_block("zns-4096");
    let ring = new_ring();
    let zns_rig = Rig::with(open(&zns, Rc::clone(&ring)), ring);
    let smr = scsi_debug();
    let ring = new_ring();
    let smr_rig = Rig::with(open(&smr, Rc::clone(&ring)), ring);
    for (node, rig) in [(&device.node, rig), (&zns, zns_rig), (&smr, smr_rig)] {
        empty(&rig);
        let (zone, sector, data) = (ZoneId(6), SECTOR as u64, pattern(4, SECTOR));
        assert_eq!(rig.append(6, &data), Ok(0), "{node:?}");
        intrude(node, 6 * rig.device.geometry().zone_bytes + sector);
        let error = DeviceError::WritePointer { zone, offset_bytes: sector, write_pointer_bytes: 2 * sector };
        assert_eq!(rig.append(6, &data), Err(error), "{node:?}");
        assert_eq!(rig.append(6, &data), Ok(2 * sector), "{node:?}");
        assert_eq!(rig.read(6, 0, SECTOR).expect("reads"), data);
        assert_eq!(rig.read(6, 2 * sector, SECTOR).expect("reads"), data);
    }
}
