//! Turns at one disk: every transfer of an OSD waits for one, in the order its [`Schedule`] says, and gives it back when
//! the device has answered.
//!
//! A turn belongs to the command, not to who asked for it: whoever stops waiting for a command that has started leaves
//! it to a task that sees it through, so a stalled disk never gets more than its depth (invariant 9).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use shingle_hw::zone::ZoneId;
use shingle_proto::frame::Class;

use super::cost::Prices;
use super::lanes::QueueFull;
use super::policy::DiskPolicy;
use super::schedule::Schedule;

#[derive(Default)]
struct Waiter {
    granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The turns of one disk. Clones give out the same ones.
#[derive(Clone)]
pub struct Turns {
    schedule: Rc<RefCell<Schedule<Rc<Waiter>>>>,
    prices: Rc<Prices>,
    zones: u32,
}

/// One transfer's turn; given back when dropped.
pub struct Turn {
    turns: Turns,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.schedule.borrow_mut().done();
        self.turns.dispatch();
    }
}

/// A place in the queue; given up when dropped.
struct InQueue<'a> {
    turns: &'a Turns,
    class: Class,
    waiter: Option<Rc<Waiter>>,
}

impl Drop for InQueue<'_> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        if waiter.granted.get() {
            drop(Turn { turns: self.turns.clone() });
        } else {
            self.turns.schedule.borrow_mut().withdraw(self.class, |other| Rc::ptr_eq(other, &waiter));
        }
    }
}

impl Turns {
    /// The turns of a disk that has so many zones.
    pub fn new(policy: DiskPolicy, zones: u32) -> Self {
        let schedule = Schedule::new(policy.shares, policy.queue_depth as usize);
        Self { schedule: Rc::new(RefCell::new(schedule)), prices: Rc::new(policy.prices()), zones }
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
        let waiter = Rc::new(Waiter::default());
        let cost = self.cost(zone, bytes);
        self.schedule.borrow_mut().offer(class, cost, waiter.clone())?;
        let mut place = InQueue { turns: self, class, waiter: Some(waiter) };
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
        Ok(Turn { turns: self.clone() })
    }

    fn dispatch(&self) {
        loop {
            let next = self.schedule.borrow_mut().start_next();
            let Some(waiter) = next else { return };
            waiter.granted.set(true);
            let waker = waiter.waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

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
