//! Whose I/O goes to the disk next: its lanes say who (see `lanes`), and one goes as long as the disk's queue is not full
//! (see `depth`). Pure: no clock, no device, no task.
//!
//! An I/O costs what whoever offers it says (see `cost`).

use shingle_proto::frame::Class;

use super::depth::FULL;
use super::lanes::{Lanes, QueueFull, Shares};

/// What an I/O takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Of its class's share.
    pub cost: u64,
    /// Of the disk's queue while it is in flight.
    pub part: u64,
}

/// The queues of one disk. `T` is whatever waits.
pub struct Schedule<T> {
    lanes: Lanes<(u64, T)>,
    /// The parts of the disk's queue that are taken.
    taken: u64,
    in_flight: usize,
}

impl<T> Schedule<T> {
    pub fn new(shares: Shares) -> Self {
        Self { lanes: Lanes::new(shares), taken: 0, in_flight: 0 }
    }

    /// Queues an I/O.
    ///
    /// # Errors
    /// When as many of its class wait as may.
    pub fn offer(&mut self, class: Class, claim: Claim, item: T) -> Result<(), QueueFull> {
        self.lanes.join(class, claim.cost, (claim.part, item))
    }

    /// The I/O that starts now, if one waits and the disk's queue is not full; it may fill it to more than that.
    /// [`Schedule::done`] ends it.
    pub fn start_next(&mut self) -> Option<T> {
        if self.taken >= FULL {
            return None;
        }
        let (part, item) = self.lanes.serve()?;
        self.taken += part;
        self.in_flight += 1;
        Some(item)
    }

    /// An I/O that took such a part of the queue has ended.
    pub fn done(&mut self, part: u64) {
        assert!(self.in_flight > 0 && self.taken >= part, "an I/O ends once, after it started");
        self.in_flight -= 1;
        self.taken -= part;
    }

    /// Takes back what waits and is not wanted any more.
    pub fn withdraw(&mut self, class: Class, unwanted: impl Fn(&T) -> bool) {
        self.lanes.withdraw(class, |(_, item)| unwanted(item));
    }

