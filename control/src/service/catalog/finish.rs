//! The end of an upload: its entries become chunks, then one row flips.
//!
//! Up to `FOLD_CHUNKS_MAX` chunks fit into the flipping transaction, which is all there is to most objects. Larger
//! ones are folded in transactions before it; the first of them seals the intent, so that no late block can slip in
//! behind the fold. Every step may be repeated.

use shingle_proto::ids::{ManifestId, PutToken};
use shingle_proto::limits::{CHUNK_BLOCKS_MAX, FOLD_CHUNKS_MAX};
use shingle_proto::message::{ErrorCode, FinishObject, ObjectFinished, Precondition, Response};

use super::Catalog;
use super::check;
use super::intents::{intent_expired, require_intent};
use super::objects::require_precondition;
use super::s3_buckets::require_s3_bucket;
use crate::tables::intents::{Intent, IntentState};
use crate::tables::manifests::{Chunk, Entry, Manifest, ManifestKind, PlaceKey, of_manifest};
use crate::tables::objects::{Object, ObjectKey};
use crate::tables::reclaim_queue::{Reclaim, ReclaimKey, Why};
use crate::tables::work::{TableError, Work};

/// Entries that one transaction folds.
const FOLD_ENTRIES_MAX: usize = FOLD_CHUNKS_MAX * CHUNK_BLOCKS_MAX;

/// What an upload says it has stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promise<'a> {
    pub manifest: ManifestId,
    pub put_token: PutToken,
    pub name: &'a ObjectKey,
    pub size_bytes: u64,
    pub blocks: u64,
}

/// How far one transaction got with a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// The manifest is finished and its intent over, once this transaction commits.
    Finished,
    /// Some entries are folded, others are left: run another transaction.
    Partly,
    /// There is no intent: it was finished before, or aborted, or taken over.
    NoIntent,
}

/// What the chunks of a manifest hold.
#[derive(Debug, Clone, Copy)]
struct Folded {
    end_bytes: u64,
    blocks: u64,
    /// No entry is left.
    all: bool,
}

/// Folds what fits into one transaction; when that is everything, checks the promise and finishes the manifest.
pub(super) async fn settle(work: &Work, promise: Promise<'_>, now_ms: u64) -> Result<Settled, TableError> {
    let Promise { manifest, put_token, name, size_bytes, blocks } = promise;
    if work.get::<Intent>(&manifest).await?.is_none() {
        return Ok(Settled::NoIntent);
    }
    let intent = require_intent(work, manifest, put_token, now_ms).await?;
    if intent.s3_bucket != name.s3_bucket || intent.key != name.key {
        return Err(check::malformed(0, "the upload intent was opened for another object"));
    }
    let folded = fold(work, manifest).await?;
    if !folded.all {
        if intent.state == IntentState::Open {
            work.replace(&manifest, &intent, &Intent { state: IntentState::Sealed, ..intent.clone() });
        }
        return Ok(Settled::Partly);
    }
    if folded.end_bytes != size_bytes || folded.blocks != blocks {
        let message = format!(
            "{} blocks with {} bytes were stored, {blocks} with {size_bytes} were promised",
            folded.blocks, folded.end_bytes
        );
        return Err(check::malformed(folded.end_bytes, message));
    }
    let row = Manifest { kind: ManifestKind::Chunks, size_bytes, blocks };
    let old = work.get::<Manifest>(&manifest).await?;
    work.put(&manifest, old.as_ref(), &row);
    work.remove(&manifest, &intent);
    Ok(Settled::Finished)
}

