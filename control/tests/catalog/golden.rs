//! Golden bytes of every row type: what a release has written, later ones read. With SHINGLE_WRITE_FIXTURES=1 a
//! fixture that is not there yet is written; one that is there never changes.

use std::path::PathBuf;

use shingle_control::tables::block_index::{Block, Placement, PlacementKind};
use shingle_control::tables::findings::{Finding, FindingKey, What};
use shingle_control::tables::intents::{Intent, IntentState};
use shingle_control::tables::manifests::{Chunk, Entry, Manifest, ManifestKind, PlaceKey, Segment};
use shingle_control::tables::objects::{Object, ObjectKey, S3Bucket};
use shingle_control::tables::reclaim_queue::{Reclaim, ReclaimKey, Why};
use shingle_control::tables::references::{CountOf, Reference, ReferenceCount, ReferenceCountKey, ReferenceKey};
use shingle_control::tables::replication::{Bucket, Cell, Member, Volume, VolumeState};
use shingle_control::tables::row::Row;
use shingle_control::tables::uploads::{Completion, Part, PartKey, Upload, UploadKey};
use shingle_proto::ids::{
    BlockHash, BucketId, CellId, ExtentId, Generation, KekVersion, ManifestId, OsdId, PutId, PutToken, VolumeId,
};
use shingle_proto::message::{
    ChecksumType, Compression, FindingKind, FindingOwner, FindingState, ObjectHeaders, UserMetadata,
};

const MANIFEST: ManifestId = ManifestId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// The row's bytes are the fixture's, the fixture's bytes are the row, and no cut or flip of them panics.
#[track_caller]
fn hold<R: Row>(name: &str, key: R::Key, row: R) {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/fixtures/tables/{name}.v{}.hex", R::VERSION));
    let (key_bytes, value) = (R::encode_key(&key), row.encode());
    let text = format!("{}\n{}\n", hex(&key_bytes), hex(&value));
    if std::env::var_os("SHINGLE_WRITE_FIXTURES").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, golden, "{name}");
    let (golden_key, golden_value) = golden.trim().split_once('\n').unwrap();
    assert_eq!(R::decode_key(&unhex(golden_key)).unwrap(), key);
    assert_eq!(R::decode(&key_bytes, &unhex(golden_value)).unwrap(), row);
    for cut in 0..value.len() {
        assert!(R::decode(&key_bytes, &value[..cut]).is_err(), "{name} cut at {cut}");
    }
    for cut in 0..key_bytes.len() {
        assert!(R::decode_key(&key_bytes[..cut]).is_err(), "{name}'s key cut at {cut}");
    }
    for at in 0..value.len() {
        let mut flipped = value.clone();
        flipped[at] ^= 0xff;
        drop(R::decode(&key_bytes, &flipped));
    }
}

/// A row of an older version still reads as the given one.
#[track_caller]
fn hold_older<R: Row>(name: &str, version: u8, row: R) {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/fixtures/tables/{name}.v{version}.hex"));
    let golden = std::fs::read_to_string(&path).unwrap();
    let (key, value) = golden.trim().split_once('\n').unwrap();
    assert_eq!(R::decode(&unhex(key), &unhex(value)).unwrap(), row, "{name}");
}

fn headers() -> ObjectHeaders {
    ObjectHeaders {
        content_type: Some("text/plain".into()),
        content_disposition: Some(String::new()),
        checksum_algorithm: Some("CRC32".into()),
        checksum_value: Some("AAAAAA==".into()),
        user: vec![UserMetadata { name: "colour".into(), value: "grün".into() }],
        ..ObjectHeaders::default()
    }
}

#[test]
fn names_and_objects() {
    hold("s3_bucket", "bucket.name-1".to_owned(), S3Bucket { created_ms: 0x0102_0304_0506 });
    let key = ObjectKey { s3_bucket: "bucket".into(), key: "a/\0/ü".into() };
    let object = Object {
        manifest: MANIFEST,
        size_bytes: 0x0a0b_0c0d_0e0f,
        modified_ms: 1_700_000_000_123,
        blocks: 77,
        parts: 3,
        etag: "0123456789abcdef-77".into(),
        headers: headers(),
    };
    hold("object", key, object);
}

#[test]
fn blocks_and_references() {
    let hash = BlockHash(std::array::from_fn(|at| at as u8));
    let whole = Placement { region: 1, cell: CellId(2), bucket: BucketId(3), kind: PlacementKind::Whole };
    let block = Block {
        put_id: PutId(0x1122_3344_5566_7788),
        plain_bytes: 4 << 20,
        sealed_bytes: 1_234_567,
        sealed_crc32c: 0xdead_beef,
        compression: Compression::Zstd,
        kek_version: KekVersion(5),
        wrapped_key: (0..60).collect(),
        placements: vec![whole, Placement { kind: PlacementKind::Fragment { number: 2 }, region: 9, ..whole }],
    };
    hold("block", hash, block);
    hold("reference", ReferenceKey { hash, manifest: MANIFEST }, Reference);
    let key = |of| ReferenceCountKey { hash, of };
    hold("reference_count_added", key(CountOf::Added), ReferenceCount(0x0102_0304_0506_0708));
    hold("reference_count_dropped", key(CountOf::Dropped), ReferenceCount(1));
}

