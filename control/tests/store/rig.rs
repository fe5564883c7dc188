//! What the suite runs on: a store of each kind that can be closed and opened again, and a clock that can be pushed.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use shingle_control::store::embedded::EmbeddedStore;
use shingle_control::store::memory::{MemoryDisk, MemoryStore};
use shingle_control::store::{Pair, RangeRead, Store, StoreError, Transaction};
use shingle_seam::World;
use shingle_seam::clock::{Clock, Monotonic, SystemClock};
use shingle_seam::on_tokio;

/// Real time and what a test added to it.
pub struct PushedClock {
    real: SystemClock,
    pushed: Cell<Duration>,
}

impl PushedClock {
    pub fn push(&self, by: Duration) {
        self.pushed.set(self.pushed.get() + by);
    }
}

impl Clock for PushedClock {
    fn now(&self) -> Monotonic {
        self.real.now() + self.pushed.get()
    }

    fn unix_ms(&self) -> u64 {
        self.real.unix_ms()
    }
}

enum Medium {
    Memory(MemoryDisk),
    Embedded(tempfile::TempDir),
}

/// One store's medium, and the world around it.
pub struct Rig {
    pub world: World,
    pub clock: Rc<PushedClock>,
    medium: Medium,
}

impl Rig {
    fn new(medium: Medium) -> Self {
        let clock = Rc::new(PushedClock { real: SystemClock::new(), pushed: Cell::default() });
        let world = World { clock: clock.clone(), ..on_tokio::world(1) };
        Self { world, clock, medium }
    }

    /// Opens the store on what earlier ones left. At most one may be open.
    pub fn open(&self) -> Rc<dyn Store> {
        match &self.medium {
            Medium::Memory(disk) => Rc::new(MemoryStore::open(self.world.clone(), disk.clone())),
            Medium::Embedded(dir) => {
                Rc::new(EmbeddedStore::open(dir.path(), self.world.clock.clone()).expect("the store opens"))
            }
        }
    }
}

/// Runs a test on a runtime of its own.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// Runs a test against every implementation.
pub fn on_every_store(test: impl AsyncFn(&Rig)) {
    run(async {
        test(&Rig::new(Medium::Memory(MemoryDisk::new(1)))).await;
        test(&Rig::new(Medium::Embedded(tempfile::tempdir().unwrap()))).await;
    });
}

/// All pairs of a range, forwards.
pub fn all(begin: &[u8], end: &[u8]) -> RangeRead {
    RangeRead { begin: begin.to_vec(), end: end.to_vec(), limit: usize::MAX, reverse: false, snapshot: false }
}

/// Commits pairs in one transaction.
pub async fn put(store: &dyn Store, pairs: &[(&[u8], &[u8])]) {
    let transaction = store.begin();
    for (key, value) in pairs {
        transaction.set(key.to_vec(), value.to_vec());
    }
    transaction.commit().await.unwrap();
}

/// The committed value of a key.
pub async fn value(store: &dyn Store, key: &[u8]) -> Option<Vec<u8>> {
    store.begin().get(key).await.unwrap()
}

/// Everything in the store.
pub async fn content(store: &dyn Store) -> Vec<Pair> {
    store.begin().range(all(b"\0", b"\xff\xff\xff")).await.unwrap()
}

/// Runs a transaction until it commits without a conflict; other errors end it.
pub async fn until_committed<T>(
    store: &dyn Store,
    mut body: impl AsyncFnMut(&dyn Transaction) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    for _ in 0..1000 {
        let transaction = store.begin();
        let value = body(transaction.as_ref()).await?;
        match transaction.commit().await {
            Ok(()) => return Ok(value),
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    panic!("1000 conflicts in a row");
}

/// Adds one to the number in a key.
pub async fn increment(transaction: &dyn Transaction, key: &[u8]) -> Result<u64, StoreError> {
    let number = number(transaction.get(key).await?) + 1;
    transaction.set(key.to_vec(), number.to_be_bytes().to_vec());
    Ok(number)
}

/// The number in a value; zero when there is none.
pub fn number(value: Option<Vec<u8>>) -> u64 {
    value.map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()))
}
