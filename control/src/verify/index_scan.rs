//! The index scan: reads every table and checks that the rows agree with each other (invariant 12, and that nothing
//! unreachable is outside of reclaim's queue).
//!
//! It reads in pages, so it is exact only while nobody writes; on a busy cell a fault counts when a second look
//! confirms it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use shingle_proto::ids::{BlockHash, ManifestId};

use crate::store::{RangeRead, Store};
use crate::tables::block_index::Block;
use crate::tables::intents::Intent;
use crate::tables::keys::KeyRange;
use crate::tables::manifests::{Chunk, Entry, Manifest, ManifestKind, PlaceKey, Segment};
use crate::tables::objects::{Object, ObjectKey, S3Bucket};
use crate::tables::reclaim_queue::{Reclaim, ReclaimKey};
use crate::tables::references::{CountOf, Reference, ReferenceCount, ReferenceCountKey, ReferenceKey};
use crate::tables::row::{Row, RowDamaged};
use crate::tables::tally::Tally;
use crate::tables::uploads::{Part, PartKey, Upload, UploadKey};
use crate::tables::work::TableError;

/// Rows read at once.
const PAGE_ROWS: usize = 1000;

/// Two rows that do not agree, or one that does not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexFault {
    Damaged(RowDamaged),
    /// The manifest of an object, part or segment is not there or is not what the row says.
    WrongManifest {
        manifest: ManifestId,
        by: String,
    },
    /// The blocks of a manifest do not follow each other up to its size.
    Gap {
        manifest: ManifestId,
        at_bytes: u64,
    },
    /// A manifest's block without a row, or with one of another length.
    NoBlock {
        manifest: ManifestId,
        hash: BlockHash,
    },
    NoReference {
        manifest: ManifestId,
        hash: BlockHash,
    },
    /// A reference of a manifest that does not name the block, or that is nowhere.
    StrayReference {
        manifest: ManifestId,
        hash: BlockHash,
    },
    /// A block that nobody references: it would never go.
    UnreferencedBlock {
        hash: BlockHash,
    },
    /// The counters of a block do not say how many references there are.
    WrongCount {
        hash: BlockHash,
        counted: i128,
        references: usize,
    },
    /// Rows of a manifest that nothing leads to and reclaim does not know.
    Unreachable {
        manifest: ManifestId,
        table: &'static str,
    },
    /// An object, intent or upload in an S3 bucket that does not exist.
    NoS3Bucket {
        name: String,
    },
}

impl fmt::Display for IndexFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(damage) => damage.fmt(f),
            Self::WrongManifest { manifest, by } => {
                write!(f, "{by} names manifest {manifest}, which is not as it says")
            }
            Self::Gap { manifest, at_bytes } => write!(f, "manifest {manifest} has a gap at {at_bytes}"),
            Self::NoBlock { manifest, hash } => write!(f, "manifest {manifest} names block {hash}, no row does"),
            Self::NoReference { manifest, hash } => write!(f, "manifest {manifest} has no reference to block {hash}"),
            Self::StrayReference { manifest, hash } => {
                write!(f, "a reference of manifest {manifest} to block {hash} belongs to nothing")
            }
            Self::UnreferencedBlock { hash } => write!(f, "nobody references block {hash}"),
            Self::WrongCount { hash, counted, references } => {
                write!(f, "block {hash} has {references} references, {counted} were counted")
            }
            Self::Unreachable { manifest, table } => write!(f, "nothing leads to a {table} row of manifest {manifest}"),
            Self::NoS3Bucket { name } => write!(f, "there is no S3 bucket {name:?} for what is in it"),
        }
    }
}

/// What a scan found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexReport {
    pub faults: Vec<IndexFault>,
    /// The counters, computed from the rows.
    pub counts: Tally,
    /// Reclaim has nothing left to do, and no upload is under way: what is stored is what objects need.
    pub idle: bool,
}

