//! Damaged, foreign and misused files of emulated drives: a typed error, or the other copy.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::rc::Rc;

use shingle_hw::backend::file::{CreateError, OpenError, create};
use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::{ZoneCondition, ZoneId};

use crate::emulated::{FileRig, directory, geometries, open_file};
use crate::rig::{Rig, new_ring, pattern};

/// Offsets by FORMAT.md: superblocks, then both copies of a table of one page.
const SUPERBLOCKS: [u64; 2] = [0, 4096];
const TABLE_COPIES: [u64; 2] = [8192, 12288];

fn flip(path: &Path, offset: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("reads");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("writes");
}

fn disk(path: &Path) {
    create(path, &geometries()[0], "damaged").expect("creates");
}

fn open_error(path: &Path) -> OpenError {
    let Err(error) = open_file(path, &new_ring()) else { panic!("opened") };
    error
}

#[test]
fn foreign_missing_and_forbidden_files_are_told_apart() {
    let directory = directory();
    let path = directory.path().join("disk");
    assert!(matches!(open_error(&path), OpenError::Missing { .. }));
    for content in [vec![], vec![7; 100], vec![0; 100_000], pattern(1, 50_000)] {
        std::fs::write(&path, content).expect("writes");
        assert!(matches!(open_error(&path), OpenError::NotADisk { .. }));
    }
    assert!(matches!(open_error(directory.path()), OpenError::Io { .. }), "a directory");
}

#[test]
fn one_damaged_superblock_is_repaired_and_two_are_an_error() {
    let directory = directory();
    let path = directory.path().join("disk");
    disk(&path);
    for copy in SUPERBLOCKS {
        for at in [0, 9, 13, 20, 70, 4000] {
            flip(&path, copy + at);
            drop(open_file(&path, &new_ring()).expect("the other copy holds"));
        }
    }
    flip(&path, SUPERBLOCKS[0] + 30);
    flip(&path, SUPERBLOCKS[1] + 4095);
    assert!(matches!(open_error(&path), OpenError::SuperblockDamaged { .. }));
}

#[test]
fn another_version_is_named() {
    let directory = directory();
    let path = directory.path().join("disk");
    disk(&path);
    let mut page = std::fs::read(&path).expect("reads")[..4096].to_vec();
    page[8..16].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0]);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &page) as u32;
    page[12..16].copy_from_slice(&crc.to_le_bytes());
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opens");
    for copy in SUPERBLOCKS {
        file.write_all_at(&page, copy).expect("writes");
    }
    assert!(matches!(open_error(&path), OpenError::Version { found: 2, supported: 1, .. }));
}

#[test]
fn a_truncated_file_says_how_much_is_missing() {
    let directory = directory();
    let path = directory.path().join("disk");
    disk(&path);
    let whole = path.metadata().expect("exists").len();
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opens");
    for bytes in [whole - 1, 1 << 20, 16384, 8192] {
        file.set_len(bytes).expect("truncates");
        let error = open_error(&path);
        let OpenError::Truncated { expected_bytes, found_bytes, .. } = error else { panic!("{error}") };
        assert_eq!((expected_bytes, found_bytes), (whole, bytes));
    }
    file.set_len(6000).expect("truncates");
    assert!(matches!(open_error(&path), OpenError::Truncated { .. }), "one superblock is enough to know");
    file.set_len(3000).expect("truncates");
    assert!(matches!(open_error(&path), OpenError::NotADisk { .. }));
}

#[test]
fn a_drive_in_use_is_locked() {
    let rig = FileRig::new(&geometries()[0]);
    assert!(matches!(open_error(&rig.path()), OpenError::Locked { .. }));
    // Commands nobody waits for do not keep the lock when the device is gone.
    let data = pattern(1, 4096);
    drop(rig.device.append(shingle_hw::zone::ZoneId(1), crate::rig::filled(&*rig.device, &data), 0..4096));
    drop(rig.device.flush());
    drop(rig.device.reset(shingle_hw::zone::ZoneId(2)));
    let written = rig.reopen().zone(1).write_pointer_bytes;
    assert!(matches!(written, 0 | 4096), "the flush may or may not have come after the append");
}

#[test]
fn a_read_only_file_is_a_permission_error() {
    let directory = directory();
    let path = directory.path().join("disk");
    disk(&path);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("changes");
    let root = std::fs::OpenOptions::new().write(true).open(&path).is_ok();
    if !root {
        assert!(matches!(open_error(&path), OpenError::Permission { .. }));
    }
}

#[test]
fn flipped_bits_in_the_outdated_table_copy_do_no_harm_and_in_the_newer_one_are_an_error() {
    // The first flush after `create` goes to the second copy, the next one to the first.
    for flushes in [1, 2] {
        let (newer, older) = if flushes == 1 { (1, 0) } else { (0, 1) };
        for at in [0, 5, 8, 30, 600, 4000] {
            let rig = FileRig::new(&geometries()[0]);
            let data = pattern(3, 8192);
            for _ in 0..flushes {
                rig.append(1, &data).expect("appends");
                rig.flush().expect("flushes");
            }
            let image = std::fs::read(rig.path()).expect("reads");
            let directory = directory();
            let path = directory.path().join("disk");
            std::fs::write(&path, &image).expect("writes");
            flip(&path, TABLE_COPIES[older] + at);
            let ring = new_ring();
            let device: Rc<dyn ZonedDevice> = Rc::new(open_file(&path, &ring).expect("the newer copy holds"));
            let opened = Rig::with(device, ring);
            assert_eq!(opened.zone(1).write_pointer_bytes, flushes * 8192);
            drop(opened);
            std::fs::write(&path, &image).expect("writes");
            flip(&path, TABLE_COPIES[newer] + at);
            assert!(matches!(open_error(&path), OpenError::TableDamaged { page: 0, first_zone: 0, .. }), "byte {at}");
        }
    }
}