/// Turns entries into chunks behind the chunks that are there; entries must follow each other without a gap.
async fn fold(work: &Work, manifest: ManifestId) -> Result<Folded, TableError> {
    let mut folded = match work.last::<Chunk>(of_manifest::<Chunk>(manifest)).await? {
        Some((key, chunk)) => Folded {
            end_bytes: key.offset_bytes + chunk.bytes(),
            blocks: chunk.blocks_before + chunk.entries.len() as u64,
            all: false,
        },
        None => Folded { end_bytes: 0, blocks: 0, all: false },
    };
    let mut entries = work.scan::<Entry>(of_manifest::<Entry>(manifest), FOLD_ENTRIES_MAX + 1).await?;
    folded.all = entries.len() <= FOLD_ENTRIES_MAX;
    entries.truncate(FOLD_ENTRIES_MAX);
    for group in entries.chunks(CHUNK_BLOCKS_MAX) {
        let place = PlaceKey { manifest, offset_bytes: folded.end_bytes };
        let mut chunk = Chunk { blocks_before: folded.blocks, entries: Vec::with_capacity(group.len()) };
        for (key, entry) in group {
            if key.offset_bytes != folded.end_bytes {
                let message = format!("the block at {} does not begin where the one before it ends", key.offset_bytes);
                return Err(check::malformed(folded.end_bytes, message));
            }
            folded.end_bytes += u64::from(entry.plain_bytes);
            folded.blocks += 1;
            chunk.entries.push(*entry);
            work.remove(key, entry);
        }
        work.insert(&place, &chunk);
    }
    Ok(folded)
}

/// Makes `new` the object's current version if the precondition holds, and queues the version before for reclaim.
pub(super) async fn flip(
    work: &Work,
    name: &ObjectKey,
    new: &Object,
    precondition: Option<&Precondition>,
) -> Result<(), TableError> {
    require_s3_bucket(work, &name.s3_bucket).await?;
    let old = work.get::<Object>(name).await?;
    if let Some(precondition) = precondition {
        require_precondition(precondition, old.as_ref(), ErrorCode::NoSuchKey)?;
    }
    if let Some(old) = &old {
        assert_ne!(old.manifest, new.manifest, "a manifest becomes an object's version once");
        Reclaim::queue(work, ReclaimKey::Manifest(old.manifest), new.modified_ms, Why::Replaced).await?;
    }
    work.put(name, old.as_ref(), new);
    Ok(())
}

impl Catalog {
    pub(super) async fn finish_object(&self, request: FinishObject) -> Result<Response, TableError> {
        check::headers(&request.headers)?;
        check::etag(&request.etag)?;
        check::object_size(request.size_bytes)?;
        let name = check::object_name(request.s3_bucket, request.key)?;
        let promise = Promise {
            manifest: ManifestId::from(&request.manifest),
            put_token: PutToken(request.put_token),
            name: &name,
            size_bytes: request.size_bytes,
            blocks: request.blocks,
        };
        let mut object = Object {
            manifest: promise.manifest,
            size_bytes: request.size_bytes,
            modified_ms: self.now_ms(),
            blocks: request.blocks,
            parts: 0,
            etag: request.etag,
            headers: *request.headers,
        };
        loop {
            object.modified_ms = self.now_ms();
            let step = self.tables.run(async |work: &Work| match settle(work, promise, self.now_ms()).await? {
                Settled::Partly => Ok(None),
                Settled::NoIntent => finished_before(work, &name, &object).await.map(Some),
                Settled::Finished => {
                    flip(work, &name, &object, request.precondition.as_deref()).await?;
                    Ok(Some(object.clone()))
                }
            });
            if let Some(object) = step.await? {
                let row = Box::new(object.into_message(name.key));
                return Ok(Response::ObjectFinished(Box::new(ObjectFinished { row })));
            }
        }
    }
}

/// A finish without an intent is the repeat of one that had its effect, or came too late. The manifest was the
/// object's version if it still is, or if it waits for reclaim because it was replaced or deleted since.
pub(super) async fn finished_before(work: &Work, name: &ObjectKey, object: &Object) -> Result<Object, TableError> {
    if let Some(current) = work.get::<Object>(name).await?
        && current.manifest == object.manifest
    {
        return Ok(current);
    }
    match work.get::<Reclaim>(&ReclaimKey::Manifest(object.manifest)).await? {
        Some(Reclaim { why: Why::Replaced | Why::Deleted, .. }) => Ok(object.clone()),
        _ => Err(intent_expired(object.manifest)),
    }
}
