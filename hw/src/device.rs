//! The one device trait. Back ends obey it alike: one conformance test body runs against all of them.
//!
//! Buffers are owned by the request while it is in flight and come back with the result, so dropping a future never
//! frees memory the device may still touch.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use crate::buffer::Buffer;
use crate::error::DeviceError;
use crate::geometry::Geometry;
pub use crate::ring::Part;
use crate::zone::{Zone, ZoneId};

/// A command in flight.
pub type Command<T> = Pin<Box<dyn Future<Output = T>>>;

/// A command that carries a buffer.
pub type Transfer<T> = Command<(Result<T, DeviceError>, Buffer)>;

/// Who a device is: by what it says of itself, never by a node's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub model: String,
    pub serial: String,
}

/// A zoned device owned by one thread. Commands start when they are called, not when they are first polled.
pub trait ZonedDevice {
    fn identity(&self) -> &Identity;
    fn geometry(&self) -> &Geometry;
    /// Appends that may be in flight together in one zone; where it is more than one, the device chooses their order.
    fn appends_per_zone(&self) -> u16 {
        1
    }
    /// Bytes that whatever holds an emulated drive can still take, where that may be less than the drive claims (a sparse
    /// file on a file system that others fill); `None` where the medium is the drive's own, and where it is not known.
    fn room_bytes(&self) -> Option<u64> {
        None
    }
    /// `count` zones from `first` on, fewer at the device's end.
    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>>;
    /// Appends `bytes` of the buffer to a sequential zone; the offset within the zone where they landed. Only after
    /// a `flush` that started when this had ended are they durable. At most `appends_per_zone` are in flight in a zone.
    fn append(&self, zone: ZoneId, buffer: Buffer, bytes: Range<usize>) -> Transfer<u64>;
    /// As `append`, of whole sectors of several buffers behind each other in one command; at most 1024 buffers. A device
    /// that cannot take them from where they are gets a copy.
    fn append_parts(&self, zone: ZoneId, parts: Vec<Part>) -> Command<(Result<u64, DeviceError>, Vec<Part>)> {
        let length = match parts_length(&parts, self.geometry().sector_bytes) {
            Ok(length) => length as usize,
            Err(error) => return Box::pin(std::future::ready((Err(error), parts))),
        };
        let mut joined = self.alloc_buffer(length);
        let mut start = 0;
        for (buffer, bytes) in &parts {
            let end = start + bytes.len();
            if let (Some(whole), Some(part)) = (joined.get_mut(start..end), buffer.get(bytes.clone())) {
                whole.copy_from_slice(part);
            }
            start = end;
        }
        let append = self.append(zone, joined, 0..length);
        Box::pin(async move { (append.await.0, parts) })
    }
    /// Writes into a conventional zone, anywhere.
    fn write(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()>;
    /// Fills `bytes` of the buffer from `offset_bytes` of the zone. Bytes at or behind the write pointer read as zeroes.
    fn read(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()>;
    /// Makes every append and write that had ended before this call durable.
    fn flush(&self) -> Command<Result<(), DeviceError>>;
    fn open(&self, zone: ZoneId) -> Command<Result<(), DeviceError>>;
    fn close(&self, zone: ZoneId) -> Command<Result<(), DeviceError>>;
    /// The zone becomes full; its write pointer means nothing any more.
    fn finish(&self, zone: ZoneId) -> Command<Result<(), DeviceError>>;
    /// The zone becomes empty; durable when it ends.
    fn reset(&self, zone: ZoneId) -> Command<Result<(), DeviceError>>;
    /// A buffer this device can transfer from and to; `bytes` is rounded up to whole sectors.
    fn alloc_buffer(&self, bytes: usize) -> Buffer;
}

/// The length of a transfer of `bytes` of a buffer, when they lie inside it and start at a whole sector of it.
pub(crate) fn transfer_length(
    buffer_bytes: usize,
    bytes: &Range<usize>,
    sector_bytes: u32,
) -> Result<u64, DeviceError> {
    let length = bytes.end.saturating_sub(bytes.start) as u64;
    let aligned = (bytes.start as u64).is_multiple_of(u64::from(sector_bytes));
    if aligned && bytes.start <= bytes.end && bytes.end <= buffer_bytes {
        Ok(length)
    } else {
        Err(DeviceError::InvalidField { offset_bytes: bytes.start as u64, length_bytes: length })
    }
}

/// The length of a transfer from several buffers, when each part is whole sectors inside its buffer.
pub(crate) fn parts_length(parts: &[Part], sector_bytes: u32) -> Result<u64, DeviceError> {
    parts.iter().try_fold(0, |sum, (buffer, bytes)| {
        let length = transfer_length(buffer.len(), bytes, sector_bytes)?;
        if length.is_multiple_of(u64::from(sector_bytes)) {
            Ok(sum + length)
        } else {
            Err(DeviceError::InvalidField { offset_bytes: bytes.start as u64, length_bytes: length })
        }
    })
}
