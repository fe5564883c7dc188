//! How fast one processor copies memory: what other machines on the same computer take from this one.
//!
//! Appends and reads of ours take processor and memory; a peer that waits for a flush after every write takes neither. On a
//! virtual machine whose neighbours are busy the first gets slower and the second does not. So a round waits a while for
//! them to be done, whatever is compared in it, and the report says how many began beside them all the same.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use serde::Serialize;
use shingle_proto::limits::{GIB, MIB};

/// Together more than the caches of today's processors give to one core.
const COPIED_BYTES: usize = 64 * MIB as usize;
const NOISE_SEED: u64 = 2;
/// Copies at the start, to know what is usual.
const FIRST_COPIES: usize = 20;
/// Nobody else is at work while memory is copied at so much of the best rate of this run. Undisturbed copies were within
/// a tenth of each other; beside busy neighbours they fell to a third, for 10 to 40 s at a time.
const QUIET_PART: f64 = 0.8;
const PAUSE: Duration = Duration::from_millis(100);

/// What a round began with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quiet {
    /// Copied by one core right before the round.
    pub gib_per_second: f64,
    /// Whether nobody else was at work by then.
    pub undisturbed: bool,
}

/// Memory to copy, and where to.
pub struct Memory {
    from: Vec<u8>,
    to: Vec<u8>,
    best_gib_per_second: f64,
    patience: Duration,
}

impl Memory {
    /// `patience`: how long a round waits for others to be done, at most.
    pub fn new(patience: Duration) -> Self {
        let mut from = vec![0; COPIED_BYTES];
        SmallRng::seed_from_u64(NOISE_SEED).fill_bytes(&mut from);
        // Written once, so that no page of it is new when it is measured.
        let mut memory = Self { to: from.clone(), from, best_gib_per_second: 0.0, patience };
        for _ in 0..FIRST_COPIES {
            memory.copy();
        }
        memory
    }

    /// Waits until nobody else is at work, or for as long as people have patience. It looks at nothing that is compared.
    pub fn wait_for_quiet(&mut self) -> Quiet {
        let started = Instant::now();
        loop {
            let gib_per_second = self.copy();
            let undisturbed = gib_per_second >= QUIET_PART * self.best_gib_per_second;
            if undisturbed || started.elapsed() >= self.patience {
                return Quiet { gib_per_second, undisturbed };
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Copies it once: GiB a second. Takes a few hundredths of a second.
    fn copy(&mut self) -> f64 {
        let started = Instant::now();
        self.to.copy_from_slice(&self.from);
        // Nobody reads the copy, and a compiler may know that.
        std::hint::black_box(&mut self.to);
        let rate = COPIED_BYTES as f64 / GIB as f64 / started.elapsed().as_secs_f64();
        self.best_gib_per_second = self.best_gib_per_second.max(rate);
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_copies_everything_and_the_best_rate_is_kept() {
        let mut memory = Memory::new(Duration::ZERO);
        memory.to.fill(0);
        let rate = memory.wait_for_quiet().gib_per_second;
        assert!(rate.is_finite() && rate > 0.0, "{rate}");
        assert!(memory.best_gib_per_second >= rate);
        assert_eq!(memory.from, memory.to);
    }

    #[test]
    fn a_round_waits_for_quiet_only_as_long_as_people_have_patience() {
        let mut memory = Memory::new(Duration::from_millis(250));
        memory.best_gib_per_second = f64::MAX;
        let started = Instant::now();
        let quiet = memory.wait_for_quiet();
        assert!(started.elapsed() >= Duration::from_millis(250));
        assert!(quiet.gib_per_second < f64::MAX && !quiet.undisturbed, "it waited in vain: {quiet:?}");
    }

    #[test]
    fn a_round_that_finds_quiet_does_not_wait() {
        let mut memory = Memory::new(Duration::from_secs(600));
        memory.best_gib_per_second = 0.0;
        assert!(memory.wait_for_quiet().undisturbed);
    }
}
