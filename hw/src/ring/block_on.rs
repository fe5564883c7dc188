//! A ring with nothing beside it: for tests, tools and benches.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::{Ring, task};

/// Runs a future to its end on this thread, with nothing but the ring to wait for. The future may also be woken by another
/// thread, but is looked at only between completions while commands are pending.
pub fn block_on<F: Future>(ring: &Rc<Ring>, future: F) -> F::Output {
    struct Flag {
        woken: AtomicBool,
        event: Arc<OwnedFd>,
    }
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.woken.store(true, Ordering::Release);
            task::signal(&self.event);
        }
    }
    let flag = Arc::new(Flag { woken: AtomicBool::new(true), event: Arc::clone(&ring.event) });
    let waker = Waker::from(Arc::clone(&flag));
    let mut future = pin!(future);
    loop {
        if flag.woken.swap(false, Ordering::Acquire)
            && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
        {
            return output;
        }
        if ring.poll() > 0 || flag.woken.load(Ordering::Acquire) {
            continue;
        }
        if ring.pending() > 0 {
            ring.wait();
        } else if let Err(error) = rustix::io::read(&ring.event, &mut [0; 8]) {
            // A task or this future is woken by another thread, which signals the event.
            tracing::warn!(%error, "waiting for the ring's event failed");
        }
    }
}
