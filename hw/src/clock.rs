//! Time for devices and their tests: real, or virtual and only as fast as the work in it.
//!
//! Invariant: time never goes back, and a sleep ends only when its time has come.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::device::Command;

/// Who knows the time. All times are nanoseconds since a beginning of the clock's own.
pub trait Clock {
    fn now_ns(&self) -> u64;
    /// Ends at that time; at once when it has passed.
    fn sleep_until(&self, at_ns: u64) -> Command<()>;
}

/// A clock that one thread can wait on.
pub trait Driver: Clock {
    /// Lets time pass until something may have happened. False: nothing that anybody waits for ever will.
    fn advance(&self) -> bool;
}

/// A future waits for something that never happens: no command is in flight and no sleep is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a command never ended: nothing is in flight any more")]
pub struct Stuck;

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs a future to its end on this thread.
pub fn block_on<F: Future>(driver: &dyn Driver, future: F) -> Result<F::Output, Stuck> {
    run_steps(driver, pin!(future), u64::MAX)?.ok_or(Stuck)
}

/// Runs a future until it ends or time has passed `steps` times; `None` when it has not ended. A power cut between two
/// steps meets commands in flight.
pub fn run_steps<F: Future + ?Sized>(
    driver: &dyn Driver,
    mut future: Pin<&mut F>,
    steps: u64,
) -> Result<Option<F::Output>, Stuck> {
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut left = steps;
    loop {
        let woken = flag.0.swap(false, Ordering::AcqRel);
        if woken && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(Some(output));
        }
        if flag.0.load(Ordering::Acquire) {
            continue;
        }
        if left == 0 {
            return Ok(None);
        }
        left -= 1;
        if !driver.advance() {
            return Err(Stuck);
        }
    }
}

/// A clock that jumps from event to event. Clones show the same time.
#[derive(Clone, Default)]
pub struct VirtualClock {
    state: Rc<RefCell<Timers>>,
}

#[derive(Default)]
struct Timers {
    now_ns: u64,
    next: u64,
    events: u64,
    sleepers: BTreeMap<(u64, u64), Waker>,
}

impl VirtualClock {
    pub fn new() -> Self {
        Self::default()
    }

    /// How often time has moved.
    pub fn events(&self) -> u64 {
        self.state.borrow().events
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VirtualClock({} ns)", self.now_ns())
    }
}

impl Clock for VirtualClock {
    fn now_ns(&self) -> u64 {
        self.state.borrow().now_ns
    }

    fn sleep_until(&self, at_ns: u64) -> Command<()> {
        Box::pin(Sleep { clock: self.clone(), at_ns, key: None })
    }
}

impl Driver for VirtualClock {
    fn advance(&self) -> bool {
        let woken: Vec<Waker> = {
            let state = &mut *self.state.borrow_mut();
            let Some((at_ns, _)) = state.sleepers.keys().next().copied() else { return false };
            state.now_ns = state.now_ns.max(at_ns);
            state.events += 1;
            let later = state.sleepers.split_off(&(at_ns, u64::MAX));
            std::mem::replace(&mut state.sleepers, later).into_values().collect()
        };
        woken.into_iter().for_each(Waker::wake);
        true
    }
}

struct Sleep {
    clock: VirtualClock,
    at_ns: u64,
    key: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let state = &mut *clock.state.borrow_mut();
        if state.now_ns >= self.at_ns {
            return Poll::Ready(());
        }
        let key = *self.key.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        state.sleepers.insert((self.at_ns, key), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.clock.state.borrow_mut().sleepers.remove(&(self.at_ns, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_jumps_to_the_next_sleep() {
        let clock = VirtualClock::new();
        let (first, second) = (clock.sleep_until(5_000), clock.sleep_until(3_000));
        let at = block_on(&clock, async {
            second.await;
            let at = clock.now_ns();
            first.await;
            at
        });
        assert_eq!((at, clock.now_ns()), (Ok(3_000), 5_000));
    }

    #[test]
    fn a_future_that_nothing_wakes_is_stuck() {
        let clock = VirtualClock::new();
        assert_eq!(block_on(&clock, std::future::pending::<()>()), Err(Stuck));
    }

    #[test]
    fn steps_stop_between_events() {
        let clock = VirtualClock::new();
        let mut sleep = clock.sleep_until(10);
        assert_eq!(run_steps(&clock, Pin::new(&mut sleep), 0), Ok(None));
        assert_eq!(run_steps(&clock, Pin::new(&mut sleep), 1), Ok(Some(())));
        drop(clock.sleep_until(99));
        assert!(!clock.advance(), "a dropped sleep holds nothing up");
    }
}
