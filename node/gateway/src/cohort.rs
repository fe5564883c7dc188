//! How fast members answer reads, as their cohort sees it: a member is compared with the others of its volume, never
//! with itself, so a slow disk cannot talk its own slowness into being normal.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use shingle_proto::ids::OsdId;
use shingle_proto::limits::{HEDGE_DELAY_DEFAULT_MS, HEDGE_PERCENT, HEDGE_SAVED_MAX, KIB, MIB, READ_PATIENCE_MS};

/// Quarter octaves from `FIRST_US` up: 64 of them reach four seconds.
const BUCKETS: usize = 64;
const FIRST_US: f64 = 64.0;
/// Latency depends on size: reads are compared within their class.
const CLASSES: usize = 3;
/// A histogram of this many reads is halved: old reads fade out.
const FADE_AT: u32 = 1024;
/// Reads a p95 must rest on.
const SAMPLES_MIN: u32 = 32;
const DELAY_MIN: Duration = Duration::from_millis(1);
const DELAY_MAX: Duration = Duration::from_millis(READ_PATIENCE_MS);

#[derive(Clone, Copy)]
struct Histogram {
    counts: [u32; BUCKETS],
    total: u32,
}

impl Histogram {
    const EMPTY: Self = Self { counts: [0; BUCKETS], total: 0 };

    fn add(&mut self, latency: Duration) {
        let octaves = (latency.as_micros() as f64 / FIRST_US).max(1.0).log2();
        let bucket = ((octaves * 4.0) as usize).min(BUCKETS - 1);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
            self.total += 1;
        }
        if self.total >= FADE_AT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.total += other.total;
    }

    /// The upper edge of the bucket that holds the 95th percentile, when there are enough reads.
    fn p95(&self) -> Option<Duration> {
        if self.total < SAMPLES_MIN {
            return None;
        }
        let rank = self.total - self.total / 20;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_micros((FIRST_US * ((bucket + 1) as f64 / 4.0).exp2()) as u64))
    }
}

/// Read latencies per OSD and size class, and the budget of hedges.
pub struct Cohorts {
    latencies: RefCell<BTreeMap<OsdId, [Histogram; CLASSES]>>,
    /// Hundredths of hedges saved up.
    saved: Cell<u64>,
}

impl Default for Cohorts {
    fn default() -> Self {
        Self { latencies: RefCell::default(), saved: Cell::new(100 * HEDGE_SAVED_MAX) }
    }
}

impl Cohorts {
    /// A member answered, or was given up, after `latency`.
    pub fn note(&self, osd: OsdId, sealed_bytes: u32, latency: Duration) {
        let mut latencies = self.latencies.borrow_mut();
        let classes = latencies.entry(osd).or_insert([Histogram::EMPTY; CLASSES]);
        if let Some(histogram) = classes.get_mut(class(sealed_bytes)) {
            histogram.add(latency);
        }
    }

    /// When a read from `osd` is late: the p95 of its `mates`. While those have too few reads, what was measured of their
    /// disks when they were qualified (each mate comes with when it is late by that), the slowest of them; else the p95
    /// of all other OSDs.
    pub fn delay(
        &self,
        osd: OsdId,
        mates: impl Iterator<Item = (OsdId, Option<Duration>)>,
        sealed_bytes: u32,
    ) -> Duration {
        let latencies = self.latencies.borrow();
        let class = class(sealed_bytes);
        let mut cohort = Histogram::EMPTY;
        let mut qualified = None;
        for (mate, late) in mates.filter(|(mate, _)| *mate != osd) {
            latencies.get(&mate).and_then(|classes| classes.get(class)).inspect(|histogram| cohort.merge(histogram));
            qualified = qualified.max(late);
        }
        let everybody = || {
            let mut all = Histogram::EMPTY;
            let others = latencies.iter().filter(|(other, _)| **other != osd);
            others.filter_map(|(_, classes)| classes.get(class)).for_each(|histogram| all.merge(histogram));
            all.p95()
        };
        let p95 = cohort.p95().or(qualified).or_else(everybody);
        p95.unwrap_or(Duration::from_millis(HEDGE_DELAY_DEFAULT_MS)).clamp(DELAY_MIN, DELAY_MAX)
    }

