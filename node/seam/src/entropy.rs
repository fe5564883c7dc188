//! Randomness: keys, ids, put ids, tie breaks. Seeded in simulation, the kernel's in production.

use rand::TryRngCore;
use rand::rngs::OsRng;

/// A source of unpredictable bytes.
pub trait Entropy {
    fn fill(&self, bytes: &mut [u8]);

    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn u128(&self) -> u128 {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        u128::from_le_bytes(bytes)
    }

    /// A number in `0..bound`; `bound` is not zero. The bias of the remainder is below 2^-32 for bounds below 2^32.
    fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "a choice needs at least one alternative");
        self.u64() % bound
    }
}

/// The kernel's generator.
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // Without randomness no key may be made: there is no safe way to go on.
        OsRng.try_fill_bytes(bytes).expect("the kernel's random generator answers");
    }
}
