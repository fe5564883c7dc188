//! Runs a transaction until it commits: conflicts are retried with jittered, growing waits and a bounded number of tries.

use std::time::Duration;

use shingle_proto::limits::{TRANSACTION_BACKOFF_MS_MAX, TRANSACTION_TRIES_MAX};
use shingle_seam::World;

use super::{Store, StoreError, Transaction};

/// What to do when nobody knows whether a commit happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnknown {
    /// Run it again: the transaction notices its own effect, or having it twice is the same as having it once.
    Retry,
    /// Tell the caller.
    Report,
}

/// An error of a transaction's body: its own refusals, and the store's failures passed through.
pub trait TransactionError: From<StoreError> {
    /// The store's failure in it, if it is one.
    fn store_error(&self) -> Option<&StoreError>;
}

impl TransactionError for StoreError {
    fn store_error(&self) -> Option<&StoreError> {
        Some(self)
    }
}

/// Runs `body` in a transaction of its own and commits it, again and again until it succeeds.
///
/// An error of `body` that is not the store's ends it without a commit. `body` must not have effects outside its
/// transaction, since it may run many times. After `TRANSACTION_TRIES_MAX` tries the last error is given back.
pub async fn transact<T, E: TransactionError>(
    store: &dyn Store,
    world: &World,
    on_unknown: OnUnknown,
    mut body: impl AsyncFnMut(&dyn Transaction) -> Result<T, E>,
) -> Result<T, E> {
    let mut tries = 1;
    loop {
        let transaction = store.begin();
        let error = match body(transaction.as_ref()).await {
            Ok(value) => match transaction.commit().await {
                Ok(()) => return Ok(value),
                Err(error) => E::from(error),
            },
            Err(error) => error,
        };
        let again = match error.store_error() {
            Some(StoreError::Conflict | StoreError::TooOld { .. }) => true,
            Some(StoreError::UnknownResult) => on_unknown == OnUnknown::Retry,
            Some(StoreError::TooLarge { .. } | StoreError::Failed(_)) | None => false,
        };
        if !again || tries == TRANSACTION_TRIES_MAX {
            return Err(error);
        }
        world.tasks.sleep(wait_before_retry(world, tries)).await;
        tries += 1;
    }
}

/// Between half and all of 1, 2, 4 ... ms, so that those who met once do not meet again.
fn wait_before_retry(world: &World, tries: u32) -> Duration {
    let longest_us = (1000_u64 << tries.min(16).saturating_sub(1)).min(TRANSACTION_BACKOFF_MS_MAX * 1000);
    Duration::from_micros(longest_us / 2 + world.entropy.below(longest_us / 2))
}
