//! How fast, and what next: pure arithmetic over what is due when.
//!
//! The pace is the slowest constant one that meets every deadline, so reading back is spread evenly over the sweep and
//! rises only as much as something young or late asks for.

use std::time::Duration;

/// Every record is read back this long after its extent was closed, for the first time: well within a day.
pub const YOUNG_MS: u64 = 18 * 3_600_000;
/// An extent that should have been read back already is given this long.
const OVERDUE_MS: u64 = 3_600_000;

/// An extent to be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Milliseconds since 1970.
    pub due_ms: u64,
    pub bytes: u64,
}

/// When an extent is due that was last read back whole at `last_ms`, and had its last record by `settled_ms`.
pub fn due_ms(last_ms: u64, settled_ms: Option<u64>, sweep: Duration) -> u64 {
    match settled_ms {
        Some(settled_ms) if last_ms < settled_ms => settled_ms.saturating_add(YOUNG_MS),
        // A tenth of the sweep is left for disks that are busy or hosts that are down.
        _ => last_ms.saturating_add(u64::try_from(sweep.as_millis() / 10 * 9).unwrap_or(u64::MAX)),
    }
}

/// Bytes a second that make all of `dues` in time, after `first_bytes` that come before any of them; at most `most`.
pub fn pace(now_ms: u64, first_bytes: u64, dues: &mut [Due], most: u64) -> u64 {
    dues.sort_unstable_by_key(|due| due.due_ms);
    let mut bytes = first_bytes;
    let mut pace = 0;
    for due in dues {
        bytes = bytes.saturating_add(due.bytes);
        let left_ms = due.due_ms.saturating_sub(now_ms).max(OVERDUE_MS);
        let needed = u128::from(bytes) * 1000 / u128::from(left_ms) + 1;
        pace = pace.max(u64::try_from(needed).unwrap_or(u64::MAX));
    }
    pace.min(most)
}

/// The middle and the highest of some ages; zeros when there are none.
pub fn p50_p100(mut ages: Vec<u64>) -> (u64, u64) {
    ages.sort_unstable();
    let at = |index: usize| ages.get(index).copied().unwrap_or(0);
    (at(ages.len().saturating_sub(1) / 2), at(ages.len().saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3_600_000;
    const SWEEP: Duration = Duration::from_secs(14 * 24 * 3600);

    #[test]
    fn what_is_spread_over_the_sweep_is_read_evenly() {
        let mut dues: Vec<Due> = (1..=140).map(|tenth| Due { due_ms: tenth * DAY_MS / 10, bytes: 1 << 30 }).collect();
        let even = (140_u64 << 30) / (14 * 24 * 3600);
        let pace = pace(0, 0, &mut dues, u64::MAX);
        assert!(pace.abs_diff(even) <= 2, "{pace} of {even}");
    }

    #[test]
    fn young_extent_raises_the_pace_just_enough() {
        let mut dues = [Due { due_ms: 10 * DAY_MS, bytes: 10 << 30 }, Due { due_ms: DAY_MS, bytes: 1 << 30 }];
        let first = 1 << 20;
        let needed = ((1 << 30) + first) / (24 * 3600);
        assert!(pace(0, first, &mut dues, u64::MAX).abs_diff(needed.max((11 << 30) / (240 * 3600))) <= 2);
    }

    #[test]
    fn pace_never_exceeds_the_share_and_nothing_due_needs_none() {
        assert_eq!(pace(DAY_MS, 0, &mut [Due { due_ms: 0, bytes: 1 << 40 }], 1000), 1000);
        assert_eq!(pace(0, 0, &mut [], 1000), 0);
        assert!(pace(0, 0, &mut [Due { due_ms: u64::MAX, bytes: 1 }], 1000) > 0, "what is due is never forgotten");
    }

    #[test]
    fn extents_are_due_soon_after_closing_and_then_once_a_sweep() {
        assert_eq!(due_ms(5, Some(10), SWEEP), 10 + YOUNG_MS, "not read back since it was closed");
        assert_eq!(due_ms(0, Some(10), SWEEP), 10 + YOUNG_MS);
        assert_eq!(due_ms(10, Some(10), SWEEP), 10 + 14 * DAY_MS / 10 * 9);
        assert_eq!(due_ms(7, None, SWEEP), 7 + 14 * DAY_MS / 10 * 9, "still open");
        const { assert!(YOUNG_MS < DAY_MS) };
    }

    #[test]
    fn middle_and_highest_age() {
        assert_eq!(p50_p100(vec![]), (0, 0));
        assert_eq!(p50_p100(vec![3]), (3, 3));
        assert_eq!(p50_p100(vec![9, 1, 5]), (5, 9));
        assert_eq!(p50_p100(vec![4, 3, 2, 1]), (2, 4));
    }
}
