//! A catalog on a store in memory, with the requests a gateway would send.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use shingle_control::master::reclaim::{ReclaimConfig, ReclaimJob};
use shingle_control::service::catalog::{Catalog, Locate};
use shingle_control::store::Store;
use shingle_control::store::memory::{MemoryDisk, MemoryStore};
use shingle_control::verify::index_scan::{IndexReport, check_tables};
use shingle_proto::ids::{BucketId, CellId};
use shingle_proto::limits::S3_PART_BYTES_MIN;
use shingle_proto::message::*;

use crate::store::SteppedStore;
use crate::world::Sim;

pub const MIB: u32 = 1024 * 1024;
/// The S3 bucket and key that most tests use.
pub const BUCKET: &str = "bucket";
pub const KEY: &str = "key";

/// A master that has volumes 1 to 999, each with the bucket of its number.
#[derive(Default)]
pub struct FixedPlaces {
    pub findings: RefCell<Vec<Finding>>,
}

impl Locate for FixedPlaces {
    fn cell(&self) -> CellId {
        CellId(7)
    }

    fn locate(&self, bucket: BucketId) -> Option<Volume> {
        (1..1000).contains(&bucket.0).then(|| Volume { id: bucket.0, bucket: bucket.0, ..Volume::default() })
    }

    fn report(&self, finding: Finding) {
        self.findings.borrow_mut().push(finding);
    }
}

pub struct Cell {
    pub sim: Sim,
    pub disk: MemoryDisk,
    pub store: Rc<SteppedStore>,
    pub places: Rc<FixedPlaces>,
    pub catalog: Catalog,
}

/// An upload in the making.
#[derive(Clone, Debug)]
pub struct Intent {
    pub manifest: Id128,
    pub put_token: u64,
}

/// A block of a test: its hash is its number.
#[derive(Clone, Copy, Debug)]
pub struct TestBlock {
    pub number: u64,
    pub bytes: u32,
}

pub fn hash(number: u64) -> Hash256 {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Hash256 { bytes }
}

pub fn blocks(numbers: impl IntoIterator<Item = u64>) -> Vec<TestBlock> {
    numbers.into_iter().map(|number| TestBlock { number, bytes: MIB }).collect()
}

pub fn size(blocks: &[TestBlock]) -> u64 {
    blocks.iter().map(|block| u64::from(block.bytes)).sum()
}

fn placed(blocks: &[TestBlock]) -> impl Iterator<Item = (u64, TestBlock)> {
    blocks.iter().scan(0, |end, block| {
        let offset = *end;
        *end += u64::from(block.bytes);
        Some((offset, *block))
    })
}

pub fn code(response: &Response) -> Option<ErrorCode> {
    match response {
        Response::ErrorReply(error) => Some(error.code),
        _ => None,
    }
}

#[track_caller]
pub fn expect_done(response: Response) {
    assert!(matches!(response, Response::Done(_)), "{response:?}");
}

#[track_caller]
pub fn expect_code(response: Response, expected: ErrorCode) {
    assert_eq!(code(&response), Some(expected), "{response:?}");
}

impl Cell {
    /// A catalog on an empty disk, with one S3 bucket.
    pub fn new(seed: u64) -> Self {
        let cell = Self::open(Sim::new(seed), MemoryDisk::new(seed));
        let made = cell.call(Request::CreateS3Bucket(Box::new(CreateS3Bucket { name: BUCKET.into() })));
        expect_done(made);
        cell
    }

    /// A new process on an old disk.
    pub fn open(sim: Sim, disk: MemoryDisk) -> Self {
        let memory = Rc::new(MemoryStore::open(sim.world(), disk.clone()));
        let store = Rc::new(SteppedStore::new(&sim, memory));
        let places = Rc::new(FixedPlaces::default());
        let catalog = Catalog::new(sim.world(), store.clone(), places.clone());
        sim.run(catalog.start()).unwrap();
        Self { sim, disk, store, places, catalog }
    }

    pub fn reopen(self) -> Self {
        Self::open(self.sim, self.disk)
    }

    pub fn call(&self, request: Request) -> Response {
        self.sim.run(self.catalog.handle(request))
    }

    pub fn wait(&self, duration_ms: u64) {
        self.sim.advance(Duration::from_millis(duration_ms));
    }

