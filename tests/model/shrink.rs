//! Delta debugging: the fewest operations that still fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::drive::run;
use super::operation::Operation;
use crate::crash::pool::message;

/// Runs until shrinking gives up; each is as long as what is left.
const TRIES: usize = 2000;

/// Runs operations; how they fail.
pub fn outcome(operations: &[Operation], seed: u64) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| run(operations, seed))) {
        Ok(Ok(())) => None,
        Ok(Err((index, what))) => Some(format!("operation {index}: {what}")),
        Err(panic) => Some(format!("panic: {}", message(&*panic))),
    }
}

/// The fewest operations found that fail, and how.
pub fn shrink(operations: &[Operation], seed: u64, mut what: String) -> (Vec<Operation>, String) {
    let mut kept = operations.to_vec();
    let mut piece = kept.len().div_ceil(2).max(1);
    let mut tries = 0;
    loop {
        let mut removed = false;
        let mut at = 0;
        while at < kept.len() && tries < TRIES {
            tries += 1;
            let mut fewer = kept.clone();
            fewer.drain(at..(at + piece).min(kept.len()));
            match outcome(&fewer, seed) {
                Some(failure) => {
                    (kept, what, removed) = (fewer, failure, true);
                }
                None => at += piece,
            }
        }
        if tries >= TRIES || (piece == 1 && !removed) {
            return (kept, what);
        }
        piece = (piece / 2).max(1);
    }
}
