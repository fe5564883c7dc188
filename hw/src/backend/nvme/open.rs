//! Opens a zoned namespace: whether it may be used, who it is, and what its zones are like.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::identify::{Query, identify};
use super::namespace::{Shape, reported_zones, shape};
use super::passthrough::{self, Queue, fetch};
use super::port::Namespace;
use super::report::ZONE_MANAGEMENT_RECEIVE;
use super::status::Refusal;
use crate::backend::drive::{LayoutError, understand};
use crate::device::Identity;
use crate::zone_state::ZoneStates;

/// Where neither drive nor kernel tell a limit.
const TRANSFER_BYTES_DEFAULT: u64 = 128 * 1024;
const IDENTIFY_BYTES: usize = 4096;

/// Why a namespace was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{}: no such device", path.display())]
    Missing { path: PathBuf },
    #[error("{}: permission denied; run as root, or give this user the device and CAP_SYS_ADMIN", path.display())]
    Permission { path: PathBuf },
    #[error("{}: not a generic NVMe character device (/dev/ngXnY)", path.display())]
    NotGeneric { path: PathBuf },
    #[error("{}: in use: mounted, or opened by another program; free it first", path.display())]
    Held { path: PathBuf },
    #[error("{}: not a zoned namespace", path.display())]
    NotZoned { path: PathBuf },
    #[error("{}: the drive tells no serial number, so it could be mistaken for another one", path.display())]
    NoSerial { path: PathBuf },
    #[error("{}: its zones are not supported: {cause}", path.display())]
    Layout { path: PathBuf, cause: LayoutError },
    #[error("{}: the drive answers {what} with NVMe status {status:#x}", path.display())]
    Status { path: PathBuf, what: &'static str, status: u16 },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A namespace understood: everything a drive starts from.
pub(super) struct Found {
    pub(super) file: File,
    pub(super) holder: Option<File>,
    pub(super) namespace: Namespace,
    pub(super) states: ZoneStates,
    pub(super) identity: Identity,
}

pub(super) fn examine(path: &Path) -> Result<Found, OpenError> {
    let owned = || path.to_owned();
    let failed = |source: io::Error| match (source.kind(), source.raw_os_error()) {
        (io::ErrorKind::NotFound, _) | (_, Some(libc::ENXIO)) => OpenError::Missing { path: owned() },
        (io::ErrorKind::PermissionDenied, _) => OpenError::Permission { path: owned() },
        (io::ErrorKind::WouldBlock, _) | (_, Some(libc::EBUSY)) => OpenError::Held { path: owned() },
        _ => OpenError::Io { path: owned(), source },
    };
    let refused = |what: &'static str| {
        move |refusal: Refusal| match refusal {
            Refusal::Status(status) => OpenError::Status { path: path.to_owned(), what, status },
            Refusal::Kernel(errno) => failed(io::Error::from_raw_os_error(errno)),
        }
    };
    if !fs::metadata(path).map_err(failed)?.file_type().is_char_device() {
        return Err(OpenError::NotGeneric { path: owned() });
    }
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let nsid = match passthrough::namespace(&file) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => {
            return Err(OpenError::NotGeneric { path: owned() });
        }
        outcome => outcome.map_err(failed)?,
    };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| failed(error.into()))?;
    let block = block_name(path);
    let holder = block.as_deref().map(hold).transpose().map_err(failed)?.flatten();
    let ask = |query: Query| {
        let mut data = vec![0; IDENTIFY_BYTES];
        let nsid = query.nsid;
        fetch(&file, Queue::Admin, Query::OPCODE, nsid, query.words(), &mut data).map(|()| data)
    };
    let identified = match identify(nsid, ask) {
        Err(Refusal::Status(_)) => return Err(OpenError::NotZoned { path: owned() }),
        outcome => outcome.map_err(refused("Identify"))?,
    };
    if identified.serial.is_empty() {
        return Err(OpenError::NoSerial { path: owned() });
    }
    let most = [identified.transfer_bytes_max, kernel_bytes_max(block.as_deref())];
    let most = most.into_iter().flatten().min().unwrap_or(TRANSFER_BYTES_DEFAULT);
    let Shape { limits, namespace } = shape(&identified, nsid, most);
    if limits.zone_bytes == 0 {
        return Err(OpenError::NotZoned { path: owned() });
    }
    let report = |words: [u32; 6]| {
        let mut data = vec![0; namespace.report_bytes];
        fetch(&file, Queue::Io, ZONE_MANAGEMENT_RECEIVE, nsid, words, &mut data).map(|()| data)
    };
    let lines = reported_zones(&namespace, &identified, report).map_err(refused("Zone Management Receive"))?;
    let states = understand(&limits, &lines).map_err(|cause| OpenError::Layout { path: owned(), cause })?;
    let identity = Identity { model: identified.model, serial: format!("{}-n{nsid}", identified.serial) };
    Ok(Found { file, holder, namespace, states, identity })
}

/// The kernel gives both nodes of a namespace the same numbers.
fn block_name(path: &Path) -> Option<String> {
    let name = fs::canonicalize(path).ok()?;
    let numbers = name.file_name()?.to_str()?.strip_prefix("ng")?.to_owned();
    Some(format!("nvme{numbers}"))
}

/// Keeps others from mounting or opening the block node. There is none where the kernel cannot use the zones; then
/// nobody else can either.
fn hold(block: &str) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(Path::new("/dev").join(block)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the kernel lets through in one command.
fn kernel_bytes_max(block: Option<&str>) -> Option<u64> {
    let attribute = |name: &str| -> Option<u64> {
        fs::read_to_string(format!("/sys/block/{}/queue/{name}", block?)).ok()?.trim().parse().ok()
    };
    let kernel = attribute("max_hw_sectors_kb").map(|kib| kib.saturating_mul(1024));
    // The pages of a buffer may lie anywhere, one segment each, and the first and the last may be partial ones.
    let segments = attribute("max_segments").map(|segments| segments.saturating_sub(1).saturating_mul(4096));
    [kernel, segments].into_iter().flatten().min()
}
