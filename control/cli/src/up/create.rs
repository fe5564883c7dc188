//! Makes what a cell needs in its directory, or checks that it is still there.
//!
//! `cell.toml` is written last: disks it does not speak of have never been served, so an interrupted first start (or an
//! interrupted growth) is simply done again.

use std::path::Path;

use shingle_hw::backend::file;
use shingle_hw::geometry::Geometry;
use shingle_proto::limits::DISK_ROOM_RESERVE_BYTES;
use shingle_seam::entropy::{Entropy, SystemEntropy};
use shingle_seam::keys::KeyFile;

use crate::config::sections::UpSection;
use crate::failure::Failure;
use crate::units;
use crate::up::cell_file::CellFile;
use crate::up::directory::Directory;
use crate::up::env_file::{EnvFile, REGION};
use crate::up::ports::pick_free;
use crate::up::wish::{Shape, decide_ports};

/// Free space a cell needs before it starts: the store, logs and the disks' own tables, with room to grow.
const FREE_BYTES_MIN: u64 = 512 << 20;
/// A cell that is there already starts with less than hosts leave free, so that objects can be deleted.
const FREE_BYTES_TO_RESTART: u64 = 64 << 20;
const _: () = assert!(FREE_BYTES_TO_RESTART < DISK_ROOM_RESERVE_BYTES && DISK_ROOM_RESERVE_BYTES < FREE_BYTES_MIN);

/// Brings the directory to what the wish and the cell's past say. Calls `say` with what it does.
pub fn prepare(directory: &Directory, wish: &UpSection, say: &dyn Fn(&str)) -> Result<CellFile, Failure> {
    let existing = CellFile::load(&directory.cell_file())?;
    let shape = Shape::decide(wish, existing.as_ref())?;
    let wanted_bytes = if existing.is_some() { FREE_BYTES_TO_RESTART } else { FREE_BYTES_MIN };
    check_space(directory.root(), wanted_bytes)?;
    let mut taken = Vec::new();
    let ports = decide_ports(wish, shape.hosts, existing.as_ref(), || {
        let port = pick_free(&taken)?;
        taken.push(port);
        Ok(port)
    })?;
    prepare_key(&directory.key_file(), existing.is_some())?;
    let degraded = wish.degraded.unwrap_or(false);
    prepare_disks(directory, &shape, existing.as_ref().map(|cell| &cell.shape), degraded, say)?;
    let (access_key, secret_key) = match &existing {
        Some(cell) => (cell.access_key.clone(), cell.secret_key.clone()),
        None => (random_text(16), random_text(40)),
    };
    let cell = CellFile { shape, ports, access_key, secret_key };
    if existing.as_ref() != Some(&cell) {
        cell.write(&directory.cell_file())?;
    }
    let env = EnvFile {
        endpoint: format!("http://127.0.0.1:{}", cell.ports.s3),
        access_key: cell.access_key.clone(),
        secret_key: cell.secret_key.clone(),
        region: REGION.into(),
        dir: directory.root().into(),
    };
    env.write(&directory.env_file())?;
    Ok(cell)
}

fn free_bytes_below(root: &Path) -> Result<u64, Failure> {
    let space = rustix::fs::statvfs(root).map_err(|error| Failure::io(root.display().to_string())(error.into()))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

fn check_space(root: &Path, wanted_bytes: u64) -> Result<(), Failure> {
    let free_bytes = free_bytes_below(root)?;
    if free_bytes >= wanted_bytes {
        return Ok(());
    }
    Err(Failure::failed(
        format!(
            "{} is on a file system with {} free; a cell needs {} for its metadata alone",
            root.display(),
            units::bytes(free_bytes),
            units::bytes(wanted_bytes)
        ),
        "free some space, or use a directory on another file system with --dir",
    ))
}

fn prepare_key(path: &Path, must_exist: bool) -> Result<(), Failure> {
    let lost = "restore it from a backup: without it no block of this cell can ever be read";
    match (path.exists(), must_exist) {
        (true, _) => KeyFile::load(path).map(drop).map_err(|error| Failure::unfit(error.to_string(), lost)),
        (false, true) => Err(Failure::unfit(format!("the key file {} is gone", path.display()), lost)),
        (false, false) => {
            KeyFile::create(path, &SystemEntropy).map(drop).map_err(|error| Failure::failed(error.to_string(), ""))
        }
    }
}

fn prepare_disks(
    directory: &Directory,
    shape: &Shape,
    had: Option<&Shape>,
    degraded: bool,
    say: &dyn Fn(&str),
) -> Result<(), Failure> {
    let geometry = Geometry::smr_with_zones(shape.disk_size.0, shape.zone_size.0);
    let mut made = 0;
    for host in 1..=shape.hosts {
        for disk in 1..=shape.disks {
            let path = directory.disk(host, disk);
            if had.is_some_and(|had| host <= had.hosts && disk <= had.disks) {
                if !path.exists() && degraded {
                    say(&format!("the disk {} is gone", path.display()));
                } else if !path.exists() {
                    return Err(Failure::unfit(
                        format!("the disk {} is gone", path.display()),
                        "put it back, or start without its host: --degraded",
                    ));
                }
                continue;
            }
            make_disk(&path, &geometry, &format!("UP-{:08X}-H{host}D{disk}", SystemEntropy.u64() as u32))?;
            made += 1;
        }
    }
    if made > 0 {
        let total = shape.disk_size.0.saturating_mul(made);
        let free_bytes = free_bytes_below(directory.root())?;
        say(&format!(
            "made {} of {} ({} in all, as sparse files on a file system with {} free)",
            units::counted(made, "disk"),
            shape.disk_size,
            units::bytes(total),
            units::bytes(free_bytes)
        ));
    }
    Ok(())
}

fn make_disk(path: &Path, geometry: &Geometry, serial: &str) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Failure::io(folder.display().to_string()))?;
    if path.exists() {
        // Left by a start that was interrupted before the cell knew of this disk: it never held anything.
        std::fs::remove_file(path).map_err(Failure::io(path.display().to_string()))?;
    }
    file::create(path, geometry, serial)
        .map_err(|error| Failure::failed(format!("cannot make a disk: {error}"), "see --disk-size and --zone-size"))
}

