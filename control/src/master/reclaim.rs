//! Reclaim: gives back what nobody needs any more. A job in small transactions, each complete in itself, so it may be
//! killed between any two and goes on from the tables alone.
//!
//! First the intent or upload ends (its row goes, its queue row comes, in one step), so that nobody can add to it;
//! then what is queued is taken apart (`take_apart`): many small manifests in one transaction, a large one in many. Several
//! transactions run at once, so that the store's committer makes one sync of them; each lane then rests for as long as its
//! transaction took, so a busy store is left to the clients for at least half of the time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use shingle_proto::ids::ManifestId;
use shingle_proto::limits::{
    READ_HOLD_MS, RECLAIM_GRACE_MS, RECLAIM_INTERVAL_MS, RECLAIM_LANES, RECLAIM_MANIFESTS_MAX, RECLAIM_PAUSE_MS,
    RECLAIM_ROWS_MAX, UPLOAD_ABANDONED_MS,
};
use shingle_seam::clock::Monotonic;

use super::take_apart::take_some_apart;
use crate::service::catalog::{ReadHolds, drop_upload, end_intent};
use crate::store::StoreError;
use crate::tables::Tables;
use crate::tables::intents::Intent;
use crate::tables::keys::KeyRange;
use crate::tables::reclaim_queue::{Reclaim, ReclaimKey, Why};
use crate::tables::row::Row;
use crate::tables::uploads::Upload;
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
    /// Shortest rest between two transactions of a lane.
    pub pause_ms: u64,
    /// Rest when there is nothing to do.
    pub interval_ms: u64,
    /// References, parts or segments given back in one transaction; at most `RECLAIM_ROWS_MAX`.
    pub rows: usize,
    /// Manifests taken apart, or intents ended, in one transaction; at most `RECLAIM_MANIFESTS_MAX`.
    pub manifests: usize,
    /// Transactions at once.
    pub lanes: usize,
}

impl Default for ReclaimConfig {
    fn default() -> Self {
        Self {
            grace_ms: RECLAIM_GRACE_MS,
            restart_ms: READ_HOLD_MS,
            abandoned_ms: UPLOAD_ABANDONED_MS,
            pause_ms: RECLAIM_PAUSE_MS,
            interval_ms: RECLAIM_INTERVAL_MS,
            rows: RECLAIM_ROWS_MAX,
            manifests: RECLAIM_MANIFESTS_MAX,
            lanes: RECLAIM_LANES,
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
            let over = rows.iter().filter(|(_, seen)| self.now_ms() > seen.expires_ms).map(|(manifest, _)| *manifest);
            for batch in over.collect::<Vec<_>>().chunks(self.config.manifests.clamp(1, RECLAIM_MANIFESTS_MAX)) {
                if self.progress.get().paused {
                    return Ok(found);
                }
                let ended = self.transaction(async |work: &Work| {
                    let mut ended = 0;
                    for manifest in batch {
                        ended += u64::from(self.expire(work, *manifest).await?);
                    }
                    Ok(ended)
                });
                let ended = ended.await?;
                self.note(|progress| progress.intents_expired += ended);
                found |= ended > 0;
            }
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE_ROWS => range = range.after(&Intent::encode_key(last)),
                _ => return Ok(found),
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
            let due: Vec<ReclaimKey> =
                rows.iter().filter(|(key, row)| self.due(key, row)).map(|(key, _)| *key).collect();
            let batches = RefCell::new(due.chunks(self.config.manifests.clamp(1, RECLAIM_MANIFESTS_MAX)));
            let lane = async || {
                let mut found = false;
                loop {
                    let batch = batches.borrow_mut().next();
                    let Some(batch) = batch else { return Ok::<_, TableError>(found) };
                    found |= self.take_apart(batch).await?;
                }
            };
            for finished in join_all((0..self.config.lanes.max(1)).map(|_| lane())).await {
                found |= finished?;
            }
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE_ROWS => range = range.after(&Reclaim::encode_key(last)),
                _ => return Ok(found),
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

    /// Takes some manifests and uploads apart, to the end unless the job is paused. True if one came to its end.
    async fn take_apart(&self, keys: &[ReclaimKey]) -> Result<bool, TableError> {
        let mut left = keys;
        let mut at_once = keys.len();
        while !left.is_empty() && !self.progress.get().paused {
            let began = self.tables.world().clock.now();
            let some = left.get(..at_once).unwrap_or(left);
            match self
                .transaction(async |work: &Work| take_some_apart(work, some, self.config.rows, self.now_ms()).await)
                .await
            {
                Ok(finished) => {
                    self.note(|progress| progress.finished += finished as u64);
                    left = left.get(finished..).unwrap_or_default();
                }
                // One that is damaged must not keep the others.
                Err(TableError::Damaged(_)) if at_once > 1 => at_once = 1,
                Err(TableError::Damaged(damage)) => {
                    tracing::error!(job = Self::NAME, "{damage}");
                    left = left.get(1..).unwrap_or_default();
                }
                // Other lanes drop references to the same blocks, faster.
                Err(TableError::Store(StoreError::Conflict)) => at_once = at_once.div_ceil(2),
                Err(error) => return Err(error),
            }
            let took = self.tables.world().clock.now() - began;
            let pause = Duration::from_millis(self.config.pause_ms);
            self.tables.world().tasks.sleep(took.max(pause)).await;
        }
        Ok(left.len() < keys.len())
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
