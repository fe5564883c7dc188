//! A counted resource shared by the tasks of one thread: permits are given out first come, first served.
//!
//! Keeps: nobody overtakes, so a large request is not starved by small ones; a waiter that is dropped gives back what
//! it was just granted.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The gate was closed; nothing is given out any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gate is closed")]
pub struct Closed;

/// Permits of one thread: bytes of credit, places in a queue. With none at all it is a signal: everybody waits until
/// it is closed.
pub struct Gate {
    free: Cell<u64>,
    closed: Cell<bool>,
    queue: RefCell<VecDeque<Rc<Waiter>>>,
}

struct Waiter {
    amount: u64,
    granted: Cell<bool>,
    waker: RefCell<Waker>,
}

impl Gate {
    pub fn new(permits: u64) -> Self {
        Self { free: Cell::new(permits), closed: Cell::new(false), queue: RefCell::default() }
    }

    /// Waits until `amount` permits are free and all who came before are served, and takes them. They come back only
    /// through [`Gate::release`].
    ///
    /// # Errors
    /// When the gate is closed.
    pub fn acquire(&self, amount: u64) -> Acquire<'_> {
        Acquire { gate: self, amount, waiter: None }
    }

    /// Gives permits back, or adds new ones.
    pub fn release(&self, amount: u64) {
        self.free.set(self.free.get().saturating_add(amount));
        self.grant();
    }

    /// Permits nobody holds.
    pub fn free(&self) -> u64 {
        self.free.get()
    }

    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Turns away everybody who waits and everybody who comes.
    pub fn close(&self) {
        self.closed.set(true);
        for waiter in self.queue.take() {
            waiter.waker.borrow().wake_by_ref();
        }
    }

    /// Ends when the gate is closed.
    pub async fn wait_closed(&self) {
        while self.acquire(u64::MAX).await.is_ok() {}
    }

    fn grant(&self) {
        loop {
            let next = {
                let mut queue = self.queue.borrow_mut();
                match queue.front() {
                    Some(front) if front.amount <= self.free.get() => queue.pop_front(),
                    _ => None,
                }
            };
            let Some(waiter) = next else { return };
            self.free.set(self.free.get() - waiter.amount);
            waiter.granted.set(true);
            waiter.waker.borrow().wake_by_ref();
        }
    }
}

/// The future of [`Gate::acquire`].
pub struct Acquire<'a> {
    gate: &'a Gate,
    amount: u64,
    waiter: Option<Rc<Waiter>>,
}

impl Future for Acquire<'_> {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let gate = this.gate;
        if let Some(waiter) = &this.waiter {
            if waiter.granted.get() {
                this.waiter = None;
                return Poll::Ready(Ok(()));
            }
            if gate.closed.get() {
                return Poll::Ready(Err(Closed));
            }
            waiter.waker.borrow_mut().clone_from(context.waker());
            return Poll::Pending;
        }
        if gate.closed.get() {
            return Poll::Ready(Err(Closed));
        }
        let mut queue = gate.queue.borrow_mut();
        if queue.is_empty() && gate.free.get() >= this.amount {
            gate.free.set(gate.free.get() - this.amount);
            return Poll::Ready(Ok(()));
        }
        let waiter = Rc::new(Waiter {
            amount: this.amount,
            granted: Cell::new(false),
            waker: RefCell::new(context.waker().clone()),
        });
        queue.push_back(waiter.clone());
        this.waiter = Some(waiter);
        Poll::Pending
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        if waiter.granted.get() {
            self.gate.release(waiter.amount);
        } else {
            self.gate.queue.borrow_mut().retain(|other| !Rc::ptr_eq(other, &waiter));
            self.gate.grant(); // whoever stood behind may be content with what is free
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn poll(acquire: &mut Acquire<'_>) -> Poll<Result<(), Closed>> {
        Pin::new(acquire).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn permits_are_given_first_come_first_served() {
        let gate = Gate::new(5);
        let mut large = gate.acquire(6);
        assert!(poll(&mut large).is_pending());
        let mut small = gate.acquire(1);
        assert!(poll(&mut small).is_pending(), "a small request does not overtake");
        gate.release(1);
        assert!(poll(&mut large).is_ready());
        assert!(poll(&mut small).is_pending());
        gate.release(6);
        assert!(poll(&mut small).is_ready());
        assert_eq!(gate.free(), 5);
    }

    #[test]
    fn a_dropped_waiter_leaves_nothing_behind() {
        let gate = Gate::new(0);
        let (mut first, mut second) = (gate.acquire(4), gate.acquire(2));
        assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
        gate.release(3);
        drop(first);
        assert!(poll(&mut second).is_ready(), "the one behind a dropped waiter is served");
        let mut granted = gate.acquire(3);
        assert!(poll(&mut granted).is_pending());
        gate.release(2);
        drop(granted);
        assert_eq!(gate.free(), 3, "a grant nobody took comes back");
    }

    #[test]
    fn closing_turns_everybody_away() {
        let gate = Gate::new(1);
        let mut waiting = gate.acquire(2);
        assert!(poll(&mut waiting).is_pending());
        gate.close();
        assert_eq!(poll(&mut waiting), Poll::Ready(Err(Closed)));
        assert_eq!(poll(&mut gate.acquire(1)), Poll::Ready(Err(Closed)));
    }
}
