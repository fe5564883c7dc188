//! Whether a flush waits a moment for those whom the last one answered.
//!
//! Where flushes take a while, writers who wait for their answers fall into groups: what came during a flush is flushed
//! as soon as that has ended, just before those it answered come with their next records. Each flush then covers one
//! group, and everybody waits for two; some groups are small, and their flush keeps the large one waiting. A moment's wait
//! after a flush makes one group of them. A disk does one thing after another, so the appends that ran beside the other
//! group's flush take no longer before their own, and one flush of two is saved.
//!
//! Invariant: for this reason a flush begins later by a quarter of a mean flush at most, and by the appends of those who
//! came within it. Where flushes are quick nobody waits, and where waiting is in vain it is tried ever more seldom.

use std::time::Duration;

use shingle_seam::clock::Monotonic;

/// Who has not come after this part of a mean flush is not waited for. Waiting for a whole one gained half as much, where
/// flushes take half a millisecond: it waits for the last ones too, who come by themselves during the flush.
const COME_PART: u32 = 4;
/// Quicker flushes are not waited with: a part of them ends before anybody could have read an answer and come back, which
/// took 60 to 90 us without a network.
const SLOW_MIN: Duration = Duration::from_micros(200);
/// The mean is of about so many flushes.
const MEAN_OF: u32 = 8;
/// Flushes between two waits, at most, where they are in vain.
const SKIPPED_MAX: u32 = 64;

/// A wait: for so many items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub items: usize,
    /// They have to come by then.
    pub until: Monotonic,
}

/// What is known of the flushes so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Company {
    mean: Duration,
    ended: Monotonic,
    /// Items that are to be expected: those the last flush answered, and those that had come meanwhile.
    expected: usize,
    /// Flushes without a wait: so many more, and so many after the next wait in vain.
    skip: u32,
    skip_next: u32,
}

impl Company {
    /// A flush has ended that answered `answered` items, while `meanwhile` others came.
    pub fn flushed(&mut self, began: Monotonic, ended: Monotonic, answered: usize, meanwhile: usize) {
        let took = ended - began;
        self.mean = match self.mean {
            Duration::ZERO => took,
            mean => (mean * (MEAN_OF - 1) + took) / MEAN_OF,
        };
        (self.ended, self.expected) = (ended, answered + meanwhile);
    }

    /// Whether the next flush waits, where `ready` items are appended.
    pub fn wait(&mut self, now: Monotonic, ready: usize) -> Option<Wait> {
        let until = self.ended + self.mean / COME_PART;
        if self.mean < SLOW_MIN || ready >= self.expected || now >= until {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        Some(Wait { items: self.expected, until })
    }

    /// A wait has ended: `before` items were appended when it began, and `now` are. It was in vain if less than half of
    /// the missing came.
    pub fn waited(&mut self, wait: &Wait, before: usize, now: usize) {
        if 2 * now.saturating_sub(before) >= wait.items.saturating_sub(before) {
            self.skip_next = 0;
        } else {
            self.skip_next = (2 * self.skip_next).clamp(1, SKIPPED_MAX);
        }
        self.skip = self.skip_next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Monotonic {
        Monotonic::default() + Duration::from_millis(ms)
    }

    fn after(took_ms: u64, answered: usize, meanwhile: usize) -> Company {
        let mut company = Company::default();
        company.flushed(at(0), at(took_ms), answered, meanwhile);
        company
    }

    #[test]
    fn a_slow_flush_is_followed_by_a_wait_for_those_it_answered() {
        let mut company = after(80, 20, 12);
        let wait = Wait { items: 32, until: at(100) };
        assert_eq!(company.wait(at(80), 12), Some(wait));
        assert_eq!(company.wait(at(80), 32), None, "all are there");
        assert_eq!(company.wait(at(100), 12), None, "it is over");
    }

    #[test]
    fn a_lone_writer_and_a_quick_disk_are_not_waited_with() {
        assert_eq!(after(80, 1, 0).wait(at(81), 1), None);
        let mut quick = Company::default();
        let ended = at(0) + (SLOW_MIN - Duration::from_micros(1));
        quick.flushed(at(0), ended, 16, 16);
        assert_eq!(quick.wait(ended, 16), None);
    }

    #[test]
    fn waits_in_vain_become_seldom_and_one_that_helps_brings_them_back() {
        let mut company = Company::default();
        let mut waits = Vec::new();
        for flush in 0..1000 {
            company.flushed(at(flush * 100), at(flush * 100 + 80), 16, 16);
            if let Some(wait) = company.wait(at(flush * 100 + 80), 16) {
                company.waited(&wait, 16, 17);
                waits.push(flush);
            }
        }
        assert_eq!(waits[..5], [0, 2, 5, 10, 19]);
        assert!(waits.len() < 25, "{waits:?}");
        let wait = (0..=SKIPPED_MAX).find_map(|_| company.wait(at(99_980), 16)).unwrap();
        company.waited(&wait, 16, 24);
        company.flushed(at(100_000), at(100_080), 24, 8);
        assert!(company.wait(at(100_080), 8).is_some());
    }
}