#[test]
fn manifests() {
    let place = PlaceKey { manifest: MANIFEST, offset_bytes: 0x0102_0304_0506_0708 };
    let entry = |seed: u8| Entry { hash: BlockHash([seed; 32]), plain_bytes: 4096 + u32::from(seed) };
    hold("manifest_chunks", MANIFEST, Manifest { kind: ManifestKind::Chunks, size_bytes: 1 << 40, blocks: 9 });
    hold("manifest_segments", MANIFEST, Manifest { kind: ManifestKind::Segments, size_bytes: 5, blocks: 1 });
    hold("entry", place, entry(1));
    hold("chunk", place, Chunk { blocks_before: 512, entries: vec![entry(2), entry(3)] });
    hold("segment", place, Segment { leaf: ManifestId(42), size_bytes: 5 << 20, blocks: 2 });
}

#[test]
fn intents_and_uploads() {
    let intent = Intent {
        put_token: PutToken(0xfeed),
        expires_ms: 1_700_000_060_000,
        state: IntentState::Sealed,
        s3_bucket: "bucket".into(),
        key: "key".into(),
    };
    hold("intent", MANIFEST, intent);
    let key = UploadKey { s3_bucket: "bucket".into(), key: "a\0b".into(), upload: MANIFEST };
    let first = Upload {
        created_ms: 17,
        completion: Some(Completion(0)),
        checksum_type: ChecksumType::None,
        headers: headers(),
    };
    hold_older("upload", 1, first.clone());
    hold("upload", key, Upload { checksum_type: ChecksumType::Composite, ..first });
    let first = Part {
        manifest: MANIFEST,
        size_bytes: 5 << 20,
        blocks: 2,
        modified_ms: 18,
        named_by: None,
        etag: "part".into(),
        checksum_algorithm: None,
        checksum_value: None,
    };
    hold_older("part", 1, first.clone());
    let part =
        Part { checksum_algorithm: Some("CRC64NVME".into()), checksum_value: Some("AAAAAAAAAAA=".into()), ..first };
    hold("part", PartKey { upload: MANIFEST, number: 10_000 }, part);
}

#[test]
fn the_reclaim_queue() {
    let reasons = [
        ("replaced", Why::Replaced),
        ("deleted", Why::Deleted),
        ("aborted", Why::Aborted),
        ("expired", Why::Expired),
        ("part_dropped", Why::PartDropped),
        ("segment", Why::Segment),
    ];
    for (name, why) in reasons {
        hold(&format!("reclaim_{name}"), ReclaimKey::Manifest(MANIFEST), Reclaim { queued_ms: 99, why });
    }
    let completed = Why::Completed { completion: Completion(0xabcd) };
    hold("reclaim_completed", ReclaimKey::Parts(MANIFEST), Reclaim { queued_ms: 99, why: completed });
    hold("reclaim_upload_aborted", ReclaimKey::Parts(MANIFEST), Reclaim { queued_ms: 99, why: Why::UploadAborted });
}

#[test]
fn findings() {
    let block = What::Block { hash: BlockHash([7; 32]), put_id: PutId(0x1122) };
    let key = |kind, what| FindingKey { osd: OsdId(0x0102_0304), extent: ExtentId(5), kind, what };
    let finding = Finding {
        id: 77,
        found_ms: 1_700_000_000_123,
        last_ms: 1_700_000_060_123,
        count: 3,
        owner: FindingOwner::Repair,
        state: FindingState::Open,
        ended_ms: 0,
        detail: "the payload's checksum is wrong, at offset 4096 of the extent".into(),
    };
    hold("finding_block", key(FindingKind::RecordDamaged, block), finding.clone());
    let explained = Finding {
        owner: FindingOwner::Recovery,
        state: FindingState::Explained,
        ended_ms: 1_700_000_090_000,
        ..finding
    };
    let part = What::Part("grün, at offset 0 of the extent".into());
    hold("finding_part", key(FindingKind::TornTail, part), explained);
}

#[test]
fn the_replication_table() {
    let cell = Cell { id: CellId(0x1234), next_volume: VolumeId(5), next_bucket: BucketId(6) };
    hold("cell", (), cell);
    let member = |number: u64| Member { osd: OsdId(number), extent: ExtentId(u128::from(number) << 64 | 1) };
    let volume = Volume {
        bucket: BucketId(6),
        state: VolumeState::Closed,
        generation: Generation(3),
        members: vec![member(10), member(11)],
    };
    hold("volume", VolumeId(5), volume);
    hold("bucket", BucketId(6), Bucket { volume: VolumeId(5) });
}
