//! Reclaim: gives back what nobody needs any more. A job in small transactions, each complete in itself, so it may be
//! killed between any two and goes on from the tables alone.
//!
//! First the intent or upload ends (its row goes, its queue row comes, in one step), so that nobody can add to it;
//! then its references go in batches. A block's row goes only in a transaction that read that no reference to it
//! remains: whoever adds one at the same time conflicts (invariant 12).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use shingle_proto::ids::{BlockHash, ManifestId};
use shingle_proto::limits::{
    READ_HOLD_MS, RECLAIM_BLOCKS_MAX, RECLAIM_GRACE_MS, RECLAIM_INTERVAL_MS, RECLAIM_PAUSE_MS, UPLOAD_ABANDONED_MS,
};
use shingle_seam::clock::Monotonic;

use crate::service::catalog::{ReadHolds, drop_upload, end_intent};
use crate::tables::Tables;
use crate::tables::block_index::Block;
use crate::tables::intents::Intent;
use crate::tables::keys::KeyRange;
use crate::tables::manifests::{Chunk, Entry, Manifest, PlaceKey, Segment, of_manifest};
use crate::tables::reclaim_queue::{Reclaim, ReclaimKey, Why};
use crate::tables::references::drop_reference;
use crate::tables::row::Row;
use crate::tables::uploads::{Completion, Part, PartKey, Upload};
use crate::tables::work::{TableError, Work};

/// Rows of a queue or list read at once.
const PAGE_ROWS: usize = 256;
/// Abandoned uploads are looked for this many times within the age that makes them so.
const UPLOAD_SCANS_PER_AGE: u64 = 64;

/// How eager reclaim is; times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReclaimConfig {
    /// Deleted and replaced object versions stay readable for downloads under way.
    pub grace_ms: u64,
    /// As long after a start they all stay: who reads them has to say so again.
    pub restart_ms: u64,
    /// Age at which an upload neither completed nor aborted is aborted.
    pub abandoned_ms: u64,
    /// Rest between two transactions.
    pub pause_ms: u64,
    /// Rest when there is nothing to do.
    pub interval_ms: u64,
}

impl Default for ReclaimConfig {
    fn default() -> Self {
        Self {
            grace_ms: RECLAIM_GRACE_MS,
            restart_ms: READ_HOLD_MS,
            abandoned_ms: UPLOAD_ABANDONED_MS,
            pause_ms: RECLAIM_PAUSE_MS,
            interval_ms: RECLAIM_INTERVAL_MS,
        }
    }
}

/// What the job has done since this process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReclaimProgress {
    pub paused: bool,
    pub transactions: u64,
    /// Manifests and uploads taken apart to the end.
    pub finished: u64,
    pub intents_expired: u64,
    pub uploads_abandoned: u64,
    /// Manifests and uploads that wait.
    pub queue: u64,
}

/// How far one transaction got with a queued manifest or upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    More,
    Finished,
}

/// The job.
pub struct ReclaimJob {
    tables: Tables,
    holds: Rc<ReadHolds>,
    config: ReclaimConfig,
    started: Monotonic,
    progress: Cell<ReclaimProgress>,
    uploads_scanned_ms: Cell<Option<u64>>,
}

impl ReclaimJob {
    /// The job's name in status and logs.
    pub const NAME: &'static str = "reclaim";

    /// `tables` and `holds` are the catalog's own, so that the counters stay right and readers are left alone.
    pub fn new(tables: Tables, holds: Rc<ReadHolds>, config: ReclaimConfig) -> Self {
        let started = tables.world().clock.now();
        Self { tables, holds, config, started, progress: Cell::default(), uploads_scanned_ms: Cell::new(None) }
    }

    pub fn progress(&self) -> ReclaimProgress {
        let queue = u64::try_from(self.tables.counts().reclaim_queue).unwrap_or(0);
        ReclaimProgress { queue, ..self.progress.get() }
    }

    /// Stops after the transaction under way, or goes on.
    pub fn pause(&self, paused: bool) {
        self.note(|progress| progress.paused = paused);
    }

    /// Works until the future is dropped.
    pub async fn run(&self) {
        loop {
            let found_work = match self.round().await {
                Ok(found_work) => found_work,
                Err(error) => {
                    tracing::warn!(job = Self::NAME, "will try again: {error}");
                    false
                }
            };
            if !found_work {
                self.rest(self.config.interval_ms).await;
            }
        }
    }

