//! What is fuzzed: each structure's decoder, seeds to begin with, and how its checksums are made right again.

use shingle_codec::checksum::crc32c;
use shingle_codec::hash::sha256;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_node::extent::footer::{FOOTER_HEADER_BYTES, Footer, TocEntry, footer_bytes};
use shingle_node::extent::format::SECTOR_BYTES;
use shingle_node::extent::header::ExtentHeader;
use shingle_node::extent::journal::{BATCH_HEADER_BYTES, Batch, Chain, SlotEntry, SlotState};
use shingle_node::extent::label::{Label, LabelCopy};
use shingle_node::extent::layout::Layout;
use shingle_node::extent::record::{RECORD_HEADER_BYTES, Record, RecordKind};
use shingle_proto::ids::{BlockHash, BucketId, CellId, ExtentId, OsdId, PutId, VolumeId};

use crate::disk::{Block, SERIAL, small};

/// One decoder.
pub struct Target {
    pub name: &'static str,
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Makes the checksums right, as far as the bytes reach.
    pub seal: fn(&mut [u8]),
    /// Decodes; what came of it in words, which tell paths through the decoder apart.
    ///
    /// # Panics
    /// When what was accepted does not come back the same.
    pub decode: fn(&[u8]) -> String,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "label", seeds: labels, seal: seal_sector, decode: decode_label },
    Target { name: "header", seeds: headers, seal: seal_sector, decode: decode_header },
    Target { name: "record", seeds: records, seal: seal_record, decode: decode_record },
    Target { name: "journal", seeds: batches, seal: seal_batch, decode: decode_batch },
    Target { name: "footer", seeds: footers, seal: seal_footer, decode: decode_footer },
];

/// Where footers are supposed to stand: near the end of an extent.
const FOOTER_OFFSET: u64 = 100 << 10;

fn layout() -> Layout {
    Layout::of(&small()).expect("a small disk has extents")
}

