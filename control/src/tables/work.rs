//! One transaction over typed rows. It keeps two things the store does not: what it changes in the counters, and a
//! witness, one row by which a later transaction can tell whether this one took effect.

use std::cell::{Cell, RefCell};

use shingle_proto::message::{ErrorCode, ErrorReply};

use super::keys::KeyRange;
use super::row::{Counter, Row, RowDamaged};
use super::tally::Tally;
use crate::store::{RangeRead, StoreError, Transaction};

/// Why work on the tables ended without its effect.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TableError {
    /// The tables' state or the request forbids it.
    #[error("{}", .0.message)]
    Refused(ErrorReply),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Damaged(#[from] RowDamaged),
}

impl TableError {
    /// A refusal; `number` is the offending value.
    pub fn refused(code: ErrorCode, number: u64, message: impl Into<String>) -> Self {
        Self::Refused(ErrorReply::new(code, number, message))
    }

    /// What the caller on the wire is told.
    pub fn reply(self) -> ErrorReply {
        match self {
            Self::Refused(reply) => reply,
            Self::Store(error @ (StoreError::Conflict | StoreError::TooOld { .. })) => {
                ErrorReply::new(ErrorCode::Conflict, 0, error.to_string())
            }
            Self::Store(error) => ErrorReply::new(ErrorCode::StoreFailed, 0, error.to_string()),
            Self::Damaged(error) => ErrorReply::new(ErrorCode::StoreFailed, 0, error.to_string()),
        }
    }

    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(reply) => Some(reply.code),
            _ => None,
        }
    }
}

/// A row and the value (or absence) it has once a transaction took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// One transaction over typed rows.
pub struct Work {
    transaction: Box<dyn Transaction>,
    tally: Cell<Tally>,
    witness: RefCell<Option<Witness>>,
    writes: Cell<bool>,
}

impl Work {
    pub(super) fn new(transaction: Box<dyn Transaction>) -> Self {
        Self { transaction, tally: Cell::default(), witness: RefCell::default(), writes: Cell::new(false) }
    }

    /// The row, this transaction's own writes included; joins the conflict check.
    pub async fn get<R: Row>(&self, key: &R::Key) -> Result<Option<R>, TableError> {
        let key = R::encode_key(key);
        decoded(&key, self.transaction.get(&key).await?)
    }

    /// As `get`, without joining the conflict check: the row may have changed by the time of the commit.
    pub async fn peek<R: Row>(&self, key: &R::Key) -> Result<Option<R>, TableError> {
        let key = R::encode_key(key);
        decoded(&key, self.transaction.peek(&key).await?)
    }

    /// Up to `limit` rows in key order; joins the conflict check.
    pub async fn scan<R: Row>(&self, range: KeyRange, limit: usize) -> Result<Vec<(R::Key, R)>, TableError> {
        self.read(range, limit, false).await
    }

    /// The last row of the range; joins the conflict check.
    pub async fn last<R: Row>(&self, range: KeyRange) -> Result<Option<(R::Key, R)>, TableError> {
        Ok(self.read(range, 1, true).await?.pop())
    }

    async fn read<R: Row>(&self, range: KeyRange, limit: usize, reverse: bool) -> Result<Vec<(R::Key, R)>, TableError> {
        if range.begin >= range.end {
            return Ok(Vec::new());
        }
        let read = RangeRead { begin: range.begin, end: range.end, limit, reverse, snapshot: false };
        let pairs = self.transaction.range(read).await?;
        pairs.into_iter().map(|(key, value)| Ok((R::decode_key(&key)?, R::decode(&key, &value)?))).collect()
    }

    /// Writes a row that this transaction has read to be absent.
    pub fn insert<R: Row>(&self, key: &R::Key, row: &R) {
        self.change(R::encode_key(key), None, Some(row));
    }

    /// Writes over a row that this transaction has read.
    pub fn replace<R: Row>(&self, key: &R::Key, old: &R, row: &R) {
        self.change(R::encode_key(key), Some(old), Some(row));
    }

    /// Inserts, or writes over what this transaction has read.
    pub fn put<R: Row>(&self, key: &R::Key, old: Option<&R>, row: &R) {
        self.change(R::encode_key(key), old, Some(row));
    }

    /// Clears a row that this transaction has read.
    pub fn remove<R: Row>(&self, key: &R::Key, old: &R) {
        self.change(R::encode_key(key), Some(old), None);
    }

    /// Adds to a row that is a counter, without a read: additions do not conflict with each other.
    pub fn add<R: Counter>(&self, key: &R::Key, delta: u64) {
        self.writes.set(true);
        self.transaction.add(R::encode_key(key), delta);
    }

    fn change<R: Row>(&self, key: Vec<u8>, old: Option<&R>, new: Option<&R>) {
        let mut tally = self.tally.get();
        if let Some(old) = old {
            tally -= old.tally();
        }
        if let Some(new) = new {
            tally += new.tally();
        }
        self.tally.set(tally);
        self.writes.set(true);
        let value = new.map(Row::encode);
        if R::TELLS_ITS_WRITER {
            self.testify(&key, &value);
        }
        match value {
            Some(value) => self.transaction.set(key, value),
            None => self.transaction.clear(key),
        }
    }

    /// Chooses the witness: the first row written; that says more than an absence, which others can cause as well. A
    /// later change of the same row brings the testimony up to date.
    fn testify(&self, key: &[u8], value: &Option<Vec<u8>>) {
        let mut witness = self.witness.borrow_mut();
        let better = match witness.as_ref() {
            None => true,
            Some(chosen) => chosen.key == key || (chosen.value.is_none() && value.is_some()),
        };
        if better {
            *witness = Some(Witness { key: key.to_vec(), value: value.clone() });
        }
    }

    /// Did the transaction with this witness take effect?
    pub(super) async fn confirms(&self, witness: &Witness) -> Result<bool, StoreError> {
        Ok(self.transaction.get(&witness.key).await? == witness.value)
    }

    /// Takes the transaction apart for its commit; `None` when there is nothing to commit.
    pub(super) fn finish(self) -> Option<Finished> {
        let witness = self.witness.into_inner();
        self.writes.get().then_some(Finished { transaction: self.transaction, tally: self.tally.get(), witness })
    }
}

fn decoded<R: Row>(key: &[u8], value: Option<Vec<u8>>) -> Result<Option<R>, TableError> {
    Ok(value.map(|value| R::decode(key, &value)).transpose()?)
}

/// A transaction that only has to be committed.
pub(super) struct Finished {
    pub transaction: Box<dyn Transaction>,
    pub tally: Tally,
    pub witness: Option<Witness>,
}
