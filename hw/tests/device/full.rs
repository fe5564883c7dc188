//! A file system that fills up below an emulated drive: what does not fit is refused as lack of room, nothing else ends.

use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use shingle_hw::backend::file::create;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::ZoneId;

use crate::emulated::{directory, geometries, open_file};
use crate::rig::{Rig, filled, new_ring, pattern};

/// Of the file system; the drive has more.
const ROOM_BYTES: u64 = 4 << 20;
const RECORD_BYTES: usize = 64 << 10;

/// A file system in a file, mounted until dropped.
struct Mounted<'a> {
    at: &'a Path,
}

impl<'a> Mounted<'a> {
    /// `None` for users who may not mount.
    fn new(image: &Path, at: &'a Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        std::fs::File::create(image).and_then(|file| file.set_len(ROOM_BYTES)).expect("a sparse image");
        std::fs::create_dir(at).expect("a directory");
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-O", "^has_journal"]).arg(image));
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at));
        Some(Self { at })
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(self.at));
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Appends `parts` at once, as one buffer or as several.
fn append(rig: &Rig, zone: u32, parts: usize) -> Result<u64, DeviceError> {
    let data = pattern(u64::from(zone), RECORD_BYTES);
    if parts == 1 {
        return rig.append(zone, &data);
    }
    let parts = (0..parts).map(|_| (filled(&*rig.device, &data), 0..data.len())).collect();
    rig.run(rig.device.append_parts(ZoneId(zone), parts)).0
}

#[test]
fn full_file_system_refuses_single_and_gathered_appends_and_ends_nothing() {
    let directory = directory();
    let at = directory.path().join("small");
    let Some(_mounted) = Mounted::new(&directory.path().join("image"), &at) else {
        return eprintln!("SKIPPED: only root may mount a small file system");
    };
    let geometry = &geometries()[0];
    create(&at.join("disk"), geometry, "small").expect("creates");
    let ring = new_ring();
    let rig = Rig::with(Rc::new(open_file(&at.join("disk"), &ring).expect("opens")), ring);
    let records_per_zone = (geometry.zone_capacity_bytes as usize) / RECORD_BYTES;
    let mut places =
        (geometry.conventional_zones..geometry.zones).flat_map(|zone| std::iter::repeat_n(zone, records_per_zone));
    let refused = places.find_map(|zone| append(&rig, zone, 1).err().map(|error| (zone, error)));
    let Some((zone, error)) = refused else { panic!("everything fits") };
    let no_space = |length_bytes| DeviceError::NoSpace { zone: ZoneId(zone), length_bytes };
    assert_eq!(error, no_space(RECORD_BYTES as u64));
    let before = rig.zone(zone);
    assert_eq!(append(&rig, zone, 4), Err(no_space(4 * RECORD_BYTES as u64)));
    assert_eq!(rig.zone(zone), before, "what was refused moved nothing");
    assert_eq!(rig.flush(), Ok(()), "what had been appended becomes durable");
    assert_eq!(rig.read(1, 0, RECORD_BYTES), Ok(pattern(1, RECORD_BYTES)));
}
