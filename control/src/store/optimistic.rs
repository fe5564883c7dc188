//! The one [`Transaction`] of all stores of ours: a snapshot below, this transaction's own writes above it.
//!
//! Invariants: reads see the snapshot and its own writes, nothing else; everything read from the snapshot is in the
//! read set; a transaction older than its life neither reads nor commits; a read-only one commits without a check,
//! because one snapshot is serializable by itself.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use shingle_proto::limits::{STORE_KEY_BYTES_MAX, STORE_VALUE_BYTES_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_LIFE_MS};
use shingle_seam::clock::Monotonic;
use shingle_seam::tasks::LocalFuture;

use super::resolver::{ReadSet, Version};
use super::{Pair, RangeRead, StoreError, Transaction, counter_after};

/// What happens to a key.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Set(Vec<u8>),
    Clear,
    /// See [`Transaction::add`].
    Add(u64),
}

impl Change {
    /// The key's value after the change.
    pub fn over(self, before: Option<&[u8]>) -> Option<Vec<u8>> {
        match self {
            Self::Set(value) => Some(value),
            Self::Clear => None,
            Self::Add(delta) => Some(counter_after(before, delta).to_vec()),
        }
    }

    /// Whether somebody may add to what this leaves.
    pub fn may_be_added_to(&self) -> bool {
        match self {
            Self::Set(value) => value.len() == size_of::<u64>(),
            Self::Clear | Self::Add(_) => true,
        }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Self::Set(value) => value.len(),
            Self::Clear => 0,
            Self::Add(_) => size_of::<u64>(),
        }
    }
}

/// A key and what happens to it.
pub(super) type Write = (Vec<u8>, Change);

/// Keys to read: `begin <= key < end`, which is not empty, and how many of them.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub begin: Vec<u8>,
    pub end: Vec<u8>,
    pub limit: usize,
    pub reverse: bool,
}

/// A transaction as the committer gets it.
pub(super) struct Commit {
    /// What the transaction read at which version; `None`: it only writes.
    pub read_version: Option<Version>,
    pub reads: ReadSet,
    /// In key order, one per key.
    pub writes: Vec<Write>,
    /// Bytes of everything above.
    pub bytes: usize,
    pub begun: Monotonic,
    pub now: Monotonic,
}

impl Commit {
    pub fn age_ms(&self) -> u64 {
        millis(self.now - self.begun)
    }
}

/// What a store has to give for [`OptimisticTransaction`].
pub(super) trait Backend: 'static {
    type Snapshot: 'static;

    fn now(&self) -> Monotonic;
    /// A snapshot and the version it shows; it may show later commits too, which then only conflict more often.
    fn snapshot(&self) -> (Version, Self::Snapshot);
    fn get(&self, snapshot: &Self::Snapshot, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// The first pairs of the span. May take long (a long span, many cleared keys in it), so it must not block the thread
    /// for that time.
    fn scan<'a>(&'a self, snapshot: &'a Self::Snapshot, span: Span) -> LocalFuture<'a, Result<Vec<Pair>, StoreError>>;
    fn commit(self: Rc<Self>, commit: Commit) -> LocalFuture<'static, Result<(), StoreError>>;
}

/// A transaction over a snapshot, taken at its first read.
pub(super) struct OptimisticTransaction<B: Backend> {
    backend: Rc<B>,
    begun: Monotonic,
    snapshot: OnceCell<(Version, B::Snapshot)>,
    reads: RefCell<ReadSet>,
    writes: RefCell<BTreeMap<Vec<u8>, Change>>,
}

impl<B: Backend> OptimisticTransaction<B> {
    pub fn begin(backend: Rc<B>) -> Self {
        let begun = backend.now();
        Self { backend, begun, snapshot: OnceCell::new(), reads: RefCell::default(), writes: RefCell::default() }
    }

    fn check_age(&self) -> Result<(), StoreError> {
        let age_ms = millis(self.backend.now() - self.begun);
        if age_ms > TRANSACTION_LIFE_MS { Err(StoreError::TooOld { age_ms }) } else { Ok(()) }
    }

    fn snapshot(&self) -> &B::Snapshot {
        &self.snapshot.get_or_init(|| self.backend.snapshot()).1
    }

    fn get_now(&self, key: &[u8], snapshot: bool) -> Result<Option<Vec<u8>>, StoreError> {
        self.check_age()?;
        let own = self.writes.borrow().get(key).cloned();
        if let Some(own @ (Change::Set(_) | Change::Clear)) = own {
            return Ok(own.over(None));
        }
        let value = self.backend.get(self.snapshot(), key)?;
        if !snapshot {
            self.reads.borrow_mut().keys.insert(key.to_vec());
        }
        Ok(match own {
            Some(own) => own.over(value.as_deref()),
            None => value,
        })
    }

