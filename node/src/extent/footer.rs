//! The footer: the toc of a closed extent on disk, sorted by hash, as the payload of the closing record.
//!
//! A footer that decodes lies within its extent, overlaps nothing and names every record before it exactly once: what
//! start-up takes from it needs no look at the records. Anything else is refused and the extent is scanned instead.

use std::cmp::Ordering;

use shingle_codec::checksum::crc32c;
use shingle_codec::hash::sha256;
use shingle_proto::ids::{BlockHash, ExtentId, OsdId, PutId};
use shingle_proto::limits::{BLOCK_BYTES_MAX, EXTENT_RECORDS_MAX, SEALED_BYTES_MAX};
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::format::{FORMAT_VERSION, FormatError, SECTOR_BYTES, check_envelope};
use super::layout::Layout;
use super::placement::Spot;
use super::record::{RECORD_HEADER_BYTES, Record, RecordKind, record_bytes};
use super::toc::Place;

/// First bytes of a footer.
pub const FOOTER_MAGIC: [u8; 8] = *b"SHGFOOTR";
/// A footer's header; its entries follow at once.
pub const FOOTER_HEADER_BYTES: usize = 128;
/// One record in a footer.
pub const FOOTER_ENTRY_BYTES: usize = 56;
/// What the digest covers of the header: everything before itself.
const DIGESTED_HEADER_BYTES: usize = 88;

// A footer is one record, so the records of an extent are capped by what one record holds.
const _: () = assert!(footer_bytes(EXTENT_RECORDS_MAX) <= SEALED_BYTES_MAX as u64);

/// Bytes of a footer of so many entries, as a record's payload.
pub const fn footer_bytes(entries: u32) -> u64 {
    FOOTER_HEADER_BYTES as u64 + FOOTER_ENTRY_BYTES as u64 * entries as u64
}

/// Bytes on disk of the closing record with a footer of so many entries.
pub const fn closing_bytes(entries: u32) -> u64 {
    record_bytes(footer_bytes(entries) as u32)
}

/// Entries that fit into a closing record of so many bytes on disk.
pub const fn entries_within(bytes: u64) -> u64 {
    bytes.saturating_sub((RECORD_HEADER_BYTES + FOOTER_HEADER_BYTES) as u64) / FOOTER_ENTRY_BYTES as u64
}

/// The footer header's bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FooterHeader {
    pub magic: [u8; 8],
    pub version: U16,
    pub reserved: [u8; 2],
    pub slot: U32,
    pub extent: U128,
    pub osd: U64,
    pub created_ms: U64,
    pub closed_ms: U64,
    pub record_bytes: U64,
    pub records: U32,
    pub entries: U32,
    pub reserved_too: [u8; 16],
    pub digest: [u8; 32],
    pub reserved_more: [u8; 4],
    pub crc: U32,
}

const _: () = assert!(size_of::<FooterHeader>() == FOOTER_HEADER_BYTES);
const _: () = assert!(std::mem::offset_of!(FooterHeader, digest) == DIGESTED_HEADER_BYTES);

/// The bytes of one entry.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EntryBytes {
    pub hash: [u8; 32],
    pub put_id: U64,
    pub offset_units: U32,
    pub payload_bytes: U32,
    pub plain_bytes: U32,
    pub kind: u8,
    pub fragment: u8,
    pub fragments: u8,
    pub reserved: u8,
}

const _: () = assert!(size_of::<EntryBytes>() == FOOTER_ENTRY_BYTES);

/// One record of an extent: what it is and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TocEntry {
    pub hash: BlockHash,
    pub put_id: PutId,
    pub place: Place,
    pub payload_bytes: u32,
    pub plain_bytes: u32,
    pub kind: RecordKind,
    pub fragment: u8,
    pub fragments: u8,
}

