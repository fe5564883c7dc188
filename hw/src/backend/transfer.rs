//! What every back end asks of a transfer before the medium sees any of it.
//!
//! Invariant: what was begun here is whole sectors inside its buffer, and the zone's state allows it.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::device::transfer_length;
use crate::error::DeviceError;
use crate::zone::ZoneId;
use crate::zone_state::ZoneStates;

/// Claims room for an append; the offset within the zone where it goes, and its length.
pub(super) fn begin_append(
    states: &mut ZoneStates,
    zone: ZoneId,
    buffer: &Buffer,
    bytes: &Range<usize>,
) -> Result<(u64, u64), DeviceError> {
    let length = transfer_length(buffer.len(), bytes, states.geometry().sector_bytes)?;
    Ok((states.begin_append(zone, length)?, length))
}

/// Checks a write into a conventional zone; its length.
pub(super) fn check_write(
    states: &ZoneStates,
    zone: ZoneId,
    offset_bytes: u64,
    buffer: &Buffer,
    bytes: &Range<usize>,
) -> Result<u64, DeviceError> {
    let length = transfer_length(buffer.len(), bytes, states.geometry().sector_bytes)?;
    states.check_write(zone, offset_bytes, length)?;
    Ok(length)
}

/// Checks a read and clears what lies behind the write pointer; the part of `bytes` that the medium has to fill, which
/// may be empty.
pub(super) fn begin_read(
    states: &ZoneStates,
    zone: ZoneId,
    offset_bytes: u64,
    buffer: &mut Buffer,
    bytes: &Range<usize>,
) -> Result<Range<usize>, DeviceError> {
    let length = transfer_length(buffer.len(), bytes, states.geometry().sector_bytes)?;
    let written = states.check_read(zone, offset_bytes, length)?;
    let split = bytes.start + usize::try_from(written).unwrap_or(usize::MAX).min(bytes.len());
    if let Some(behind) = buffer.get_mut(split..bytes.end) {
        behind.fill(0);
    }
    Ok(bytes.start..split)
}