    async fn range_now(&self, read: RangeRead) -> Result<Vec<Pair>, StoreError> {
        self.check_age()?;
        if read.begin >= read.end || read.limit == 0 {
            return Ok(Vec::new());
        }
        let own = self.own_writes(&read);
        let span = Span {
            begin: read.begin.clone(),
            end: read.end.clone(),
            // Own writes can hide at most as many pairs as there are of them.
            limit: read.limit.saturating_add(own.len()),
            reverse: read.reverse,
        };
        let below = self.backend.scan(self.snapshot(), span).await?;
        let pairs = merge(below, own, read.limit, read.reverse);
        if !read.snapshot {
            self.reads.borrow_mut().ranges.push(range_read(read, &pairs));
        }
        Ok(pairs)
    }

    fn own_writes(&self, read: &RangeRead) -> Vec<Write> {
        let bounds = (Bound::Included(read.begin.as_slice()), Bound::Excluded(read.end.as_slice()));
        self.writes.borrow().range::<[u8], _>(bounds).map(|(key, change)| (key.clone(), change.clone())).collect()
    }

    fn into_commit(self) -> Result<Option<(Rc<B>, Commit)>, StoreError> {
        self.check_age()?;
        let reads = self.reads.into_inner();
        let writes: Vec<Write> = self.writes.into_inner().into_iter().collect();
        if writes.is_empty() {
            return Ok(None);
        }
        let bytes = sizes_within_limits(&reads, &writes)?;
        let read_anything = !reads.keys.is_empty() || !reads.ranges.is_empty();
        let read_version = self.snapshot.into_inner().map(|(version, _)| version).filter(|_| read_anything);
        let now = self.backend.now();
        Ok(Some((self.backend, Commit { read_version, reads, writes, bytes, begun: self.begun, now })))
    }
}

impl<B: Backend> Transaction for OptimisticTransaction<B> {
    fn get<'a>(&'a self, key: &'a [u8]) -> LocalFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move { self.get_now(key, false) })
    }

    fn peek<'a>(&'a self, key: &'a [u8]) -> LocalFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move { self.get_now(key, true) })
    }

    fn range(&self, read: RangeRead) -> LocalFuture<'_, Result<Vec<Pair>, StoreError>> {
        Box::pin(self.range_now(read))
    }

    fn set(&self, key: Vec<u8>, value: Vec<u8>) {
        self.writes.borrow_mut().insert(key, Change::Set(value));
    }

    fn clear(&self, key: Vec<u8>) {
        self.writes.borrow_mut().insert(key, Change::Clear);
    }

    fn add(&self, key: Vec<u8>, delta: u64) {
        let mut writes = self.writes.borrow_mut();
        let change = match writes.remove(&key) {
            None => Change::Add(delta),
            Some(Change::Add(earlier)) => Change::Add(earlier.wrapping_add(delta)),
            Some(Change::Set(value)) => Change::Set(counter_after(Some(&value), delta).to_vec()),
            Some(Change::Clear) => Change::Set(counter_after(None, delta).to_vec()),
        };
        writes.insert(key, change);
    }

    fn commit(self: Box<Self>) -> LocalFuture<'static, Result<(), StoreError>> {
        match self.into_commit() {
            Ok(Some((backend, commit))) => backend.commit(commit),
            Ok(None) => Box::pin(async { Ok(()) }),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Pairs of the snapshot with own writes laid over them, both in reading order, cut to `limit`.
fn merge(below: Vec<Pair>, own: Vec<Write>, limit: usize, reverse: bool) -> Vec<Pair> {
    let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = below.into_iter().collect();
    // Below was cut at limit + own writes: what lies beyond its last pair is unknown, but also beyond `limit` pairs.
    for (key, change) in own {
        let before = merged.remove(&key);
        if let Some(value) = change.over(before.as_deref()) {
            merged.insert(key, value);
        }
    }
    let pairs = merged.into_iter();
    if reverse { pairs.rev().take(limit).collect() } else { pairs.take(limit).collect() }
}

/// The part of a range that was looked at: all of it, or up to the last pair when the limit was reached.
fn range_read(read: RangeRead, pairs: &[Pair]) -> (Vec<u8>, Vec<u8>) {
    match pairs.last() {
        Some((last, _)) if pairs.len() == read.limit => {
            if read.reverse {
                (last.clone(), read.end)
            } else {
                let mut after = last.clone();
                after.push(0);
                (read.begin, after)
            }
        }
        _ => (read.begin, read.end),
    }
}

fn sizes_within_limits(reads: &ReadSet, writes: &[Write]) -> Result<usize, StoreError> {
    let mut bytes = reads.bytes();
    for (key, change) in writes {
        let value_bytes = change.value_bytes();
        if key.is_empty() || key.len() > STORE_KEY_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes: key.len() });
        }
        if value_bytes > STORE_VALUE_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes: value_bytes });
        }
        bytes += key.len() + value_bytes;
    }
    if bytes > TRANSACTION_BYTES_MAX { Err(StoreError::TooLarge { bytes }) } else { Ok(bytes) }
}
