//! The extent header: who an extent is. The first 4 KiB of its first zone, durable before the extent is answered for.
//!
//! What it says never changes; whether the extent is open or closed is said by its records.

use shingle_codec::checksum::crc32c;
use shingle_proto::ids::{BucketId, ExtentId, OsdId, VolumeId};
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::format::{FORMAT_VERSION, FormatError, SECTOR_BYTES, check_envelope};

/// First bytes of an extent header.
pub const EXTENT_MAGIC: [u8; 8] = *b"SHGEXTNT";

/// The extent header's bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ExtentSector {
    pub magic: [u8; 8],
    pub version: U16,
    pub member: u8,
    pub reserved: [u8; 5],
    pub extent: U128,
    pub volume: U64,
    pub bucket: U64,
    pub created_ms: U64,
    pub osd: U64,
    pub slot: U32,
    pub padding: [u8; 4024],
    pub crc: U32,
}

const _: () = assert!(size_of::<ExtentSector>() == SECTOR_BYTES);

/// Who an extent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentHeader {
    pub extent: ExtentId,
    pub volume: VolumeId,
    pub bucket: BucketId,
    /// Index among the volume's members.
    pub member: u8,
    /// Milliseconds since 1970, for people.
    pub created_ms: u64,
    pub osd: OsdId,
    /// Which run of zones of the disk.
    pub slot: u32,
}

impl ExtentHeader {
    /// The header's sector.
    pub fn encode(&self) -> [u8; SECTOR_BYTES] {
        let mut sector = ExtentSector {
            magic: EXTENT_MAGIC,
            version: U16::new(FORMAT_VERSION),
            member: self.member,
            reserved: [0; 5],
            extent: U128::new(self.extent.0),
            volume: U64::new(self.volume.0),
            bucket: U64::new(self.bucket.0),
            created_ms: U64::new(self.created_ms),
            osd: U64::new(self.osd.0),
            slot: U32::new(self.slot),
            padding: [0; 4024],
            crc: U32::ZERO,
        };
        sector.crc = U32::new(crc32c(&sector.as_bytes()[..SECTOR_BYTES - 4]));
        zerocopy::transmute!(sector)
    }

    /// Decodes a header from a slot's first bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (sector, _) = ExtentSector::ref_from_prefix(bytes).map_err(|_| FormatError::Short)?;
        check_envelope(sector.as_bytes(), &EXTENT_MAGIC)?;
        Ok(Self {
            extent: ExtentId(sector.extent.get()),
            volume: VolumeId(sector.volume.get()),
            bucket: BucketId(sector.bucket.get()),
            member: sector.member,
            created_ms: sector.created_ms.get(),
            osd: OsdId(sector.osd.get()),
            slot: sector.slot.get(),
        })
    }
}
