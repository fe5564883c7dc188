//! Futures that a ring runs to their end by itself.
//!
//! Invariant: a task ends even when nobody waits for it any more, so that what it owes the device's state is done. A
//! wake-up outside `poll` signals the ring's event, so none is lost.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

type Body = Pin<Box<dyn Future<Output = ()>>>;

/// A ring's tasks.
pub(super) struct Tasks {
    bodies: RefCell<Bodies>,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct Bodies {
    slots: Vec<Option<(Body, Waker)>>,
    free: Vec<usize>,
}

/// Keys of woken tasks. Wakers may be called from any thread, hence the mutex; nobody else contends for it.
struct Ready {
    keys: Mutex<VecDeque<usize>>,
    polling: AtomicBool,
    event: Arc<OwnedFd>,
}

struct TaskWaker {
    key: usize,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.keys.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.key);
        if !self.ready.polling.load(Ordering::SeqCst) {
            signal(&self.ready.event);
        }
    }
}

/// Makes the ring's event readable.
pub(super) fn signal(event: &OwnedFd) {
    if let Err(error) = rustix::io::write(event, &1u64.to_ne_bytes()) {
        tracing::error!(%error, "a ring's event cannot be signalled");
    }
}

impl Ready {
    fn pop(&self) -> Option<usize> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn is_empty(&self) -> bool {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Tasks {
    pub(super) fn new(event: Arc<OwnedFd>) -> Self {
        let ready = Ready { keys: Mutex::new(VecDeque::new()), polling: AtomicBool::new(false), event };
        Self { bodies: RefCell::default(), ready: Arc::new(ready) }
    }

    pub(super) fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        let outcome = Rc::new(RefCell::new(Outcome { value: None, waker: None }));
        let report = Rc::clone(&outcome);
        let body: Body = Box::pin(async move {
            let value = future.await;
            let waker = {
                let mut outcome = report.borrow_mut();
                outcome.value = Some(value);
                outcome.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        let key = {
            let bodies = &mut *self.bodies.borrow_mut();
            let key = bodies.free.pop().unwrap_or_else(|| {
                bodies.slots.push(None);
                bodies.slots.len() - 1
            });
            bodies.slots[key] = Some((body, Waker::from(Arc::new(TaskWaker { key, ready: Arc::clone(&self.ready) }))));
            key
        };
        self.step(key);
        Task { outcome }
    }

    /// Tasks that have not ended.
    pub(super) fn len(&self) -> usize {
        let bodies = self.bodies.borrow();
        bodies.slots.len() - bodies.free.len()
    }

    /// Polls every woken task until none is woken; returns how often it polled.
    pub(super) fn run(&self) -> usize {
        let mut polled = 0;
        loop {
            self.ready.polling.store(true, Ordering::SeqCst);
            while let Some(key) = self.ready.pop() {
                self.step(key);
                polled += 1;
            }
            self.ready.polling.store(false, Ordering::SeqCst);
            if self.ready.is_empty() {
                return polled;
            }
        }
    }

    /// Polls one task. It may have ended already, then nothing happens.
    fn step(&self, key: usize) {
        let taken = self.bodies.borrow_mut().slots.get_mut(key).and_then(Option::take);
        let Some((mut body, waker)) = taken else { return };
        let ended = body.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let bodies = &mut *self.bodies.borrow_mut();
        if ended {
            bodies.free.push(key);
        } else {
            bodies.slots[key] = Some((body, waker));
        }
    }
}

struct Outcome<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

/// Waits for a task. Dropping it does not stop the task.
pub struct Task<T> {
    outcome: Rc<RefCell<Outcome<T>>>,
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut outcome = self.outcome.borrow_mut();
        match outcome.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                outcome.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
