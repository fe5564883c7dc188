//! The on-disk format against FORMAT.md, against the golden bytes, and against every flipped bit.

use std::path::PathBuf;

use proptest::prelude::*;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::geometry::Geometry;
use shingle_node::extent::footer::{
    EntryBytes, FOOTER_ENTRY_BYTES, FOOTER_HEADER_BYTES, FOOTER_MAGIC, Footer, FooterHeader, TocEntry, footer_bytes,
};
use shingle_node::extent::format::{FORMAT_VERSION, FormatError, SECTOR_BYTES};
use shingle_node::extent::header::{EXTENT_MAGIC, ExtentHeader, ExtentSector};
use shingle_node::extent::journal::{
    BATCH_ENTRIES_MAX, BATCH_HEADER_BYTES, Batch, BatchHeader, Chain, FooterPlace, JOURNAL_MAGIC, SLOT_ENTRY_BYTES,
    SlotBytes, SlotEntry, SlotHealth, SlotState,
};
use shingle_node::extent::label::{LABEL_MAGIC, Label, LabelCopy, LabelSector};
use shingle_node::extent::layout::Layout;
use shingle_node::extent::record::{RECORD_HEADER_BYTES, RECORD_MAGIC, Record, RecordHeader, RecordKind};
use shingle_proto::ids::{BlockHash, BucketId, CellId, ExtentId, OsdId, PutId, VolumeId};
use shingle_proto::limits::{
    BLOCK_BYTES_MAX, EXTENT_RECORDS_MAX, JOURNAL_BATCH_BYTES_MAX, JOURNAL_NEWS_BYTES_MAX, MIB, SEALED_BYTES_MAX,
};

const FORMAT: &str = include_str!("../../src/extent/FORMAT.md");

/// Name, offset and size of a structure's fields.
macro_rules! fields {
    ($structure:ty { $($field:ident: $bytes:expr),* $(,)? }) => {
        vec![$((stringify!($field), std::mem::offset_of!($structure, $field), $bytes)),*]
    };
}

type Row = (String, usize, usize, String);

/// The rows of a section's first table whose first two cells are numbers.
fn rows(section: &str) -> Vec<Row> {
    let from = FORMAT.find(&format!("\n## {section}\n")).expect("the section is there");
    let text = &FORMAT[from + 4..];
    let text = &text[..text.find("\n## ").unwrap_or(text.len())];
    text.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [offset, bytes, name, meaning] = cells[..] else { return None };
            Some((name.to_owned(), offset.parse().ok()?, bytes.parse().ok()?, meaning.to_owned()))
        })
        .collect()
}

fn assert_described(section: &str, fields: &[(&str, usize, usize)], total: usize, magic: &[u8; 8]) {
    let rows = assert_fields(section, fields, total);
    assert!(rows[0].3.contains(std::str::from_utf8(magic).unwrap()), "{section} names its magic");
    assert_eq!(rows[1].3, FORMAT_VERSION.to_string());
}

fn assert_fields(section: &str, fields: &[(&str, usize, usize)], total: usize) -> Vec<Row> {
    let rows = rows(section);
    let described: Vec<_> = rows.iter().map(|(name, offset, bytes, _)| (name.as_str(), *offset, *bytes)).collect();
    assert_eq!(described, fields, "{section}");
    let mut end = 0;
    for (name, offset, bytes) in fields {
        assert_eq!(*offset, end, "{section}: {name} follows what is before it");
        end = offset + bytes;
    }
    assert_eq!(end, total, "{section}");
    rows
}

#[test]
fn label_is_described_as_it_is() {
    let label = fields!(LabelSector {
        magic: 8,
        version: 2,
        copy: 1,
        reserved: 5,
        cell: 16,
        osd: 8,
        created_ms: 8,
        serial: 64,
        zones: 4,
        conventional_zones: 4,
        zone_bytes: 8,
        zone_capacity_bytes: 8,
        sector_bytes: 4,
        extent_first_zone: 4,
        zones_per_extent: 4,
        extents: 4,
        reserve_bytes: 8,
        journal_first_zone: 4,
        journal_zones: 4,
        label_copy_zone: 4,
        records_max: 4,
        parity_reserve_bytes: 8,
        disk: 16,
        padding: 3892,
        crc: 4,
    });
    assert_described("Disk label", &label, SECTOR_BYTES, &LABEL_MAGIC);
}

#[test]
fn extent_header_is_described_as_it_is() {
    let header = fields!(ExtentSector {
        magic: 8,
        version: 2,
        member: 1,
        reserved: 5,
        extent: 16,
        volume: 8,
        bucket: 8,
        created_ms: 8,
        osd: 8,
        slot: 4,
        padding: 4024,
        crc: 4,
    });
    assert_described("Extent header", &header, SECTOR_BYTES, &EXTENT_MAGIC);
}

