//! Reading manifests: which blocks cover a range of bytes, and where each of them lies.

use std::collections::HashMap;

use shingle_proto::ids::{BlockHash, BucketId, ManifestId};
use shingle_proto::limits::BLOCKS_PER_REQUEST_MAX;
use shingle_proto::message::{
    BlockList, BlockName, ErrorCode, Finding, FindingKind, ListBlocks, PlanRead, PlannedBlock, ReadPlan, Response,
    Volume,
};

use super::{Catalog, check};
use crate::tables::block_index::Block;
use crate::tables::keys::KeyRange;
use crate::tables::manifests::{Chunk, Entry, Manifest, ManifestKind, PlaceKey, Segment, of_manifest};
use crate::tables::reclaim_queue::{Reclaim, ReclaimKey};
use crate::tables::row::Row;
use crate::tables::work::{TableError, Work};

/// Rows of one manifest read ahead.
const ROWS_AHEAD: usize = 2;

/// A block of a manifest, at its offset in the whole object version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub offset_bytes: u64,
    pub entry: Entry,
    /// The manifest whose chunk names it: the object's own, or one of its segments.
    pub leaf: ManifestId,
}

impl Placed {
    pub fn end_bytes(&self) -> u64 {
        self.offset_bytes + u64::from(self.entry.plain_bytes)
    }
}

/// Bytes `begin..end` of a manifest, and how many blocks of them to name at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub begin: u64,
    pub end: u64,
    pub max: usize,
}

/// A finished manifest's row.
pub(super) async fn require_manifest(work: &Work, manifest: ManifestId) -> Result<Manifest, TableError> {
    let row = work.get::<Manifest>(&manifest).await?;
    row.ok_or_else(|| TableError::refused(ErrorCode::NoSuchKey, 0, format!("there is no manifest {manifest}")))
}

/// The rows of a manifest from the one that holds `offset_bytes` on: the key to begin a scan with.
async fn from_offset<R: Row<Key = PlaceKey>>(
    work: &Work,
    manifest: ManifestId,
    offset_bytes: u64,
) -> Result<KeyRange, TableError> {
    let mut range = of_manifest::<R>(manifest);
    let place = R::encode_key(&PlaceKey { manifest, offset_bytes });
    if let Some((key, _)) = work.last::<R>(range.clone().through(&place)).await? {
        range.begin = R::encode_key(&key);
    }
    Ok(range)
}

/// Appends the blocks of a manifest made of chunks, which begins at `base_bytes` of the object version.
async fn walk_chunks(
    work: &Work,
    leaf: ManifestId,
    base_bytes: u64,
    span: Span,
    blocks: &mut Vec<Placed>,
) -> Result<(), TableError> {
    let mut range = from_offset::<Chunk>(work, leaf, span.begin.saturating_sub(base_bytes)).await?;
    loop {
        let rows = work.scan::<Chunk>(range.clone(), ROWS_AHEAD).await?;
        for (key, chunk) in &rows {
            for (offset, entry) in chunk.placed(key.offset_bytes) {
                let placed = Placed { offset_bytes: base_bytes.saturating_add(offset), entry, leaf };
                if placed.offset_bytes >= span.end || blocks.len() >= span.max {
                    return Ok(());
                }
                if placed.end_bytes() > span.begin {
                    blocks.push(placed);
                }
            }
        }
        match rows.last() {
            Some((key, _)) if rows.len() == ROWS_AHEAD => range = range.after(&Chunk::encode_key(key)),
            _ => return Ok(()),
        }
    }
}

async fn walk_segments(
    work: &Work,
    manifest: ManifestId,
    span: Span,
    blocks: &mut Vec<Placed>,
) -> Result<(), TableError> {
    let mut range = from_offset::<Segment>(work, manifest, span.begin).await?;
    loop {
        let rows = work.scan::<Segment>(range.clone(), ROWS_AHEAD).await?;
        for (key, segment) in &rows {
            if key.offset_bytes >= span.end || blocks.len() >= span.max {
                return Ok(());
            }
            walk_chunks(work, segment.leaf, key.offset_bytes, span, blocks).await?;
        }
        match rows.last() {
            Some((key, _)) if rows.len() == ROWS_AHEAD => range = range.after(&Segment::encode_key(key)),
            _ => return Ok(()),
        }
    }
}

impl Catalog {
    /// The blocks that cover a span, without a gap; fewer only when `max` cuts them off.
    pub(super) async fn cover(
        &self,
        work: &Work,
        manifest: ManifestId,
        kind: ManifestKind,
        span: Span,
    ) -> Result<Vec<Placed>, TableError> {
        let mut blocks = Vec::new();
        match kind {
            ManifestKind::Chunks => walk_chunks(work, manifest, 0, span, &mut blocks).await?,
            ManifestKind::Segments => walk_segments(work, manifest, span, &mut blocks).await?,
        }
        let mut covered = span.begin;
        for (index, block) in blocks.iter().enumerate() {
            let follows = if index == 0 { block.offset_bytes <= covered } else { block.offset_bytes == covered };
            if !follows {
                break;
            }
            covered = block.end_bytes();
        }
        let complete = blocks.last().map_or(span.begin, Placed::end_bytes) == covered;
        if complete && (covered >= span.end || blocks.len() >= span.max) {
            return Ok(blocks);
        }
        let leaf = blocks.last().map_or(manifest, |block| block.leaf);
        Err(self.missing(work, manifest, leaf, None, format!("manifest {manifest} has a gap at {covered}")).await)
    }

