//! What an emulated drive's commands share: states, table, file, ring, and the one flush that runs at a time.
//!
//! Invariants: a write pointer grows only after its bytes were written; a flush writes the table only after the bytes it
//! claims, and answers only after `fdatasync`; a device whose flush failed takes no more commands that change it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::format::Layout;
use super::table::Table;
use crate::error::DeviceError;
use crate::ring::Ring;
use crate::zone::ZoneId;
use crate::zone_state::ZoneStates;

/// The shared part of a device.
pub(super) struct Core {
    pub(super) file: Rc<File>,
    pub(super) ring: Rc<Ring>,
    pub(super) layout: Layout,
    pub(super) states: RefCell<ZoneStates>,
    pub(super) table: RefCell<Table>,
    /// Conventional zones were written since the latest flush began.
    pub(super) unsynced: Cell<bool>,
    failed: RefCell<Option<DeviceError>>,
    flushing: Cell<bool>,
    /// Who waits for the next flush to begin and end.
    next: RefCell<Option<Rc<Group>>>,
    /// Tasks that still owe something to this state.
    pub(super) tasks: Cell<usize>,
}

impl Core {
    pub(super) fn new(file: File, ring: Rc<Ring>, layout: Layout, states: ZoneStates, table: Table) -> Rc<Self> {
        Rc::new(Self {
            file: Rc::new(file),
            ring,
            layout,
            states: RefCell::new(states),
            table: RefCell::new(table),
            unsynced: Cell::new(false),
            failed: RefCell::new(None),
            flushing: Cell::new(false),
            next: RefCell::new(None),
            tasks: Cell::new(0),
        })
    }

    /// The failure that ended this device, if one did.
    pub(super) fn check(&self) -> Result<(), DeviceError> {
        self.failed.borrow().clone().map_or(Ok(()), Err)
    }

    /// Runs a command to its end, whether or not anybody waits for it.
    pub(super) fn run<T: 'static>(
        self: &Rc<Self>,
        command: impl Future<Output = T> + 'static,
    ) -> Pin<Box<dyn Future<Output = T>>> {
        self.tasks.set(self.tasks.get() + 1);
        let core = Rc::clone(self);
        let task = self.ring.spawn(async move {
            let outcome = command.await;
            core.tasks.set(core.tasks.get() - 1);
            outcome
        });
        Box::pin(task)
    }

    /// Joins the next flush, and starts it unless one is running.
    pub(super) fn flush(self: &Rc<Self>) -> GroupEnd {
        if !self.flushing.get() && !self.has_changes() {
            self.table.borrow_mut().settle();
        }
        let group = Rc::clone(self.next.borrow_mut().get_or_insert_default());
        if !self.flushing.replace(true) {
            let core = Rc::clone(self);
            drop(self.run(async move { core.run_flushes().await }));
        }
        GroupEnd { group }
    }

    async fn run_flushes(&self) {
        while let Some(group) = self.take_next() {
            let outcome = self.flush_once().await;
            group.end(outcome);
        }
    }

    fn take_next(&self) -> Option<Rc<Group>> {
        let group = self.next.borrow_mut().take();
        self.flushing.set(group.is_some());
        group
    }

    fn has_changes(&self) -> bool {
        self.unsynced.get() || self.table.borrow().is_dirty()
    }

    async fn flush_once(&self) -> Result<(), DeviceError> {
        self.check()?;
        if !self.has_changes() {
            return Ok(());
        }
        self.unsynced.set(false);
        let pages = self.table.borrow_mut().begin_flush(&self.states.borrow());
        let outcome = self.write_and_sync(pages).await;
        match outcome {
            Ok(()) => {
                self.table.borrow_mut().end_flush();
                Ok(())
            }
            Err((reason, error)) => {
                let failure = failure(reason, &error);
                tracing::error!(%error, reason, "a flush failed: the device takes no more writes");
                *self.failed.borrow_mut() = Some(failure.clone());
                Err(failure)
            }
        }
    }

    async fn write_and_sync(&self, pages: Vec<super::table::PageWrite>) -> Result<(), (&'static str, io::Error)> {
        let writes: VecDeque<_> = pages
            .into_iter()
            .map(|page| self.ring.write_at(&self.file, page.offset, page.buffer, 0..page.bytes))
            .collect();
        for write in writes {
            write.await.0.map_err(|error| ("writing the zone table", error))?;
        }
        self.ring.sync_data(&self.file).await.map_err(|error| ("flushing", error))
    }

    /// The rest of a reset whose zone is empty in memory already: durable first, then the space goes back.
    pub(super) async fn finish_reset(self: Rc<Self>, zone: ZoneId, zone_bytes: u64) -> Result<(), DeviceError> {
        let outcome = match self.flush().await {
            Ok(()) => {
                let start = self.layout.zone_offset(zone.0, 0);
                let punched = self.ring.punch_hole(&self.file, start..start + zone_bytes).await;
                punched.or_else(|error| match error.raw_os_error() {
                    // The zone is empty all the same; its space comes back when it is written again.
                    Some(libc::EOPNOTSUPP) => Ok(()),
                    _ => Err(failure("giving back a zone's space", &error)),
                })
            }
            Err(error) => Err(error),
        };
        self.states.borrow_mut().end_reset(zone);
        outcome
    }
}

/// The kernel's error as a device's.
pub(super) fn failure(reason: &'static str, error: &io::Error) -> DeviceError {
    DeviceError::Failed { reason, errno: error.raw_os_error().unwrap_or(libc::EIO) }
}

/// Those who wait for the same flush.
#[derive(Default)]
struct Group {
    outcome: RefCell<Option<Result<(), DeviceError>>>,
    wakers: RefCell<Vec<Waker>>,
}

impl Group {
    fn end(&self, outcome: Result<(), DeviceError>) {
        *self.outcome.borrow_mut() = Some(outcome);
        let wakers = std::mem::take(&mut *self.wakers.borrow_mut());
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Waits for a flush to end.
pub(super) struct GroupEnd {
    group: Rc<Group>,
}

impl Future for GroupEnd {
    type Output = Result<(), DeviceError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.group.outcome.borrow().clone() {
            return Poll::Ready(outcome);
        }
        let mut wakers = self.group.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}
