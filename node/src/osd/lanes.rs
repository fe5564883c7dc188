//! Who of those that wait goes next: weighted fair queueing over classes (start-time fair queueing). Pure: no clock, no
//! device, no task.
//!
//! Each class has one lane and a share. Whoever waits has a cost, which the host names; a class that has been served cost
//! C at share S stands at C / S, and the class that stands lowest goes next. So classes that always wait are served by
//! their shares, whoever does not leaves its share to the others, and nobody saves up service while idle. Within a
//! class the order is that of arrival, and whoever is next stays next until served, however large: nobody small
//! overtakes. No class starves: every share is at least 1 (invariant 9: every queue has a bound).

use std::collections::VecDeque;

use shingle_proto::frame::Class;
use shingle_proto::limits::{OSD_CLASS_QUEUE_MAX, OSD_SHARE_MAX};

/// Fixed-point factor of tags: a share of [`OSD_SHARE_MAX`] still counts single bytes.
const SCALE: u128 = OSD_SHARE_MAX as u128;

/// How the classes divide a disk that all of them want. Only the ratios count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    pub client: u32,
    pub repair: u32,
    pub scrub: u32,
    pub compaction: u32,
}

impl Default for Shares {
    /// Of a hundred. Scrub's is what a disk of 22 TB needs to be swept in two weeks at 126 MB/s.
    fn default() -> Self {
        Self { client: 60, repair: 15, scrub: 15, compaction: 10 }
    }
}

impl Shares {
    pub fn of(&self, class: Class) -> u32 {
        match class {
            Class::Client => self.client,
            Class::Repair => self.repair,
            Class::Scrub => self.scrub,
            Class::Compaction => self.compaction,
        }
    }

    pub fn total(&self) -> u32 {
        Class::ALL.iter().map(|class| self.of(*class)).sum()
    }

    /// `rate` scaled to a class's part of the whole.
    pub fn part_of(&self, class: Class, rate: u64) -> u64 {
        let part = u128::from(rate) * u128::from(self.of(class)) / u128::from(self.total().max(1));
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

/// As many of the class wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many of this class wait for the disk")]
pub struct QueueFull;

struct Lane<T> {
    class: Class,
    share: u32,
    waiting: VecDeque<(u64, T)>,
    /// Where the class stands when its first in line is served.
    start: u128,
    served_cost: u64,
}

/// The lanes of all classes. `T` is whatever waits.
pub struct Lanes<T> {
    lanes: [Lane<T>; Class::ALL.len()],
    /// Where whoever was served last stood: newcomers join there.
    now: u128,
}

impl<T> Lanes<T> {
    pub fn new(shares: Shares) -> Self {
        let lanes = Class::ALL.map(|class| Lane {
            class,
            share: shares.of(class).max(1),
            waiting: VecDeque::new(),
            start: 0,
            served_cost: 0,
        });
        Self { lanes, now: 0 }
    }

    fn lane(&mut self, class: Class) -> &mut Lane<T> {
        let [client, repair, scrub, compaction] = &mut self.lanes;
        match class {
            Class::Client => client,
            Class::Repair => repair,
            Class::Scrub => scrub,
            Class::Compaction => compaction,
        }
    }

    /// Puts one at the end of its class's lane.
    ///
    /// # Errors
    /// When [`OSD_CLASS_QUEUE_MAX`] of its class wait already.
    pub fn join(&mut self, class: Class, cost: u64, item: T) -> Result<(), QueueFull> {
        let now = self.now;
        let lane = self.lane(class);
        if lane.waiting.len() >= OSD_CLASS_QUEUE_MAX {
            return Err(QueueFull);
        }
        if lane.waiting.is_empty() {
            lane.start = lane.start.max(now);
        }
        lane.waiting.push_back((cost, item));
        Ok(())
    }

    /// Who goes next; stays where it is.
    pub fn next(&self) -> Option<&T> {
        let lanes = self.lanes.iter().filter(|lane| !lane.waiting.is_empty());
        lanes.min_by_key(|lane| lane.start)?.waiting.front().map(|(_, item)| item)
    }

    /// Serves who goes next, and counts it to its class.
    pub fn serve(&mut self) -> Option<T> {
        let lane = self.lanes.iter_mut().filter(|lane| !lane.waiting.is_empty()).min_by_key(|lane| lane.start)?;
        let (cost, item) = lane.waiting.pop_front()?;
        self.now = lane.start;
        lane.start += u128::from(cost) * SCALE / u128::from(lane.share);
        lane.served_cost = lane.served_cost.saturating_add(cost);
        Some(item)
    }

    /// Takes out who does not want to wait any more.
    pub fn withdraw(&mut self, class: Class, unwanted: impl Fn(&T) -> bool) {
        self.lane(class).waiting.retain(|(_, item)| !unwanted(item));
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.waiting.is_empty())
    }

    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.waiting.len()).sum()
    }

    /// The cost of all of a class that were served.
    pub fn served_cost(&self, class: Class) -> u64 {
        self.lanes.iter().find(|lane| lane.class == class).map_or(0, |lane| lane.served_cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_next_stays_next_however_many_come_behind() {
        let mut lanes = Lanes::new(Shares { client: 1, repair: 1, scrub: 1, compaction: 1 });
        lanes.join(Class::Client, 10, "served").unwrap();
        assert_eq!(lanes.serve(), Some("served"));
        lanes.join(Class::Scrub, 1_000_000, "large").unwrap();
        assert_eq!(lanes.next(), Some(&"large"));
        for _ in 0..10 {
            lanes.join(Class::Client, 1, "small").unwrap();
            assert_eq!(lanes.next(), Some(&"large"), "it came first and its class stands no higher");
        }
        assert_eq!(lanes.serve(), Some("large"));
        assert_eq!(lanes.next(), Some(&"small"));
    }

    #[test]
    fn what_was_withdrawn_counts_for_nobody() {
        let mut lanes = Lanes::new(Shares::default());
        lanes.join(Class::Repair, 1 << 40, 1).unwrap();
        lanes.withdraw(Class::Repair, |number| *number == 1);
        assert!(lanes.is_empty() && lanes.next().is_none() && lanes.serve().is_none());
        lanes.join(Class::Repair, 1, 2).unwrap();
        lanes.join(Class::Client, 1, 3).unwrap();
        assert_eq!([lanes.serve(), lanes.serve()].map(Option::unwrap).into_iter().sum::<i32>(), 5);
        assert_eq!((lanes.served_cost(Class::Repair), lanes.waiting()), (1, 0));
    }
}
