//! Who uses a block device: file systems, swap, other devices on top of it, partitions.
//!
//! Reads sysfs and procfs below a root, so that a test can bring its own.

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// One use of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    Mounted { at: String },
    Swap,
    Held { by: String },
    Partitioned { partition: String },
}

impl fmt::Display for Use {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { at } => write!(formatter, "mounted at {at}"),
            Self::Swap => write!(formatter, "used as swap"),
            Self::Held { by } => write!(formatter, "held by {by}"),
            Self::Partitioned { partition } => write!(formatter, "partitioned ({partition})"),
        }
    }
}

/// Everything that uses a device; nothing for a regular file, which its lock protects.
pub fn uses(device: &Path) -> Vec<Use> {
    let Ok(metadata) = fs::metadata(device) else { return Vec::new() };
    if !metadata.file_type().is_block_device() && !metadata.file_type().is_char_device() {
        return Vec::new();
    }
    let number = metadata.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    of_number(Path::new("/"), major, minor)
}

fn of_number(root: &Path, major: u32, minor: u32) -> Vec<Use> {
    let number = format!("{major}:{minor}");
    let node = root.join("sys/dev/block").join(&number);
    let mut found = mounts(root, &number);
    found.extend(names(&node.join("holders")).into_iter().map(|by| Use::Held { by }));
    let name = fs::canonicalize(&node).ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    if let Some(name) = name {
        let swaps = fs::read_to_string(root.join("proc/swaps")).unwrap_or_default();
        if swaps.lines().any(|line| line.split_whitespace().next() == Some(&format!("/dev/{name}"))) {
            found.push(Use::Swap);
        }
    }
    for partition in names(&node).into_iter().filter(|entry| node.join(entry).join("partition").exists()) {
        let inside = fs::read_to_string(node.join(&partition).join("dev")).unwrap_or_default();
        found.extend(mounts(root, inside.trim()));
        found.push(Use::Partitioned { partition });
    }
    found
}

/// Where `major:minor` is mounted, as the kernel's mount table says.
fn mounts(root: &Path, number: &str) -> Vec<Use> {
    let table = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|fields| !number.is_empty() && fields.get(2) == Some(&number))
        .map(|fields| Use::Mounted { at: (*fields.get(4).unwrap_or(&"?")).to_owned() })
        .collect()
}

fn names(directory: &PathBuf) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_holders_swap_and_partitions_are_found() {
        let root = tempfile::tempdir().expect("a directory");
        let node = root.path().join("sys/dev/block/8:16");
        let disk = root.path().join("sys/devices/sdb");
        fs::create_dir_all(root.path().join("proc/self")).expect("made");
        fs::create_dir_all(disk.join("holders/dm-3")).expect("made");
        fs::create_dir_all(disk.join("sdb1")).expect("made");
        fs::create_dir_all(node.parent().expect("has one")).expect("made");
        std::os::unix::fs::symlink(&disk, &node).expect("linked");
        fs::write(disk.join("sdb1/partition"), "1").expect("written");
        fs::write(disk.join("sdb1/dev"), "8:17\n").expect("written");
        fs::write(root.path().join("proc/swaps"), "Filename\tType\n/dev/sdb partition 1 0 -2\n").expect("written");
        let table = "36 25 8:17 / /srv rw - ext4 /dev/sdb1 rw\n37 25 8:16 / /raw rw - xfs /dev/sdb rw\n";
        fs::write(root.path().join("proc/self/mountinfo"), table).expect("written");
        let found = of_number(root.path(), 8, 16);
        let expected = [
            Use::Mounted { at: "/raw".into() },
            Use::Held { by: "dm-3".into() },
            Use::Swap,
            Use::Mounted { at: "/srv".into() },
            Use::Partitioned { partition: "sdb1".into() },
        ];
        assert_eq!(found, expected);
        assert!(of_number(root.path(), 8, 32).is_empty());
    }
}
