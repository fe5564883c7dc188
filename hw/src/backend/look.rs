//! Opening a device to look at it: nothing on it is changed, nobody who uses it is disturbed, and damage is told of
//! instead of refused.
//!
//! Invariants: every command that changes the device is refused with [`DeviceError::LookOnly`]; what the kernel drives is
//! open for reading only, without a lock.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::rc::Rc;

use super::users::{User, users};
use super::{OpenError, blkzoned, file, vfio};
use crate::buffer::{Buffer, BufferPool};
use crate::device::{Command, Identity, Transfer, ZonedDevice};
use crate::error::DeviceError;
use crate::geometry::Geometry;
use crate::ring::Ring;
use crate::zone::{Zone, ZoneId};

/// A device, open to be looked at.
pub struct Look {
    pub device: Rc<dyn ZonedDevice>,
    /// What is wrong with the file of an emulated drive; the rest of it is shown all the same.
    pub damages: Vec<Damage>,
    /// Somebody may be writing to it: what is seen of its ends is outdated when it is read.
    pub in_use: bool,
    /// Who that is, as far as this process may know.
    pub users: Vec<User>,
}

/// What is wrong with the file of an emulated drive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("superblock copy {copy} is damaged, the other one holds")]
    Superblock { copy: u64 },
    /// Write pointers of these zones are lost: they are shown as read-only, written to the end.
    #[error("both copies of page {page} of the zone table are damaged: the write pointers of zones {} to {} are lost", zones.start, zones.end.saturating_sub(1))]
    ZoneTable { page: u32, file_bytes: u64, zones: Range<u32> },
    #[error(
        "the file is truncated: {found_bytes} bytes instead of {expected_bytes}, zones from {first_zone} on are cut"
    )]
    Truncated { expected_bytes: u64, found_bytes: u64, first_zone: u32 },
}

/// Opens the emulated drive in a file or the zoned block device of a block node to be looked at. Blocks. A drive that was
/// taken from the kernel can be looked at while nobody drives it: its controller is reset first, which ends no data.
///
/// # Errors
/// As [`super::open`], but neither a lock nor damage that leaves the drive's shape known is one.
pub fn look(path: &Path, ring: Rc<Ring>, pool: BufferPool) -> Result<Look, OpenError> {
    let kind = fs::metadata(path).map(|metadata| metadata.file_type());
    if vfio::is_named(path) {
        // Nobody else can have it while it is open here.
        let device = Rc::new(LookOnly(vfio::open(path, ring, pool)?));
        return Ok(Look { device, damages: Vec::new(), in_use: false, users: Vec::new() });
    }
    let users = users(path);
    let (device, damages, locked): (Rc<dyn ZonedDevice>, _, _) = match kind {
        Ok(kind) if kind.is_block_device() => (Rc::new(LookOnly(blkzoned::look(path, ring, pool)?)), Vec::new(), false),
        Ok(kind) if kind.is_char_device() => return Err(OpenError::NoBlockNode { path: path.to_owned() }),
        Ok(kind) if !kind.is_file() => return Err(file::OpenError::NotADisk { path: path.to_owned() }.into()),
        // The file back end also says what is wrong with a path that leads nowhere.
        _ => {
            let (device, damages, locked) = file::look(path, ring, pool)?;
            (Rc::new(LookOnly(device)), damages, locked)
        }
    };
    Ok(Look { device, damages, in_use: locked || !users.is_empty(), users })
}

/// The answer to a command that would change a device that is only looked at.
fn refused() -> Command<Result<(), DeviceError>> {
    Box::pin(std::future::ready(Err(DeviceError::LookOnly)))
}

/// The answer to a transfer that would.
fn refused_transfer<T: 'static>(buffer: Buffer) -> Transfer<T> {
    Box::pin(std::future::ready((Err(DeviceError::LookOnly), buffer)))
}

/// What can be seen of a device: the commands that change nothing, as [`ZonedDevice`] has them.
pub(super) trait View {
    fn identity(&self) -> &Identity;
    fn geometry(&self) -> &Geometry;
    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>>;
    fn read(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()>;
    fn alloc_buffer(&self, bytes: usize) -> Buffer;
}

impl<D: ZonedDevice> View for D {
    fn identity(&self) -> &Identity {
        ZonedDevice::identity(self)
    }

    fn geometry(&self) -> &Geometry {
        ZonedDevice::geometry(self)
    }

    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>> {
        ZonedDevice::report(self, first, count)
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        ZonedDevice::read(self, zone, offset_bytes, buffer, bytes)
    }

    fn alloc_buffer(&self, bytes: usize) -> Buffer {
        ZonedDevice::alloc_buffer(self, bytes)
    }
}

/// A device without the commands that change it.
struct LookOnly<V>(V);

impl<V: View> ZonedDevice for LookOnly<V> {
    fn identity(&self) -> &Identity {
        self.0.identity()
    }

    fn geometry(&self) -> &Geometry {
        self.0.geometry()
    }

    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>> {
        self.0.report(first, count)
    }

    fn append(&self, _: ZoneId, buffer: Buffer, _: Range<usize>) -> Transfer<u64> {
        refused_transfer(buffer)
    }

    fn write(&self, _: ZoneId, _: u64, buffer: Buffer, _: Range<usize>) -> Transfer<()> {
        refused_transfer(buffer)
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        self.0.read(zone, offset_bytes, buffer, bytes)
    }

    fn flush(&self) -> Command<Result<(), DeviceError>> {
        refused()
    }

    fn open(&self, _: ZoneId) -> Command<Result<(), DeviceError>> {
        refused()
    }

    fn close(&self, _: ZoneId) -> Command<Result<(), DeviceError>> {
        refused()
    }

    fn finish(&self, _: ZoneId) -> Command<Result<(), DeviceError>> {
        refused()
    }

    fn reset(&self, _: ZoneId) -> Command<Result<(), DeviceError>> {
        refused()
    }

    fn alloc_buffer(&self, bytes: usize) -> Buffer {
        self.0.alloc_buffer(bytes)
    }
}
