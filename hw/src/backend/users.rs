//! Which processes have a device, or the file of an emulated drive, open for writing.
//!
//! Reads procfs and nothing else, so that nobody notices. What this process may not see is not found.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    pub pid: u32,
    /// As the kernel calls it: the first 15 bytes of its program's name.
    pub name: String,
}

/// What an open file is the same as: the device behind any node of it, or the file itself.
#[derive(PartialEq, Eq)]
enum Same {
    Device(u64),
    File(u64, u64),
}

impl Same {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(match metadata.file_type().is_file() {
            true => Self::File(metadata.dev(), metadata.ino()),
            false => Self::Device(metadata.rdev()),
        })
    }
}

/// Everybody who has it open for writing, in order of process numbers.
pub(super) fn users(path: &Path) -> Vec<User> {
    let Some(wanted) = Same::of(path) else { return Vec::new() };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found: Vec<User> = entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let uses = writes(&entry.path(), &wanted);
            uses.then(|| {
                let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                User { pid, name: name.trim().to_owned() }
            })
        })
        .collect();
    found.sort();
    found
}

fn writes(process: &Path, wanted: &Same) -> bool {
    let mut open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    open.any(|entry| {
        // Sockets, pipes and the like have no path.
        let named = fs::read_link(entry.path()).is_ok_and(|link| link.is_absolute());
        named && Same::of(&entry.path()).is_some_and(|same| same == *wanted) && {
            let info = fs::read_to_string(process.join("fdinfo").join(entry.file_name())).unwrap_or_default();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
            flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_may_write_are_users() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("disk");
        let writer = fs::File::create(&path).expect("made");
        let found = users(&path);
        assert!(found.iter().any(|user| user.pid == std::process::id() && !user.name.is_empty()), "{found:?}");
        drop(writer);
        let _reader = fs::File::open(&path).expect("opens");
        assert_eq!(users(&path), []);
        assert_eq!(users(&directory.path().join("none")), []);
    }
}
