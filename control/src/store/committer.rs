//! The embedded store's one writer: many transactions, one batch, one fsync.
//!
//! Invariants: transactions are judged and applied in the order they came in; none is answered before the fsync of its
//! group; the first failed write ends all writing, and every later transaction is told so.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use fjall::{Database, Keyspace, PersistMode};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::StoreError;
use super::optimistic::{Change, Commit, Write};
use super::resolver::Resolver;

/// A transaction waiting for its commit, with its share of the queue's bytes.
pub(super) struct Waiting {
    pub commit: Commit,
    pub answer: oneshot::Sender<Result<(), StoreError>>,
    pub room: OwnedSemaphorePermit,
}

pub(super) struct Committer {
    database: Database,
    keyspace: Keyspace,
    resolver: Resolver,
    visible: Arc<AtomicU64>,
    syncs: Arc<AtomicU64>,
    /// Why nothing is written any more; watched by who wants to end the process then.
    broken: watch::Sender<Option<Arc<str>>>,
}

/// A transaction of a group that is being written, and its verdict.
type Judged = (Waiting, Result<(), StoreError>);

/// Keys written by the group so far that may be added to, with their values; `None` was cleared.
type Counters = HashMap<Vec<u8>, Option<Vec<u8>>>;

impl Committer {
    pub fn new(
        database: Database,
        keyspace: Keyspace,
        visible: Arc<AtomicU64>,
        syncs: Arc<AtomicU64>,
        broken: watch::Sender<Option<Arc<str>>>,
    ) -> Self {
        Self { database, keyspace, resolver: Resolver::default(), visible, syncs, broken }
    }

    /// Works until nobody can send any more.
    pub fn run(mut self, arrivals: &Receiver<Waiting>) {
        while let Ok(first) = arrivals.recv() {
            // Everything that came while the last fsync ran; the queue's bytes bound it.
            let group: Vec<Waiting> = std::iter::once(first).chain(arrivals.try_iter()).collect();
            self.commit_group(group);
        }
    }

    fn commit_group(&mut self, group: Vec<Waiting>) {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        let mut judged: Vec<Judged> = Vec::with_capacity(group.len());
        let mut counters = Counters::new();
        for mut waiting in group {
            let verdict = self.judge(&waiting.commit);
            if verdict.is_ok() {
                let writes = std::mem::take(&mut waiting.commit.writes);
                if let Err(error) = self.apply(writes, &mut batch, &mut counters) {
                    self.end(&error);
                }
            }
            judged.push((waiting, verdict));
        }
        if !batch.is_empty() && self.healthy().is_ok() {
            self.write(batch);
        }
        for (waiting, verdict) in judged {
            drop(waiting.room);
            let verdict = verdict.and_then(|()| self.healthy());
            // Nobody waiting any more is no error: the transaction is as durable as if somebody did.
            drop(waiting.answer.send(verdict));
        }
    }

    fn judge(&mut self, commit: &Commit) -> Result<(), StoreError> {
        self.healthy()?;
        self.resolver.forget(commit.now);
        if let Some(version) = commit.read_version {
            self.resolver.check(version, &commit.reads, commit.age_ms())?;
        }
        self.resolver.record(commit.writes.iter().map(|(key, _)| key.as_slice()), commit.now);
        Ok(())
    }

    /// Puts a transaction's writes into the group's batch. Counters are read here: this thread is the only writer, and
    /// what earlier transactions of the group made of them is in `counters`.
    fn apply(
        &self,
        writes: Vec<Write>,
        batch: &mut fjall::OwnedWriteBatch,
        counters: &mut Counters,
    ) -> Result<(), fjall::Error> {
        for (key, change) in writes {
            let before = match &change {
                Change::Add(_) => match counters.get(&key) {
                    Some(value) => value.clone(),
                    None => self.keyspace.get(&key)?.map(|value| value.to_vec()),
                },
                Change::Set(_) | Change::Clear => None,
            };
            let remember = change.may_be_added_to();
            let value = change.over(before.as_deref());
            if remember {
                counters.insert(key.clone(), value.clone());
            }
            match value {
                Some(value) => batch.insert(&self.keyspace, key, value),
                None => batch.remove(&self.keyspace, key),
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: fjall::OwnedWriteBatch) {
        match batch.commit() {
            Ok(()) => {
                self.syncs.fetch_add(1, Ordering::Relaxed);
                self.visible.store(self.resolver.last().0, Ordering::Release);
            }
            Err(error) => self.end(&error),
        }
    }

    fn end(&mut self, error: &fjall::Error) {
        tracing::error!(%error, "the store cannot write: nothing is acknowledged any more");
        self.broken.send_replace(Some(error.to_string().into()));
    }

    fn healthy(&self) -> Result<(), StoreError> {
        match self.broken.borrow().as_ref() {
            Some(reason) => Err(StoreError::Failed(reason.clone())),
            None => Ok(()),
        }
    }
}