impl TocEntry {
    /// A record at an offset within its extent.
    pub fn of(record: &Record, offset_in_extent: u64) -> Self {
        Self {
            hash: record.hash,
            put_id: record.put_id,
            place: Place::new(offset_in_extent, record.bytes()),
            payload_bytes: record.payload_bytes,
            plain_bytes: record.plain_bytes,
            kind: record.kind,
            fragment: record.fragment,
            fragments: record.fragments,
        }
    }

    /// The order of a footer's entries.
    fn order(&self, other: &Self) -> Ordering {
        let key = |entry: &Self| (entry.hash.0, entry.put_id.0, entry.place.offset_units);
        key(self).cmp(&key(other))
    }

    fn encode(&self) -> EntryBytes {
        EntryBytes {
            hash: self.hash.0,
            put_id: U64::new(self.put_id.0),
            offset_units: U32::new(self.place.offset_units),
            payload_bytes: U32::new(self.payload_bytes),
            plain_bytes: U32::new(self.plain_bytes),
            kind: self.kind as u8,
            fragment: self.fragment,
            fragments: self.fragments,
            reserved: 0,
        }
    }

    fn decode(bytes: &EntryBytes) -> Result<Self, FormatError> {
        let kind = match bytes.kind {
            1 => RecordKind::Block,
            2 => RecordKind::Fragment,
            _ => return Err(FormatError::Field("kind")),
        };
        let (payload_bytes, plain_bytes) = (bytes.payload_bytes.get(), bytes.plain_bytes.get());
        if payload_bytes > SEALED_BYTES_MAX {
            return Err(FormatError::Field("payload_bytes"));
        }
        if plain_bytes > BLOCK_BYTES_MAX {
            return Err(FormatError::Field("plain_bytes"));
        }
        let units = Place::new(0, record_bytes(payload_bytes)).units;
        Ok(Self {
            hash: BlockHash(bytes.hash),
            put_id: PutId(bytes.put_id.get()),
            place: Place { offset_units: bytes.offset_units.get(), units },
            payload_bytes,
            plain_bytes,
            kind,
            fragment: bytes.fragment,
            fragments: bytes.fragments,
        })
    }
}

/// What a closed extent holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    pub extent: ExtentId,
    pub osd: OsdId,
    pub slot: u32,
    /// As in the extent header.
    pub created_ms: u64,
    /// Milliseconds since 1970, for people.
    pub closed_ms: u64,
    /// Records before the closing one, and their bytes on disk.
    pub records: u32,
    pub record_bytes: u64,
    /// All of them in order of hash, put id and offset; none when there was no room for them: then the extent is closed
    /// and has to be scanned.
    pub entries: Vec<TocEntry>,
}

impl Footer {
    /// Whether the entries are here, so that nobody needs to scan.
    pub fn is_complete(&self) -> bool {
        self.entries.len() == self.records as usize
    }

    /// Sorts the entries and writes the footer to the start of `payload`, which has room for it; its digest.
    pub fn encode(&mut self, payload: &mut [u8]) -> [u8; 32] {
        self.entries.sort_unstable_by(TocEntry::order);
        let (header, entries) = payload.split_at_mut(FOOTER_HEADER_BYTES);
        let entries = &mut entries[..self.entries.len() * FOOTER_ENTRY_BYTES];
        for (to, entry) in entries.chunks_exact_mut(FOOTER_ENTRY_BYTES).zip(&self.entries) {
            to.copy_from_slice(entry.encode().as_bytes());
        }
        let mut sealed = FooterHeader {
            magic: FOOTER_MAGIC,
            version: U16::new(FORMAT_VERSION),
            reserved: [0; 2],
            slot: U32::new(self.slot),
            extent: U128::new(self.extent.0),
            osd: U64::new(self.osd.0),
            created_ms: U64::new(self.created_ms),
            closed_ms: U64::new(self.closed_ms),
            record_bytes: U64::new(self.record_bytes),
            records: U32::new(self.records),
            entries: U32::new(self.entries.len() as u32),
            reserved_too: [0; 16],
            digest: [0; 32],
            reserved_more: [0; 4],
            crc: U32::ZERO,
        };
        sealed.digest = digest_of(sealed.as_bytes(), entries);
        sealed.crc = U32::new(crc32c(&sealed.as_bytes()[..FOOTER_HEADER_BYTES - 4]));
        header.copy_from_slice(sealed.as_bytes());
        sealed.digest
    }

