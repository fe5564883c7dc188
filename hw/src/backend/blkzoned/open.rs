//! Opens a zoned block device: whether it may be used, who it is, and whether its report agrees with the kernel.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ioctl::{self, KERNEL_SECTOR_BYTES};
use super::sysfs::Sysfs;
use super::worker::Worker;
use crate::backend::drive::{LayoutError, Limits, Line, understand};
use crate::device::Identity;
use crate::zone_state::ZoneStates;

/// Largest transfer: a batch of the largest records, small enough to schedule around. The kernel splits it for the
/// drive, in order.
const TRANSFER_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Why a block device was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{}: no such device", path.display())]
    Missing { path: PathBuf },
    #[error("{}: permission denied; run as root, or give this user the device", path.display())]
    Permission { path: PathBuf },
    #[error("{}: not a block device", path.display())]
    NotABlockDevice { path: PathBuf },
    #[error("{}: a partition; name the whole drive", path.display())]
    Partition { path: PathBuf },
    #[error("{}: in use: mounted, part of a RAID, or opened by another program; free it first", path.display())]
    Held { path: PathBuf },
    #[error("{}: not a host-managed zoned drive (the kernel says: {zoned})", path.display())]
    NotHostManaged { path: PathBuf, zoned: String },
    #[error("{}: the drive tells no serial number, so it could be mistaken for another one", path.display())]
    NoSerial { path: PathBuf },
    #[error("{}: its zones are not supported: {cause}", path.display())]
    Layout { path: PathBuf, cause: LayoutError },
    /// The kernel's idea of the drive is outdated, or the drive lies.
    #[error("{}: the kernel knows {kernel} {what}, the drive reports {drive}; power-cycle the drive", path.display())]
    Disagreement { path: PathBuf, what: &'static str, kernel: u64, drive: u64 },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A device understood: everything a drive starts from.
pub(super) struct Found {
    /// Twice the same open node, once for the thread.
    pub(super) file: (File, Arc<File>),
    pub(super) worker: Worker,
    pub(super) states: ZoneStates,
    pub(super) identity: Identity,
}

/// Looks at a device that will be used.
pub(super) fn examine(path: &Path, serial: Option<&str>) -> Result<Found, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_DIRECT | libc::O_EXCL);
    examine_with(path, &options, |sysfs| serial.map(str::to_owned).or_else(|| sysfs.serial()))
}

/// Looks at a device that will only be read. Without a serial number it has an empty one.
pub(super) fn examine_to_look(path: &Path) -> Result<Found, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_DIRECT);
    examine_with(path, &options, |sysfs| Some(sysfs.serial().unwrap_or_default()))
}

fn examine_with(
    path: &Path,
    options: &OpenOptions,
    serial: impl FnOnce(&Sysfs) -> Option<String>,
) -> Result<Found, OpenError> {
    let owned = || path.to_owned();
    let failed = |source: io::Error| match (source.kind(), source.raw_os_error()) {
        (io::ErrorKind::NotFound, _) | (_, Some(libc::ENXIO)) => OpenError::Missing { path: owned() },
        (io::ErrorKind::PermissionDenied, _) => OpenError::Permission { path: owned() },
        (_, Some(libc::EBUSY)) => OpenError::Held { path: owned() },
        _ => OpenError::Io { path: owned(), source },
    };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.file_type().is_block_device() {
        return Err(OpenError::NotABlockDevice { path: owned() });
    }
    let sysfs = Sysfs::of(metadata.rdev());
    if sysfs.has("partition") {
        return Err(OpenError::Partition { path: owned() });
    }
    let zoned = sysfs.text("queue/zoned").unwrap_or_else(|| "none".to_owned());
    if zoned != "host-managed" {
        return Err(OpenError::NotHostManaged { path: owned(), zoned });
    }
    let Some(serial) = serial(&sysfs) else { return Err(OpenError::NoSerial { path: owned() }) };
    let file = options.open(path).map_err(failed)?;
    let limits = limits(&sysfs).map_err(failed)?;
    let lines = ioctl::report(&file, 0, u32::MAX).map_err(failed)?;
    if let Some((what, kernel, drive)) = disagreement(&sysfs, &limits, &lines).map_err(failed)? {
        return Err(OpenError::Disagreement { path: owned(), what, kernel, drive });
    }
    let states = understand(&limits, &lines).map_err(|cause| OpenError::Layout { path: owned(), cause })?;
    let shared = Arc::new(file.try_clone().map_err(failed)?);
    let worker = Worker::start(&format!("zones {serial}")).map_err(failed)?;
    let identity = Identity { model: sysfs.model(), serial };
    Ok(Found { file: (file, shared), worker, states, identity })
}

fn limits(sysfs: &Sysfs) -> io::Result<Limits> {
    let small = |attribute: &str| Ok::<u32, io::Error>(u32::try_from(sysfs.number(attribute)?).unwrap_or(u32::MAX));
    let (open, active) = (small("queue/max_open_zones")?, small("queue/max_active_zones")?);
    Ok(Limits {
        sector_bytes: small("queue/logical_block_size")?,
        zone_bytes: sysfs.number("queue/chunk_sectors")?.saturating_mul(KERNEL_SECTOR_BYTES),
        // Some drives allow more open zones than active ones, which means as many.
        open_zones_max: if active > 0 { open.min(active) } else { open },
        active_zones_max: active,
        transfer_bytes_max: TRANSFER_BYTES_MAX,
    })
}

/// The first of the kernel's numbers, which it read when the drive appeared, that the drive's report contradicts.
fn disagreement(sysfs: &Sysfs, limits: &Limits, lines: &[Line]) -> io::Result<Option<(&'static str, u64, u64)>> {
    let reported_bytes = lines.last().map_or(0, |line| line.start_bytes.saturating_add(line.length_bytes));
    let first_bytes = lines.first().map_or(0, |line| line.length_bytes);
    let pairs = [
        ("zones", sysfs.number("queue/nr_zones")?, lines.len() as u64),
        ("bytes per zone", limits.zone_bytes, first_bytes),
        ("bytes", sysfs.number("size")?.saturating_mul(KERNEL_SECTOR_BYTES), reported_bytes),
    ];
    Ok(pairs.into_iter().find(|(_, kernel, drive)| kernel != drive))
}
