//! The bytes of an emulated drive's superblock and zone table; FORMAT.md describes them.
//!
//! Invariants: everything is little-endian and of fixed size; nothing is believed before its CRC32C matched; decoding
//! arbitrary bytes gives a value or an error, never a panic.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::crc::crc32c;
use crate::geometry::Geometry;

/// First bytes of an emulated drive.
pub(super) const MAGIC: [u8; 8] = *b"SHNGLZBD";

/// The format's version. Version 1 is the only one so far.
pub(super) const VERSION: u32 = 1;

/// Unit in which superblock and table are written.
pub(super) const PAGE_BYTES: usize = 4096;

/// Unit that a drive writes wholly or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// Sectors in a page.
pub(super) const SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;

/// Zones that a table sector describes.
pub(super) const SECTOR_ZONES: usize = 15;

/// Zones that a table page describes.
pub(super) const PAGE_ZONES: usize = SECTORS * SECTOR_ZONES;

/// Copies of the superblock, at the file's first pages.
pub(super) const SUPERBLOCKS: usize = 2;

/// Longest serial number in bytes.
pub(super) const SERIAL_BYTES: usize = 64;

/// The data's start is a multiple of this, so that zones are aligned to what file systems allocate at once.
const DATA_ALIGN_BYTES: u64 = 1024 * 1024;

/// A superblock page; the rest of the page is zero.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(super) struct Superblock {
    pub(super) magic: [u8; 8],
    pub(super) version: U32,
    /// CRC32C of the page with this field zero.
    pub(super) crc: U32,
    zone_bytes: U64,
    zone_capacity_bytes: U64,
    zones: U32,
    conventional_zones: U32,
    sector_bytes: U32,
    open_zones_max: U32,
    active_zones_max: U32,
    transfer_bytes_max: U32,
    /// Printable ASCII, filled up with zero bytes.
    serial: [u8; SERIAL_BYTES],
}

/// What a superblock page turned out to be.
pub(super) enum SuperblockPage {
    /// No magic: something else.
    Foreign,
    /// The magic, but not the checksum, or impossible values.
    Damaged,
    OtherVersion(u32),
    Good {
        geometry: Geometry,
        serial: String,
    },
}

/// A superblock page.
pub(super) fn encode_superblock(geometry: &Geometry, serial: &str) -> [u8; PAGE_BYTES] {
    let mut padded = [0; SERIAL_BYTES];
    padded.iter_mut().zip(serial.bytes()).for_each(|(to, from)| *to = from);
    let mut superblock = Superblock {
        magic: MAGIC,
        version: VERSION.into(),
        crc: 0.into(),
        zone_bytes: geometry.zone_bytes.into(),
        zone_capacity_bytes: geometry.zone_capacity_bytes.into(),
        zones: geometry.zones.into(),
        conventional_zones: geometry.conventional_zones.into(),
        sector_bytes: geometry.sector_bytes.into(),
        open_zones_max: geometry.open_zones_max.into(),
        active_zones_max: geometry.active_zones_max.into(),
        transfer_bytes_max: geometry.transfer_bytes_max.into(),
        serial: padded,
    };
    let mut page = [0; PAGE_BYTES];
    let place = |page: &mut [u8; PAGE_BYTES], superblock: &Superblock| {
        let bytes = superblock.as_bytes();
        page[..bytes.len()].copy_from_slice(bytes);
    };
    place(&mut page, &superblock);
    superblock.crc = crc32c(&page).into();
    place(&mut page, &superblock);
    page
}

