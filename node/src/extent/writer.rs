//! Bytes of an extent to their zone: one append after the other, in pieces the device takes.
//!
//! The pieces of one record land behind each other or the append has failed: a record is one run of bytes.

use std::ops::Range;

use shingle_hw::buffer::Buffer;
use shingle_hw::device::{Part, ZonedDevice};
use shingle_hw::error::DeviceError;
use shingle_hw::zone::ZoneId;
use shingle_proto::limits::RECORD_ALIGN_BYTES;

/// Why an extent ends: after any of these its zones' contents behind the last flush are uncertain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The bytes are somewhere else than this writer, the zone's only one, left its write pointer.
    #[error("zone {}: appended at {landed_bytes}, the write pointer was at {expected_bytes}", zone.0)]
    LandedElsewhere { zone: ZoneId, landed_bytes: u64, expected_bytes: u64 },
}

/// The largest piece a device takes, in whole 4 KiB units.
fn piece_bytes(device: &dyn ZonedDevice) -> usize {
    let limit = device.geometry().transfer_bytes_max;
    (limit - limit % RECORD_ALIGN_BYTES).max(RECORD_ALIGN_BYTES) as usize
}

/// Splits `0..bytes` into pieces the device takes.
pub(in crate::extent) fn pieces(device: &dyn ZonedDevice, bytes: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let piece = piece_bytes(device);
    (0..bytes).step_by(piece).map(move |start| start..bytes.min(start + piece))
}

/// Appends the first `bytes` of the buffer to a zone whose write pointer is at `expected_bytes`.
pub async fn append(
    device: &dyn ZonedDevice,
    zone: ZoneId,
    expected_bytes: u64,
    mut buffer: Buffer,
    bytes: usize,
) -> Result<(), WriteError> {
    for piece in pieces(device, bytes) {
        let expected_bytes = expected_bytes + piece.start as u64;
        let (result, returned) = device.append(zone, buffer, piece).await;
        buffer = returned;
        let landed_bytes = result?;
        if landed_bytes != expected_bytes {
            return Err(WriteError::LandedElsewhere { zone, landed_bytes, expected_bytes });
        }
    }
    Ok(())
}

/// Appends parts behind each other, which the device takes in one command, to a zone whose write pointer is at
/// `expected_bytes`.
pub async fn append_parts(
    device: &dyn ZonedDevice,
    zone: ZoneId,
    expected_bytes: u64,
    parts: Vec<Part>,
) -> Result<(), WriteError> {
    let landed_bytes = device.append_parts(zone, parts).await.0?;
    if landed_bytes != expected_bytes {
        return Err(WriteError::LandedElsewhere { zone, landed_bytes, expected_bytes });
    }
    Ok(())
}