/// Reads all tables of the catalog and compares them.
pub async fn check_tables(store: &Rc<dyn Store>) -> Result<IndexReport, TableError> {
    let mut report = IndexReport::default();
    let rows = Rows {
        s3_buckets: read(store, &mut report).await?,
        objects: read(store, &mut report).await?,
        uploads: read(store, &mut report).await?,
        parts: read(store, &mut report).await?,
        manifests: read(store, &mut report).await?,
        chunks: read(store, &mut report).await?,
        segments: read(store, &mut report).await?,
        entries: read(store, &mut report).await?,
        intents: read(store, &mut report).await?,
        blocks: read(store, &mut report).await?,
        references: read(store, &mut report).await?,
        counts: read(store, &mut report).await?,
        queue: read(store, &mut report).await?,
    };
    report.idle = rows.queue.is_empty() && rows.intents.is_empty() && rows.uploads.is_empty();
    Check::new(&rows).run(&mut report.faults);
    Ok(report)
}

/// All rows of one table; damaged ones become faults.
async fn read<R: Row>(store: &Rc<dyn Store>, report: &mut IndexReport) -> Result<Vec<(R::Key, R)>, TableError> {
    let mut rows = Vec::new();
    let mut range = KeyRange::table(R::TABLE);
    loop {
        let page = RangeRead {
            begin: range.begin.clone(),
            end: range.end.clone(),
            limit: PAGE_ROWS,
            reverse: false,
            snapshot: true,
        };
        let pairs = store.begin().range(page).await?;
        let read = pairs.len();
        for (key, value) in pairs {
            range = range.after(&key);
            match R::decode_key(&key).and_then(|decoded| Ok((decoded, R::decode(&key, &value)?))) {
                Ok(row) => {
                    report.counts += row.1.tally();
                    rows.push(row);
                }
                Err(damage) => report.faults.push(IndexFault::Damaged(damage)),
            }
        }
        if read < PAGE_ROWS {
            return Ok(rows);
        }
    }
}

struct Rows {
    s3_buckets: Vec<(String, S3Bucket)>,
    objects: Vec<(ObjectKey, Object)>,
    uploads: Vec<(UploadKey, Upload)>,
    parts: Vec<(PartKey, Part)>,
    manifests: Vec<(ManifestId, Manifest)>,
    chunks: Vec<(PlaceKey, Chunk)>,
    segments: Vec<(PlaceKey, Segment)>,
    entries: Vec<(PlaceKey, Entry)>,
    intents: Vec<(ManifestId, Intent)>,
    blocks: Vec<(BlockHash, Block)>,
    references: Vec<(ReferenceKey, Reference)>,
    counts: Vec<(ReferenceCountKey, ReferenceCount)>,
    queue: Vec<(ReclaimKey, Reclaim)>,
}

/// The rows, by what the checks look them up by.
struct Check<'a> {
    rows: &'a Rows,
    manifests: BTreeMap<ManifestId, Manifest>,
    blocks: BTreeMap<BlockHash, u32>,
    references: BTreeSet<ReferenceKey>,
    /// What reclaim takes apart: its rows may be incomplete.
    dying: BTreeSet<ManifestId>,
    /// Uploads completed or aborted whose part rows are still being cleared.
    ended_uploads: BTreeSet<ManifestId>,
    intents: BTreeSet<ManifestId>,
    uploads: BTreeSet<ManifestId>,
}

impl<'a> Check<'a> {
    fn new(rows: &'a Rows) -> Self {
        let dying = |key: &ReclaimKey| if let ReclaimKey::Manifest(id) = key { Some(*id) } else { None };
        let ended = |key: &ReclaimKey| if let ReclaimKey::Parts(id) = key { Some(*id) } else { None };
        Self {
            rows,
            manifests: rows.manifests.iter().copied().collect(),
            blocks: rows.blocks.iter().map(|(hash, block)| (*hash, block.plain_bytes)).collect(),
            references: rows.references.iter().map(|(key, _)| *key).collect(),
            dying: rows.queue.iter().filter_map(|(key, _)| dying(key)).collect(),
            ended_uploads: rows.queue.iter().filter_map(|(key, _)| ended(key)).collect(),
            intents: rows.intents.iter().map(|(manifest, _)| *manifest).collect(),
            uploads: rows.uploads.iter().map(|(key, _)| key.upload).collect(),
        }
    }