#[test]
fn record_is_described_as_it_is() {
    let record = fields!(RecordHeader {
        magic: 8,
        version: 2,
        kind: 1,
        member: 1,
        fragment: 1,
        fragments: 1,
        reserved: 2,
        hash: 32,
        put_id: 8,
        extent: 16,
        bucket: 8,
        volume: 8,
        sequence: 8,
        life_sequence: 8,
        durable_sequence: 8,
        plain_bytes: 4,
        payload_bytes: 4,
        payload_crc: 4,
        header_crc: 4,
    });
    assert_described("Record", &record, RECORD_HEADER_BYTES, &RECORD_MAGIC);
}

#[test]
fn footer_is_described_as_it_is() {
    let header = fields!(FooterHeader {
        magic: 8,
        version: 2,
        reserved: 2,
        slot: 4,
        extent: 16,
        osd: 8,
        created_ms: 8,
        closed_ms: 8,
        record_bytes: 8,
        records: 4,
        entries: 4,
        reserved_too: 16,
        digest: 32,
        reserved_more: 4,
        crc: 4,
    });
    assert_described("Footer", &header, FOOTER_HEADER_BYTES, &FOOTER_MAGIC);
    let entry = fields!(EntryBytes {
        hash: 32,
        put_id: 8,
        offset_units: 4,
        payload_bytes: 4,
        plain_bytes: 4,
        kind: 1,
        fragment: 1,
        fragments: 1,
        reserved: 1,
    });
    assert_fields("Footer entry", &entry, FOOTER_ENTRY_BYTES);
}

#[test]
fn journal_is_described_as_it_is() {
    let header = fields!(BatchHeader {
        magic: 8,
        version: 2,
        reserved: 2,
        entries: 4,
        osd: 8,
        disk: 16,
        chain: 8,
        epoch: 8,
        index: 4,
        snapshot_batches: 4,
        durable_batches: 4,
        reserved_too: 16,
        payload_crc: 4,
        reserved_more: 4,
        header_crc: 4,
    });
    assert_described("Metadata journal", &header, BATCH_HEADER_BYTES, &JOURNAL_MAGIC);
    let entry = fields!(SlotBytes {
        kind: 1,
        state: 1,
        health: 1,
        reserved: 1,
        slot: 4,
        extent: 16,
        footer_offset: 8,
        footer_bytes: 8,
        changed_ms: 8,
        verified_ms: 8,
        records: 4,
        reserved_too: 4,
        digest: 32,
    });
    assert_fields("Journal entry", &entry, SLOT_ENTRY_BYTES);
}

#[test]
fn numbers_in_the_description_are_the_constants() {
    for (what, number) in [
        ("Format version ", u64::from(FORMAT_VERSION)),
        ("plain_bytes | the block's length, at most ", u64::from(BLOCK_BYTES_MAX)),
        ("payload_bytes | the payload's length, at most ", u64::from(SEALED_BYTES_MAX)),
        ("number of smallest records that fit, at most ", u64::from(EXTENT_RECORDS_MAX)),
        ("a multiple of 4096 bytes, ", u64::from(JOURNAL_BATCH_BYTES_MAX)),
        ("their number, at most ", BATCH_ENTRIES_MAX as u64),
    ] {
        assert!(FORMAT.contains(&format!("{what}{number}")), "{what}{number}");
    }
    assert!(FORMAT.contains(&format!("{} MiB of news", JOURNAL_NEWS_BYTES_MAX / MIB)));
    for (kind, name) in [(RecordKind::Block, "block"), (RecordKind::Fragment, "fragment"), (RecordKind::Close, "close")]
    {
        assert!(FORMAT.contains(&format!("{} {name}", kind as u8)), "{name}");
    }
}

fn geometry() -> Geometry {
    Geometry::smr(64 << 30)
}

fn label() -> Label {
    let layout = Layout::of(&geometry()).unwrap();
    let device = MemoryDevice::new(geometry(), "SERIAL-7");
    Label::new(CellId(0x0102_0304), OsdId(0x0506), 0x0708, 1_700_000_000_000, &device, layout)
}

fn header() -> ExtentHeader {
    ExtentHeader {
        extent: ExtentId(0x1111_2222_3333_4444_5555_6666_7777_8888),
        volume: VolumeId(9),
        bucket: BucketId(10),
        member: 3,
        created_ms: 1_700_000_000_000,
        osd: OsdId(0x0506),
        slot: 12,
    }
}

