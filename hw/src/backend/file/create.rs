//! Makes the file of an emulated drive.
//!
//! Invariants: an existing file is never touched; the file appears under its name only when it is whole and durable.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;

use super::format::{self, Entry, Kept, Layout, PAGE_BYTES, PAGE_ZONES, SUPERBLOCKS, Stamp};
use super::open::unlock;
use crate::geometry::{Geometry, GeometryError};

/// Why a drive was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("{}: exists already and is not overwritten", path.display())]
    Exists { path: PathBuf },
    #[error("{}: another process is making it", path.display())]
    InProgress { path: PathBuf },
    #[error("the disk cannot have this geometry: {0}")]
    Geometry(#[from] GeometryError),
    #[error("a serial number is 1 to 64 printable ASCII characters")]
    Serial,
    #[error("{}: permission denied", path.display())]
    Permission { path: PathBuf },
    #[error("{}: no space left", path.display())]
    NoSpace { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl CreateError {
    fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            io::ErrorKind::PermissionDenied => Self::Permission { path },
            io::ErrorKind::StorageFull => Self::NoSpace { path },
            io::ErrorKind::WouldBlock => Self::InProgress { path },
            _ => Self::Io { path, source },
        }
    }
}

/// Makes an emulated drive in a new sparse file, all zones empty. Blocks; for start-up and tools. A disk may be
/// larger than the free space: `room_bytes` tells when that is used up.
pub fn create(path: &Path, geometry: &Geometry, serial: &str) -> Result<(), CreateError> {
    geometry.check()?;
    if !format::is_serial(serial) {
        return Err(CreateError::Serial);
    }
    make(path, geometry, serial).map_err(|source| CreateError::from_io(path, source))
}

fn make(path: &Path, geometry: &Geometry, serial: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut draft = name.to_owned();
    draft.push(".creating");
    let draft = path.with_file_name(draft);
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&draft)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let layout = Layout::of(geometry);
    tell_space(&file, &layout, path);
    file.set_len(0)?;
    file.write_all(&metadata(geometry, serial, &layout))?;
    file.set_len(layout.file_bytes)?;
    file.sync_all()?;
    match rustix::fs::renameat_with(CWD, &draft, CWD, path, RenameFlags::NOREPLACE) {
        // File systems without this rename: the check above must do.
        Err(Errno::INVAL) => std::fs::rename(&draft, path)?,
        outcome => outcome?,
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()?;
    unlock(&file);
    Ok(())
}

/// Superblocks and both copies of the table: the first one whole, the second one blank. Written out in full, so that a
/// flush never has to allocate space for the table.
fn metadata(geometry: &Geometry, serial: &str, layout: &Layout) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..SUPERBLOCKS {
        bytes.extend_from_slice(&format::encode_superblock(geometry, serial));
    }
    let stamp = Stamp { sequence: 1, completed: 1 };
    for page in 0..layout.table_pages {
        let first = page * PAGE_ZONES as u32;
        let zones = first..geometry.zones.min(first + PAGE_ZONES as u32);
        let entries: Vec<Entry> = zones
            .map(|zone| if zone < geometry.conventional_zones { Kept::Conventional } else { Kept::Empty })
            .map(|kept| Entry { kept, settled_bytes: 0, written_bytes: 0, tail_crc: 0 })
            .collect();
        let mut out = [0; PAGE_BYTES];
        format::encode_page(&mut out, page, stamp, &entries);
        bytes.extend_from_slice(&out);
    }
    bytes.resize(bytes.len() + layout.table_pages as usize * PAGE_BYTES, 0);
    bytes
}

fn tell_space(file: &File, layout: &Layout, path: &Path) {
    match rustix::fs::fstatvfs(file) {
        Ok(space) => {
            let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
            if free_bytes < layout.file_bytes {
                let (path, disk_bytes) = (path.display(), layout.file_bytes);
                tracing::info!(%path, disk_bytes, free_bytes, "the emulated disk is larger than the free space");
            }
        }
        Err(error) => tracing::debug!(%error, "free space is unknown"),
    }
}