/// Reads a superblock page.
pub(super) fn decode_superblock(page: &[u8]) -> SuperblockPage {
    let Ok((superblock, _)) = Superblock::read_from_prefix(page) else { return SuperblockPage::Foreign };
    if superblock.magic != MAGIC {
        return SuperblockPage::Foreign;
    }
    let mut blank = page.to_vec();
    let crc_at = std::mem::offset_of!(Superblock, crc);
    blank[crc_at..crc_at + 4].fill(0);
    if crc32c(&blank) != superblock.crc.get() {
        return SuperblockPage::Damaged;
    }
    if superblock.version.get() != VERSION {
        return SuperblockPage::OtherVersion(superblock.version.get());
    }
    let geometry = Geometry {
        zones: superblock.zones.get(),
        zone_bytes: superblock.zone_bytes.get(),
        zone_capacity_bytes: superblock.zone_capacity_bytes.get(),
        conventional_zones: superblock.conventional_zones.get(),
        sector_bytes: superblock.sector_bytes.get(),
        open_zones_max: superblock.open_zones_max.get(),
        active_zones_max: superblock.active_zones_max.get(),
        transfer_bytes_max: superblock.transfer_bytes_max.get(),
    };
    let serial: Vec<u8> = superblock.serial.iter().copied().take_while(|byte| *byte != 0).collect();
    match String::from_utf8(serial) {
        Ok(serial) if geometry.check().is_ok() && is_serial(&serial) => SuperblockPage::Good { geometry, serial },
        _ => SuperblockPage::Damaged,
    }
}

/// Whether a serial number can be stored: 1 to 64 printable ASCII characters.
pub(super) fn is_serial(serial: &str) -> bool {
    (1..=SERIAL_BYTES).contains(&serial.len()) && serial.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// Where the parts of an emulated drive lie in its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) table_pages: u32,
    pub(super) data_offset: u64,
    pub(super) file_bytes: u64,
    zone_bytes: u64,
}

impl Layout {
    /// The geometry must be sound: `Geometry::check`.
    pub(super) fn of(geometry: &Geometry) -> Self {
        let table_pages = geometry.zones.div_ceil(PAGE_ZONES as u32);
        let pages = SUPERBLOCKS as u64 + 2 * u64::from(table_pages);
        let data_offset = (pages * PAGE_BYTES as u64).next_multiple_of(DATA_ALIGN_BYTES);
        let file_bytes = data_offset + geometry.device_bytes();
        Self { table_pages, data_offset, file_bytes, zone_bytes: geometry.zone_bytes }
    }

    /// Offset of a table page's copy.
    pub(super) fn page_offset(&self, page: u32, copy: u8) -> u64 {
        let index = SUPERBLOCKS as u64 + u64::from(copy) * u64::from(self.table_pages) + u64::from(page);
        index * PAGE_BYTES as u64
    }

    /// Offset of a place in a zone.
    pub(super) fn zone_offset(&self, zone: u32, offset_bytes: u64) -> u64 {
        self.data_offset + u64::from(zone) * self.zone_bytes + offset_bytes
    }
}

/// A zone in the table.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Default)]
#[repr(C)]
struct RawEntry {
    condition: u8,
    zero: [u8; 3],
    tail_crc: U32,
    settled_bytes: U64,
    written_bytes: U64,
    zero_too: U64,
}

/// A table sector.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawSector {
    /// CRC32C of the rest of the sector.
    crc: U32,
    /// Page number x 8 + number of the sector in its page.
    place: U32,
    sequence: U64,
    completed: U64,
    entries: [RawEntry; SECTOR_ZONES],
    zero: [u8; 8],
}

const _: () = assert!(size_of::<RawSector>() == SECTOR_BYTES && size_of::<Superblock>() <= PAGE_BYTES);

/// What survives of a zone's condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    Conventional = 1,
    Empty = 2,
    /// Written and not full; open zones are closed after a loss of power.
    Closed = 3,
    Full = 4,
}

/// A zone in the table. Bytes up to `settled_bytes` were durable before the page was written; those from there to
/// `written_bytes` became durable with it, which `tail_crc` (CRC32C) proves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) kept: Kept,
    pub(super) settled_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) tail_crc: u32,
}

/// When a page was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    /// Number of the flush that wrote it.
    pub(super) sequence: u64,
    /// The latest flush that was complete by then.
    pub(super) completed: u64,
}

