//! Other things than io_uring that end commands: a queue of a device that this process drives itself.
//!
//! They are looked at whenever the ring is, and their interrupts signal the ring's event, so whoever awaits that event
//! and polls the ring drives both. Their timers are ticks of the ring.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::{Rc, Weak};
use std::time::Duration;

use io_uring::{opcode, types};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::ReadWriteFlags;

/// How often a ring looks after commands that may never end.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// User data of ticks: no command has this key.
pub(super) const TICK_KEY: u64 = u64::MAX;

/// Something that ends commands.
pub(crate) trait Source {
    /// Takes in what has ended and wakes who waits; how much it was. Never blocks.
    fn poll(&self) -> usize;
    /// Whether `poll` would find something.
    fn has_ended(&self) -> bool;
    /// Commands that have not ended.
    fn pending(&self) -> usize;
    /// Whether so much happens that polling beats waiting for an interrupt.
    fn is_hot(&self) -> bool;
}

/// A ring's sources.
#[derive(Default)]
pub(super) struct Sources {
    attached: RefCell<Vec<Weak<dyn Source>>>,
    /// A tick is under way.
    pub(super) ticking: Cell<bool>,
}

impl Sources {
    pub(super) fn attach(&self, source: Weak<dyn Source>) {
        let mut attached = self.attached.borrow_mut();
        attached.retain(|source| source.strong_count() > 0);
        attached.push(source);
    }

    fn each<T>(&self, start: T, mut fold: impl FnMut(T, &dyn Source) -> T) -> T {
        let mut folded = start;
        let mut index = 0;
        // The list is not borrowed meanwhile: what a source wakes may come back here.
        while let Some(source) = self.get(index) {
            index += 1;
            if let Some(source) = source {
                folded = fold(folded, &*source);
            }
        }
        folded
    }

    fn get(&self, index: usize) -> Option<Option<Rc<dyn Source>>> {
        self.attached.borrow().get(index).map(Weak::upgrade)
    }

    pub(super) fn poll(&self) -> usize {
        self.each(0, |ended, source| ended + source.poll())
    }

    pub(super) fn pending(&self) -> usize {
        self.each(0, |pending, source| pending + source.pending())
    }

    pub(super) fn have_ended(&self) -> bool {
        self.each(false, |ended, source| ended || source.has_ended())
    }

    pub(super) fn is_hot(&self) -> bool {
        self.each(false, |hot, source| hot || source.is_hot())
    }
}

/// The entry that signals the ring's event when a tick is over. The kernel copies the time when it takes the entry.
pub(super) fn tick_entry(time: &types::Timespec) -> io_uring::squeue::Entry128 {
    opcode::Timeout::new(time).build().user_data(TICK_KEY).into()
}

/// Blocks until the event is signalled, and takes the signal unless somebody else did.
pub(super) fn await_event(event: BorrowedFd<'_>) {
    let mut ready = [PollFd::new(&event, PollFlags::IN)];
    // Ticks come while commands are under way; this is for the case that the kernel refused one.
    let most = Timespec { tv_sec: 1, tv_nsec: 0 };
    match rustix::event::poll(&mut ready, Some(&most)) {
        Ok(1) => {
            let mut count = [0; 8];
            let mut into = [io::IoSliceMut::new(&mut count)];
            let outcome = rustix::io::preadv2(event.as_fd(), &mut into, u64::MAX, ReadWriteFlags::NOWAIT);
            if let Err(error) = outcome
                && error != rustix::io::Errno::AGAIN
            {
                tracing::debug!(%error, "a ring's event cannot be emptied");
            }
        }
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => tracing::warn!(%error, "waiting for a ring's event failed"),
    }
}
