//! Real time for a device behind a ring: waits for completions and for timers, whichever comes first.
//!
//! Invariant: a sleep ends no earlier than its time; completions are looked at whenever anything is waited for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::clock::{Clock, Driver};
use crate::device::Command;
use crate::ring::Ring;

/// The last part of a wait that is spent looking at the clock: sleeping is not that exact.
const SPIN_NS: u64 = 50_000;

/// A clock that moves a ring while it waits. Clones share timers.
#[derive(Clone)]
pub struct RealClock {
    ring: Rc<Ring>,
    began: Instant,
    sleepers: Rc<RefCell<Sleepers>>,
}

#[derive(Default)]
struct Sleepers {
    next: u64,
    wakers: BTreeMap<(u64, u64), Waker>,
}

impl RealClock {
    pub fn new(ring: Rc<Ring>) -> Self {
        Self { ring, began: Instant::now(), sleepers: Rc::default() }
    }

    /// Waits until the ring's event is signalled, and empties it.
    fn empty_event(&self) {
        if let Err(error) = rustix::io::read(self.ring.event_fd(), &mut [0; 8]) {
            tracing::warn!(%error, "waiting for the ring's event failed");
        }
    }

    fn wake_due(&self) -> bool {
        let now_ns = self.now_ns();
        let due: Vec<Waker> = {
            let sleepers = &mut *self.sleepers.borrow_mut();
            let later = sleepers.wakers.split_off(&(now_ns + 1, 0));
            std::mem::replace(&mut sleepers.wakers, later).into_values().collect()
        };
        let any = !due.is_empty();
        due.into_iter().for_each(Waker::wake);
        any
    }
}

impl Clock for RealClock {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn sleep_until(&self, at_ns: u64) -> Command<()> {
        Box::pin(Sleep { clock: self.clone(), at_ns, key: None })
    }
}

impl Driver for RealClock {
    fn advance(&self) -> bool {
        let tasks = self.ring.tasks();
        if self.ring.poll() > 0 || self.ring.tasks() < tasks || self.wake_due() {
            return true;
        }
        let next_ns = self.sleepers.borrow().wakers.keys().next().map(|(at_ns, _)| *at_ns);
        match next_ns {
            None if self.ring.pending() == 0 && self.ring.tasks() == 0 => false,
            // Zone commands of the kernel block, and have a thread of their own: its end signals the event.
            None if self.ring.pending() == 0 => {
                self.empty_event();
                self.ring.poll();
                true
            }
            None => {
                self.ring.wait();
                true
            }
            Some(at_ns) => {
                let left_ns = at_ns.saturating_sub(self.now_ns());
                if left_ns > SPIN_NS {
                    let timeout = Duration::from_nanos(left_ns - SPIN_NS);
                    let timeout =
                        Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
                    let event = self.ring.event_fd();
                    let mut ready = [PollFd::new(&event, PollFlags::IN)];
                    // The event counts completions; it is emptied so that the next wait sleeps.
                    if matches!(rustix::event::poll(&mut ready, Some(&timeout)), Ok(1)) {
                        self.empty_event();
                    }
                }
                self.ring.poll();
                self.wake_due();
                true
            }
        }
    }
}

struct Sleep {
    clock: RealClock,
    at_ns: u64,
    key: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.clock.now_ns() >= self.at_ns {
            return Poll::Ready(());
        }
        let clock = self.clock.clone();
        let sleepers = &mut *clock.sleepers.borrow_mut();
        let key = *self.key.get_or_insert_with(|| {
            sleepers.next += 1;
            sleepers.next
        });
        sleepers.wakers.insert((self.at_ns, key), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.clock.sleepers.borrow_mut().wakers.remove(&(self.at_ns, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::clock::block_on;

    /// Ends when a thread says so.
    #[derive(Clone, Default)]
    struct Elsewhere(Arc<Mutex<(bool, Option<Waker>)>>);

    impl Future for Elsewhere {
        type Output = ();

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            let (ended, waker) = &mut *self.0.lock().expect("sound");
            *waker = Some(context.waker().clone());
            if *ended { Poll::Ready(()) } else { Poll::Pending }
        }
    }

    #[test]
    fn a_task_of_the_ring_may_wait_for_a_thread() {
        let Ok(ring) = Ring::new(4) else { return };
        let clock = RealClock::new(Rc::clone(&ring));
        for _ in 0..20 {
            let elsewhere = Elsewhere::default();
            let task = ring.spawn(elsewhere.clone());
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(1));
                let (ended, waker) = &mut *elsewhere.0.lock().expect("sound");
                *ended = true;
                waker.take().expect("polled").wake();
            });
            assert_eq!(block_on(&clock, task), Ok(()));
            thread.join().expect("ends");
        }
        assert!(block_on(&clock, std::future::pending::<()>()).is_err(), "nothing is in flight any more");
    }

    #[test]
    fn a_sleep_takes_its_time() {
        let Ok(ring) = Ring::new(4) else { return };
        let clock = RealClock::new(ring);
        let began = Instant::now();
        assert_eq!(block_on(&clock, clock.sleep_until(clock.now_ns() + 3_000_000)), Ok(()));
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(3) && took < Duration::from_millis(500), "{took:?}");
    }
}
