//! The metadata journal: what each slot of a disk is, in batches of whole 4 KiB units in two zones, one after the other.
//!
//! It saves time and never decides alone: it can keep an extent closed, it cannot open one, and a footer it points at is
//! believed only when it proves itself. Batches of another disk, another life or another chain are never mixed.

pub mod log;
pub mod replay;

use shingle_codec::checksum::crc32c;
use shingle_proto::ids::{ExtentId, OsdId};
use shingle_proto::limits::{JOURNAL_BATCH_BYTES_MAX, RECORD_ALIGN_BYTES};
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::format::{FORMAT_VERSION, FormatError, align_up, check_envelope};
use super::record::RECORD_BYTES_MAX;

/// First bytes of a batch.
pub const JOURNAL_MAGIC: [u8; 8] = *b"SHGJOURN";
/// A batch's header; its entries follow at once.
pub const BATCH_HEADER_BYTES: usize = 96;
/// One slot in a batch.
pub const SLOT_ENTRY_BYTES: usize = 96;
/// Entries of the largest batch.
pub const BATCH_ENTRIES_MAX: usize = (JOURNAL_BATCH_BYTES_MAX as usize - BATCH_HEADER_BYTES) / SLOT_ENTRY_BYTES;

/// Bytes on disk of a batch of so many entries.
pub const fn batch_bytes(entries: usize) -> u64 {
    align_up((BATCH_HEADER_BYTES + entries * SLOT_ENTRY_BYTES) as u64)
}

/// Slots whose snapshot fits into so many bytes.
pub const fn slots_within(bytes: u64) -> u32 {
    let full = bytes / JOURNAL_BATCH_BYTES_MAX as u64 * BATCH_ENTRIES_MAX as u64;
    let rest = (bytes % JOURNAL_BATCH_BYTES_MAX as u64 / RECORD_ALIGN_BYTES as u64) * RECORD_ALIGN_BYTES as u64;
    let slots = full + rest.saturating_sub(BATCH_HEADER_BYTES as u64) / SLOT_ENTRY_BYTES as u64;
    if slots > u32::MAX as u64 { u32::MAX } else { slots as u32 }
}

/// The batch header's bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BatchHeader {
    pub magic: [u8; 8],
    pub version: U16,
    pub reserved: [u8; 2],
    pub entries: U32,
    pub osd: U64,
    pub disk: U128,
    pub chain: U64,
    pub epoch: U64,
    pub index: U32,
    pub snapshot_batches: U32,
    pub durable_batches: U32,
    pub reserved_too: [u8; 16],
    pub payload_crc: U32,
    pub reserved_more: [u8; 4],
    pub header_crc: U32,
}

const _: () = assert!(size_of::<BatchHeader>() == BATCH_HEADER_BYTES);

/// The bytes of one entry.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SlotBytes {
    pub kind: u8,
    pub state: u8,
    pub health: u8,
    pub reserved: u8,
    pub slot: U32,
    pub extent: U128,
    pub footer_offset: U64,
    pub footer_bytes: U64,
    pub changed_ms: U64,
    pub verified_ms: U64,
    pub records: U32,
    pub reserved_too: [u8; 4],
    pub digest: [u8; 32],
}

const _: () = assert!(size_of::<SlotBytes>() == SLOT_ENTRY_BYTES);

/// The kind of entry there is: a slot.
const KIND_SLOT: u8 = 1;

/// What an extent's slot is going through, as far as the journal knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotState {
    #[default]
    Free = 0,
    Open = 1,
    Closed = 2,
    Failed = 3,
    /// Nobody needs the extent any more; it is whole until the inspector and the delay have let it go.
    Trash = 4,
    /// Its zones are being reset, the first one last.
    Resetting = 5,
}

/// Whether a slot can be used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum SlotHealth {
    #[default]
    Sound = 0,
    /// A zone of it can no longer be written.
    ReadOnly = 1,
    /// A zone of it can no longer be read.
    Offline = 2,
    /// A zone of it failed to be reset.
    Unusable = 3,
}

