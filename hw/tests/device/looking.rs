//! Looking at an emulated drive: nothing can be changed, nobody is disturbed, damage is told of and the rest is shown.

use std::path::Path;
use std::rc::Rc;

use shingle_hw::backend::{self, Damage, Look, OpenError, file};
use shingle_hw::buffer::BufferPool;
use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::ring::{Ring, block_on};
use shingle_hw::zone::{ZoneCondition, ZoneId};

use crate::emulated::{directory, geometries, open_file};
use crate::rig::{new_ring, pattern};

fn look(path: &Path, ring: &Rc<Ring>) -> Look {
    backend::look(path, Rc::clone(ring), BufferPool::new(8 << 20).expect("mapped")).expect("can be looked at")
}

fn append(device: &dyn ZonedDevice, ring: &Rc<Ring>, zone: u32, data: &[u8]) {
    let mut buffer = device.alloc_buffer(data.len());
    buffer[..data.len()].copy_from_slice(data);
    let (outcome, _) = block_on(ring, device.append(ZoneId(zone), buffer, 0..data.len()));
    outcome.expect("appended");
}

fn read(device: &dyn ZonedDevice, ring: &Rc<Ring>, zone: u32, bytes: usize) -> Result<Vec<u8>, DeviceError> {
    let (outcome, buffer) = block_on(ring, device.read(ZoneId(zone), 0, device.alloc_buffer(bytes), 0..bytes));
    outcome.map(|()| buffer[..bytes].to_vec())
}

fn pointer(device: &dyn ZonedDevice, ring: &Rc<Ring>, zone: u32) -> u64 {
    block_on(ring, device.report(ZoneId(zone), 1)).expect("reported")[0].write_pointer_bytes
}

#[test]
fn everything_that_would_change_the_drive_is_refused() {
    let (directory, ring) = (directory(), new_ring());
    let path = directory.path().join("disk");
    file::create(&path, &geometries()[0], "looked-at").expect("created");
    let before = std::fs::read(&path).expect("read");
    let looked = look(&path, &ring);
    let device = &looked.device;
    let buffer = || device.alloc_buffer(4096);
    assert_eq!(block_on(&ring, device.append(ZoneId(2), buffer(), 0..4096)).0, Err(DeviceError::LookOnly));
    assert_eq!(block_on(&ring, device.write(ZoneId(0), 0, buffer(), 0..4096)).0, Err(DeviceError::LookOnly));
    for refused in [
        device.flush(),
        device.open(ZoneId(2)),
        device.close(ZoneId(2)),
        device.finish(ZoneId(2)),
        device.reset(ZoneId(2)),
    ] {
        assert_eq!(block_on(&ring, refused), Err(DeviceError::LookOnly));
    }
    assert!(!looked.in_use && looked.users.is_empty() && looked.damages.is_empty());
    drop(looked);
    assert!(std::fs::read(&path).expect("read") == before);
}

#[test]
fn a_drive_in_use_shows_what_was_flushed_and_is_not_disturbed() {
    let (directory, ring) = (directory(), new_ring());
    let path = directory.path().join("disk");
    file::create(&path, &geometries()[0], "in-use").expect("created");
    let used = open_file(&path, &ring).expect("opened");
    let data = pattern(1, 8192);
    append(&used, &ring, 3, &data);
    let looked = look(&path, &ring);
    assert!(looked.in_use && looked.users.iter().any(|user| user.pid == std::process::id()), "{:?}", looked.users);
    assert_eq!(pointer(&*looked.device, &ring, 3), 0, "not flushed");
    block_on(&ring, used.flush()).expect("flushed");
    let before = std::fs::read(&path).expect("read");
    assert_eq!(pointer(&*looked.device, &ring, 3), 8192, "a report is a new look");
    assert_eq!(read(&*looked.device, &ring, 3, 8192).expect("readable"), data);
    assert!(std::fs::read(&path).expect("read") == before);
    append(&used, &ring, 3, &data);
    block_on(&ring, used.flush()).expect("goes on");
    drop((looked, used));
    drop(open_file(&path, &ring).expect("nothing is locked"));
}

