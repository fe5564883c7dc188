//! Turns at one disk: every transfer of an OSD waits for one, in the order its [`Schedule`] says, and gives it back when
//! the device has answered.
//!
//! A turn belongs to the command, not to who asked for it: whoever stops waiting for a command that has started leaves
//! it to a task that sees it through, so a stalled disk never gets more than its depth (invariant 9).

mod command;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

use shingle_hw::zone::ZoneId;
use shingle_proto::frame::Class;
use shingle_seam::tasks::Tasks;

use self::command::{Run, Runner};
use super::cost::Prices;
use super::depth::Depths;
use super::lanes::QueueFull;
use super::policy::DiskPolicy;
use super::schedule::{Claim, Schedule};

/// What waits in the schedule.
trait Waiter {
    /// Its turn has come.
    fn granted(&self);
}

/// The turns of one disk. Clones give out the same ones.
#[derive(Clone)]
pub struct Turns {
    schedule: Rc<RefCell<Schedule<Rc<dyn Waiter>>>>,
    prices: Rc<Prices>,
    depths: Rc<Depths>,
    zones: u32,
}

/// One transfer's turn; given back when dropped.
pub struct Turn {
    turns: Turns,
    /// Of the disk's queue.
    part: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.schedule.borrow_mut().done(self.part);
        self.turns.dispatch();
    }
}

impl Turns {
    /// The turns of a disk that has so many zones.
    pub fn new(policy: DiskPolicy, zones: u32) -> Self {
        let schedule = Rc::new(RefCell::new(Schedule::new(policy.shares)));
        Self { schedule, prices: Rc::new(policy.prices()), depths: Rc::new(policy.depths()), zones }
    }

    /// What a transfer of `bytes` in a zone counts for when classes share the disk.
    pub fn cost(&self, zone: ZoneId, bytes: u64) -> u64 {
        self.prices.at(zone.0, self.zones).of(bytes)
    }