    fn run(&self, faults: &mut Vec<IndexFault>) {
        self.check_buckets(faults);
        let reachable = self.check_reachable(faults);
        let named = self.check_blocks(&reachable, faults);
        self.check_references(&named, faults);
        self.check_segments(&reachable, faults);
    }

    fn check_buckets(&self, faults: &mut Vec<IndexFault>) {
        let buckets: BTreeSet<&str> = self.rows.s3_buckets.iter().map(|(name, _)| name.as_str()).collect();
        let objects = self.rows.objects.iter().map(|(key, _)| &key.s3_bucket);
        let uploads = self.rows.uploads.iter().map(|(key, _)| &key.s3_bucket);
        let used: BTreeSet<&String> = objects.chain(uploads).collect();
        let lost = used.into_iter().filter(|name| !buckets.contains(name.as_str()));
        faults.extend(lost.map(|name| IndexFault::NoS3Bucket { name: name.clone() }));
    }

    /// Every finished manifest must be what an object, a part or a segment says, and be reached by one of them.
    fn check_reachable(&self, faults: &mut Vec<IndexFault>) -> BTreeSet<ManifestId> {
        let mut reachable = BTreeSet::new();
        for (key, object) in &self.rows.objects {
            let by = || format!("object {}/{}", key.s3_bucket, key.key);
            self.check_promise(object.manifest, (object.size_bytes, object.blocks), by, faults);
            reachable.insert(object.manifest);
        }
        for (key, part) in &self.rows.parts {
            if self.uploads.contains(&key.upload) {
                let by = || format!("part {} of upload {}", key.number, key.upload);
                self.check_promise(part.manifest, (part.size_bytes, part.blocks), by, faults);
            } else if !self.ended_uploads.contains(&key.upload) {
                faults.push(IndexFault::Unreachable { manifest: key.upload, table: "part" });
            }
            reachable.insert(part.manifest);
        }
        for (key, segment) in &self.rows.segments {
            if self.manifests.contains_key(&key.manifest) && !self.dying.contains(&key.manifest) {
                let by = || format!("a segment of manifest {}", key.manifest);
                self.check_promise(segment.leaf, (segment.size_bytes, segment.blocks), by, faults);
            }
            reachable.insert(segment.leaf);
        }
        for manifest in self.manifests.keys() {
            if !reachable.contains(manifest) && !self.dying.contains(manifest) {
                faults.push(IndexFault::Unreachable { manifest: *manifest, table: "manifest" });
            }
        }
        reachable
    }

    /// What something alive needs is there, as it says, and not in reclaim's hands.
    fn check_promise(
        &self,
        manifest: ManifestId,
        promise: (u64, u64),
        by: impl FnOnce() -> String,
        faults: &mut Vec<IndexFault>,
    ) {
        let kept = self.manifests.get(&manifest).is_some_and(|row| (row.size_bytes, row.blocks) == promise);
        if !kept || self.dying.contains(&manifest) {
            faults.push(IndexFault::WrongManifest { manifest, by: by() });
        }
    }

    /// Blocks of chunks and entries: contiguous, with rows and references. Gives what each manifest names.
    fn check_blocks(&self, reachable: &BTreeSet<ManifestId>, faults: &mut Vec<IndexFault>) -> BTreeSet<ReferenceKey> {
        let mut named = BTreeSet::new();
        let mut ends: BTreeMap<ManifestId, (u64, u64)> = BTreeMap::new();
        for (key, chunk) in &self.rows.chunks {
            let manifest = key.manifest;
            let dying = self.dying.contains(&manifest);
            let (end, blocks) = ends.entry(manifest).or_default();
            if (*end, *blocks) != (key.offset_bytes, chunk.blocks_before) && !dying {
                faults.push(IndexFault::Gap { manifest, at_bytes: *end });
            }
            (*end, *blocks) = (key.offset_bytes + chunk.bytes(), chunk.blocks_before + chunk.entries.len() as u64);
            if !dying && !reachable.contains(&manifest) && !self.intents.contains(&manifest) {
                faults.push(IndexFault::Unreachable { manifest, table: "chunk" });
            }
            chunk.entries.iter().for_each(|entry| self.check_entry(manifest, entry, dying, &mut named, faults));
        }
        for (key, entry) in &self.rows.entries {
            let dying = self.dying.contains(&key.manifest);
            if !dying && !self.intents.contains(&key.manifest) {
                faults.push(IndexFault::Unreachable { manifest: key.manifest, table: "entry" });
            }
            self.check_entry(key.manifest, entry, dying, &mut named, faults);
        }
        for (manifest, row) in &self.manifests {
            let (end, blocks) = ends.get(manifest).copied().unwrap_or_default();
            let whole = row.kind == ManifestKind::Segments || (end, blocks) == (row.size_bytes, row.blocks);
            if !whole && !self.dying.contains(manifest) {
                faults.push(IndexFault::Gap { manifest: *manifest, at_bytes: end });
            }
        }
        named
    }