#[test]
fn a_crashed_drive_is_shown_as_opening_would_find_it() {
    let (directory, ring) = (directory(), new_ring());
    let (path, copy) = (directory.path().join("disk"), directory.path().join("copy"));
    file::create(&path, &geometries()[0], "crashed").expect("created");
    let used = open_file(&path, &ring).expect("opened");
    for round in 0..5 {
        append(&used, &ring, 2 + round, &pattern(u64::from(round), 12_288));
        block_on(&ring, used.flush()).expect("flushed");
        std::fs::copy(&path, &copy).expect("copied");
        let before = std::fs::read(&copy).expect("read");
        let shown = block_on(&ring, look(&copy, &ring).device.report(ZoneId(0), 100)).expect("reported");
        assert!(std::fs::read(&copy).expect("read") == before, "nothing is settled by looking");
        let opened = open_file(&copy, &ring).expect("opened");
        assert_eq!(block_on(&ring, opened.report(ZoneId(0), 100)).expect("reported"), shown);
    }
}

#[test]
fn damage_is_told_and_the_rest_is_shown() {
    let (directory, ring) = (directory(), new_ring());
    let path = directory.path().join("disk");
    file::create(&path, &geometries()[0], "damaged").expect("created");
    let data = pattern(7, 8192);
    {
        let used = open_file(&path, &ring).expect("opened");
        for zone in [2, 11] {
            append(&used, &ring, zone, &data);
        }
        block_on(&ring, used.flush()).expect("flushed");
        // The flush after it settles what the first one covered: no start asks for its checksum any more.
        append(&used, &ring, 3, &data);
        block_on(&ring, used.flush()).expect("flushed");
    }
    let whole = std::fs::read(&path).expect("read");
    let spoil = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        std::fs::write(&path, bytes).expect("written");
        look(&path, &ring)
    };
    let looked = spoil(&|bytes| bytes[4096 + 30] ^= 1);
    assert_eq!(looked.damages, [Damage::Superblock { copy: 1 }]);
    let looked = spoil(&|bytes| {
        bytes[8192 + 100] ^= 1;
        bytes[12_288 + 100] ^= 1;
    });
    assert!(matches!(&looked.damages[..], [Damage::ZoneTable { page: 0, zones, .. }] if *zones == (0..12)));
    let report = block_on(&ring, looked.device.report(ZoneId(0), 100)).expect("reported");
    assert_eq!((report[0].condition, report[2].condition), (ZoneCondition::NotWritePointer, ZoneCondition::ReadOnly));
    assert_eq!(read(&*looked.device, &ring, 2, 8192).expect("still readable"), data);
    let looked = spoil(&|bytes| bytes.truncate(bytes.len() - (1 << 20) + 4096));
    assert!(matches!(looked.damages[..], [Damage::Truncated { first_zone: 11, .. }]));
    assert_eq!(read(&*looked.device, &ring, 2, 8192).expect("still readable"), data);
    assert_eq!(
        read(&*looked.device, &ring, 11, 8192),
        Err(DeviceError::Unreadable { zone: ZoneId(11), offset_bytes: 4096 })
    );
    let looked = spoil(&|bytes| bytes.truncate(8192));
    assert!(looked.damages.len() == 2, "the table is gone as well: {:?}", looked.damages);
    assert!(matches!(read(&*looked.device, &ring, 2, 8192), Err(DeviceError::Unreadable { .. })));
    std::fs::write(&path, vec![7; 50_000]).expect("written");
    let refused = backend::look(&path, Rc::clone(&ring), BufferPool::new(1 << 20).expect("mapped")).err();
    assert!(matches!(refused, Some(OpenError::File(file::OpenError::NotADisk { .. }))));
    let refused = backend::look(directory.path(), ring, BufferPool::new(1 << 20).expect("mapped")).err();
    assert!(matches!(refused, Some(OpenError::File(file::OpenError::NotADisk { .. }))));
}
