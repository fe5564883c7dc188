//! A record: a header inline with the bytes it describes, on 4 KiB boundaries, never across a zone's end.
//!
//! The header's own checksum makes it trustworthy by itself; the payload's covers the payload and the padding behind
//! it, so that no bit of a record can change unnoticed.

use std::ops::Range;

use shingle_codec::checksum::crc32c;
use shingle_hw::crc::{crc32c_cut, crc32c_joined};
use shingle_proto::ids::{BlockHash, BucketId, ExtentId, PutId, VolumeId};
use shingle_proto::limits::{BLOCK_BYTES_MAX, SEALED_BYTES_MAX};
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::format::{FORMAT_VERSION, FormatError, align_up, check_envelope};

/// First bytes of a record.
pub const RECORD_MAGIC: [u8; 8] = *b"SHGRECRD";
/// A record's header; its payload follows at once.
pub const RECORD_HEADER_BYTES: usize = 128;
/// The largest record: a sealed block that did not shrink.
pub const RECORD_BYTES_MAX: u64 = record_bytes(SEALED_BYTES_MAX);
/// The record header's bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RecordHeader {
    pub magic: [u8; 8],
    pub version: U16,
    pub kind: u8,
    pub member: u8,
    pub fragment: u8,
    pub fragments: u8,
    pub reserved: [u8; 2],
    pub hash: [u8; 32],
    pub put_id: U64,
    pub extent: U128,
    pub bucket: U64,
    pub volume: U64,
    pub sequence: U64,
    pub life_sequence: U64,
    pub durable_sequence: U64,
    pub plain_bytes: U32,
    pub payload_bytes: U32,
    pub payload_crc: U32,
    pub header_crc: U32,
}

const _: () = assert!(size_of::<RecordHeader>() == RECORD_HEADER_BYTES);

/// Bytes a record takes on disk for a payload of this size.
pub const fn record_bytes(payload_bytes: u32) -> u64 {
    align_up(RECORD_HEADER_BYTES as u64 + payload_bytes as u64)
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// A whole sealed block.
    Block = 1,
    /// Fragment i of n of a coded block; no version writes it yet, every version keeps its number.
    Fragment = 2,
    /// The extent's last record, its payload the footer: nothing follows it, ever.
    Close = 3,
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: RecordKind,
    pub member: u8,
    pub fragment: u8,
    pub fragments: u8,
    pub hash: BlockHash,
    pub put_id: PutId,
    pub extent: ExtentId,
    pub bucket: BucketId,
    pub volume: VolumeId,
    /// 1 for the extent's first record, one more for each one after it.
    pub sequence: u64,
    /// The first sequence that the writer of this record used since it took over the extent.
    pub life_sequence: u64,
    /// Every record up to this sequence that recovery finds whole was durable before this one was written; 0: none.
    pub durable_sequence: u64,
    pub plain_bytes: u32,
    /// The sealed block's length, padding excluded.
    pub payload_bytes: u32,
    /// Of payload and padding.
    pub payload_crc: u32,
}

