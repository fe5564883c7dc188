//! What only the passthrough can: several appends in one zone at once.

use std::rc::Rc;

use shingle_hw::buffer::Buffer;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::{ZoneCondition, ZoneId};

use crate::claims::Shared::{Zns512, Zns4096};
use crate::claims::claim;
use crate::conforming::{empty, open};
use crate::devices::{zns_block, zns_generic};
use crate::rig::{Rig, filled, new_ring, pattern};

fn rig(serial: &str) -> Rig {
    let ring = new_ring();
    let rig = Rig::with(open(&zns_generic(serial), Rc::clone(&ring)), ring);
    empty(&rig);
    rig
}

#[test]
fn many_appends_to_one_zone_land_behind_each_other_wherever_they_land() {
    let _claim = claim(&[Zns4096, Zns512]);
    for serial in ["zns-4096", "zns-512"] {
        let rig = rig(serial);
        let sector = rig.device.geometry().sector_bytes as usize;
        let count = rig.device.appends_per_zone().min(32);
        assert!(count > 1);
        // Every fifth is above the append limit, so it is written alone at the pointer.
        let large = if serial == "zns-4096" { 20 * sector } else { 3 * sector };
        let sizes: Vec<usize> = (0..count).map(|index| if index % 5 == 4 { large } else { sector }).collect();
        let commands: Vec<_> = (0..)
            .zip(&sizes)
            .map(|(index, bytes)| {
                rig.device.append(ZoneId(3), filled(&*rig.device, &pattern(index, *bytes)), 0..*bytes)
            })
            .collect();
        let mut landed = Vec::new();
        for (index, (command, bytes)) in (0..).zip(commands.into_iter().zip(&sizes)) {
            let at = rig.run(command).0.expect("appends");
            assert_eq!(rig.read(3, at, *bytes).expect("reads"), pattern(index, *bytes), "append {index} at {at}");
            landed.push((at, *bytes as u64));
        }
        landed.sort_unstable();
        let mut end = 0;
        for (at, bytes) in landed {
            assert_eq!(at, end, "appends leave no gap and do not overlap");
            end = at + bytes;
        }
        assert_eq!((rig.zone(3).condition, rig.zone(3).write_pointer_bytes), (ZoneCondition::ImplicitOpen, end));
    }
}

#[test]
fn appends_together_fill_a_zone_exactly() {
    let _claim = claim(&[Zns4096]);
    let rig = rig("zns-4096");
    let geometry = rig.device.geometry().clone();
    let piece = 16 * geometry.sector_bytes as usize;
    let pieces = geometry.zone_capacity_bytes as usize / piece;
    let data = pattern(7, piece);
    let commands: Vec<_> =
        (0..pieces).map(|_| rig.device.append(ZoneId(2), filled(&*rig.device, &data), 0..piece)).collect();
    let over = rig.run(rig.device.append(ZoneId(2), filled(&*rig.device, &data), 0..piece)).0;
    assert!(matches!(over, Err(DeviceError::Boundary { .. })), "{over:?}");
    for command in commands {
        rig.run(command).0.expect("appends");
    }
    assert_eq!(rig.zone(2).condition, ZoneCondition::Full);
    assert_eq!(rig.append(2, &data), Err(DeviceError::Full { zone: ZoneId(2) }));
}

/// Buffers that this process has registered with rings, by the kernel's count.
fn registered_buffers() -> usize {
    let rings = std::fs::read_dir("/proc/self/fdinfo").expect("reads").flatten();
    let texts = rings.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let counts = texts
        .filter_map(|text| text.lines().find_map(|line| line.strip_prefix("UserBufs:")?.trim().parse::<usize>().ok()));
    counts.sum::<usize>()
}

#[test]
fn buffers_are_registered_and_those_from_elsewhere_serve_too() {
    // Nobody else has such a ring meanwhile.
    let _claim = claim(&[Zns4096, Zns512]);
    let before = registered_buffers();
    let rig = rig("zns-4096");
    assert_eq!(registered_buffers(), before + 1, "the pool's memory is known to the kernel");
    let data = pattern(11, 4096);
    let mut elsewhere = Buffer::new_unpooled(4096);
    elsewhere.copy_from_slice(&data);
    assert_eq!(rig.run(rig.device.append(ZoneId(4), elsewhere, 0..4096)).0, Ok(0));
    assert_eq!(rig.append(4, &data), Ok(4096));
    let (outcome, buffer) = rig.run(rig.device.read(ZoneId(4), 0, Buffer::new_unpooled(8192), 0..8192));
    assert_eq!((outcome, &buffer[..]), (Ok(()), &[&data[..], &data[..]].concat()[..]));
    assert_eq!(rig.read(4, 0, 8192).expect("reads"), [&data[..], &data[..]].concat());
}

#[test]
fn both_ways_to_a_namespace_show_the_same_drive() {
    let _claim = claim(&[Zns4096]);
    let data = pattern(8, 8192);
    let rig = rig("zns-4096");
    rig.append(5, &data).expect("appends");
    rig.run(rig.device.finish(ZoneId(7))).expect("finishes");
    let (identity, geometry) = (rig.device.identity().clone(), rig.device.geometry().clone());
    let zones = rig.run(rig.device.report(ZoneId(0), u32::MAX)).expect("reports");
    drop(rig);
    let ring = new_ring();
    let rig = Rig::with(open(&zns_block("zns-4096"), Rc::clone(&ring)), ring);
    assert_eq!(rig.device.identity(), &identity);
    assert_eq!((identity.model.as_str(), identity.serial.as_str()), ("QEMU NVMe Ctrl", "zns-4096-n1"));
    let transfer_bytes_max = rig.device.geometry().transfer_bytes_max;
    assert_eq!(*rig.device.geometry(), shingle_hw::geometry::Geometry { transfer_bytes_max, ..geometry });
    assert_eq!(rig.run(rig.device.report(ZoneId(0), u32::MAX)).expect("reports"), zones);
    assert_eq!(rig.read(5, 0, 8192).expect("reads"), data);
    assert_eq!(rig.append(5, &data), Ok(8192));
}