/// Where a footer is: the closing record that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterPlace {
    pub offset_in_extent: u64,
    /// Of the whole record.
    pub bytes: u64,
    pub digest: [u8; 32],
}

/// What the journal knows of one slot. The latest entry of a slot counts, alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotEntry {
    pub slot: u32,
    pub state: SlotState,
    pub health: SlotHealth,
    /// The extent in it; 0 in a free slot.
    pub extent: ExtentId,
    pub footer: Option<FooterPlace>,
    pub records: u32,
    /// Milliseconds since 1970 of the last change of state.
    pub changed_ms: u64,
    /// Milliseconds since 1970 when every record was last read back and found good; 0: never.
    pub verified_ms: u64,
}

impl SlotEntry {
    fn encode(&self) -> SlotBytes {
        let footer = self.footer.unwrap_or(FooterPlace { offset_in_extent: 0, bytes: 0, digest: [0; 32] });
        SlotBytes {
            kind: KIND_SLOT,
            state: self.state as u8,
            health: self.health as u8,
            reserved: 0,
            slot: U32::new(self.slot),
            extent: U128::new(self.extent.0),
            footer_offset: U64::new(footer.offset_in_extent),
            footer_bytes: U64::new(footer.bytes),
            changed_ms: U64::new(self.changed_ms),
            verified_ms: U64::new(self.verified_ms),
            records: U32::new(self.records),
            reserved_too: [0; 4],
            digest: footer.digest,
        }
    }

    fn decode(bytes: &SlotBytes) -> Result<Self, FormatError> {
        let state = match bytes.state {
            0 => SlotState::Free,
            1 => SlotState::Open,
            2 => SlotState::Closed,
            3 => SlotState::Failed,
            4 => SlotState::Trash,
            5 => SlotState::Resetting,
            _ => return Err(FormatError::Field("state")),
        };
        let health = match bytes.health {
            0 => SlotHealth::Sound,
            1 => SlotHealth::ReadOnly,
            2 => SlotHealth::Offline,
            3 => SlotHealth::Unusable,
            _ => return Err(FormatError::Field("health")),
        };
        if bytes.kind != KIND_SLOT {
            return Err(FormatError::Field("kind"));
        }
        let unit = u64::from(RECORD_ALIGN_BYTES);
        let (offset_in_extent, footer_bytes) = (bytes.footer_offset.get(), bytes.footer_bytes.get());
        if footer_bytes > RECORD_BYTES_MAX || !footer_bytes.is_multiple_of(unit) {
            return Err(FormatError::Field("footer_bytes"));
        }
        if !offset_in_extent.is_multiple_of(unit) || offset_in_extent.checked_add(footer_bytes).is_none() {
            return Err(FormatError::Field("footer_offset"));
        }
        let place = FooterPlace { offset_in_extent, bytes: footer_bytes, digest: bytes.digest };
        Ok(Self {
            slot: bytes.slot.get(),
            state,
            health,
            extent: ExtentId(bytes.extent.get()),
            footer: (footer_bytes > 0).then_some(place),
            records: bytes.records.get(),
            changed_ms: bytes.changed_ms.get(),
            verified_ms: bytes.verified_ms.get(),
        })
    }
}

/// Which journal a batch belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    pub osd: OsdId,
    /// The label's name for this disk under this label.
    pub disk: u128,
    /// Drawn for every snapshot: what an earlier life left behind in the zone is none of this chain.
    pub chain: u64,
    /// One more than that of the snapshot before: the newest whole one counts.
    pub epoch: u64,
    /// How many of the chain's first batches are the snapshot; without all of them the chain says nothing.
    pub snapshot_batches: u32,
}

/// One write to the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub chain: Chain,
    /// 0 for the chain's first, one more for each one after it.
    pub index: u32,
    /// The first so many batches of the chain were durable before this one was written.
    pub durable_batches: u32,
    pub entries: Vec<SlotEntry>,
}

