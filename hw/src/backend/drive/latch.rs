//! An event that happens once and that any number of futures wait for.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Closed until it is released.
#[derive(Default)]
pub(super) struct Latch {
    released: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
}

impl Latch {
    pub(super) fn release(&self) {
        self.released.set(true);
        let wakers = std::mem::take(&mut *self.wakers.borrow_mut());
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) async fn wait(self: Rc<Self>) {
        poll_fn(|context| {
            if self.released.get() {
                return Poll::Ready(());
            }
            let mut wakers = self.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