    pub fn reclaim_job(&self) -> ReclaimJob {
        let config = ReclaimConfig { grace_ms: 0, restart_ms: 0, pause_ms: 0, ..ReclaimConfig::default() };
        ReclaimJob::new(self.catalog.tables().clone(), self.catalog.holds(), config)
    }

    /// A job that needs many transactions for little.
    pub fn small_steps_job(&self) -> ReclaimJob {
        let config = ReclaimConfig {
            grace_ms: 0,
            restart_ms: 0,
            pause_ms: 0,
            rows: 50,
            manifests: 2,
            lanes: 2,
            ..ReclaimConfig::default()
        };
        ReclaimJob::new(self.catalog.tables().clone(), self.catalog.holds(), config)
    }

    pub fn drain(&self) {
        self.sim.run(self.reclaim_job().drain()).unwrap();
    }

    /// The tables agree with each other and with the counters.
    #[track_caller]
    pub fn check(&self) -> IndexReport {
        let store: Rc<dyn Store> = self.store.clone();
        let report = self.sim.run(check_tables(&store)).unwrap();
        assert!(report.faults.is_empty(), "{:#?}", report.faults);
        assert_eq!(report.counts, self.catalog.counts());
        report
    }

    /// As `check`, with nothing left but what objects need.
    #[track_caller]
    pub fn check_idle(&self) -> IndexReport {
        let report = self.check();
        assert!(report.idle, "reclaim has ended: {report:?}");
        report
    }

    pub fn open_intent(&self, key: &str) -> Intent {
        let request = OpenIntent { s3_bucket: BUCKET.into(), key: key.into() };
        match self.call(Request::OpenIntent(Box::new(request))) {
            Response::IntentOpened(opened) => Intent { manifest: opened.manifest, put_token: opened.put_token },
            other => panic!("{other:?}"),
        }
    }

    pub fn claim_request(intent: &Intent, blocks: &[TestBlock]) -> Request {
        let name = |(offset_bytes, block): (u64, TestBlock)| BlockName {
            offset_bytes,
            hash: hash(block.number),
            plain_bytes: block.bytes,
        };
        Request::ClaimBlocks(Box::new(ClaimBlocks {
            manifest: intent.manifest.clone(),
            put_token: intent.put_token,
            blocks: placed(blocks).map(name).collect(),
        }))
    }

    pub fn commit_request(intent: &Intent, blocks: &[TestBlock], put_id: u64) -> Request {
        let new = |(offset_bytes, block): (u64, TestBlock)| NewBlock {
            offset_bytes,
            row: Box::new(BlockRow {
                hash: hash(block.number),
                put_id,
                plain_bytes: block.bytes,
                sealed_bytes: block.bytes / 2 + 1,
                sealed_crc32c: block.number as u32,
                compression: Compression::Zstd,
                kek_version: 1,
                wrapped_key: vec![9; 60],
                bucket: 1 + block.number % 3,
            }),
        };
        Request::CommitBlocks(Box::new(CommitBlocks {
            manifest: intent.manifest.clone(),
            put_token: intent.put_token,
            blocks: placed(blocks).map(new).collect(),
        }))
    }

    pub fn claim(&self, intent: &Intent, blocks: &[TestBlock]) -> Vec<bool> {
        match self.call(Self::claim_request(intent, blocks)) {
            Response::BlocksClaimed(claimed) => claimed.known,
            other => panic!("{other:?}"),
        }
    }

    /// Stores blocks, in requests of a permitted size.
    pub fn commit(&self, intent: &Intent, blocks: &[TestBlock], put_id: u64) -> Vec<bool> {
        match self.call(Self::commit_request(intent, blocks, put_id)) {
            Response::BlocksCommitted(committed) => committed.inserted,
            other => panic!("{other:?}"),
        }
    }

    pub fn finish_request(intent: &Intent, key: &str, blocks: &[TestBlock], etag: &str) -> FinishObject {
        FinishObject {
            s3_bucket: BUCKET.into(),
            key: key.into(),
            manifest: intent.manifest.clone(),
            put_token: intent.put_token,
            size_bytes: size(blocks),
            blocks: blocks.len() as u64,
            etag: etag.into(),
            headers: Box::default(),
            precondition: None,
        }
    }

    pub fn finish(&self, intent: &Intent, key: &str, blocks: &[TestBlock]) -> ObjectRow {
        match self.call(Request::FinishObject(Box::new(Self::finish_request(intent, key, blocks, "etag")))) {
            Response::ObjectFinished(finished) => *finished.row,
            other => panic!("{other:?}"),
        }
    }