    pub fn waiting(&self) -> usize {
        self.lanes.waiting()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The cost of all I/Os of a class that have started.
    pub fn served_cost(&self, class: Class) -> u64 {
        self.lanes.served_cost(class)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use shingle_proto::limits::{OSD_CLASS_QUEUE_MAX, OSD_SHARE_MAX};

    use super::*;
    use crate::osd::depth::Depths;

    fn claim(cost: u64, depth: usize) -> Claim {
        Claim { cost, part: Depths::same(depth as u32).part(0) }
    }

    /// A saturated schedule: every class in `busy` always has I/Os of its size waiting. The cost each was served.
    fn saturate(shares: Shares, io_cost_bytes: u64, depth: usize, busy: &[(Class, u64)], ios: usize) -> [u64; 4] {
        let mut schedule = Schedule::new(shares);
        let claim = |bytes: u64| claim(bytes + io_cost_bytes, depth);
        for (class, bytes) in busy {
            (0..3).for_each(|_| schedule.offer(*class, claim(*bytes), (*class, *bytes)).unwrap());
        }
        let mut running = VecDeque::new();
        for _ in 0..ios {
            while let Some((class, bytes)) = schedule.start_next() {
                schedule.offer(class, claim(bytes), (class, bytes)).unwrap();
                running.push_back(class);
            }
            assert_eq!(running.len(), depth, "work-conserving: nothing waits while the device has room");
            let _ = running.pop_front();
            schedule.done(claim(0).part);
        }
        Class::ALL.map(|class| schedule.served_cost(class))
    }

    fn assert_shares(shares: Shares, busy: &[(Class, u64)], served: [u64; 4], io_cost_bytes: u64) {
        let total: u64 = served.iter().sum();
        let shares_of_busy: u32 = busy.iter().map(|(class, _)| shares.of(*class)).sum();
        let largest = busy.iter().map(|(_, bytes)| bytes + io_cost_bytes).max().unwrap();
        for (class, _) in busy {
            let expected = u128::from(total) * u128::from(shares.of(*class)) / u128::from(shares_of_busy);
            let expected = u64::try_from(expected).unwrap();
            let off = served[*class as usize].abs_diff(expected);
            assert!(
                off <= 4 * largest + expected / 100,
                "{class:?}: {} of {expected}, {shares:?}",
                served[*class as usize]
            );
        }
    }

    #[test]
    fn saturated_classes_are_served_by_their_shares() {
        let shares = Shares::default();
        let busy = Class::ALL.map(|class| (class, 1 << 20));
        let served = saturate(shares, 0, 8, &busy, 100_000);
        assert_shares(shares, &busy, served, 0);
        let total: u64 = served.iter().sum();
        assert_eq!(Class::ALL.map(|class| (served[class as usize] * 1000 + total / 2) / total), [600, 150, 150, 100]);
    }

    #[test]
    fn idle_shares_go_to_the_others() {
        let shares = Shares::default();
        let busy = [(Class::Client, 64 << 10), (Class::Scrub, 4 << 20)];
        let served = saturate(shares, 1 << 20, 4, &busy, 50_000);
        assert_shares(shares, &busy, served, 1 << 20);
        let alone = saturate(shares, 0, 4, &[(Class::Compaction, 4096)], 1000);
        assert_eq!(alone[3], 1003 * 4096, "one class alone has the whole disk");
    }

    #[test]
    fn positioning_counts_so_that_small_transfers_are_not_cheap() {
        let shares = Shares { client: 1, repair: 1, scrub: 1, compaction: 1 };
        let busy = [(Class::Client, 4096), (Class::Repair, 4 << 20)];
        let served = saturate(shares, 1 << 20, 1, &busy, 60_000);
        assert_shares(shares, &busy, served, 1 << 20);
    }

    #[test]
    fn class_that_was_idle_neither_saved_up_nor_lost_anything() {
        let mut schedule = Schedule::new(Shares { client: 10, repair: 10, scrub: 10, compaction: 10 });
        let (one, done) = (claim(100, 1), claim(100, 1).part);
        for _ in 0..1000 {
            schedule.offer(Class::Client, one, Class::Client).unwrap();
            assert_eq!(schedule.start_next(), Some(Class::Client));
            schedule.done(done);
        }
        (0..100).for_each(|_| schedule.offer(Class::Client, one, Class::Client).unwrap());
        (0..100).for_each(|_| schedule.offer(Class::Repair, one, Class::Repair).unwrap());
        let first: Vec<Class> = std::iter::from_fn(|| {
            let next = schedule.start_next()?;
            schedule.done(done);
            Some(next)
        })
        .take(20)
        .collect();
        let repairs = first.iter().filter(|class| **class == Class::Repair).count();
        assert!((9..=11).contains(&repairs), "{first:?}");
    }

    #[test]
    fn queues_are_bounded_one_by_one() {
        let (mut schedule, one) = (Schedule::new(Shares::default()), claim(1, 1));
        (0..OSD_CLASS_QUEUE_MAX).for_each(|_| schedule.offer(Class::Repair, one, ()).unwrap());
        assert_eq!(schedule.offer(Class::Repair, one, ()), Err(QueueFull));
        assert_eq!(schedule.offer(Class::Client, one, ()), Ok(()));
        schedule.withdraw(Class::Repair, |()| true);
        assert_eq!(schedule.waiting(), 1);
    }

    #[test]
    fn large_ios_fill_the_queue_sooner_than_small_ones() {
        let mut schedule = Schedule::new(Shares::default());
        let (large, small) = (claim(1 << 20, 4), claim(4096, 32));
        let started = |schedule: &mut Schedule<u64>| std::iter::from_fn(|| schedule.start_next()).collect::<Vec<_>>();
        (0..8).for_each(|_| schedule.offer(Class::Client, large, large.part).unwrap());
        let running = started(&mut schedule);
        assert_eq!(running.len(), 4);
        schedule.withdraw(Class::Client, |_| true);
        running.into_iter().for_each(|part| schedule.done(part));
        (0..40).for_each(|_| schedule.offer(Class::Client, small, small.part).unwrap());
        assert_eq!(started(&mut schedule).len(), 32);
        // Half of the queue is small ones', two large ones have the rest.
        (0..16).for_each(|_| schedule.done(small.part));
        schedule.withdraw(Class::Client, |_| true);
        (0..8).for_each(|_| schedule.offer(Class::Client, large, large.part).unwrap());
        assert_eq!(started(&mut schedule), [large.part; 2]);
        assert_eq!(schedule.in_flight(), 18);
    }

    fn class() -> impl Strategy<Value = Class> {
        (0..4_usize).prop_map(|index| Class::ALL[index])
    }

    #[derive(Clone, Debug)]
    enum Step {
        Offer(Class, u64),
        Next,
        Done,
        Withdraw(Class),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (class(), 0..5_000_000_u64).prop_map(|(class, bytes)| Step::Offer(class, bytes)),
            3 => Just(Step::Next),
            3 => Just(Step::Done),
            1 => class().prop_map(Step::Withdraw),
        ]
    }

    proptest! {
        #[test]
        fn any_busy_classes_share_as_configured(
            shares in prop::array::uniform4(1..=OSD_SHARE_MAX),
            sizes in prop::array::uniform4(1..5_000_000_u64),
            busy in 1..16_u8,
            io_cost_bytes in 0..4_000_000_u64,
            depth in 1..64_usize,
        ) {
            let [client, repair, scrub, compaction] = shares;
            let shares = Shares { client, repair, scrub, compaction };
            let busy: Vec<_> =
                Class::ALL.into_iter().zip(sizes).filter(|(class, _)| busy & (1 << *class as u8) != 0).collect();
            let served = saturate(shares, io_cost_bytes, depth, &busy, 20_000);
            assert_shares(shares, &busy, served, io_cost_bytes);
        }

        #[test]
        fn every_io_starts_once_in_the_order_of_its_class(
            steps in prop::collection::vec(step(), 1..400),
            depth in 1..6_usize,
        ) {
            let mut schedule = Schedule::new(Shares::default());
            let mut expected: [VecDeque<usize>; 4] = Default::default();
            let (mut running, mut cost) = (0, 0);
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Offer(class, bytes) => {
                        schedule.offer(class, claim(bytes + (1 << 20), depth), (class, number, bytes)).unwrap();
                        expected[class as usize].push_back(number);
                    }
                    Step::Next => match schedule.start_next() {
                        Some((class, number, bytes)) => {
                            prop_assert_eq!(expected[class as usize].pop_front(), Some(number));
                            running += 1;
                            cost += bytes + (1 << 20);
                        }
                        None => prop_assert!(running == depth || expected.iter().all(VecDeque::is_empty)),
                    },
                    Step::Done if running > 0 => {
                        schedule.done(claim(0, depth).part);
                        running -= 1;
                    }
                    Step::Done => {}
                    Step::Withdraw(class) => {
                        schedule.withdraw(class, |_| true);
                        expected[class as usize].clear();
                    }
                }
                prop_assert!(schedule.in_flight() == running && running <= depth);
                prop_assert_eq!(schedule.waiting(), expected.iter().map(VecDeque::len).sum::<usize>());
            }
            prop_assert_eq!(Class::ALL.iter().map(|class| schedule.served_cost(*class)).sum::<u64>(), cost);
        }
    }
}