    fn check_entry(
        &self,
        manifest: ManifestId,
        entry: &Entry,
        dying: bool,
        named: &mut BTreeSet<ReferenceKey>,
        faults: &mut Vec<IndexFault>,
    ) {
        let hash = entry.hash;
        let key = ReferenceKey { hash, manifest };
        named.insert(key);
        if dying {
            return;
        }
        if self.blocks.get(&hash) != Some(&entry.plain_bytes) {
            faults.push(IndexFault::NoBlock { manifest, hash });
        }
        if !self.references.contains(&key) {
            faults.push(IndexFault::NoReference { manifest, hash });
        }
    }

    fn check_references(&self, named: &BTreeSet<ReferenceKey>, faults: &mut Vec<IndexFault>) {
        let mut referenced: BTreeMap<BlockHash, usize> = BTreeMap::new();
        for key in &self.references {
            *referenced.entry(key.hash).or_default() += 1;
            if !named.contains(key) {
                faults.push(IndexFault::StrayReference { manifest: key.manifest, hash: key.hash });
            }
        }
        for hash in self.blocks.keys().filter(|hash| !referenced.contains_key(hash)) {
            faults.push(IndexFault::UnreferencedBlock { hash: *hash });
        }
        let mut counted: BTreeMap<BlockHash, i128> = BTreeMap::new();
        for (key, count) in &self.rows.counts {
            *counted.entry(key.hash).or_default() += match key.of {
                CountOf::Added => i128::from(count.0),
                CountOf::Dropped => -i128::from(count.0),
            };
        }
        for hash in counted.keys().chain(referenced.keys()).collect::<BTreeSet<_>>() {
            let references = referenced.get(hash).copied().unwrap_or(0);
            let counted = counted.get(hash).copied().unwrap_or(0);
            let left_over = references == 0 && !self.blocks.contains_key(hash);
            if counted != references as i128 || left_over {
                faults.push(IndexFault::WrongCount { hash: *hash, counted, references });
            }
        }
    }

    /// Segments follow each other up to their manifest's size, or belong to an upload.
    fn check_segments(&self, reachable: &BTreeSet<ManifestId>, faults: &mut Vec<IndexFault>) {
        let mut ends: BTreeMap<ManifestId, u64> = BTreeMap::new();
        for (key, segment) in &self.rows.segments {
            let manifest = key.manifest;
            let finished = self.manifests.contains_key(&manifest);
            let ended = self.uploads.contains(&manifest) || self.ended_uploads.contains(&manifest);
            if self.dying.contains(&manifest) || (ended && !finished) {
                continue;
            }
            let end = ends.entry(manifest).or_default();
            if *end != key.offset_bytes {
                faults.push(IndexFault::Gap { manifest, at_bytes: *end });
            }
            *end = key.offset_bytes + segment.size_bytes;
            if !reachable.contains(&manifest) {
                faults.push(IndexFault::Unreachable { manifest, table: "segment" });
            }
        }
        for (manifest, row) in self.manifests.iter().filter(|(_, row)| row.kind == ManifestKind::Segments) {
            let end = ends.get(manifest).copied().unwrap_or_default();
            if end != row.size_bytes && !self.dying.contains(manifest) {
                faults.push(IndexFault::Gap { manifest: *manifest, at_bytes: end });
            }
        }
    }
}