fn record() -> (Record, Vec<u8>) {
    let payload: Vec<u8> = (0..5000_u32).map(|index| (index * 7 % 251) as u8).collect();
    let mut record = Record {
        kind: RecordKind::Block,
        member: 3,
        fragment: 0,
        fragments: 1,
        hash: BlockHash(std::array::from_fn(|index| index as u8)),
        put_id: PutId(0x1234),
        extent: header().extent,
        bucket: BucketId(10),
        volume: VolumeId(9),
        sequence: 17,
        life_sequence: 4,
        durable_sequence: 12,
        plain_bytes: 6000,
        payload_bytes: payload.len() as u32,
        payload_crc: 0,
    };
    let mut whole = vec![0xff; record.bytes() as usize];
    whole[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + payload.len()].copy_from_slice(&payload);
    record.seal(&mut whole, None);
    (record, whole)
}

fn footer() -> (Footer, Vec<u8>) {
    let (record, _) = record();
    let entry = |number: u8, offset_in_extent| {
        let record = Record { hash: BlockHash([255 - number; 32]), put_id: PutId(number.into()), ..record };
        TocEntry::of(&record, offset_in_extent)
    };
    let mut footer = Footer {
        extent: header().extent,
        osd: header().osd,
        slot: header().slot,
        created_ms: header().created_ms,
        closed_ms: 1_700_000_100_000,
        records: 3,
        record_bytes: 3 * 8192,
        entries: vec![entry(1, 4096), entry(2, 12_288), entry(3, 40_960)],
    };
    let mut payload = vec![0xff; footer_bytes(3) as usize];
    footer.encode(&mut payload);
    (footer, payload)
}

/// Where the footer of [`footer`] lies in its extent.
const FOOTER_AT: u64 = 49_152;

fn batch() -> (Batch, Vec<u8>) {
    let place = FooterPlace { offset_in_extent: FOOTER_AT, bytes: 4096, digest: [0x5a; 32] };
    let closed = SlotEntry {
        slot: 12,
        state: SlotState::Closed,
        health: SlotHealth::ReadOnly,
        extent: header().extent,
        footer: Some(place),
        records: 3,
        changed_ms: 1_700_000_100_000,
        verified_ms: 1_700_000_200_000,
    };
    let open = SlotEntry { slot: 13, state: SlotState::Open, extent: ExtentId(77), ..SlotEntry::default() };
    let batch = Batch {
        chain: Chain { osd: OsdId(0x0506), disk: 0x0708, chain: 0x090a, epoch: 11, snapshot_batches: 2 },
        index: 3,
        durable_batches: 2,
        entries: vec![closed, open],
    };
    let mut whole = vec![0xff; batch.bytes() as usize];
    batch.encode(&mut whole);
    (batch, whole)
}

/// Set this variable to write the golden bytes of a new version. Those of an old one never change.
const WRITE: &str = "SHINGLE_WRITE_FIXTURES";

fn assert_golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../tests/fixtures/extent/{name}-v{FORMAT_VERSION}.bin"));
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let golden =
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; {WRITE}=1 writes it", path.display()));
    assert!(golden == bytes, "{} is not what version {FORMAT_VERSION} writes now", path.display());
}

#[test]
fn golden_bytes_are_what_is_written_and_read() {
    assert_golden("label", &label().encode(LabelCopy::First));
    assert_eq!(Label::decode(&label().encode(LabelCopy::First), LabelCopy::First), Ok(label()));
    assert_golden("header", &header().encode());
    assert_eq!(ExtentHeader::decode(&header().encode()), Ok(header()));
    let (record, whole) = record();
    assert_golden("record", &whole);
    assert_eq!(Record::decode(&whole), Ok(record));
    assert!(record.payload_is_whole(&whole));
    assert!(whole[RECORD_HEADER_BYTES + 5000..].iter().all(|byte| *byte == 0), "padding is zeroed");
    let (footer, payload) = footer();
    assert_golden("footer", &payload);
    assert_eq!(Footer::decode(&payload, &label().layout, FOOTER_AT).map(|(found, _)| found), Ok(footer));
    let (batch, whole) = batch();
    assert_golden("journal", &whole);
    assert_eq!(Batch::decode(&whole), Ok(batch));
}

fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

#[test]
fn every_flipped_bit_is_noticed() {
    assert!(flipped(&label().encode(LabelCopy::First)).all(|bytes| Label::decode(&bytes, LabelCopy::First).is_err()));
    assert!(flipped(&header().encode()).all(|bytes| ExtentHeader::decode(&bytes).is_err()));
    let (_, whole) = record();
    for bytes in flipped(&whole) {
        let sound = Record::decode(&bytes).is_ok_and(|record| record.payload_is_whole(&bytes));
        assert!(!sound);
    }
    let (_, payload) = footer();
    assert!(flipped(&payload).all(|bytes| Footer::decode(&bytes, &label().layout, FOOTER_AT).is_err()));
    let (_, whole) = batch();
    assert!(flipped(&whole).all(|bytes| Batch::decode(&bytes).is_err()));
}