impl Batch {
    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        batch_bytes(self.entries.len())
    }

    /// Writes the batch to the start of `whole`, which is as long as it.
    pub fn encode(&self, whole: &mut [u8]) {
        assert!(self.entries.len() <= BATCH_ENTRIES_MAX, "a batch has bounded size");
        assert!(whole.len() as u64 == self.bytes(), "a batch is exactly its header, entries and padding");
        let (header, rest) = whole.split_at_mut(BATCH_HEADER_BYTES);
        let (entries, padding) = rest.split_at_mut(self.entries.len() * SLOT_ENTRY_BYTES);
        for (to, entry) in entries.chunks_exact_mut(SLOT_ENTRY_BYTES).zip(&self.entries) {
            to.copy_from_slice(entry.encode().as_bytes());
        }
        padding.fill(0);
        let mut sealed = BatchHeader {
            magic: JOURNAL_MAGIC,
            version: U16::new(FORMAT_VERSION),
            reserved: [0; 2],
            entries: U32::new(self.entries.len() as u32),
            osd: U64::new(self.chain.osd.0),
            disk: U128::new(self.chain.disk),
            chain: U64::new(self.chain.chain),
            epoch: U64::new(self.chain.epoch),
            index: U32::new(self.index),
            snapshot_batches: U32::new(self.chain.snapshot_batches),
            durable_batches: U32::new(self.durable_batches),
            reserved_too: [0; 16],
            payload_crc: U32::new(crc32c(rest)),
            reserved_more: [0; 4],
            header_crc: U32::ZERO,
        };
        sealed.header_crc = U32::new(crc32c(&sealed.as_bytes()[..BATCH_HEADER_BYTES - 4]));
        header.copy_from_slice(sealed.as_bytes());
    }

    /// The bytes on disk of the batch whose header is at the start of `bytes`: what [`Batch::decode`] needs at least.
    pub fn length(bytes: &[u8]) -> Result<u64, FormatError> {
        Self::header(bytes).map(|header| batch_bytes(header.entries.get() as usize))
    }

    fn header(bytes: &[u8]) -> Result<&BatchHeader, FormatError> {
        let head = bytes.get(..BATCH_HEADER_BYTES).ok_or(FormatError::Short)?;
        check_envelope(head, &JOURNAL_MAGIC)?;
        let header = BatchHeader::ref_from_bytes(head).map_err(|_| FormatError::Short)?;
        if header.entries.get() as usize > BATCH_ENTRIES_MAX {
            return Err(FormatError::Field("entries"));
        }
        if header.durable_batches.get() > header.index.get() {
            return Err(FormatError::Field("durable_batches"));
        }
        if header.snapshot_batches.get() == 0 {
            return Err(FormatError::Field("snapshot_batches"));
        }
        Ok(header)
    }

    /// Decodes the batch at the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let header = Self::header(bytes)?;
        let count = header.entries.get() as usize;
        let rest = bytes.get(BATCH_HEADER_BYTES..batch_bytes(count) as usize).ok_or(FormatError::Short)?;
        if crc32c(rest) != header.payload_crc.get() {
            return Err(FormatError::Checksum);
        }
        let entries: Result<Vec<SlotEntry>, FormatError> = rest
            .chunks_exact(SLOT_ENTRY_BYTES)
            .take(count)
            .map(|entry| SlotEntry::decode(SlotBytes::ref_from_bytes(entry).map_err(|_| FormatError::Short)?))
            .collect();
        Ok(Self {
            chain: Chain {
                osd: OsdId(header.osd.get()),
                disk: header.disk.get(),
                chain: header.chain.get(),
                epoch: header.epoch.get(),
                snapshot_batches: header.snapshot_batches.get(),
            },
            index: header.index.get(),
            durable_batches: header.durable_batches.get(),
            entries: entries?,
        })
    }
}

#[cfg(test)]
#[path = "journal/tests.rs"]
mod tests;
