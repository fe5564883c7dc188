//! How fast one processor copies memory: what other machines on the same computer take from this one.
//!
//! Appends and reads of ours take processor and memory; a peer that waits for a flush after every write takes neither. On a
//! virtual machine whose neighbours are busy the first gets slower and the second does not, so a ratio is worth as much as
//! what is known of that.

use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use shingle_proto::limits::{GIB, MIB};

/// Together more than the caches of today's processors give to one core.
const COPIED_BYTES: usize = 64 * MIB as usize;
const NOISE_SEED: u64 = 2;

/// Memory to copy, and where to.
pub struct Memory {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Memory {
    pub fn new() -> Self {
        let mut from = vec![0; COPIED_BYTES];
        SmallRng::seed_from_u64(NOISE_SEED).fill_bytes(&mut from);
        // Written once, so that no page of it is new when it is measured.
        Self { to: from.clone(), from }
    }

    /// Copies it once: GiB a second. Takes a few hundredths of a second.
    pub fn gib_per_second(&mut self) -> f64 {
        let started = Instant::now();
        self.to.copy_from_slice(&self.from);
        // Nobody reads the copy, and a compiler may know that.
        std::hint::black_box(&mut self.to);
        COPIED_BYTES as f64 / GIB as f64 / started.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_copies_everything_and_has_a_rate() {
        let mut memory = Memory::new();
        memory.to.fill(0);
        let rate = memory.gib_per_second();
        assert!(rate.is_finite() && rate > 0.0, "{rate}");
        assert_eq!(memory.from, memory.to);
    }
}