#[test]
fn every_truncation_is_refused() {
    let (record, whole) = record();
    for length in 0..SECTOR_BYTES {
        assert_eq!(
            Label::decode(&label().encode(LabelCopy::First)[..length], LabelCopy::First),
            Err(FormatError::Short)
        );
        assert_eq!(ExtentHeader::decode(&header().encode()[..length]), Err(FormatError::Short));
        assert!(length >= RECORD_HEADER_BYTES || Record::decode(&whole[..length]) == Err(FormatError::Short));
        assert!(!record.payload_is_whole(&whole[..length]));
    }
    let (_, payload) = footer();
    for length in 0..payload.len() {
        assert_eq!(Footer::decode(&payload[..length], &label().layout, FOOTER_AT), Err(FormatError::Short));
    }
    let (_, whole) = batch();
    for length in 0..whole.len() {
        assert_eq!(Batch::decode(&whole[..length]), Err(FormatError::Short));
    }
}

#[test]
fn swapped_sectors_are_noticed() {
    let (record, mut whole) = record();
    whole.rotate_left(SECTOR_BYTES);
    assert_eq!(Record::decode(&whole), Err(FormatError::Absent));
    whole.rotate_left(SECTOR_BYTES);
    assert!(record.payload_is_whole(&whole));
}

/// A header with a right checksum over wrong contents.
fn forged(change: impl Fn(&mut [u8])) -> Result<Record, FormatError> {
    let (_, mut whole) = record();
    change(&mut whole);
    let crc = shingle_codec::checksum::crc32c(&whole[..RECORD_HEADER_BYTES - 4]);
    whole[RECORD_HEADER_BYTES - 4..RECORD_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    Record::decode(&whole)
}

#[test]
fn illegal_values_are_refused_although_the_checksum_holds() {
    let put = |at: usize, value: u32| forged(move |whole| whole[at..at + 4].copy_from_slice(&value.to_le_bytes()));
    assert_eq!(put(116, u32::MAX), Err(FormatError::Field("payload_bytes")), "a record that claims 4 GiB");
    assert_eq!(put(112, BLOCK_BYTES_MAX + 1), Err(FormatError::Field("plain_bytes")));
    assert_eq!(put(88, 0), Err(FormatError::Field("sequence")));
    assert_eq!(put(96, 18), Err(FormatError::Field("life_sequence")));
    assert_eq!(put(96, 0), Err(FormatError::Field("life_sequence")));
    assert_eq!(put(104, 17), Err(FormatError::Field("durable_sequence")));
    assert_eq!(forged(|whole| whole[10] = 9), Err(FormatError::Field("kind")));
    assert_eq!(forged(|whole| whole[8] = 3), Err(FormatError::Newer(3)));
    assert_eq!(forged(|whole| whole[8] = 1), Err(FormatError::Older(1)));
    assert_eq!(forged(|whole| whole[8] = 0), Err(FormatError::Field("version")));
    assert!(forged(|_| ()).is_ok());
}

#[test]
fn label_of_another_division_is_refused() {
    let mut other = label();
    other.layout.zones_per_extent += 1;
    assert_eq!(
        Label::decode(&other.encode(LabelCopy::First), LabelCopy::First),
        Err(FormatError::Field("zones_per_extent"))
    );
    let mut impossible = label();
    (impossible.zones, impossible.zone_capacity_bytes) = (u32::MAX, u64::MAX);
    assert!(
        Label::decode(&impossible.encode(LabelCopy::First), LabelCopy::First).is_err(),
        "huge numbers are no panic"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_decoder_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..4200), magic in 0..5_usize) {
        let magics = [LABEL_MAGIC, EXTENT_MAGIC, RECORD_MAGIC, FOOTER_MAGIC, JOURNAL_MAGIC];
        bytes.iter_mut().zip(magics[magic]).for_each(|(to, from)| *to = from);
        bytes.iter_mut().skip(8).zip([2, 0]).for_each(|(to, from)| *to = from);
        // With a right checksum, so that the fields behind it are looked at.
        for end in [BATCH_HEADER_BYTES, RECORD_HEADER_BYTES, SECTOR_BYTES] {
            if let Some(sector) = bytes.get_mut(..end) {
                let (covered, crc) = sector.split_at_mut(end - 4);
                crc.copy_from_slice(&shingle_codec::checksum::crc32c(covered).to_le_bytes());
            }
        }
        let _ = Label::decode(&bytes, LabelCopy::First);
        let _ = ExtentHeader::decode(&bytes);
        let _ = Footer::decode(&bytes, &label().layout, FOOTER_AT);
        let _ = Batch::decode(&bytes);
        if let Ok(record) = Record::decode(&bytes) {
            let _ = record.payload_is_whole(&bytes);
        }
    }
}
