//! The two labels: one lost is written again from the other, and what is not provably this disk is refused unchanged.

use std::rc::Rc;

use shingle_codec::checksum::crc32c;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::faulty::{CommandKind, Fault, FaultyDevice};
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::{ZoneCondition, ZoneId};
use shingle_node::extent::layout::Layout;
use shingle_node::osd::mount::{Disk, MountError, check_extents};
use shingle_proto::limits::VOLUME_FREE_BYTES_MIN;
use shingle_seam::World;

use crate::rig::{self, Mounted, assert_stored, block, geometry, new_extent, put, start};

const FIRST: ZoneId = ZoneId(0);
const LAST: ZoneId = ZoneId(19);

fn sequential() -> Geometry {
    Geometry { conventional_zones: 0, ..geometry() }
}

/// A disk in use.
async fn used(world: &World, shape: Geometry, serial: &str) -> MemoryDevice {
    let device = MemoryDevice::new(shape, serial);
    let mounted = start(world, Rc::new(device.clone())).await.unwrap();
    mounted.osd.create_extent(new_extent(1)).await.unwrap();
    put(&mounted.osd, 1, block(1, 5000)).await.unwrap();
    device.power_cycle();
    device
}

async fn sector(device: &MemoryDevice, zone: ZoneId) -> Vec<u8> {
    let (read, buffer) = device.read(zone, 0, device.alloc_buffer(4096), 0..4096).await;
    read.unwrap();
    buffer[..4096].to_vec()
}

/// Puts a sector where a label is.
async fn place(device: &MemoryDevice, zone: ZoneId, bytes: &[u8]) {
    let mut buffer = device.alloc_buffer(4096);
    buffer[..4096].copy_from_slice(bytes);
    if zone.0 < device.geometry().conventional_zones {
        device.write(zone, 0, buffer, 0..4096).await.0.unwrap();
    } else {
        device.reset(zone).await.unwrap();
        device.append(zone, buffer, 0..4096).await.0.unwrap();
    }
    device.power_cycle();
}