    /// Works until nothing is due.
    pub async fn drain(&self) -> Result<(), TableError> {
        while self.round().await? {}
        Ok(())
    }

    /// Looks once at everything there may be to do; false if there was nothing.
    pub async fn round(&self) -> Result<bool, TableError> {
        let expired = self.expire_intents().await?;
        let abandoned = self.abandon_uploads().await?;
        let taken_apart = self.work_queue().await?;
        Ok(expired || abandoned || taken_apart)
    }

    /// Takes over intents whose lease is over.
    async fn expire_intents(&self) -> Result<bool, TableError> {
        let mut found = false;
        let mut range = KeyRange::table(Intent::TABLE);
        loop {
            let rows = self.tables.look().scan::<Intent>(range.clone(), PAGE_ROWS).await?;
            for (manifest, seen) in &rows {
                range = range.after(&Intent::encode_key(manifest));
                if self.now_ms() > seen.expires_ms && !self.progress.get().paused {
                    let ended = self.transaction(async |work: &Work| self.expire(work, *manifest).await).await?;
                    self.note(|progress| progress.intents_expired += u64::from(ended));
                    found |= ended;
                }
            }
            if rows.len() < PAGE_ROWS {
                return Ok(found);
            }
        }
    }

    /// Ends an intent, unless it was renewed or ended meanwhile.
    async fn expire(&self, work: &Work, manifest: ManifestId) -> Result<bool, TableError> {
        let now_ms = self.now_ms();
        match work.get::<Intent>(&manifest).await? {
            Some(intent) if now_ms > intent.expires_ms => {
                end_intent(work, manifest, &intent, now_ms, Why::Expired).await.map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Aborts uploads that nobody has completed or aborted for very long.
    async fn abandon_uploads(&self) -> Result<bool, TableError> {
        let now_ms = self.now_ms();
        let rest_ms = self.config.abandoned_ms / UPLOAD_SCANS_PER_AGE;
        if self.uploads_scanned_ms.get().is_some_and(|scanned_ms| now_ms < scanned_ms.saturating_add(rest_ms)) {
            return Ok(false);
        }
        let mut found = false;
        let mut range = KeyRange::table(Upload::TABLE);
        loop {
            let rows = self.tables.look().scan::<Upload>(range.clone(), PAGE_ROWS).await?;
            for (key, seen) in &rows {
                range = range.after(&Upload::encode_key(key));
                if now_ms < seen.created_ms.saturating_add(self.config.abandoned_ms) || self.progress.get().paused {
                    continue;
                }
                let ended = self.transaction(async |work: &Work| match work.get::<Upload>(key).await? {
                    Some(upload) => drop_upload(work, key, &upload, now_ms).await.map(|()| true),
                    None => Ok(false),
                });
                let ended = ended.await?;
                self.note(|progress| progress.uploads_abandoned += u64::from(ended));
                found |= ended;
            }
            if rows.len() < PAGE_ROWS {
                self.uploads_scanned_ms.set(Some(now_ms));
                return Ok(found);
            }
        }
    }

    /// Takes everything apart that is due. What cannot be (a damaged row) is reported and left for the next round.
    async fn work_queue(&self) -> Result<bool, TableError> {
        let mut found = false;
        let mut range = KeyRange::table(Reclaim::TABLE);
        loop {
            let rows = self.tables.look().scan::<Reclaim>(range.clone(), PAGE_ROWS).await?;
            for (key, row) in &rows {
                range = range.after(&Reclaim::encode_key(key));
                if !self.due(key, row) {
                    continue;
                }
                match self.take_apart(*key).await {
                    Ok(finished) => found |= finished,
                    Err(TableError::Damaged(damage)) => tracing::error!(job = Self::NAME, "{damage}"),
                    Err(error) => return Err(error),
                }
            }
            if rows.len() < PAGE_ROWS {
                return Ok(found);
            }
        }
    }

    /// What was an object's version is left alone for a grace time, and for as long as somebody reads it.
    fn due(&self, key: &ReclaimKey, row: &Reclaim) -> bool {
        let (ReclaimKey::Manifest(manifest), Why::Replaced | Why::Deleted) = (key, row.why) else { return true };
        let since_start = self.tables.world().clock.now() - self.started;
        self.now_ms() >= row.queued_ms.saturating_add(self.config.grace_ms)
            && since_start >= Duration::from_millis(self.config.restart_ms)
            && !self.holds.keeps(*manifest, row.queued_ms)
    }

    /// Takes one manifest or upload apart, to the end unless the job is paused.
    async fn take_apart(&self, key: ReclaimKey) -> Result<bool, TableError> {
        while !self.progress.get().paused {
            let step = self.transaction(async |work: &Work| {
                let Some(row) = work.get::<Reclaim>(&key).await? else { return Ok(Step::Finished) };
                let step = match key {
                    ReclaimKey::Manifest(manifest) => shrink_manifest(work, manifest, self.now_ms()).await?,
                    ReclaimKey::Parts(upload) => shrink_upload(work, upload, row.why, self.now_ms()).await?,
                };
                if step == Step::Finished {
                    work.remove(&key, &row);
                }
                Ok(step)
            });
            if step.await? == Step::Finished {
                self.note(|progress| progress.finished += 1);
                return Ok(true);
            }
            self.rest(self.config.pause_ms).await;
        }
        Ok(false)
    }

    async fn transaction<T>(&self, body: impl AsyncFn(&Work) -> Result<T, TableError>) -> Result<T, TableError> {
        let value = self.tables.run(body).await?;
        self.note(|progress| progress.transactions += 1);
        Ok(value)
    }

    fn note(&self, change: impl FnOnce(&mut ReclaimProgress)) {
        let mut progress = self.progress.get();
        change(&mut progress);
        self.progress.set(progress);
    }

    fn now_ms(&self) -> u64 {
        self.tables.world().clock.unix_ms()
    }

    async fn rest(&self, duration_ms: u64) {
        self.tables.world().tasks.sleep(Duration::from_millis(duration_ms)).await;
    }
}

/// Gives back some of a manifest: entries not yet folded, then chunks from their ends, then segments, then its row.
async fn shrink_manifest(work: &Work, manifest: ManifestId, now_ms: u64) -> Result<Step, TableError> {
    let entries = work.scan::<Entry>(of_manifest::<Entry>(manifest), RECLAIM_BLOCKS_MAX).await?;
    if !entries.is_empty() {
        for (key, entry) in &entries {
            release(work, manifest, entry.hash).await?;
            work.remove(key, entry);
        }
        return Ok(Step::More);
    }
    if let Some((key, chunk)) = work.scan::<Chunk>(of_manifest::<Chunk>(manifest), 1).await?.pop() {
        shorten_chunk(work, &key, &chunk).await?;
        return Ok(Step::More);
    }
    let segments = work.scan::<Segment>(of_manifest::<Segment>(manifest), RECLAIM_BLOCKS_MAX).await?;
    for (key, segment) in &segments {
        Reclaim::queue(work, ReclaimKey::Manifest(segment.leaf), now_ms, Why::Segment).await?;
        work.remove(key, segment);
    }
    if segments.len() == RECLAIM_BLOCKS_MAX {
        return Ok(Step::More);
    }
    if let Some(row) = work.get::<Manifest>(&manifest).await? {
        work.remove(&manifest, &row);
    }
    Ok(Step::Finished)
}

/// Drops the references of a chunk's last blocks and cuts them off: the chunk itself says how far reclaim is.
async fn shorten_chunk(work: &Work, key: &PlaceKey, chunk: &Chunk) -> Result<(), TableError> {
    let keep = chunk.entries.len().saturating_sub(RECLAIM_BLOCKS_MAX);
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
    Ok(())
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
async fn shrink_upload(work: &Work, upload: ManifestId, why: Why, now_ms: u64) -> Result<Step, TableError> {
    let completed = match why {
        Why::Completed { completion } => Some(completion),
        _ => None,
    };
    let parts = work.scan::<Part>(Part::of_upload(upload), RECLAIM_BLOCKS_MAX).await?;
    for (key, part) in &parts {
        clear_part(work, key, part, completed, now_ms).await?;
    }
    if parts.len() == RECLAIM_BLOCKS_MAX {
        return Ok(Step::More);
    }
    if completed.is_some() {
        return Ok(Step::Finished);
    }
    let segments = work.scan::<Segment>(of_manifest::<Segment>(upload), RECLAIM_BLOCKS_MAX).await?;
    segments.iter().for_each(|(key, segment)| work.remove(key, segment));
    Ok(if segments.len() == RECLAIM_BLOCKS_MAX { Step::More } else { Step::Finished })
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
