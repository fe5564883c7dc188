//! A store in memory, for simulation and tests: versioned values, the same conflict check as the durable store, and
//! faults on demand.
//!
//! [`MemoryDisk`] is what survives: a simulated process that crashes drops its [`MemoryStore`] and opens another one on
//! the same disk. A commit is on the disk in one step, or not at all; a crash while it waits decides which.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use shingle_proto::limits::TRANSACTION_LIFE_MS;
use shingle_seam::World;
use shingle_seam::clock::Monotonic;
use shingle_seam::tasks::LocalFuture;

use super::meter::Meter;
use super::optimistic::{Backend, Commit, OptimisticTransaction, Span, Write};
use super::resolver::{Resolver, Version};
use super::{Pair, Store, StoreError, StoreMetrics, Transaction};

/// Faults to inject into commits, each out of 1000 commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Commits that fail with `Conflict` although nothing conflicts.
    pub conflicts_per_mille: u32,
    /// Commits that answer `UnknownResult`; every second of them has happened.
    pub unknown_per_mille: u32,
    /// Every commit fails with `Failed`, as after a broken disk.
    pub failed: bool,
    /// Time a commit takes: half of it before it is on the disk, half after.
    pub commit_takes: Duration,
}

/// The values of one key by version, oldest first; `None` is a cleared key.
type Values = Vec<(Version, Option<Rc<[u8]>>)>;

#[derive(Default)]
struct Content {
    values: BTreeMap<Vec<u8>, Values>,
    resolver: Resolver,
}

/// The medium under a [`MemoryStore`]: survives it. Clones are the same disk.
#[derive(Clone)]
pub struct MemoryDisk {
    content: Rc<RefCell<Content>>,
    faults: Rc<Cell<Faults>>,
    dice: Rc<Cell<u64>>,
}

impl MemoryDisk {
    /// An empty disk; `seed` decides which commits injected faults hit.
    pub fn new(seed: u64) -> Self {
        Self { content: Rc::default(), faults: Rc::default(), dice: Rc::new(Cell::new(seed)) }
    }

    /// Injects these faults from now on.
    pub fn inject(&self, faults: Faults) {
        self.faults.set(faults);
    }

    /// Every key and value as of now, in key order: for checkers.
    pub fn dump(&self) -> Vec<Pair> {
        let content = self.content.borrow();
        let newest = |values: &Values| values.last().and_then(|(_, value)| value.as_ref().map(|value| value.to_vec()));
        content.values.iter().filter_map(|(key, values)| Some((key.clone(), newest(values)?))).collect()
    }

    /// True in `per_mille` of 1000 calls (splitmix64).
    fn roll(&self, per_mille: u32) -> bool {
        let state = self.dice.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.dice.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % 1000 < u64::from(per_mille)
    }
}

impl Content {
    fn apply(&mut self, writes: Vec<Write>, now: Monotonic) {
        let version = self.resolver.record(writes.iter().map(|(key, _)| key.as_slice()), now);
        for (key, change) in writes {
            let values = self.values.entry(key).or_default();
            let value = change.over(values.last().and_then(|(_, value)| value.as_deref()));
            values.push((version, value.map(Rc::from)));
        }
        for key in self.resolver.forget(now) {
            self.trim(&key);
        }
    }

    /// Drops the values of a key that nobody may read any more.
    fn trim(&mut self, key: &[u8]) {
        let floor = self.resolver.floor();
        let Some(values) = self.values.get_mut(key) else { return };
        let still_read = values.iter().rposition(|(version, _)| *version <= floor).unwrap_or(0);
        values.drain(..still_read);
        if matches!(values.as_slice(), [(version, None)] if *version <= floor) {
            self.values.remove(key);
        }
    }

    /// A snapshot whose old values may be gone must not be read.
    fn check_readable(&self, version: Version) -> Result<(), StoreError> {
        if version < self.resolver.floor() {
            return Err(StoreError::TooOld { age_ms: TRANSACTION_LIFE_MS });
        }
        Ok(())
    }
}

fn at(values: &Values, version: Version) -> Option<Vec<u8>> {
    let (_, value) = values.iter().rev().find(|(written, _)| *written <= version)?;
    value.as_ref().map(|value| value.to_vec())
}

struct Inner {
    world: World,
    disk: MemoryDisk,
    meter: Meter,
    syncs: Cell<u64>,
}

impl Backend for Inner {
    type Snapshot = Version;

    fn now(&self) -> Monotonic {
        self.world.clock.now()
    }

    fn snapshot(&self) -> (Version, Version) {
        let version = self.disk.content.borrow().resolver.last();
        (version, version)
    }

    fn get(&self, snapshot: &Version, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let content = self.disk.content.borrow();
        content.check_readable(*snapshot)?;
        Ok(content.values.get(key).and_then(|values| at(values, *snapshot)))
    }

    fn scan<'a>(&'a self, snapshot: &'a Version, span: Span) -> LocalFuture<'a, Result<Vec<Pair>, StoreError>> {
        Box::pin(async move {
            let content = self.disk.content.borrow();
            content.check_readable(*snapshot)?;
            let bounds = (Bound::Included(span.begin.as_slice()), Bound::Excluded(span.end.as_slice()));
            let range = content.values.range::<[u8], _>(bounds);
            let pair = |(key, values): (&Vec<u8>, &Values)| Some((key.clone(), at(values, *snapshot)?));
            Ok(if span.reverse {
                range.rev().filter_map(pair).take(span.limit).collect()
            } else {
                range.filter_map(pair).take(span.limit).collect()
            })
        })
    }

    fn commit(self: Rc<Self>, commit: Commit) -> LocalFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            let start = self.now();
            let result = self.commit_slowly(commit).await;
            self.meter.committed(&result, self.now() - start);
            result
        })
    }
}

impl Inner {
    async fn commit_slowly(&self, commit: Commit) -> Result<(), StoreError> {
        let half = self.disk.faults.get().commit_takes / 2;
        if !half.is_zero() {
            self.world.tasks.sleep(half).await;
        }
        let result = self.commit_now(commit);
        if !half.is_zero() {
            self.world.tasks.sleep(half).await;
        }
        result
    }

    fn commit_now(&self, commit: Commit) -> Result<(), StoreError> {
        let faults = self.disk.faults.get();
        if faults.failed {
            return Err(StoreError::Failed("injected failure".into()));
        }
        if self.disk.roll(faults.conflicts_per_mille) {
            return Err(StoreError::Conflict);
        }
        let unknown = self.disk.roll(faults.unknown_per_mille);
        if unknown && self.disk.roll(500) {
            return Err(StoreError::UnknownResult);
        }
        let mut content = self.disk.content.borrow_mut();
        if let Some(version) = commit.read_version {
            content.resolver.check(version, &commit.reads, commit.age_ms())?;
        }
        content.apply(commit.writes, commit.now);
        self.syncs.set(self.syncs.get() + 1);
        if unknown { Err(StoreError::UnknownResult) } else { Ok(()) }
    }
}

/// A process's handle on a [`MemoryDisk`].
pub struct MemoryStore {
    inner: Rc<Inner>,
}

impl MemoryStore {
    pub fn open(world: World, disk: MemoryDisk) -> Self {
        Self { inner: Rc::new(Inner { world, disk, meter: Meter::new(), syncs: Cell::default() }) }
    }
}

impl Store for MemoryStore {
    fn begin(&self) -> Box<dyn Transaction> {
        Box::new(OptimisticTransaction::begin(self.inner.clone()))
    }

    fn metrics(&self) -> StoreMetrics {
        self.inner.meter.metrics(self.inner.syncs.get())
    }
}
