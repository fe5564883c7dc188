//! The tables: every row type with its key and value codec (KEYS.md), and the transactions over them.
//!
//! All state of the control plane is here. A transaction that changes a table reads everything its decision rests on,
//! so the store's conflict check is the only lock there is.

pub mod block_index;
pub mod bytes;
pub mod findings;
pub mod intents;
pub mod keys;
pub mod manifests;
pub mod objects;
pub mod reclaim_queue;
pub mod references;
pub mod replication;
pub mod row;
pub mod tally;
pub mod uploads;
pub mod work;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use shingle_proto::limits::TRANSACTION_TRIES_MAX;
use shingle_seam::World;
use shingle_seam::tasks::spawn_joined;

use self::keys::KeyRange;
use self::row::Row;
use self::tally::Tally;
use self::work::{Finished, TableError, Witness, Work};
use crate::store::{Store, StoreError};

/// Rows read in one transaction of a long scan: 5 MB of chunks.
const SCAN_ROWS: usize = 256;

/// The tables of one cell. Cheap to clone; clones share the counters.
#[derive(Clone)]
pub struct Tables {
    world: World,
    store: Rc<dyn Store>,
    counts: Rc<Cell<Tally>>,
}

/// A commit whose result is not known: what it would have answered and counted, and how to find out.
struct Unknown<T> {
    witness: Witness,
    tally: Tally,
    value: T,
}

impl Tables {
    pub fn new(world: World, store: Rc<dyn Store>) -> Self {
        Self { world, store, counts: Rc::default() }
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    /// What all committed transactions have left, as far as `count_rows` and this process's own commits tell.
    pub fn counts(&self) -> Tally {
        self.counts.get()
    }

    /// Counts all rows. To be called once, before the first transaction.
    pub async fn count_rows(&self) -> Result<(), TableError> {
        self.counts.set(Tally::default());
        self.count_table::<objects::Object>().await?;
        self.count_table::<manifests::Entry>().await?;
        self.count_table::<manifests::Chunk>().await?;
        self.count_table::<block_index::Block>().await?;
        self.count_table::<references::Reference>().await?;
        self.count_table::<intents::Intent>().await?;
        self.count_table::<reclaim_queue::Reclaim>().await
    }

    async fn count_table<R: Row>(&self) -> Result<(), TableError> {
        let mut range = KeyRange::table(R::TABLE);
        loop {
            let rows = self.look().scan::<R>(range.clone(), SCAN_ROWS).await?;
            let mut counts = self.counts.get();
            rows.iter().for_each(|(_, row)| counts += row.tally());
            self.counts.set(counts);
            match rows.last() {
                Some((key, _)) if rows.len() == SCAN_ROWS => range = range.after(&R::encode_key(key)),
                _ => return Ok(()),
            }
        }
    }

    /// A consistent view of the tables for reads only; not to be kept longer than `TRANSACTION_LIFE_MS`.
    pub fn look(&self) -> Work {
        Work::new(self.store.begin())
    }

    /// Runs `body` as one transaction, again after conflicts. After an unknown result the first transaction's witness
    /// decides: if it took effect, its value is the answer and nothing runs or counts twice.
    pub async fn run<T>(&self, body: impl AsyncFn(&Work) -> Result<T, TableError>) -> Result<T, TableError> {
        let mut unknown: Option<Unknown<T>> = None;
        let mut last = StoreError::Conflict;
        for attempt in 0..TRANSACTION_TRIES_MAX {
            if attempt > 0 {
                self.back_off(attempt).await;
            }
            match self.attempt(&body, &mut unknown).await {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => last = StoreError::UnknownResult,
                Err(TableError::Store(error @ (StoreError::Conflict | StoreError::TooOld { .. }))) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last.into())
    }

    /// One attempt; `None` when the result is unknown and the next attempt has to find out.
    async fn attempt<T>(
        &self,
        body: &impl AsyncFn(&Work) -> Result<T, TableError>,
        unknown: &mut Option<Unknown<T>>,
    ) -> Result<Option<T>, TableError> {
        let work = Work::new(self.store.begin());
        if let Some(earlier) = unknown.as_ref() {
            let took_effect = work.confirms(&earlier.witness).await?;
            if let (Some(earlier), true) = (unknown.take(), took_effect) {
                self.count(earlier.tally);
                return Ok(Some(earlier.value));
            }
        }
        let value = body(&work).await?;
        let Some(finished) = work.finish() else { return Ok(Some(value)) };
        let (tally, witness) = (finished.tally, finished.witness.clone());
        match self.commit(finished).await {
            Ok(()) => Ok(Some(value)),
            Err(StoreError::UnknownResult) => {
                *unknown = witness.map(|witness| Unknown { witness, tally, value });
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Commits in a task of its own: a caller that goes away does not lose the count of what was committed.
    async fn commit(&self, finished: Finished) -> Result<(), StoreError> {
        let tables = self.clone();
        let commit = async move {
            finished.transaction.commit().await?;
            tables.count(finished.tally);
            Ok(())
        };
        spawn_joined(&self.world.tasks, "commit", commit).await.unwrap_or(Err(StoreError::UnknownResult))
    }

    fn count(&self, change: Tally) {
        let mut counts = self.counts.get();
        counts += change;
        self.counts.set(counts);
    }

    /// Waits a random time whose bound doubles with each attempt, from 1 ms to 64 ms.
    async fn back_off(&self, attempt: u32) {
        let bound_us = 1000_u64 << attempt.min(6);
        let pause = Duration::from_micros(self.world.entropy.below(bound_us));
        self.world.tasks.sleep(pause).await;
    }
}
