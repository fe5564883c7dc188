//! What all structures on disk share: magic, version, checksum, and why bytes are refused.
//!
//! Whatever a disk holds decodes to a value or to a [`FormatError`]; nothing read from a disk can panic (invariant 11).

use shingle_codec::checksum::crc32c;
use shingle_proto::limits::RECORD_ALIGN_BYTES;

/// The version this code writes, and the newest it reads. One number for all structures of a disk.
pub const FORMAT_VERSION: u16 = 2;
/// The oldest version this code reads. Version 1 was never released.
pub const FORMAT_VERSION_MIN: u16 = 2;

/// Label and extent header fill exactly one of these.
pub const SECTOR_BYTES: usize = RECORD_ALIGN_BYTES as usize;

/// Why bytes are not what was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Another magic: these bytes were never one of this structure.
    #[error("no such structure here")]
    Absent,
    #[error("checksum mismatch")]
    Checksum,
    #[error("format version {0}, this program reads up to {FORMAT_VERSION}: use a newer one")]
    Newer(u16),
    #[error("format version {0} is older than any that was released")]
    Older(u16),
    /// A checksum that holds over a value that may not be: written by a defect, not damaged by a disk.
    #[error("field {0} holds an illegal value")]
    Field(&'static str),
    #[error("shorter than the structure")]
    Short,
}

/// Whether a structure of `bytes` is what it should be: its magic first, then its checksum, the last four bytes over all
/// before them, then its version. Fields behind the version mean what this program thinks only when this holds.
pub fn check_envelope(bytes: &[u8], magic: &[u8; 8]) -> Result<(), FormatError> {
    let (covered, crc) = bytes.split_last_chunk::<4>().ok_or(FormatError::Short)?;
    let (found, rest) = covered.split_first_chunk::<8>().ok_or(FormatError::Short)?;
    let (version, _) = rest.split_first_chunk::<2>().ok_or(FormatError::Short)?;
    if found != magic {
        return Err(FormatError::Absent);
    }
    if crc32c(covered) != u32::from_le_bytes(*crc) {
        return Err(FormatError::Checksum);
    }
    match u16::from_le_bytes(*version) {
        FORMAT_VERSION_MIN..=FORMAT_VERSION => Ok(()),
        0 => Err(FormatError::Field("version")),
        older @ ..FORMAT_VERSION_MIN => Err(FormatError::Older(older)),
        newer => Err(FormatError::Newer(newer)),
    }
}

/// `bytes` rounded up to whole 4 KiB units.
pub const fn align_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(RECORD_ALIGN_BYTES as u64)
}

/// `bytes` rounded down to whole 4 KiB units.
pub const fn align_down(bytes: u64) -> u64 {
    bytes - bytes % RECORD_ALIGN_BYTES as u64
}