impl Record {
    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        record_bytes(self.payload_bytes)
    }

    /// Where the payload is in the record.
    pub fn payload_range(&self) -> Range<usize> {
        RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + self.payload_bytes as usize
    }

    /// Completes a record in place: `whole` has the payload behind room for the header. Zeroes the padding, sets
    /// `payload_crc` and writes the header. The payload's CRC32C may be known (`sum`). The CRC32C of the whole.
    pub fn seal(&mut self, whole: &mut [u8], sum: Option<u32>) -> u32 {
        assert!(whole.len() as u64 == self.bytes(), "a record is exactly its header, payload and padding");
        let (header, rest) = whole.split_at_mut(RECORD_HEADER_BYTES);
        let (payload, padding) = rest.split_at_mut(self.payload_bytes as usize);
        padding.fill(0);
        let sum = sum.unwrap_or_else(|| crc32c(payload));
        self.payload_crc = crc32c_joined(sum, crc32c(padding), padding.len() as u64);
        header.copy_from_slice(&self.encode());
        crc32c_joined(crc32c(header), self.payload_crc, rest.len() as u64)
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut header = RecordHeader {
            magic: RECORD_MAGIC,
            version: U16::new(FORMAT_VERSION),
            kind: self.kind as u8,
            member: self.member,
            fragment: self.fragment,
            fragments: self.fragments,
            reserved: [0; 2],
            hash: self.hash.0,
            put_id: U64::new(self.put_id.0),
            extent: U128::new(self.extent.0),
            bucket: U64::new(self.bucket.0),
            volume: U64::new(self.volume.0),
            sequence: U64::new(self.sequence),
            life_sequence: U64::new(self.life_sequence),
            durable_sequence: U64::new(self.durable_sequence),
            plain_bytes: U32::new(self.plain_bytes),
            payload_bytes: U32::new(self.payload_bytes),
            payload_crc: U32::new(self.payload_crc),
            header_crc: U32::ZERO,
        };
        header.header_crc = U32::new(crc32c(&header.as_bytes()[..RECORD_HEADER_BYTES - 4]));
        zerocopy::transmute!(header)
    }

    /// Decodes the header at the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (header, _) = RecordHeader::ref_from_prefix(bytes).map_err(|_| FormatError::Short)?;
        check_envelope(header.as_bytes(), &RECORD_MAGIC)?;
        let kind = match header.kind {
            1 => RecordKind::Block,
            2 => RecordKind::Fragment,
            3 => RecordKind::Close,
            _ => return Err(FormatError::Field("kind")),
        };
        let record = Self {
            kind,
            member: header.member,
            fragment: header.fragment,
            fragments: header.fragments,
            hash: BlockHash(header.hash),
            put_id: PutId(header.put_id.get()),
            extent: ExtentId(header.extent.get()),
            bucket: BucketId(header.bucket.get()),
            volume: VolumeId(header.volume.get()),
            sequence: header.sequence.get(),
            life_sequence: header.life_sequence.get(),
            durable_sequence: header.durable_sequence.get(),
            plain_bytes: header.plain_bytes.get(),
            payload_bytes: header.payload_bytes.get(),
            payload_crc: header.payload_crc.get(),
        };
        record.check()?;
        Ok(record)
    }

    fn check(&self) -> Result<(), FormatError> {
        let legal = |held, field| if held { Ok(()) } else { Err(FormatError::Field(field)) };
        legal(self.payload_bytes <= SEALED_BYTES_MAX, "payload_bytes")?;
        legal(self.plain_bytes <= BLOCK_BYTES_MAX, "plain_bytes")?;
        legal(self.sequence > 0, "sequence")?;
        legal((1..=self.sequence).contains(&self.life_sequence), "life_sequence")?;
        legal(self.durable_sequence < self.sequence, "durable_sequence")
    }

    /// The payload's CRC32C alone, where the padding is what it should be. `whole` has been held against this header.
    pub fn payload_sum(&self, whole: &[u8]) -> Option<u32> {
        let padding = whole.get(RECORD_HEADER_BYTES + self.payload_bytes as usize..)?;
        let zeroes = padding.iter().all(|byte| *byte == 0);
        zeroes.then(|| crc32c_cut(self.payload_crc, crc32c(padding), padding.len() as u64))
    }

    /// Whether `whole`, the record's bytes on disk, carries the payload this header promises.
    pub fn payload_is_whole(&self, whole: &[u8]) -> bool {
        self.covered(whole).is_some_and(|covered| crc32c(covered) == self.payload_crc)
    }

    /// What the payload's checksum covers of `whole`, the record's bytes on disk: the payload and the padding; `None` if
    /// they are not as many as this header promises.
    pub fn covered<'a>(&self, whole: &'a [u8]) -> Option<&'a [u8]> {
        whole.get(RECORD_HEADER_BYTES..).filter(|_| whole.len() as u64 == self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sealed record of 5000 bytes, its memory, and the payload's checksum.
    fn sealed() -> (Record, Vec<u8>, u32) {
        let mut record = Record {
            kind: RecordKind::Block,
            member: 3,
            fragment: 0,
            fragments: 1,
            hash: BlockHash([9; 32]),
            put_id: PutId(4),
            extent: ExtentId(5),
            bucket: BucketId(6),
            volume: VolumeId(7),
            sequence: 2,
            life_sequence: 1,
            durable_sequence: 1,
            plain_bytes: 5000,
            payload_bytes: 5000,
            payload_crc: 0,
        };
        let mut whole: Vec<u8> = (0..record.bytes()).map(|index| (index * 7 % 251) as u8).collect();
        let sum = crc32c(&whole[record.payload_range()]);
        record.seal(&mut whole, None);
        (record, whole, sum)
    }

    #[test]
    fn a_record_sealed_with_a_known_checksum_has_the_same_bytes() {
        let (mut record, whole, sum) = sealed();
        let mut again = whole.clone();
        again[record.payload_range().end..].fill(0xff);
        assert_eq!(record.seal(&mut again, Some(sum)), crc32c(&whole));
        assert!(again == whole);
        assert_eq!(record.payload_sum(&whole), Some(sum));
    }

    #[test]
    fn bytes_that_changed_behind_their_checksum_are_found_when_they_are_read() {
        let (mut record, mut whole, sum) = sealed();
        whole[4000] ^= 1;
        record.seal(&mut whole, Some(sum));
        assert!(!record.payload_is_whole(&whole));
    }

    #[test]
    fn padding_that_is_not_zero_hides_the_payloads_checksum() {
        let (record, mut whole, _) = sealed();
        *whole.last_mut().unwrap() = 1;
        assert_eq!(record.payload_sum(&whole), None);
        assert_eq!(record.payload_sum(&whole[..100]), None, "nor is there one of a piece");
    }
}
