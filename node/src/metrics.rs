//! What an OSD counts and times, for heartbeats.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use hdrhistogram::Histogram;
use shingle_seam::clock::Monotonic;

/// Latencies older than two of these are forgotten.
const WINDOW: Duration = Duration::from_secs(30);
/// A minute: whatever takes longer counts as this.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Latencies of the last [`WINDOW`] to twice that.
pub struct Latencies {
    current: RefCell<Histogram<u32>>,
    previous: RefCell<Histogram<u32>>,
    since: Cell<Monotonic>,
}

impl Latencies {
    pub fn new(now: Monotonic) -> Self {
        let empty = || {
            let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 2);
            RefCell::new(histogram.expect("the bounds are legal: 1 < a minute, two digits"))
        };
        Self { current: empty(), previous: empty(), since: Cell::new(now) }
    }

    pub fn record(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.current.borrow_mut().saturating_record(us.max(1));
    }

    /// Median and 99th percentile in microseconds; zeros when nothing was recorded.
    pub fn p50_p99_us(&self, now: Monotonic) -> (u32, u32) {
        if now - self.since.get() > WINDOW {
            self.since.set(now);
            self.current.swap(&self.previous);
            self.current.borrow_mut().reset();
        }
        let mut both = self.previous.borrow().clone();
        if let Err(error) = both.add(&*self.current.borrow()) {
            tracing::error!(?error, "latency histograms of one shape do not add up");
        }
        let at = |quantile| u32::try_from(both.value_at_quantile(quantile)).unwrap_or(u32::MAX);
        if both.is_empty() { (0, 0) } else { (at(0.5), at(0.99)) }
    }
}

/// Counters of one OSD since the process started.
pub struct OsdMetrics {
    pub appends: Cell<u64>,
    pub append_bytes: Cell<u64>,
    pub reads: Cell<u64>,
    pub read_bytes: Cell<u64>,
    pub flushes: Cell<u64>,
    /// From acceptance to durable.
    pub append_latencies: Latencies,
    pub read_latencies: Latencies,
}

impl OsdMetrics {
    pub fn new(now: Monotonic) -> Self {
        Self {
            appends: Cell::new(0),
            append_bytes: Cell::new(0),
            reads: Cell::new(0),
            read_bytes: Cell::new(0),
            flushes: Cell::new(0),
            append_latencies: Latencies::new(now),
            read_latencies: Latencies::new(now),
        }
    }
}

/// Adds to a counter.
pub fn count(counter: &Cell<u64>, by: u64) {
    counter.set(counter.get().saturating_add(by));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_those_of_the_last_minute() {
        let start = Monotonic(0);
        let latencies = Latencies::new(start);
        assert_eq!(latencies.p50_p99_us(start), (0, 0));
        (0..100).for_each(|_| latencies.record(Duration::from_millis(1)));
        let (p50, p99) = latencies.p50_p99_us(start);
        assert!((990..1020).contains(&p50) && (990..1020).contains(&p99), "{p50} {p99}");
        let later = start + 2 * WINDOW;
        assert!(latencies.p50_p99_us(later).0 > 0, "the previous window still counts");
        assert_eq!(latencies.p50_p99_us(later + 2 * WINDOW), (0, 0));
    }
}