    /// Puts an object as a gateway does.
    pub fn put(&self, key: &str, blocks: &[TestBlock]) -> ObjectRow {
        let intent = self.open_intent(key);
        self.commit(&intent, blocks, self.sim.world().entropy.u64());
        self.finish(&intent, key, blocks)
    }

    pub fn head(&self, key: &str) -> Response {
        self.call(Request::HeadObject(Box::new(HeadObject {
            s3_bucket: BUCKET.into(),
            key: key.into(),
            part_number: 0,
        })))
    }

    pub fn delete_request(key: &str) -> Request {
        let request = DeleteObject { s3_bucket: BUCKET.into(), key: key.into(), precondition: None };
        Request::DeleteObject(Box::new(request))
    }

    pub fn delete(&self, key: &str) {
        expect_done(self.call(Self::delete_request(key)));
    }

    pub fn plan(&self, manifest: &Id128, offset_bytes: u64, length_bytes: u64, max_blocks: u32) -> Response {
        let manifest = manifest.clone();
        self.call(Request::PlanRead(Box::new(PlanRead { manifest, offset_bytes, length_bytes, max_blocks })))
    }

    pub fn create_upload(&self, key: &str) -> Id128 {
        let headers = Box::new(ObjectHeaders { content_type: Some("text/part".into()), ..ObjectHeaders::default() });
        let (s3_bucket, key, checksum_type) = (BUCKET.into(), key.into(), ChecksumType::FullObject);
        let request = CreateUpload { s3_bucket, key, headers, checksum_type };
        match self.call(Request::CreateUpload(Box::new(request))) {
            Response::UploadCreated(created) => created.upload,
            other => panic!("{other:?}"),
        }
    }

    pub fn part_request(intent: &Intent, key: &str, upload: &Id128, number: u32, blocks: &[TestBlock]) -> Request {
        Request::FinishPart(Box::new(FinishPart {
            s3_bucket: BUCKET.into(),
            key: key.into(),
            upload: upload.clone(),
            put_token: intent.put_token,
            part: Box::new(PartRow {
                number,
                manifest: intent.manifest.clone(),
                size_bytes: size(blocks),
                blocks: blocks.len() as u64,
                etag: format!("part-{number}"),
                modified_ms: 0,
                checksum_algorithm: Some("CRC32".into()),
                checksum_value: Some(format!("sum-{number}")),
            }),
        }))
    }

    pub fn put_part(&self, key: &str, upload: &Id128, number: u32, blocks: &[TestBlock]) -> Intent {
        let intent = self.open_intent(key);
        self.commit(&intent, blocks, self.sim.world().entropy.u64());
        expect_done(self.call(Self::part_request(&intent, key, upload, number, blocks)));
        intent
    }

    pub fn complete_request(key: &str, upload: &Id128, numbers: impl IntoIterator<Item = u32>) -> CompleteUpload {
        let name = |number| PartName { number, etag: format!("part-{number}") };
        CompleteUpload {
            s3_bucket: BUCKET.into(),
            key: key.into(),
            upload: upload.clone(),
            parts: numbers.into_iter().map(name).collect(),
            etag: "whole".into(),
            precondition: None,
            checksum_algorithm: Some("CRC32".into()),
            checksum_value: Some("sum".into()),
        }
    }

    pub fn complete(&self, key: &str, upload: &Id128, numbers: impl IntoIterator<Item = u32>) -> ObjectRow {
        match self.call(Request::CompleteUpload(Box::new(Self::complete_request(key, upload, numbers)))) {
            Response::ObjectFinished(finished) => *finished.row,
            other => panic!("{other:?}"),
        }
    }

    pub fn abort_upload_request(key: &str, upload: &Id128) -> Request {
        let (s3_bucket, key, upload) = (BUCKET.into(), key.into(), upload.clone());
        Request::AbortUpload(Box::new(AbortUpload { s3_bucket, key, upload }))
    }
}

/// Blocks of one part of the smallest size.
pub fn part_blocks(first: u64) -> Vec<TestBlock> {
    let half = (S3_PART_BYTES_MIN / 2) as u32;
    vec![TestBlock { number: first, bytes: half }, TestBlock { number: first + 1, bytes: half }]
}