/// Writes the checksum of `covered` at `at`.
fn put_crc(bytes: &mut [u8], covered: std::ops::Range<usize>, at: usize) {
    let crc = bytes.get(covered).map(crc32c);
    if let (Some(crc), Some(place)) = (crc, bytes.get_mut(at..at + 4)) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

fn labels() -> Vec<Vec<u8>> {
    let device = MemoryDevice::new(small(), SERIAL);
    let label = Label::new(CellId(1), OsdId(2), 3, 4, &device, layout());
    [LabelCopy::First, LabelCopy::Last].map(|copy| label.encode(copy).to_vec()).into()
}

fn seal_sector(bytes: &mut [u8]) {
    put_crc(bytes, 0..SECTOR_BYTES - 4, SECTOR_BYTES - 4);
}

fn decode_label(bytes: &[u8]) -> String {
    for copy in [LabelCopy::First, LabelCopy::Last] {
        if let Ok(label) = Label::decode(bytes, copy) {
            assert_eq!(Label::decode(&label.encode(copy), copy), Ok(label));
        }
    }
    format!("{:?}", Label::decode(bytes, LabelCopy::First).map(|_| ()))
}

fn headers() -> Vec<Vec<u8>> {
    let header = ExtentHeader {
        extent: ExtentId(1),
        volume: VolumeId(2),
        bucket: BucketId(3),
        member: 1,
        created_ms: 4,
        osd: OsdId(5),
        slot: 6,
    };
    vec![header.encode().to_vec()]
}

fn decode_header(bytes: &[u8]) -> String {
    let decoded = ExtentHeader::decode(bytes);
    if let Ok(header) = decoded {
        assert_eq!(ExtentHeader::decode(&header.encode()), Ok(header));
    }
    format!("{:?}", decoded.map(|_| ()))
}

fn record(kind: RecordKind, payload_bytes: u32) -> Record {
    Record {
        kind,
        member: 1,
        fragment: 0,
        fragments: 1,
        hash: BlockHash([7; 32]),
        put_id: PutId(1),
        extent: ExtentId(2),
        bucket: BucketId(3),
        volume: VolumeId(4),
        sequence: 9,
        life_sequence: 5,
        durable_sequence: 7,
        plain_bytes: payload_bytes,
        payload_bytes,
        payload_crc: 0,
    }
}

fn records() -> Vec<Vec<u8>> {
    let one = |kind, bytes| {
        let mut record = record(kind, bytes);
        let mut whole = vec![0; record.bytes() as usize];
        let payload = Block { number: 1, bytes }.payload();
        whole[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + payload.len()].copy_from_slice(&payload);
        record.seal(&mut whole, None);
        whole
    };
    vec![one(RecordKind::Block, 100), one(RecordKind::Fragment, 5000), one(RecordKind::Close, 16)]
}

fn seal_record(bytes: &mut [u8]) {
    put_crc(bytes, RECORD_HEADER_BYTES..bytes.len(), RECORD_HEADER_BYTES - 8);
    put_crc(bytes, 0..RECORD_HEADER_BYTES - 4, RECORD_HEADER_BYTES - 4);
}

fn decode_record(bytes: &[u8]) -> String {
    let decoded = Record::decode(bytes);
    let whole = decoded.as_ref().is_ok_and(|record| {
        assert_eq!(Record::decode(&record.encode()).as_ref(), Ok(record));
        record.payload_is_whole(bytes)
    });
    format!("{:?} {whole}", decoded.map(|record| record.kind))
}

fn batches() -> Vec<Vec<u8>> {
    let chain = Chain { osd: OsdId(1), disk: 2, chain: 3, epoch: 4, snapshot_batches: 1 };
    let one = |entries: u32| {
        let entry = |slot| SlotEntry { slot, state: SlotState::Closed, extent: ExtentId(9), ..SlotEntry::default() };
        let batch = Batch { chain, index: 1, durable_batches: 1, entries: (0..entries).map(entry).collect() };
        let mut whole = vec![0; batch.bytes() as usize];
        batch.encode(&mut whole);
        whole
    };
    vec![one(0), one(3), one(60)]
}

fn seal_batch(bytes: &mut [u8]) {
    let whole = Batch::length(bytes).map_or(bytes.len(), |length| bytes.len().min(length as usize));
    put_crc(bytes, BATCH_HEADER_BYTES..whole.max(BATCH_HEADER_BYTES), BATCH_HEADER_BYTES - 12);
    put_crc(bytes, 0..BATCH_HEADER_BYTES - 4, BATCH_HEADER_BYTES - 4);
}

fn decode_batch(bytes: &[u8]) -> String {
    let decoded = Batch::decode(bytes);
    if let Ok(batch) = &decoded {
        let mut again = vec![0; batch.bytes() as usize];
        batch.encode(&mut again);
        assert_eq!(Batch::decode(&again).as_ref(), Ok(batch));
    }
    format!("{:?} {:?}", Batch::length(bytes).map(|_| ()), decoded.map(|_| ()))
}

fn footers() -> Vec<Vec<u8>> {
    let one = |count: u32| {
        let entry = |number: u32| TocEntry::of(&record(RecordKind::Block, 100 + number), u64::from(1 + number) * 4096);
        let entries: Vec<TocEntry> = (0..count).map(entry).collect();
        let mut footer = Footer {
            extent: ExtentId(1),
            osd: OsdId(2),
            slot: 3,
            created_ms: 4,
            closed_ms: 5,
            records: count,
            record_bytes: u64::from(count) * 4096,
            entries,
        };
        let mut payload = vec![0; footer_bytes(count) as usize];
        footer.encode(&mut payload);
        payload
    };
    vec![one(0), one(1), one(12)]
}

fn seal_footer(bytes: &mut [u8]) {
    const DIGEST: std::ops::Range<usize> = 88..120;
    if let Some((header, entries)) = bytes.split_at_checked(FOOTER_HEADER_BYTES) {
        let digest = sha256(&[&header[..DIGEST.start], entries].concat()).0;
        bytes[DIGEST].copy_from_slice(&digest);
    }
    put_crc(bytes, 0..FOOTER_HEADER_BYTES - 4, FOOTER_HEADER_BYTES - 4);
}

fn decode_footer(bytes: &[u8]) -> String {
    let decoded = Footer::decode(bytes, &layout(), FOOTER_OFFSET);
    if let Ok((footer, _)) = &decoded {
        // Reserved bytes are under the digest and are not kept, so the digest may be another one.
        let mut again = vec![0; footer_bytes(footer.entries.len() as u32) as usize];
        let digest = footer.clone().encode(&mut again);
        assert_eq!(Footer::decode(&again, &layout(), FOOTER_OFFSET).as_ref(), Ok(&(footer.clone(), digest)));
    }
    format!("{:?}", decoded.map(|_| ()))
}