/// A table page; fewer than `PAGE_ZONES` entries are filled up with zeroes.
pub(super) fn encode_page(out: &mut [u8], page: u32, stamp: Stamp, entries: &[Entry]) {
    assert!(out.len() == PAGE_BYTES && entries.len() <= PAGE_ZONES, "a page holds its entries");
    for (index, bytes) in out.chunks_exact_mut(SECTOR_BYTES).enumerate() {
        let mut sector = RawSector {
            crc: 0.into(),
            place: (page * SECTORS as u32 + index as u32).into(),
            sequence: stamp.sequence.into(),
            completed: stamp.completed.into(),
            entries: [RawEntry::default(); SECTOR_ZONES],
            zero: [0; 8],
        };
        let own = entries.iter().skip(index * SECTOR_ZONES);
        for (raw, entry) in sector.entries.iter_mut().zip(own) {
            raw.condition = entry.kept as u8;
            raw.tail_crc = entry.tail_crc.into();
            raw.settled_bytes = entry.settled_bytes.into();
            raw.written_bytes = entry.written_bytes.into();
        }
        sector.crc = sector_crc(sector.as_bytes()).into();
        bytes.copy_from_slice(sector.as_bytes());
    }
}

/// What a copy of a table page turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PageCopy {
    /// Never written.
    Blank,
    Whole(Stamp, Vec<Entry>),
    /// Whole sectors of different flushes: power was lost while it was written.
    Torn(Stamp),
    /// A sector is neither; the stamp is the newest one of the legible sectors.
    Damaged(Option<Stamp>),
}

impl PageCopy {
    pub(super) fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Blank => None,
            Self::Whole(stamp, _) | Self::Torn(stamp) => Some(*stamp),
            Self::Damaged(stamp) => *stamp,
        }
    }
}

/// Reads one copy of a table page which describes the `zones` zones from its first one on.
pub(super) fn decode_page(bytes: &[u8], page: u32, geometry: &Geometry) -> PageCopy {
    let mut stamps: Vec<Option<Stamp>> = Vec::with_capacity(SECTORS);
    let mut entries = Vec::with_capacity(PAGE_ZONES);
    let mut damaged = bytes.len() != PAGE_BYTES;
    for (index, sector) in bytes.chunks_exact(SECTOR_BYTES).enumerate() {
        if sector.iter().all(|byte| *byte == 0) {
            stamps.push(None);
            continue;
        }
        let place = page * SECTORS as u32 + index as u32;
        match decode_sector(sector, place, geometry, &mut entries) {
            Some(stamp) => stamps.push(Some(stamp)),
            None => damaged = true,
        }
    }
    let newest = stamps.iter().flatten().copied().max_by_key(|stamp| stamp.sequence);
    match newest {
        newest if damaged => PageCopy::Damaged(newest),
        None => PageCopy::Blank,
        Some(stamp) if stamps.iter().all(|other| *other == Some(stamp)) => PageCopy::Whole(stamp, entries),
        Some(stamp) => PageCopy::Torn(stamp),
    }
}

fn decode_sector(bytes: &[u8], place: u32, geometry: &Geometry, entries: &mut Vec<Entry>) -> Option<Stamp> {
    let sector = RawSector::read_from_bytes(bytes).ok()?;
    if sector.crc.get() != sector_crc(bytes) || sector.place.get() != place {
        return None;
    }
    let first = place.checked_mul(SECTOR_ZONES as u32)?;
    for (zone, raw) in (first..geometry.zones).zip(&sector.entries) {
        entries.push(decode_entry(raw, zone, geometry)?);
    }
    Some(Stamp { sequence: sector.sequence.get(), completed: sector.completed.get() })
}

fn decode_entry(raw: &RawEntry, zone: u32, geometry: &Geometry) -> Option<Entry> {
    let (settled_bytes, written_bytes) = (raw.settled_bytes.get(), raw.written_bytes.get());
    let conventional = zone < geometry.conventional_zones;
    let kept = match raw.condition {
        1 if conventional && written_bytes == 0 => Kept::Conventional,
        2 if !conventional && written_bytes == 0 => Kept::Empty,
        3 if !conventional => Kept::Closed,
        4 if !conventional => Kept::Full,
        _ => return None,
    };
    let sector_bytes = u64::from(geometry.sector_bytes);
    let whole = settled_bytes.is_multiple_of(sector_bytes) && written_bytes.is_multiple_of(sector_bytes);
    let ordered = settled_bytes <= written_bytes && written_bytes <= geometry.zone_capacity_bytes;
    (whole && ordered).then_some(Entry { kept, settled_bytes, written_bytes, tail_crc: raw.tail_crc.get() })
}

fn sector_crc(sector: &[u8]) -> u32 {
    crc32c(sector.get(4..).unwrap_or_default())
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
