//! One transaction of reclaim: gives back what queued manifests and uploads hold, as much as fits into it.
//!
//! What is left says how far it got, so the next transaction, or the next process, goes on from the tables alone. A
//! block's row goes only in a transaction that read that no reference to it remains: whoever adds one at the same time
//! conflicts (invariant 12).

use shingle_proto::ids::{BlockHash, ManifestId};
use shingle_proto::limits::RECLAIM_ROWS_MAX;

use crate::tables::block_index::Block;
use crate::tables::manifests::{Chunk, Entry, Manifest, ManifestKind, PlaceKey, Segment, of_manifest};
use crate::tables::reclaim_queue::{Reclaim, ReclaimKey, Why};
use crate::tables::references::drop_reference;
use crate::tables::uploads::{Completion, Part, PartKey};
use crate::tables::work::{TableError, Work};

/// How far a transaction got with a queued manifest or upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    More,
    Finished,
}

/// Takes manifests and uploads apart, one after the other, until the transaction is full. Gives how many came to their
/// end, and so off the queue.
pub(super) async fn take_some_apart(
    work: &Work,
    keys: &[ReclaimKey],
    rows: usize,
    now_ms: u64,
) -> Result<usize, TableError> {
    let mut room = rows.clamp(1, RECLAIM_ROWS_MAX);
    for (finished, key) in keys.iter().enumerate() {
        if room == 0 {
            return Ok(finished);
        }
        let Some(row) = work.get::<Reclaim>(key).await? else { continue };
        let step = match key {
            ReclaimKey::Manifest(manifest) => shrink_manifest(work, *manifest, now_ms, &mut room).await?,
            ReclaimKey::Parts(upload) => shrink_upload(work, *upload, row.why, now_ms, &mut room).await?,
        };
        if step == Step::More {
            return Ok(finished);
        }
        work.remove(key, &row);
    }
    Ok(keys.len())
}

/// Gives back some of a manifest. A finished one has chunks or segments; one that never was has entries, and chunks if it
/// was being finished.
async fn shrink_manifest(work: &Work, manifest: ManifestId, now_ms: u64, room: &mut usize) -> Result<Step, TableError> {
    let row = work.get::<Manifest>(&manifest).await?;
    let kind = row.map(|row| row.kind);
    if kind.is_none() && drop_entries(work, manifest, room).await? == Step::More {
        return Ok(Step::More);
    }
    if kind != Some(ManifestKind::Segments) && drop_chunks(work, manifest, room).await? == Step::More {
        return Ok(Step::More);
    }
    if kind != Some(ManifestKind::Chunks) && queue_segments(work, manifest, now_ms, room).await? == Step::More {
        return Ok(Step::More);
    }
    if let Some(row) = row {
        work.remove(&manifest, &row);
    }
    *room = room.saturating_sub(1);
    Ok(Step::Finished)
}

async fn drop_entries(work: &Work, manifest: ManifestId, room: &mut usize) -> Result<Step, TableError> {
    let entries = work.scan::<Entry>(of_manifest::<Entry>(manifest), *room).await?;
    for (key, entry) in &entries {
        release(work, manifest, entry.hash).await?;
        work.remove(key, entry);
    }
    Ok(took(room, entries.len()))
}

async fn drop_chunks(work: &Work, manifest: ManifestId, room: &mut usize) -> Result<Step, TableError> {
    while *room > 0 {
        let Some((key, chunk)) = work.scan::<Chunk>(of_manifest::<Chunk>(manifest), 1).await?.pop() else {
            return Ok(Step::Finished);
        };
        *room -= shorten_chunk(work, &key, &chunk, *room).await?;
    }
    Ok(Step::More)
}

/// Segments' manifests are queued: they are taken apart by themselves.
async fn queue_segments(work: &Work, manifest: ManifestId, now_ms: u64, room: &mut usize) -> Result<Step, TableError> {
    let segments = work.scan::<Segment>(of_manifest::<Segment>(manifest), *room).await?;
    for (key, segment) in &segments {
        Reclaim::queue(work, ReclaimKey::Manifest(segment.leaf), now_ms, Why::Segment).await?;
        work.remove(key, segment);
    }
    Ok(took(room, segments.len()))
}

/// A scan that filled the room may have left something.
fn took(room: &mut usize, rows: usize) -> Step {
    *room -= rows;
    if *room == 0 { Step::More } else { Step::Finished }
}

/// Drops the references of a chunk's last blocks and cuts them off: the chunk itself says how far reclaim is. Gives how
/// many there were.
async fn shorten_chunk(work: &Work, key: &PlaceKey, chunk: &Chunk, room: usize) -> Result<usize, TableError> {
    let keep = chunk.entries.len().saturating_sub(room);
    for entry in chunk.entries.iter().skip(keep) {
        release(work, key.manifest, entry.hash).await?;
    }
    if keep == 0 {
        work.remove(key, chunk);
    } else {
        let mut shorter = chunk.clone();
        shorter.entries.truncate(keep);
        work.replace(key, chunk, &shorter);
    }
    Ok(chunk.entries.len() - keep)
}

/// Drops a manifest's reference to a block, and the block's row if this transaction reads that it was the last one.
async fn release(work: &Work, manifest: ManifestId, hash: BlockHash) -> Result<(), TableError> {
    if drop_reference(work, hash, manifest).await?
        && let Some(block) = work.get::<Block>(&hash).await?
    {
        work.remove(&hash, &block);
    }
    Ok(())
}

/// Clears some part rows of an upload that is over. Parts that its completion made segments of belong to the object;
/// the others are queued. Of an aborted upload, segments of an unfinished completion go as well.
async fn shrink_upload(
    work: &Work,
    upload: ManifestId,
    why: Why,
    now_ms: u64,
    room: &mut usize,
) -> Result<Step, TableError> {
    let completed = match why {
        Why::Completed { completion } => Some(completion),
        _ => None,
    };
    let parts = work.scan::<Part>(Part::of_upload(upload), *room).await?;
    for (key, part) in &parts {
        clear_part(work, key, part, completed, now_ms).await?;
    }
    if took(room, parts.len()) == Step::More {
        return Ok(Step::More);
    }
    if completed.is_some() {
        return Ok(Step::Finished);
    }
    let segments = work.scan::<Segment>(of_manifest::<Segment>(upload), *room).await?;
    segments.iter().for_each(|(key, segment)| work.remove(key, segment));
    Ok(took(room, segments.len()))
}

async fn clear_part(
    work: &Work,
    key: &PartKey,
    part: &Part,
    completed: Option<Completion>,
    now_ms: u64,
) -> Result<(), TableError> {
    if completed.is_none() || part.named_by != completed {
        Reclaim::queue(work, ReclaimKey::Manifest(part.manifest), now_ms, Why::PartDropped).await?;
    }
    work.remove(key, part);
    Ok(())
}
