//! Reads of an extent: whole records for readers, windows of headers for recovery.
//!
//! A record is handed out only when its header names the extent, hash and put id that were asked for and its payload
//! checksum holds.

use shingle_hw::buffer::Buffer;
use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::ZoneId;
use shingle_proto::ids::{BlockHash, ExtentId, PutId};
use shingle_proto::limits::{RECORD_ALIGN_BYTES, SCAN_WINDOW_BYTES};

use super::record::{Record, RecordKind};
use super::writer::pieces;

/// Fills the first `bytes` of a new buffer from a zone.
pub async fn read(
    device: &dyn ZonedDevice,
    zone: ZoneId,
    offset_bytes: u64,
    bytes: usize,
) -> Result<Buffer, DeviceError> {
    let mut buffer = device.alloc_buffer(bytes);
    for piece in pieces(device, bytes) {
        let (result, returned) = device.read(zone, offset_bytes + piece.start as u64, buffer, piece).await;
        buffer = returned;
        result?;
    }
    Ok(buffer)
}

/// What the bytes at a record's place turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The record that was asked for, whole.
    Whole(Record),
    /// A sound record of another block: a fingerprint collision.
    Other,
    /// Not a sound record of this extent: damage.
    Damaged(&'static str),
}

/// What a payload is that its checksum does not hold for.
pub const PAYLOAD_DAMAGED: Found = Found::Damaged("record payload checksum mismatch");

/// Judges the bytes read from a record's place.
pub fn examine(whole: &[u8], extent: ExtentId, hash: &BlockHash, put_id: PutId) -> Found {
    match examine_header(whole, extent, hash, put_id) {
        Found::Whole(record) if !record.payload_is_whole(whole) => PAYLOAD_DAMAGED,
        found => found,
    }
}

/// Judges them by their number and by the header alone: what is whole by that has its payload yet to be checked.
pub fn examine_header(whole: &[u8], extent: ExtentId, hash: &BlockHash, put_id: PutId) -> Found {
    let Ok(record) = Record::decode(whole) else {
        return Found::Damaged("record header damaged");
    };
    if record.extent != extent || record.bytes() != whole.len() as u64 {
        return Found::Damaged("another record where this one was written");
    }
    if record.hash != *hash || record.put_id != put_id || record.kind == RecordKind::Close {
        return Found::Other;
    }
    Found::Whole(record)
}

/// One 4 KiB unit of a zone as a recovery scan sees it.
pub enum Unit<'a> {
    Bytes(&'a [u8]),
    Unreadable,
}

/// A window moving over one zone, so that looking at every 4 KiB costs few reads.
pub struct ZoneScan<'a> {
    device: &'a dyn ZonedDevice,
    zone: ZoneId,
    /// Nothing is read from here on.
    limit_bytes: u64,
    window: Option<(u64, usize, Buffer)>,
}

const UNIT: u64 = RECORD_ALIGN_BYTES as u64;

impl<'a> ZoneScan<'a> {
    /// A scan of the zone's first `limit_bytes`, a multiple of 4 KiB.
    pub fn new(device: &'a dyn ZonedDevice, zone: ZoneId, limit_bytes: u64) -> Self {
        assert!(limit_bytes.is_multiple_of(UNIT), "scans end on a 4 KiB boundary");
        Self { device, zone, limit_bytes, window: None }
    }

    /// The unit at an offset; `None` behind the limit. Fails only when the device does.
    pub async fn unit(&mut self, offset_bytes: u64) -> Result<Option<Unit<'_>>, DeviceError> {
        if offset_bytes + UNIT > self.limit_bytes {
            return Ok(None);
        }
        if !self.holds(offset_bytes) {
            let bytes = self.window_bytes(offset_bytes).min(self.limit_bytes - offset_bytes) as usize;
            let mut outcome = read(self.device, self.zone, offset_bytes, bytes).await.map(|buffer| (bytes, buffer));
            if matches!(outcome, Err(DeviceError::Unreadable { .. })) && bytes > UNIT as usize {
                // Some unit of the window is bad, maybe not this one.
                let unit = read(self.device, self.zone, offset_bytes, UNIT as usize).await;
                outcome = unit.map(|buffer| (UNIT as usize, buffer));
            }
            match outcome {
                Ok((bytes, buffer)) => self.window = Some((offset_bytes, bytes, buffer)),
                Err(DeviceError::Unreadable { .. }) => return Ok(Some(Unit::Unreadable)),
                Err(failure) => return Err(failure),
            }
        }
        let Some((start, bytes, buffer)) = &self.window else { return Ok(None) };
        let within = (offset_bytes - start) as usize;
        Ok(buffer.get(within..*bytes).and_then(|rest| rest.get(..UNIT as usize)).map(Unit::Bytes))
    }

    /// The record header at an offset, if a sound one of this extent stands there.
    pub async fn header(&mut self, offset_bytes: u64, extent: ExtentId) -> Result<Option<Record>, DeviceError> {
        Ok(match self.unit(offset_bytes).await? {
            Some(Unit::Bytes(bytes)) => Record::decode(bytes).ok().filter(|record| record.extent == extent),
            Some(Unit::Unreadable) | None => None,
        })
    }

    /// Whether a record's payload checksum holds. An unreadable or cut record does not.
    pub async fn is_whole(&self, offset_bytes: u64, record: &Record) -> Result<bool, DeviceError> {
        if offset_bytes + record.bytes() > self.limit_bytes {
            return Ok(false);
        }
        let bytes = record.bytes() as usize;
        match read(self.device, self.zone, offset_bytes, bytes).await {
            Ok(buffer) => Ok(buffer.get(..bytes).is_some_and(|whole| record.payload_is_whole(whole))),
            Err(DeviceError::Unreadable { .. }) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Twice the last window right behind it, a small one elsewhere: headers of large records lie far apart.
    fn window_bytes(&self, offset_bytes: u64) -> u64 {
        match &self.window {
            Some((start, bytes, _)) if *start + *bytes as u64 == offset_bytes => {
                (2 * *bytes as u64).min(u64::from(SCAN_WINDOW_BYTES))
            }
            _ => 2 * UNIT,
        }
    }

    fn holds(&self, offset_bytes: u64) -> bool {
        self.window.as_ref().is_some_and(|(start, bytes, _)| (*start..start + *bytes as u64).contains(&offset_bytes))
    }
}
