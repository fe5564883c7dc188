//! The store behind the control plane: ordered keys and serializable transactions, in FoundationDB's shape.
//!
//! Reads see one snapshot. A commit succeeds only if nothing this transaction read was changed since; otherwise it
//! fails with [`StoreError::Conflict`] and has had no effect. One conformance suite runs against every implementation.

mod committer;
pub mod embedded;
mod journal;
pub mod memory;
mod meter;
mod optimistic;
mod readers;
pub mod resolver;

use std::sync::Arc;

use shingle_seam::tasks::LocalFuture;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Why a read or a commit failed, one variant per reaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody changed what was read. Nothing was written: run the transaction again.
    #[error("the transaction conflicts with another one")]
    Conflict,
    /// The commit may or may not have happened: run the transaction again only if it notices its own effect.
    #[error("the result of the commit is not known")]
    UnknownResult,
    /// The transaction lived longer than `TRANSACTION_LIFE_MS`: run it again, with less work in it.
    #[error("the transaction is {age_ms} ms old, more than its life")]
    TooOld { age_ms: u64 },
    /// Keys and values exceed `TRANSACTION_BYTES_MAX`, or one key or value its own limit: a defect of the caller.
    #[error("the transaction or one of its keys or values has {bytes} bytes, more than the limit")]
    TooLarge { bytes: usize },
    /// The store is broken (disk full, I/O error): nothing more may be acknowledged.
    #[error("the store failed: {0}")]
    Failed(Arc<str>),
}

/// Which keys to read: `begin <= key < end`.
#[derive(Debug, Clone)]
pub struct RangeRead {
    pub begin: Vec<u8>,
    pub end: Vec<u8>,
    pub limit: usize,
    /// Last key first.
    pub reverse: bool,
    /// Read without adding the range to the conflict check.
    pub snapshot: bool,
}

/// One transaction. Dropping it without a commit forgets it.
pub trait Transaction {
    /// The value of a key, this transaction's own writes included. Adds the key to the conflict check, unless the
    /// value is its own.
    fn get<'a>(&'a self, key: &'a [u8]) -> LocalFuture<'a, Result<Option<Vec<u8>>, StoreError>>;
    /// As `get`, without adding the key to the conflict check: the value may have changed by the time of the commit.
    fn peek<'a>(&'a self, key: &'a [u8]) -> LocalFuture<'a, Result<Option<Vec<u8>>, StoreError>>;
    /// Pairs in key order, this transaction's own writes included. Adds what was read, up to the last pair when the
    /// limit cut it off, to the conflict check unless `snapshot` is set.
    fn range(&self, read: RangeRead) -> LocalFuture<'_, Result<Vec<Pair>, StoreError>>;
    /// Keys are never empty.
    fn set(&self, key: Vec<u8>, value: Vec<u8>);
    fn clear(&self, key: Vec<u8>);
    /// Adds to a counter: 8 bytes, little-endian, wrapping; a missing one is zero. The addition is done when the
    /// transaction commits, without a read: transactions that add to one counter do not conflict with each other, only
    /// with those that read it.
    fn add(&self, key: Vec<u8>, delta: u64);
    /// Durable when it ends with `Ok`.
    fn commit(self: Box<Self>) -> LocalFuture<'static, Result<(), StoreError>>;
}

/// What a store has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreMetrics {
    /// Transactions committed with at least one write.
    pub commits: u64,
    /// Times the medium was synchronised for them: fewer than commits when commits come together.
    pub syncs: u64,
    pub conflicts: u64,
    /// Time from asking for a commit to its being durable.
    pub commit_p50_us: u32,
    pub commit_p99_us: u32,
}

/// A counter's value after an addition; a value of another length is cut, or filled with zeros.
pub(crate) fn counter_after(value: Option<&[u8]>, delta: u64) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(value.unwrap_or_default()).for_each(|(byte, value)| *byte = *value);
    u64::from_le_bytes(bytes).wrapping_add(delta).to_le_bytes()
}

/// A store.
pub trait Store {
    fn begin(&self) -> Box<dyn Transaction>;
    fn metrics(&self) -> StoreMetrics;
}
