//! How long a dead child rests before it is started again. Pure, so that it can be tested.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// A child that lived longer had recovered: its next death counts as a first one.
const RECOVERED_AFTER: Duration = Duration::from_secs(30);

/// The waits of one child: 0.2 s, doubled with every death in a row, 10 s at most.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    deaths_in_a_row: u32,
}

impl Backoff {
    /// The child died after living for `lived`: how long to wait.
    pub fn died(&mut self, lived: Duration) -> Duration {
        if lived > RECOVERED_AFTER {
            self.deaths_in_a_row = 0;
        }
        let factor = 1_u32.checked_shl(self.deaths_in_a_row).unwrap_or(u32::MAX);
        self.deaths_in_a_row = self.deaths_in_a_row.saturating_add(1);
        FIRST.saturating_mul(factor).min(LONGEST)
    }

    /// Deaths since the child last lived long.
    pub fn deaths_in_a_row(&self) -> u32 {
        self.deaths_in_a_row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_ten_seconds() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.died(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        for _ in 0..100 {
            assert_eq!(backoff.died(Duration::ZERO), LONGEST);
        }
    }

    #[test]
    fn a_child_that_lived_long_starts_over() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.died(Duration::ZERO);
        }
        assert_eq!(backoff.died(Duration::from_secs(31)), FIRST);
        assert_eq!(backoff.deaths_in_a_row(), 1);
    }
}