    /// Decodes the payload of the closing record at `offset_in_extent`, and its digest.
    pub fn decode(payload: &[u8], layout: &Layout, offset_in_extent: u64) -> Result<(Self, [u8; 32]), FormatError> {
        let (head, rest) = payload.split_at_checked(FOOTER_HEADER_BYTES).ok_or(FormatError::Short)?;
        check_envelope(head, &FOOTER_MAGIC)?;
        let header = FooterHeader::ref_from_bytes(head).map_err(|_| FormatError::Short)?;
        let (records, entries) = (header.records.get(), header.entries.get());
        let legal = |held, field| if held { Ok(()) } else { Err(FormatError::Field(field)) };
        legal(records <= layout.records_max, "records")?;
        legal(entries == records || entries == 0, "entries")?;
        legal(header.slot.get() < layout.extents, "slot")?;
        // The count is that of bytes in hand: no number on a disk makes us allocate more than was read.
        if rest.len() != entries as usize * FOOTER_ENTRY_BYTES {
            return Err(FormatError::Short);
        }
        if digest_of(head, rest) != header.digest {
            return Err(FormatError::Checksum);
        }
        let decoded: Result<Vec<TocEntry>, FormatError> = rest
            .chunks_exact(FOOTER_ENTRY_BYTES)
            .map(|bytes| TocEntry::decode(EntryBytes::ref_from_bytes(bytes).map_err(|_| FormatError::Short)?))
            .collect();
        let footer = Self {
            extent: ExtentId(header.extent.get()),
            osd: OsdId(header.osd.get()),
            slot: header.slot.get(),
            created_ms: header.created_ms.get(),
            closed_ms: header.closed_ms.get(),
            records,
            record_bytes: header.record_bytes.get(),
            entries: decoded?,
        };
        footer.check(layout, offset_in_extent)?;
        Ok((footer, header.digest))
    }

    /// Whether the entries can be the records of an extent that ends at `end_bytes`.
    fn check(&self, layout: &Layout, end_bytes: u64) -> Result<(), FormatError> {
        let legal = |held, field| if held { Ok(()) } else { Err(FormatError::Field(field)) };
        legal(self.entries.is_sorted_by(|a, b| a.order(b) == Ordering::Less), "order")?;
        let mut places: Vec<Place> = self.entries.iter().map(|entry| entry.place).collect();
        places.sort_unstable_by_key(|place| place.offset_units);
        let mut next_bytes = SECTOR_BYTES as u64;
        let mut record_bytes = 0;
        for place in places {
            legal(place.offset_bytes() >= next_bytes, "overlap")?;
            next_bytes = place.offset_bytes() + place.bytes();
            record_bytes += place.bytes();
            let within = Spot::at(place.offset_bytes(), layout)
                .is_some_and(|spot| spot.offset_bytes + place.bytes() <= layout.zone_used_bytes);
            legal(within && next_bytes <= end_bytes, "offset_units")?;
        }
        legal(self.entries.is_empty() || record_bytes == self.record_bytes, "record_bytes")
    }
}

/// SHA-256 over the header up to the digest and all entries.
fn digest_of(header: &[u8], entries: &[u8]) -> [u8; 32] {
    let covered = header.get(..DIGESTED_HEADER_BYTES).unwrap_or_default();
    sha256(&[covered, entries].concat()).0
}

#[cfg(test)]
#[path = "footer/tests.rs"]
mod tests;