/// Letters and digits: nothing in it needs quoting, in a shell or a URL.
fn random_text(length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let pick = |_| ALPHABET.get(SystemEntropy.below(32) as usize).map_or('A', |letter| char::from(*letter));
    (0..length).map(pick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ByteSize;

    fn small() -> UpSection {
        UpSection {
            hosts: Some(4),
            disks: Some(1),
            disk_size: Some(ByteSize(4 << 30)),
            zone_size: Some(ByteSize(64 << 20)),
            ..UpSection::default()
        }
    }

    fn cell(parent: &tempfile::TempDir) -> Directory {
        Directory::new(&parent.path().join("cell")).unwrap()
    }

    #[test]
    fn a_second_start_finds_the_same_cell() {
        let parent = tempfile::tempdir().unwrap();
        let directory = cell(&parent);
        let _lock = directory.open().unwrap();
        let first = prepare(&directory, &small(), &|_| ()).unwrap();
        let disk = std::fs::metadata(directory.disk(4, 1)).unwrap();
        assert!(disk.len() >= 4 << 30);
        let second = prepare(&directory, &UpSection::default(), &|_| panic!("nothing is made again")).unwrap();
        assert!(first == second);
        assert_eq!(EnvFile::load(&directory.env_file()).unwrap().secret_key, first.secret_key);
    }

    #[test]
    fn a_first_start_that_was_interrupted_is_done_again() {
        let parent = tempfile::tempdir().unwrap();
        let directory = cell(&parent);
        let _lock = directory.open().unwrap();
        prepare(&directory, &small(), &|_| ()).unwrap();
        std::fs::remove_file(directory.cell_file()).unwrap();
        prepare(&directory, &small(), &|_| ()).unwrap();
    }

    #[test]
    fn disks_and_keys_that_vanish_are_never_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let directory = cell(&parent);
        let _lock = directory.open().unwrap();
        prepare(&directory, &small(), &|_| ()).unwrap();
        std::fs::remove_file(directory.disk(2, 1)).unwrap();
        let failure = prepare(&directory, &small(), &|_| ()).err().unwrap();
        assert!(failure.to_string().contains("host-2/disk-1.img is gone"), "{failure}");
        let wish = UpSection { degraded: Some(true), ..UpSection::default() };
        prepare(&directory, &wish, &|_| ()).unwrap();
        assert!(!directory.disk(2, 1).exists());
        std::fs::remove_file(directory.key_file()).unwrap();
        let failure = prepare(&directory, &small(), &|_| ()).err().unwrap();
        assert!(failure.to_string().contains("key file"), "{failure}");
    }

    #[test]
    fn a_cell_grows_by_hosts_and_disks() {
        let parent = tempfile::tempdir().unwrap();
        let directory = cell(&parent);
        let _lock = directory.open().unwrap();
        let before = prepare(&directory, &small(), &|_| ()).unwrap();
        let wish = UpSection { hosts: Some(5), disks: Some(2), ..UpSection::default() };
        let after = prepare(&directory, &wish, &|_| ()).unwrap();
        assert!(directory.disk(5, 2).exists());
        assert_eq!(after.ports.hosts[..4], before.ports.hosts);
    }
}