/// A label with some bytes changed and its checksum made right again.
fn forged(mut sector: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    sector[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c(&sector[..4092]);
    sector[4092..].copy_from_slice(&crc.to_le_bytes());
    sector
}

async fn refused(world: &World, device: &MemoryDevice) -> MountError {
    let before = contents(device).await;
    let refused = start(world, Rc::new(device.clone())).await.err().expect("refused");
    assert!(contents(device).await == before, "a refused disk is left as it is: {refused}");
    refused
}

/// Everything on a disk.
async fn contents(device: &MemoryDevice) -> Vec<(ZoneCondition, u64, Vec<u8>)> {
    let mut all = Vec::new();
    for zone in device.report(FIRST, 100).await.unwrap() {
        let bytes = device.geometry().zone_capacity_bytes as usize;
        let mut whole = Vec::new();
        for at in (0..bytes).step_by(65_536) {
            let (read, buffer) = device.read(zone.id, at as u64, device.alloc_buffer(65_536), 0..65_536).await;
            read.unwrap();
            whole.extend_from_slice(&buffer[..65_536]);
        }
        all.push((zone.condition, zone.write_pointer_bytes, whole));
    }
    all
}

async fn assert_repaired(world: &World, device: &MemoryDevice, repaired: u64) -> Mounted {
    let mounted = start(world, Rc::new(device.clone())).await.unwrap();
    assert_eq!(mounted.report.labels_repaired, repaired);
    assert_stored(&mounted.osd, 1, block(1, 5000)).await;
    mounted
}

#[test]
fn label_lost_at_either_end_is_written_again() {
    rig::run(async |world| {
        for shape in [geometry(), sequential()] {
            for zone in [FIRST, LAST] {
                let device = used(&world, shape.clone(), "serial-1").await;
                let labels = [sector(&device, FIRST).await, sector(&device, LAST).await];
                for damage in 0..3 {
                    match damage {
                        0 => device.flip(zone, 300, 1),
                        1 => place(&device, zone, &[0; 4096]).await,
                        _ if zone.0 < shape.conventional_zones => device.flip(zone, 3, 0xff),
                        _ => device.reset(zone).await.unwrap(),
                    }
                    assert_repaired(&world, &device, 1).await;
                    device.crash(7);
                    assert_repaired(&world, &device, 0).await;
                    assert!([sector(&device, FIRST).await, sector(&device, LAST).await] == labels);
                }
            }
        }
    });
}

#[test]
fn unreadable_label_is_written_again() {
    rig::run(async |world| {
        let device = used(&world, geometry(), "serial-1").await;
        let faulty = FaultyDevice::new(Rc::new(device.clone()), Rc::new(|_| Box::pin(async {})), 1);
        let error = DeviceError::Unreadable { zone: FIRST, offset_bytes: 0 };
        faulty.faults().arm(1, Fault::Error { command: CommandKind::Read, error });
        let mounted = start(&world, Rc::new(faulty)).await.unwrap();
        assert_stored(&mounted.osd, 1, block(1, 5000)).await;
    });
}

#[test]
fn label_zone_that_cannot_be_written_is_a_finding_and_no_refusal() {
    rig::run(async |world| {
        let device = used(&world, sequential(), "serial-1").await;
        device.set_offline(LAST);
        device.power_cycle();
        let mounted = assert_repaired(&world, &device, 0).await;
        assert_eq!(mounted.findings.len(), 1, "{:?}", mounted.findings.batch());
        device.set_offline(FIRST);
        assert!(matches!(start(&world, Rc::new(device)).await, Err(MountError::LabelDamaged { .. })));
    });
}

#[test]
fn labels_that_disagree_are_refused() {
    rig::run(async |world| {
        for shape in [geometry(), sequential()] {
            let ours = used(&world, shape.clone(), "serial-1").await;
            let other = used(&world, shape, "serial-1").await;
            place(&ours, LAST, &sector(&other, LAST).await).await;
            let refused = refused(&world, &ours).await;
            assert!(matches!(refused, MountError::LabelsDisagree { .. }), "{refused}");
            assert!(refused.to_string().contains("Take it out"), "{refused}");
            // The second copy in the first one's place is no label at all.
            place(&other, FIRST, &sector(&other, LAST).await).await;
            assert_repaired(&world, &other, 1).await;
        }
    });
}

#[test]
fn clones_and_changed_geometries_are_refused() {
    rig::run(async |world| {
        let ours = used(&world, sequential(), "serial-1").await;
        let clone = MemoryDevice::new(sequential(), "serial-2");
        place(&clone, FIRST, &sector(&ours, FIRST).await).await;
        assert!(matches!(refused(&world, &clone).await, MountError::OtherSerial { .. }), "one label is enough to tell");
        place(&clone, LAST, &sector(&ours, LAST).await).await;
        assert!(matches!(refused(&world, &clone).await, MountError::OtherSerial { .. }));
        let larger = MemoryDevice::new(Geometry { zones: 21, ..sequential() }, "serial-1");
        place(&larger, FIRST, &sector(&ours, FIRST).await).await;
        assert!(matches!(refused(&world, &larger).await, MountError::OtherGeometry { .. }));
    });
}

#[test]
fn other_versions_are_refused_whichever_label_says_so() {
    rig::run(async |world| {
        for zone in [FIRST, LAST] {
            let device = used(&world, sequential(), "serial-1").await;
            let label = sector(&device, zone).await;
            place(&device, zone, &forged(label.clone(), 8, &[3, 0])).await;
            assert!(matches!(refused(&world, &device).await, MountError::Newer { version: 3, .. }));
            place(&device, zone, &forged(label, 8, &[1, 0])).await;
            assert!(matches!(refused(&world, &device).await, MountError::Older { version: 1, .. }));
        }
    });
}

#[test]
fn new_disk_with_a_bad_zone_is_labelled() {
    rig::run(async |world| {
        for shape in [geometry(), sequential()] {
            for zone in 0..20 {
                for offline in [false, true] {
                    let device = MemoryDevice::new(shape.clone(), "serial-1");
                    match offline {
                        true => device.set_offline(ZoneId(zone)),
                        false => device.set_read_only(ZoneId(zone)),
                    }
                    for restart in 0..2_u64 {
                        let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
                        let slots = mounted.report.free + mounted.report.retired + restart;
                        assert_eq!(slots, 8, "zone {zone}, start {restart}");
                        mounted.osd.create_extent(new_extent(restart.into())).await.unwrap();
                        put(&mounted.osd, restart.into(), block(1, 5000)).await.unwrap();
                        device.power_cycle();
                    }
                }
            }
        }
    });
}

#[test]
fn labelling_that_was_cut_off_is_done_again() {
    rig::run(async |world| {
        for shape in [geometry(), sequential()] {
            let labelled = MemoryDevice::new(shape.clone(), "serial-1");
            start(&world, Rc::new(labelled.clone())).await.unwrap();
            let label = sector(&labelled, FIRST).await;
            let torn = [&label[..512], &[0; 3584]].concat();
            for (first, completed) in [(&label, true), (&torn, false)] {
                let device = MemoryDevice::new(shape.clone(), "serial-1");
                place(&device, FIRST, first).await;
                let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
                assert_eq!(mounted.report.labels_repaired, u64::from(completed), "the second label follows the first");
                device.power_cycle();
                assert_eq!(start(&world, Rc::new(device)).await.unwrap().report.labels_repaired, 0);
            }
        }
    });
}

#[test]
fn disk_is_not_taken_when_its_extents_are_full_before_anything_is_in_them() {
    let (mut taken, mut refused) = (0, 0);
    for zones in [20, 40, 120] {
        for zone_kib in (512..=12 << 10).step_by(512) {
            let (zone_bytes, capacity) = (zone_kib << 10, (zone_kib << 10) - 4096);
            let shape = Geometry { zones, zone_bytes, zone_capacity_bytes: capacity, ..geometry() };
            let layout = Layout::of(&shape).unwrap();
            let device: Rc<dyn ZonedDevice> = Rc::new(MemoryDevice::new(shape, "small"));
            match check_extents(&Disk::from(device)) {
                Ok(()) => {
                    assert!(layout.payload_bytes() >= VOLUME_FREE_BYTES_MIN, "{layout:?}");
                    taken += 1;
                }
                Err(MountError::SmallExtents { zones, zone_bytes, payload_bytes, .. }) => {
                    assert_eq!((zones, zone_bytes), (layout.zones_per_extent, capacity));
                    assert!(payload_bytes == layout.payload_bytes() && payload_bytes < VOLUME_FREE_BYTES_MIN);
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(taken > 10 && refused > 10, "{taken} and {refused}: the limit was crossed");
}
