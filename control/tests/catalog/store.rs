//! A store around the one in memory: every operation is a point where another task may go on, and after a given number
//! of commits the process that uses it is dead. It can also leave a table out of the conflict check, to show that a race
//! is lost without it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use shingle_control::tables::keys::Table;

use shingle_control::store::{Pair, RangeRead, Store, StoreError, StoreMetrics, Transaction};
use shingle_seam::tasks::LocalFuture;

use crate::world::{Sim, turn};

pub struct SteppedStore {
    sim: Sim,
    inner: Rc<dyn Store>,
    /// Commits left to a process that is to be killed.
    commits_left: Rc<Cell<Option<u64>>>,
    pub commits: Rc<Cell<u64>>,
    /// Ranges read so far, by the table they begin in.
    ranges: Rc<RefCell<BTreeMap<u8, u64>>>,
    blind: Cell<&'static [Table]>,
}

impl SteppedStore {
    pub fn new(sim: &Sim, inner: Rc<dyn Store>) -> Self {
        Self {
            sim: sim.clone(),
            inner,
            commits_left: Rc::default(),
            commits: Rc::default(),
            ranges: Rc::default(),
            blind: Cell::default(),
        }
    }

    /// How many ranges of this table were read.
    pub fn ranges_of(&self, table: Table) -> u64 {
        self.ranges.borrow().get(&(table as u8)).copied().unwrap_or(0)
    }

    /// Reads of these tables stay out of the conflict check from now on.
    pub fn leave_out_of_conflict_check(&self, tables: &'static [Table]) {
        self.blind.set(tables);
    }

    /// Dies when this many transactions have been committed.
    pub fn kill_after(&self, commits: u64) {
        self.commits_left.set(Some(commits));
    }

    pub fn dead(&self) -> bool {
        self.commits_left.get() == Some(0)
    }
}

impl Store for SteppedStore {
    fn begin(&self) -> Box<dyn Transaction> {
        Box::new(Stepped {
            sim: self.sim.clone(),
            inner: self.inner.begin(),
            commits_left: self.commits_left.clone(),
            commits: self.commits.clone(),
            blind: self.blind.get(),
            ranges: self.ranges.clone(),
        })
    }

    fn metrics(&self) -> StoreMetrics {
        self.inner.metrics()
    }
}

struct Stepped {
    sim: Sim,
    inner: Box<dyn Transaction>,
    commits_left: Rc<Cell<Option<u64>>>,
    commits: Rc<Cell<u64>>,
    blind: &'static [Table],
    ranges: Rc<RefCell<BTreeMap<u8, u64>>>,
}

impl Stepped {
    fn is_blind(&self, key: &[u8]) -> bool {
        self.blind.iter().any(|table| key.first() == Some(&(*table as u8)))
    }
}

impl Transaction for Stepped {
    fn get<'a>(&'a self, key: &'a [u8]) -> LocalFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move {
            turn(&self.sim).await;
            if self.is_blind(key) { self.inner.peek(key).await } else { self.inner.get(key).await }
        })
    }

    fn peek<'a>(&'a self, key: &'a [u8]) -> LocalFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move {
            turn(&self.sim).await;
            self.inner.peek(key).await
        })
    }

    fn range(&self, read: RangeRead) -> LocalFuture<'_, Result<Vec<Pair>, StoreError>> {
        Box::pin(async move {
            turn(&self.sim).await;
            *self.ranges.borrow_mut().entry(read.begin[0]).or_default() += 1;
            let snapshot = read.snapshot || self.is_blind(&read.begin);
            self.inner.range(RangeRead { snapshot, ..read }).await
        })
    }

    fn set(&self, key: Vec<u8>, value: Vec<u8>) {
        self.inner.set(key, value);
    }

    fn clear(&self, key: Vec<u8>) {
        self.inner.clear(key);
    }

    fn add(&self, key: Vec<u8>, delta: u64) {
        self.inner.add(key, delta);
    }

    fn commit(self: Box<Self>) -> LocalFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            turn(&self.sim).await;
            let result = self.inner.commit().await;
            self.commits.set(self.commits.get() + 1);
            if let Some(left) = self.commits_left.get() {
                self.commits_left.set(Some(left.saturating_sub(1)));
            }
            result
        })
    }
}
