//! The format's bytes as FORMAT.md has them, and arbitrary bytes against the decoders.

use proptest::prelude::*;

use super::*;

fn geometry() -> Geometry {
    Geometry {
        zones: 130,
        zone_bytes: 1 << 20,
        zone_capacity_bytes: 900 * 1024,
        conventional_zones: 2,
        sector_bytes: 4096,
        open_zones_max: 7,
        active_zones_max: 9,
        transfer_bytes_max: 1 << 16,
    }
}

fn entries() -> Vec<Entry> {
    let entry = |kept, settled_bytes, written_bytes| Entry { kept, settled_bytes, written_bytes, tail_crc: 0 };
    let mut entries = vec![entry(Kept::Empty, 0, 0); PAGE_ZONES];
    entries[0] = entry(Kept::Conventional, 0, 0);
    entries[1] = entries[0];
    entries[16] = Entry { tail_crc: 0x0102_0304, ..entry(Kept::Closed, 4096, 12288) };
    entries[17] = entry(Kept::Full, 900 * 1024, 900 * 1024);
    entries
}

fn page(stamp: Stamp) -> [u8; PAGE_BYTES] {
    let mut bytes = [0; PAGE_BYTES];
    encode_page(&mut bytes, 0, stamp, &entries());
    bytes
}

const STAMP: Stamp = Stamp { sequence: 6, completed: 5 };

#[test]
fn version_1_has_these_bytes() {
    let superblock = encode_superblock(&geometry(), "serial-1");
    assert_eq!(superblock[..12], *b"SHNGLZBD\x01\0\0\0");
    assert_eq!(superblock[16..24], (1u64 << 20).to_le_bytes());
    assert_eq!(superblock[32..36], 130u32.to_le_bytes());
    assert_eq!(superblock[52..56], (1u32 << 16).to_le_bytes());
    assert_eq!(superblock[56..66], *b"serial-1\0\0");
    assert!(superblock[120..].iter().all(|byte| *byte == 0));
    let page = page(STAMP);
    let second = &page[512..1024];
    assert_eq!(second[4..8], 1u32.to_le_bytes());
    assert_eq!(second[8..16], 6u64.to_le_bytes());
    assert_eq!(second[16..24], 5u64.to_le_bytes());
    let entry = &second[24 + 32..24 + 64];
    assert_eq!(entry[..8], [3, 0, 0, 0, 4, 3, 2, 1]);
    assert_eq!(entry[8..16], 4096u64.to_le_bytes());
    assert_eq!(entry[16..24], 12288u64.to_le_bytes());
    assert_eq!((crc32c(&superblock), crc32c(&page)), (GOLDEN_SUPERBLOCK, GOLDEN_PAGE), "the format does not change");
}

const GOLDEN_SUPERBLOCK: u32 = 1_674_831_059;
const GOLDEN_PAGE: u32 = 898_570_705;

#[test]
fn the_layout_is_the_documented_one() {
    let layout = Layout::of(&geometry());
    assert_eq!(layout.table_pages, 2);
    assert_eq!(layout.page_offset(1, 0), 8192 + 4096);
    assert_eq!(layout.page_offset(0, 1), 8192 + 8192);
    assert_eq!(layout.data_offset, 1 << 20);
    assert_eq!(layout.zone_offset(3, 5), (4 << 20) + 5);
    assert_eq!(layout.file_bytes, 131 << 20);
    let large = Layout::of(&Geometry::smr(20 << 40));
    assert!(large.page_offset(large.table_pages, 1) <= large.data_offset);
}

#[test]
fn what_was_written_is_read() {
    let SuperblockPage::Good { geometry: found, serial } = decode_superblock(&encode_superblock(&geometry(), "s 1"))
    else {
        panic!("a superblock")
    };
    assert_eq!((found, serial.as_str()), (geometry(), "s 1"));
    assert_eq!(decode_page(&page(STAMP), 0, &geometry()), PageCopy::Whole(STAMP, entries()));
    assert_eq!(decode_page(&[0; PAGE_BYTES], 0, &geometry()), PageCopy::Blank);
    assert_eq!(decode_page(&page(STAMP), 1, &geometry()), PageCopy::Damaged(None), "a page of another place");
}

#[test]
fn sectors_of_two_flushes_are_torn_and_spoilt_ones_are_damaged() {
    let newer = Stamp { sequence: 8, completed: 7 };
    let mut torn = page(STAMP);
    torn[1024..2048].copy_from_slice(&page(newer)[1024..2048]);
    assert_eq!(decode_page(&torn, 0, &geometry()), PageCopy::Torn(newer));
    let mut half_blank = page(STAMP);
    half_blank[512..].fill(0);
    assert_eq!(decode_page(&half_blank, 0, &geometry()), PageCopy::Torn(STAMP));
    torn[3000] ^= 1;
    assert_eq!(decode_page(&torn, 0, &geometry()), PageCopy::Damaged(Some(newer)));
}

#[test]
fn impossible_entries_are_damage() {
    let spoil = |zone: usize, change: fn(&mut Entry)| {
        let mut entries = entries();
        change(&mut entries[zone]);
        let mut bytes = [0; PAGE_BYTES];
        encode_page(&mut bytes, 0, STAMP, &entries);
        matches!(decode_page(&bytes, 0, &geometry()), PageCopy::Damaged(_))
    };
    assert!(spoil(0, |entry| entry.kept = Kept::Empty), "conventional zones have no pointer");
    assert!(spoil(5, |entry| entry.kept = Kept::Conventional));
    assert!(spoil(5, |entry| entry.written_bytes = 4096), "empty zones hold nothing");
    assert!(spoil(16, |entry| entry.settled_bytes = 16384), "settled before written");
    assert!(spoil(16, |entry| entry.written_bytes = 1 << 20), "within the capacity");
    assert!(spoil(16, |entry| entry.settled_bytes = 77), "whole sectors");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_never_believed(
        flips in prop::collection::vec((0usize..PAGE_BYTES, 1u8..), 1..20),
        junk in prop::collection::vec(any::<u8>(), 0..PAGE_BYTES + 9),
    ) {
        drop(decode_page(&junk, 0, &geometry()));
        drop(decode_superblock(&junk));
        let (mut table, mut superblock) = (page(STAMP), encode_superblock(&geometry(), "s"));
        let (clean_table, clean_superblock) = (table, superblock);
        for (at, mask) in flips {
            table[at] ^= mask;
            superblock[at] ^= mask;
        }
        if table != clean_table {
            let whole = matches!(decode_page(&table, 0, &geometry()), PageCopy::Whole(..));
            let good = matches!(decode_superblock(&superblock), SuperblockPage::Good { .. });
            prop_assert!(!whole && !good);
        }
        prop_assert_eq!(table == clean_table, superblock == clean_superblock);
    }
}