#[test]
fn a_table_page_without_a_legible_copy_is_an_error() {
    let rig = FileRig::new(&geometries()[0]);
    let directory = directory();
    let path = directory.path().join("disk");
    std::fs::copy(rig.path(), &path).expect("copies");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opens");
    for content in [vec![0; 8192], vec![0xff; 8192], pattern(4, 8192)] {
        file.write_all_at(&content, TABLE_COPIES[0]).expect("writes");
        assert!(matches!(open_error(&path), OpenError::TableDamaged { .. }));
    }
}

#[test]
fn damage_in_settled_data_moves_no_write_pointer() {
    let rig = FileRig::new(&geometries()[0]);
    let data = pattern(5, 8192);
    rig.append(1, &data).expect("appends");
    rig.flush().expect("flushes");
    rig.flush().expect("nothing is new: settles");
    let path = rig.path();
    flip(&path, (1 << 20) + (1 << 20) + 100);
    let rig = rig.reopen();
    assert_eq!((rig.zone(1).condition, rig.zone(1).write_pointer_bytes), (ZoneCondition::Closed, 8192));
    assert_ne!(rig.read(1, 0, 8192).expect("reads"), data, "the damage is there to be found");
}

#[test]
fn a_drive_is_not_made_twice_nor_with_nonsense() {
    let directory = directory();
    let path = directory.path().join("disk");
    disk(&path);
    assert!(matches!(create(&path, &geometries()[0], "x"), Err(CreateError::Exists { .. })));
    let other = directory.path().join("other");
    let zones = Geometry { zones: 0, ..geometries()[0].clone() };
    assert!(matches!(create(&other, &zones, "x"), Err(CreateError::Geometry(_))));
    for serial in ["", "tab\t", "ü", &"x".repeat(65)] {
        assert!(matches!(create(&other, &geometries()[0], serial), Err(CreateError::Serial)));
    }
    let nowhere = directory.path().join("none/disk");
    assert!(matches!(create(&nowhere, &geometries()[0], "x"), Err(CreateError::Io { .. })));
    let names: Vec<_> =
        std::fs::read_dir(directory.path()).expect("lists").map(|entry| entry.expect("entry").file_name()).collect();
    assert_eq!(names, ["disk"], "nothing half-made is left");
}

#[test]
fn a_large_drive_costs_little_space() {
    use std::os::unix::fs::MetadataExt;
    let directory = directory();
    let path = directory.path().join("disk");
    create(&path, &Geometry::smr(1 << 40), "large").expect("creates");
    let metadata = path.metadata().expect("exists");
    assert!(metadata.len() > 1 << 40);
    assert!(metadata.blocks() * 512 < 2 << 20);
    let device = open_file(&path, &new_ring()).expect("opens");
    assert_eq!(device.identity().serial, "large");
    assert_eq!(device.geometry(), &Geometry::smr(1 << 40));
}

#[test]
fn a_file_that_takes_no_more_writes_ends_the_device_but_not_its_reads() {
    use rustix::fs::{MemfdFlags, SealFlags};
    let whole = FileRig::new(&geometries()[0]);
    let image = std::fs::read(whole.path()).expect("reads");
    let memory = rustix::fs::memfd_create("disk", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).expect("a file");
    let memory = std::fs::File::from(memory);
    memory.write_all_at(&image, 0).expect("writes");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
    let ring = new_ring();
    let rig = Rig::with(Rc::new(open_file(Path::new(&path), &ring).expect("opens")), ring);
    let data = pattern(6, 8192);
    rig.append(1, &data).expect("appends");
    rig.flush().expect("flushes");
    rig.append(1, &data).expect("appends");
    rustix::fs::fcntl_add_seals(&memory, SealFlags::WRITE).expect("seals");
    let refused = |error: DeviceError| matches!(error, DeviceError::Failed { errno, .. } if errno == libc::EPERM);
    assert!(refused(rig.append(1, &data).expect_err("no more writes")));
    assert_eq!(rig.zone(1).write_pointer_bytes, 16384, "a failed append moves no pointer");
    assert!(refused(rig.flush().expect_err("the table cannot be written")));
    for _ in 0..2 {
        assert!(refused(rig.flush().expect_err("for good")));
        assert!(refused(rig.append(2, &data).expect_err("for good")));
        assert!(refused(rig.write(0, 0, &data).expect_err("for good")));
        assert!(refused(rig.reset(1).expect_err("for good")));
        assert!(refused(rig.run(rig.device.report(ZoneId(0), 1)).expect_err("its owner must hear of it")));
    }
    assert_eq!(rig.read(1, 0, 8192).expect("reads"), data);
}
