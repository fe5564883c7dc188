//! The process-wide stop signal: triggered once, from any thread; awaited on any runtime.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// A stop signal backed by an eventfd. All clones are one signal; once triggered it stays triggered.
///
/// `on_tokio::stopped` and `on_glommio::stopped` wait for it.
#[derive(Clone, Debug)]
pub struct Stop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    triggered: AtomicBool,
    event: OwnedFd,
}

/// What a trigger adds to the eventfd. As a semaphore it gives every read one, so every waiter sees it for ever.
const TRIGGER: u64 = 1 << 62;

impl Stop {
    /// A signal that nobody has triggered yet.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE)?;
        Ok(Self(Arc::new(Inner { triggered: AtomicBool::new(false), event })))
    }

    /// Asks everybody to stop. Repeats have no effect.
    pub fn trigger(&self) {
        if !self.0.triggered.swap(true, Ordering::SeqCst)
            && let Err(error) = rustix::io::write(&self.0.event, &TRIGGER.to_ne_bytes())
        {
            tracing::error!(%error, "the stop signal cannot be passed on");
        }
    }

    /// Whether somebody asked to stop.
    pub fn is_triggered(&self) -> bool {
        self.0.triggered.load(Ordering::SeqCst)
    }
}

impl AsFd for Stop {
    /// Readable, for ever, once triggered.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
