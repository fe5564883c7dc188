//! Zone reports of an NVMe drive: Zone Management Receive and its answer (zoned namespaces 1.1, chapter 3.4.2).

use crate::backend::drive::{Line, LineKind};
use crate::zone::ZoneCondition;

/// Bytes of the header, and of each zone behind it.
pub(super) const ENTRY_BYTES: usize = 64;

pub(in crate::backend) const ZONE_MANAGEMENT_RECEIVE: u8 = 0x7a;

/// Command words of a report of `bytes` from the zone at `sector` on: all zones, and the header counts those that are
/// told.
pub(super) fn words(sector: u64, bytes: usize) -> [u32; 6] {
    let dwords = u32::try_from(bytes / 4).unwrap_or(0).saturating_sub(1);
    [sector as u32, (sector >> 32) as u32, dwords, 1 << 16, 0, 0]
}

/// The zones of a report.
pub(super) fn parse(data: &[u8], sector_bytes: u32, zone_bytes: u64) -> Vec<Line> {
    let mut entries = data.chunks_exact(ENTRY_BYTES);
    let count = entries.next().map_or(0, |header| number(header, 0));
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    entries.take(count).map(|entry| line(entry, sector_bytes, zone_bytes)).collect()
}

fn line(entry: &[u8], sector_bytes: u32, zone_bytes: u64) -> Line {
    let bytes = |at: usize| number(entry, at).saturating_mul(u64::from(sector_bytes));
    let kind = match entry.first().map(|kind| kind & 0xf) {
        Some(2) => LineKind::Sequential,
        _ => LineKind::Other,
    };
    let condition = match entry.get(1).map(|state| state >> 4) {
        Some(1) => ZoneCondition::Empty,
        Some(2) => ZoneCondition::ImplicitOpen,
        Some(3) => ZoneCondition::ExplicitOpen,
        Some(4) => ZoneCondition::Closed,
        Some(0xd) => ZoneCondition::ReadOnly,
        Some(0xe) => ZoneCondition::Full,
        // 15 is offline; a state nobody has heard of is not to be relied on either.
        _ => ZoneCondition::Offline,
    };
    Line {
        capacity_bytes: bytes(8),
        start_bytes: bytes(16),
        write_pointer_bytes: bytes(24),
        length_bytes: zone_bytes,
        kind,
        condition,
    }
}

/// A little-endian 64-bit number.
fn number(entry: &[u8], at: usize) -> u64 {
    let bytes = entry.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zones_that_the_header_counts_are_told() {
        let mut data = vec![0u8; 4 * ENTRY_BYTES];
        data[0] = 1;
        data[64] = 2;
        data[65] = 0x30;
        data[72] = 100;
        data[80..82].copy_from_slice(&512u16.to_le_bytes());
        data[88..90].copy_from_slice(&513u16.to_le_bytes());
        let expected = Line {
            start_bytes: 512 * 4096,
            length_bytes: 1 << 21,
            capacity_bytes: 100 * 4096,
            kind: LineKind::Sequential,
            condition: ZoneCondition::ExplicitOpen,
            write_pointer_bytes: 513 * 4096,
        };
        assert_eq!(parse(&data, 4096, 1 << 21), [expected]);
        data[0] = 200;
        assert_eq!(parse(&data, 4096, 1 << 21).len(), 3, "a header that counts too many");
        assert!(parse(&[], 4096, 1 << 21).is_empty());
    }
}