    /// Something a manifest promises is not there. Reclaim may be at work on the manifest: then the object is gone.
    /// Otherwise it is a finding.
    pub(super) async fn missing(
        &self,
        work: &Work,
        manifest: ManifestId,
        leaf: ManifestId,
        hash: Option<BlockHash>,
        detail: String,
    ) -> TableError {
        for id in [manifest, leaf] {
            match work.get::<Reclaim>(&ReclaimKey::Manifest(id)).await {
                Ok(Some(_)) => return check::no_such_key(&format!("manifest {manifest}")),
                Ok(None) => {}
                Err(error) => return error,
            }
        }
        tracing::error!(%manifest, %leaf, "a promised block is missing: {detail}");
        self.locate.report(Finding {
            kind: FindingKind::RecordMissing,
            hash: hash.map(Into::into),
            detail: detail.clone(),
            ..Finding::default()
        });
        TableError::refused(ErrorCode::BlockMissing, 0, detail)
    }

    pub(super) async fn plan_read(&self, request: PlanRead) -> Result<Response, TableError> {
        let manifest = ManifestId::from(&request.manifest);
        let work = self.tables.look();
        let row = require_manifest(&work, manifest).await?;
        let begin = request.offset_bytes.min(row.size_bytes);
        let end = begin.saturating_add(request.length_bytes).min(row.size_bytes);
        let span = Span { begin, end, max: blocks_at_most(request.max_blocks) };
        let placed = if begin < end { self.cover(&work, manifest, row.kind, span).await? } else { Vec::new() };
        let mut plan = ReadPlan {
            blocks: Vec::with_capacity(placed.len()),
            volumes: Vec::new(),
            next_offset_bytes: placed.last().map_or(begin, Placed::end_bytes),
        };
        let mut volumes = HashMap::new();
        for block in &placed {
            let (row, bucket) = self.require_block(&work, manifest, block).await?;
            let volume = match self.volume_index(bucket, &mut volumes, &mut plan.volumes) {
                Some(index) => index,
                None => {
                    let detail = format!("no volume holds {bucket} of block {}", block.entry.hash);
                    return Err(self.missing(&work, manifest, block.leaf, Some(block.entry.hash), detail).await);
                }
            };
            let row = Box::new(row.to_message(block.entry.hash, bucket));
            plan.blocks.push(PlannedBlock { offset_bytes: block.offset_bytes, row, volume });
        }
        if plan.next_offset_bytes < end || request.length_bytes == 0 {
            self.holds.hold(manifest);
        }
        Ok(Response::ReadPlan(Box::new(plan)))
    }

    /// The row of a block that a manifest names, and its bucket in this cell.
    async fn require_block(
        &self,
        work: &Work,
        manifest: ManifestId,
        block: &Placed,
    ) -> Result<(Block, BucketId), TableError> {
        let hash = block.entry.hash;
        if let Some(row) = work.get::<Block>(&hash).await?
            && let Some(bucket) = row.bucket_in(self.locate.cell())
        {
            return Ok((row, bucket));
        }
        let detail = format!("manifest {manifest} names block {hash} at {}, no row does", block.offset_bytes);
        Err(self.missing(work, manifest, block.leaf, Some(hash), detail).await)
    }

    /// The plan's index of the volume that holds a bucket; each volume is in the plan once.
    fn volume_index(
        &self,
        bucket: BucketId,
        known: &mut HashMap<BucketId, u32>,
        volumes: &mut Vec<Volume>,
    ) -> Option<u32> {
        if let Some(index) = known.get(&bucket) {
            return Some(*index);
        }
        let volume = self.locate.locate(bucket)?;
        let index = match volumes.iter().position(|earlier| earlier.id == volume.id && earlier.bucket == volume.bucket)
        {
            Some(index) => index,
            None => {
                volumes.push(volume);
                volumes.len() - 1
            }
        };
        known.insert(bucket, index as u32);
        Some(index as u32)
    }

    pub(super) async fn list_blocks(&self, request: ListBlocks) -> Result<Response, TableError> {
        let manifest = ManifestId::from(&request.manifest);
        let work = self.tables.look();
        let row = require_manifest(&work, manifest).await?;
        let begin = request.offset_bytes.min(row.size_bytes);
        let span = Span { begin, end: row.size_bytes, max: blocks_at_most(request.max_blocks) };
        let placed =
            if begin < row.size_bytes { self.cover(&work, manifest, row.kind, span).await? } else { Vec::new() };
        let next_offset_bytes = placed.last().map_or(begin, Placed::end_bytes);
        let name = |block: Placed| BlockName {
            offset_bytes: block.offset_bytes,
            hash: block.entry.hash.into(),
            plain_bytes: block.entry.plain_bytes,
        };
        Ok(Response::BlockList(Box::new(BlockList {
            blocks: placed.into_iter().map(name).collect(),
            next_offset_bytes,
            end: next_offset_bytes == row.size_bytes,
        })))
    }
}

/// The page a request asks for; 0 is as many as there may be.
fn blocks_at_most(asked: u32) -> usize {
    match usize::try_from(asked) {
        Ok(asked) if (1..=BLOCKS_PER_REQUEST_MAX).contains(&asked) => asked,
        _ => BLOCKS_PER_REQUEST_MAX,
    }
}