    /// A read started: it earns its share of a hedge.
    pub fn earn(&self) {
        self.saved.set((self.saved.get() + HEDGE_PERCENT).min(100 * HEDGE_SAVED_MAX));
    }

    /// Takes one hedge from the budget.
    pub fn spend(&self) -> bool {
        let saved = self.saved.get();
        let enough = saved >= 100;
        if enough {
            self.saved.set(saved - 100);
        }
        enough
    }
}

fn class(sealed_bytes: u32) -> usize {
    match u64::from(sealed_bytes) {
        small if small <= 256 * KIB => 0,
        middle if middle <= MIB => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u32 = 4 << 20;

    fn unmeasured<const N: usize>(osds: [u64; N]) -> impl Iterator<Item = (OsdId, Option<Duration>)> {
        osds.into_iter().map(|osd| (OsdId(osd), None))
    }

    #[test]
    fn a_slow_member_is_judged_by_its_mates() {
        let cohorts = Cohorts::default();
        for _ in 0..40 {
            cohorts.note(OsdId(1), BYTES, Duration::from_millis(900));
            cohorts.note(OsdId(2), BYTES, Duration::from_millis(4));
        }
        let slow = cohorts.delay(OsdId(1), unmeasured([1, 2]), BYTES);
        assert!(slow >= Duration::from_millis(4) && slow < Duration::from_millis(6), "{slow:?}");
    }

    #[test]
    fn too_few_reads_fall_back_to_everybody_and_then_to_the_default() {
        let cohorts = Cohorts::default();
        let default = Duration::from_millis(HEDGE_DELAY_DEFAULT_MS);
        assert_eq!(cohorts.delay(OsdId(1), unmeasured([2]), BYTES), default);
        (0..40).for_each(|_| cohorts.note(OsdId(9), BYTES, Duration::from_millis(20)));
        assert!(cohorts.delay(OsdId(1), unmeasured([2]), BYTES) < Duration::from_millis(30));
        assert_eq!(cohorts.delay(OsdId(1), unmeasured([2]), 1), default, "another size class");
    }

    #[test]
    fn qualified_mates_say_what_is_late_until_enough_was_read_from_them() {
        let cohorts = Cohorts::default();
        (0..40).for_each(|_| cohorts.note(OsdId(9), BYTES, Duration::from_millis(400)));
        let mates = || [(1, 1), (2, 15), (3, 12)].map(|(osd, ms)| (OsdId(osd), Some(Duration::from_millis(ms))));
        let delay = cohorts.delay(OsdId(1), mates().into_iter(), BYTES);
        assert_eq!(delay, Duration::from_millis(15), "the slowest mate's, not its own, not other disks'");
        let own = [(OsdId(1), Some(Duration::from_millis(1)))].into_iter().chain(unmeasured([2]));
        assert!(cohorts.delay(OsdId(1), own, BYTES) > Duration::from_millis(300), "nothing is known of the mates");
        (0..40).for_each(|_| cohorts.note(OsdId(2), BYTES, Duration::from_millis(40)));
        let learned = cohorts.delay(OsdId(1), mates().into_iter(), BYTES);
        assert!(learned >= Duration::from_millis(40), "under load reads take longer: {learned:?}");
    }

    #[test]
    fn hedges_are_five_in_a_hundred_reads() {
        let cohorts = Cohorts::default();
        while cohorts.spend() {}
        (0..200).for_each(|_| cohorts.earn());
        let hedges = (0..).take_while(|_| cohorts.spend()).count();
        assert_eq!(hedges, 10);
    }
}
