//! Counts what a store does and how long commits take. Bounded memory: histograms, not samples.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::{StoreError, StoreMetrics};

/// Longest commit told apart, in microseconds: longer ones count as this long.
const LONGEST_US: u64 = 60_000_000;

/// The counters of one store.
pub(super) struct Meter {
    commits: Cell<u64>,
    conflicts: Cell<u64>,
    latency_us: RefCell<Histogram<u32>>,
}

impl Meter {
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, 2).expect("the bounds are constants that fit");
        Self { commits: Cell::default(), conflicts: Cell::default(), latency_us: RefCell::new(histogram) }
    }

    pub fn committed(&self, result: &Result<(), StoreError>, took: Duration) {
        match result {
            Ok(()) => {
                self.commits.set(self.commits.get() + 1);
                let took_us = u64::try_from(took.as_micros()).unwrap_or(LONGEST_US);
                self.latency_us.borrow_mut().saturating_record(took_us.max(1));
            }
            Err(StoreError::Conflict) => self.conflicts.set(self.conflicts.get() + 1),
            Err(_) => {}
        }
    }

    pub fn metrics(&self, syncs: u64) -> StoreMetrics {
        let latency_us = self.latency_us.borrow();
        let at = |quantile| u32::try_from(latency_us.value_at_quantile(quantile)).unwrap_or(u32::MAX);
        StoreMetrics {
            commits: self.commits.get(),
            syncs,
            conflicts: self.conflicts.get(),
            commit_p50_us: at(0.5),
            commit_p99_us: at(0.99),
        }
    }
}