    /// Waits for a turn of a transfer of `bytes` in a zone.
    ///
    /// # Errors
    /// When too many of the class wait already: the caller is told to slow down.
    pub async fn take(&self, class: Class, zone: ZoneId, bytes: u64) -> Result<Turn, QueueFull> {
        let waiter = Rc::new(Taker::default());
        let part = self.offer(class, zone, bytes, waiter.clone())?;
        let mut place = InQueue { turns: self, class, part, waiter: Some(waiter) };
        self.dispatch();
        poll_fn(|context| {
            let Some(waiter) = &place.waiter else { return Poll::Ready(()) };
            if waiter.granted.get() {
                return Poll::Ready(());
            }
            waiter.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
        place.waiter = None;
        Ok(Turn { turns: self.clone(), part })
    }

    /// Runs a command that transfers `bytes` in a zone when its turn comes. Whoever gives a turn back begins the next
    /// command on the spot, before anything is done with what the last one brought: a device with a full queue stays
    /// full. Dropped before it begins, nothing of it happens; dropped later, it goes on as a task called `abandoned`.
    ///
    /// # Errors
    /// When too many of the class wait already: the caller is told to slow down.
    pub async fn run<T: 'static>(
        &self,
        (tasks, abandoned): (&Rc<dyn Tasks>, &'static str),
        (class, zone, bytes): (Class, ZoneId, u64),
        command: impl Future<Output = T> + 'static,
    ) -> Result<T, QueueFull> {
        let runner = Runner::new(command);
        let part = self.offer(class, zone, bytes, runner.clone())?;
        let run = Run::new(self, (class, part), runner, tasks, abandoned);
        Ok(run.await)
    }

    /// The part of the disk's queue that it will take.
    fn offer(&self, class: Class, zone: ZoneId, bytes: u64, waiter: Rc<dyn Waiter>) -> Result<u64, QueueFull> {
        let claim = Claim { cost: self.cost(zone, bytes), part: self.depths.part(bytes) };
        self.schedule.borrow_mut().offer(class, claim, waiter)?;
        Ok(claim.part)
    }

    fn withdraw<W>(&self, class: Class, unwanted: &Rc<W>) {
        let same = |other: &Rc<dyn Waiter>| std::ptr::addr_eq(Rc::as_ptr(other), Rc::as_ptr(unwanted));
        self.schedule.borrow_mut().withdraw(class, same);
    }

    fn dispatch(&self) {
        loop {
            let next = self.schedule.borrow_mut().start_next();
            let Some(waiter) = next else { return };
            waiter.granted();
        }
    }

    /// Transfers that wait.
    pub fn waiting(&self) -> usize {
        self.schedule.borrow().waiting()
    }

    /// Transfers the device works on.
    pub fn in_flight(&self) -> usize {
        self.schedule.borrow().in_flight()
    }

    /// What the classes have used so far, in bytes and positioning; see [`Schedule::served_cost`].
    pub fn served_cost(&self, class: Class) -> u64 {
        self.schedule.borrow().served_cost(class)
    }
}

/// Waits for a turn to do with as it likes.
#[derive(Default)]
struct Taker {
    granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Waiter for Taker {
    fn granted(&self) {
        self.granted.set(true);
        let waker = self.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A taker's place in the queue; given up when dropped.
struct InQueue<'a> {
    turns: &'a Turns,
    class: Class,
    part: u64,
    waiter: Option<Rc<Taker>>,
}

impl Drop for InQueue<'_> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        if waiter.granted.get() {
            drop(Turn { turns: self.turns.clone(), part: self.part });
        } else {
            self.turns.withdraw(self.class, &waiter);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use shingle_hw::geometry::Geometry;
    use shingle_hw::qualify::profile::{AtSize, MeasuredProfile};

    use super::*;

    fn turns(depth: u32) -> Turns {
        Turns::new(DiskPolicy { queue_depth: depth, ..DiskPolicy::default() }, 10)
    }

    #[test]
    fn turns_come_back_and_go_to_who_waits() {
        let turns = turns(1);
        let first = turns.take(Class::Client, ZoneId(1), 1).now_or_never().unwrap().unwrap();
        let mut second = Box::pin(turns.take(Class::Client, ZoneId(1), 1));
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!((turns.waiting(), turns.in_flight()), (1, 1));
        drop(first);
        drop(second.now_or_never().unwrap());
        assert_eq!((turns.waiting(), turns.in_flight()), (0, 0));
    }

    #[test]
    fn a_size_has_the_depth_of_its_own_and_gives_back_what_it_took() {
        let depths = vec![AtSize { bytes: 4096, in_flight: 8 }, AtSize { bytes: 1 << 20, in_flight: 2 }];
        let profile = MeasuredProfile { depths, ..MeasuredProfile::unmeasured("M", &Geometry::smr(1 << 40)) };
        let turns = Turns::new(DiskPolicy::default().measured(&profile), 10);
        for _ in 0..3 {
            for (bytes, depth) in [(4096, 8), (1 << 20, 2), (1 << 24, 2)] {
                let take = || turns.take(Class::Scrub, ZoneId(1), bytes).now_or_never();
                let taken: Vec<_> = std::iter::from_fn(take).collect();
                assert_eq!((taken.len(), turns.in_flight()), (depth, depth), "{bytes} bytes");
            }
        }
        assert_eq!((turns.in_flight(), turns.waiting()), (0, 0));
    }

    #[test]
    fn waiter_that_goes_leaves_nothing_behind() {
        let turns = turns(1);
        let first = turns.take(Class::Client, ZoneId(1), 1).now_or_never().unwrap().unwrap();
        let (mut waits, mut granted) =
            (Box::pin(turns.take(Class::Scrub, ZoneId(1), 1)), Box::pin(turns.take(Class::Client, ZoneId(1), 1)));
        assert!(waits.as_mut().now_or_never().is_none() && granted.as_mut().now_or_never().is_none());
        drop(waits);
        assert_eq!(turns.waiting(), 1);
        drop(first);
        assert_eq!((turns.waiting(), turns.in_flight()), (0, 1), "granted, and not yet taken");
        drop(granted);
        assert_eq!(turns.in_flight(), 0);
    }
}
