//! One thread's io_uring: commands go to the kernel when they are made, completions come back through `poll`.
//!
//! Invariants: the memory and the file of a command live until the kernel is done with it, whatever happens to its
//! future; never more commands are with the kernel than the ring has entries (the others wait in order); an executor
//! that awaits `event_fd` and then calls `poll` misses nothing, unless the ring is muted meanwhile.
//! This file uses `unsafe` to hand commands to the kernel.

mod block_on;
mod command;
mod nvme;
mod parts;
mod registered;
mod source;
mod task;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::Waker;
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, squeue, types};
use rustix::event::EventfdFlags;

use crate::buffer::{Buffer, BufferPool};
use command::{Progress, Slot};
use registered::Registered;
use source::{Sources, TICK_KEY};
use task::Tasks;

pub use block_on::block_on;
pub(crate) use command::NvmeTransfer;
pub use command::{Operation, PartsTransfer, RingTransfer};
pub(crate) use nvme::{NvmeAnswer, NvmeCommand};
pub use parts::Part;
pub(crate) use source::{Source, TICK};
pub use task::Task;

/// Small reads kept back at most; and never more than the kernel has: the device would run dry. Virtual disks tend to
/// complete all there is in one go: then the kernel has one at once, two and four more soon, and eight at a time later.
const KEPT_MAX: usize = 7;

/// A thread's ring. It is made, used and dropped by one thread.
pub struct Ring {
    state: RefCell<State>,
    tasks: Tasks,
    sources: Sources,
    event: Arc<OwnedFd>,
}

struct State {
    /// Wide entries: NVMe commands need them, and one ring for everything means one event to await.
    uring: IoUring<squeue::Entry128, cqueue::Entry32>,
    /// Commands by key; the key is the kernel's user data.
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// Commands that found the ring full, in order.
    waiting: VecDeque<usize>,
    /// Commands with the kernel, or about to be.
    in_flight: usize,
    entries: usize,
    /// The kernel refused the last submission: said once, not at every attempt.
    refused: bool,
    /// Small reads wait for `uncork`, so many do so now.
    corked: bool,
    kept: usize,
    /// Completions of the poll in progress; kept for its memory.
    reaped: Vec<(u64, i32, u64)>,
    /// Of a tick, where the kernel finds it.
    tick: Box<types::Timespec>,
    /// Behind the ring, so that it outlives it.
    registered: Option<Registered>,
    /// What the kernel refused once it refuses again.
    register_tried: bool,
    /// The kernel keeps completions back until it is asked: it is Linux 6.1 at least.
    defers: bool,
}

impl Ring {
    /// A ring with at most `entries` commands with the kernel at once (rounded up to a power of two). The error is the
    /// kernel's: ENOSYS or EPERM where io_uring is missing or forbidden, EINVAL before Linux 5.19.
    pub fn new(entries: u32) -> io::Result<Rc<Self>> {
        let (uring, defers) = build(entries)?;
        let event = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?);
        uring.submitter().register_eventfd(event.as_raw_fd())?;
        let entries = uring.params().sq_entries() as usize;
        let state = State {
            uring,
            slots: Vec::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            in_flight: 0,
            entries,
            refused: false,
            corked: false,
            kept: 0,
            reaped: Vec::new(),
            tick: Box::new(TICK.into()),
            registered: None,
            register_tried: false,
            defers,
        };
        let tasks = Tasks::new(Arc::clone(&event));
        Ok(Rc::new(Self { state: RefCell::new(state), tasks, sources: Sources::default(), event }))
    }

    /// Tells the kernel of a pool's memory, once: NVMe commands then pin no pages. All of it is in use from then on. Where
    /// the kernel refuses (a limit of locked memory), transfers go on as before.
    pub(crate) fn register(&self, pool: &BufferPool) {
        let mut state = self.state.borrow_mut();
        // Kernels before 6.1 take no registered memory for NVMe commands, nor this flag.
        if !state.defers || std::mem::replace(&mut state.register_tried, true) {
            return;
        }
        match Registered::new(&state.uring.submitter(), pool) {
            Ok(registered) => state.registered = Some(registered),
            Err(error) => {
                tracing::info!(%error, "buffers are not registered with the kernel: transfers pin their pages")
            }
        }
    }

    /// Looks at `source` too whenever this is polled, for as long as it lives. Its interrupts have to signal the event.
    pub(crate) fn attach(&self, source: Weak<dyn Source>) {
        self.sources.attach(source);
    }

    /// Makes sure that the event is signalled within a `TICK`.
    pub(crate) fn tick(&self) {
        if !self.sources.ticking.replace(true) && !self.state.borrow_mut().push_tick() {
            // Whoever polls next has another try.
            self.sources.ticking.set(false);
            task::signal(&self.event);
        }
    }

    /// Readable when `poll` has something to do. It is in blocking mode, and reading it is the executor's business.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Commands that are with the kernel or wait for room.
    pub fn pending(&self) -> usize {
        let sources = self.sources.pending();
        let state = self.state.borrow();
        sources + state.in_flight + state.waiting.len()
    }

    /// Tasks that have not ended. One may wait for another thread, with no command pending.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Takes the completions at hand, wakes who waits for them, hands waiting commands to the kernel. Returns the
    /// number of completions. Never blocks.
    pub fn poll(&self) -> usize {
        let mut completions = 0;
        loop {
            let ended = self.reap() + self.sources.poll();
            let ran = self.tasks.run();
            completions += ended;
            if ended == 0 && ran == 0 {
                return completions;
            }
        }
    }

    /// Keeps small reads that follow from the kernel until `uncork`, or until there are some: a few handed over in one
    /// call cost the kernel, and a virtual disk's host, about as much as one. The caller uncorks before it waits for
    /// anything.
    pub fn cork(&self) {
        self.state.borrow_mut().corked = true;
    }

    /// Whether `poll` would find completions.
    pub fn has_completions(&self) -> bool {
        if self.sources.have_ended() {
            return true;
        }
        let mut state = self.state.borrow_mut();
        !state.uring.completion().is_empty() || state.uring.submission().taskrun()
    }

    /// Whether `poll` finds completions now or in a moment. It looks without sleeping, so the moment should be shorter
    /// than what sleeping costs; at once when no command is pending. It becomes longer while a device that this process
    /// drives itself is at work.
    pub fn completes_within(&self, moment: Duration) -> bool {
        /// Looks between two readings of the clock.
        const LOOKS: u32 = 64;
        let start = Instant::now();
        while self.pending() > 0 {
            for _ in 0..LOOKS {
                if self.has_completions() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= moment && !self.sources.is_hot() {
                return false;
            }
        }
        false
    }

    /// Completions do not signal the event until `unmute`: whoever polls anyway has no use for a signal each time.
    pub fn mute(&self) {
        self.state.borrow_mut().uring.completion().disable_eventfd();
    }

    /// Completions signal the event again, and those at hand do so now.
    pub fn unmute(&self) {
        self.state.borrow_mut().uring.completion().enable_eventfd();
        // The kernel makes a completion known before it looks whether to signal; we look after it may.
        fence(Ordering::SeqCst);
        if self.has_completions() {
            task::signal(&self.event);
        }
    }

    /// Hands over what was kept back.
    pub fn uncork(&self) {
        let mut state = self.state.borrow_mut();
        state.corked = false;
        if !state.push_waiting() {
            task::signal(&self.event);
        }
    }

    /// Blocks until at least one command is done, then polls. At once when none is pending.
    pub fn wait(&self) -> usize {
        if self.sources.pending() > 0 {
            if !self.completes_within(Duration::ZERO) {
                source::await_event(self.event_fd());
            }
        } else {
            let mut state = self.state.borrow_mut();
            state.promote();
            if state.in_flight > 0 {
                match state.uring.submit_and_wait(1) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => tracing::error!(%error, "waiting for the ring failed"),
                }
            }
        }
        self.poll()
    }

    /// Reads into `bytes` of the buffer. The count falls short of the range only at the file's end.
    pub fn read_at(self: &Rc<Self>, file: &Rc<File>, offset: u64, buffer: Buffer, bytes: Range<usize>) -> RingTransfer {
        RingTransfer::new(self, self.start(Slot::read(file, offset, buffer, bytes)))
    }

    /// Writes `bytes` of the buffer, all of them or it is an error.
    pub fn write_at(
        self: &Rc<Self>,
        file: &Rc<File>,
        offset: u64,
        buffer: Buffer,
        bytes: Range<usize>,
    ) -> RingTransfer {
        RingTransfer::new(self, self.start(Slot::write(file, offset, buffer, bytes)))
    }

    /// Writes the bytes of several buffers behind each other, all of them or it is an error. At most 1024 buffers
    /// (IOV_MAX).
    pub fn write_parts_at(self: &Rc<Self>, file: &Rc<File>, offset: u64, parts: Vec<Part>) -> PartsTransfer {
        PartsTransfer::new(self, self.start(Slot::write_parts(file, offset, parts)))
    }

    /// `fdatasync`: what had been written before is durable.
    pub fn sync_data(self: &Rc<Self>, file: &Rc<File>) -> Operation {
        Operation::new(self, self.start(Slot::sync_data(file)))
    }

    /// Turns `bytes` of the file into a hole; its length stays.
    pub fn punch_hole(self: &Rc<Self>, file: &Rc<File>, bytes: Range<u64>) -> Operation {
        Operation::new(self, self.start(Slot::punch_hole(file, bytes)))
    }

    /// Gives a command to an NVMe device through its generic character device. The transfer's direction is the opcode's.
    pub(crate) fn nvme(
        self: &Rc<Self>,
        file: &Rc<File>,
        command: NvmeCommand,
        data: Option<(Buffer, Range<usize>)>,
    ) -> NvmeTransfer {
        NvmeTransfer::new(self, self.start(Slot::nvme(file, command, data)))
    }

    /// Runs a future to its end inside `poll`, whether or not anybody waits for the task. It is polled once before this
    /// returns.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        self.tasks.spawn(future)
    }

    fn start(&self, slot: Slot) -> usize {
        let mut state = self.state.borrow_mut();
        let small = slot.is_small_read();
        let key = state.insert(slot);
        state.waiting.push_back(key);
        if state.corked && small && state.kept < KEPT_MAX.min(state.in_flight) {
            state.kept += 1;
            return key;
        }
        if !state.push_waiting() {
            // Nothing is lost, the entry is in the queue: the next poll hands it over.
            task::signal(&self.event);
        }
        key
    }

    /// Takes completions, settles or continues their commands, wakes.
    fn reap(&self) -> usize {
        let mut wakers: Vec<Waker> = Vec::new();
        let mut ended: Vec<Slot> = Vec::new();
        let count = {
            let mut state = self.state.borrow_mut();
            // What the kernel keeps back until it is asked becomes completions here.
            let mut all_well = state.push_waiting();
            let mut reaped = std::mem::take(&mut state.reaped);
            reaped
                .extend(state.uring.completion().map(|entry| (entry.user_data(), entry.result(), entry.big_cqe()[0])));
            for (key, result, detail) in &reaped {
                if *key == TICK_KEY {
                    self.sources.ticking.set(false);
                    continue;
                }
                state.complete(*key as usize, (*result, *detail), &mut wakers, &mut ended);
            }
            let count = reaped.iter().filter(|(key, ..)| *key != TICK_KEY).count();
            reaped.clear();
            state.reaped = reaped;
            if count > 0 {
                all_well = state.push_waiting();
            }
            if !all_well {
                task::signal(&self.event);
            }
            count
        };
        // Outside the borrow: dropped buffers and woken tasks may come back to this ring.
        drop(ended);
        wakers.into_iter().for_each(Waker::wake);
        count
    }
}

impl State {
    fn insert(&mut self, slot: Slot) -> usize {
        match self.free.pop() {
            Some(key) => {
                self.slots[key] = Some(slot);
                key
            }
            None => {
                self.slots.push(Some(slot));
                self.slots.len() - 1
            }
        }
    }

    fn remove(&mut self, key: usize) -> Option<Slot> {
        let slot = self.slots.get_mut(key)?.take();
        if slot.is_some() {
            self.free.push(key);
        }
        slot
    }

    fn complete(&mut self, key: usize, (result, detail): (i32, u64), wakers: &mut Vec<Waker>, ended: &mut Vec<Slot>) {
        self.in_flight -= 1;
        let Some(slot) = self.slots.get_mut(key).and_then(Option::as_mut) else {
            panic!("a completion belongs to a command: its memory is kept until then");
        };
        match slot.advance(result, detail) {
            Progress::Again => self.waiting.push_back(key),
            Progress::Done => {
                wakers.extend(slot.take_waker());
                if slot.is_abandoned() {
                    ended.extend(self.remove(key));
                }
            }
        }
    }

    /// Hands a tick to the kernel; false when the queue or the kernel has no room.
    fn push_tick(&mut self) -> bool {
        let entry = source::tick_entry(&self.tick);
        // SAFETY: the entry names the time in this state's box, which lives until after the ring is closed.
        let pushed = unsafe { self.uring.submission().push(&entry) }.is_ok();
        pushed && self.uring.submit().is_ok()
    }

    /// Moves waiting commands into the submission queue while the bound allows.
    fn promote(&mut self) -> usize {
        let mut moved = 0;
        while self.in_flight < self.entries {
            let Some(key) = self.waiting.front().copied() else { break };
            let Some(slot) = self.slots.get_mut(key).and_then(Option::as_mut) else {
                panic!("a waiting command keeps its slot");
            };
            let entry = slot.entry(self.registered.as_ref()).user_data(key as u64);
            // SAFETY: the slot owns the buffer and the file that the entry names, and keeps them until its completion
            // is reaped; `Drop` waits for completions before it frees slots.
            if unsafe { self.uring.submission().push(&entry) }.is_err() {
                break;
            }
            self.waiting.pop_front();
            self.in_flight += 1;
            moved += 1;
        }
        moved
    }

    /// Hands over what may be with the kernel, and has it turn what it kept back into completions. Whether it has
    /// everything: it refuses while it lacks memory, or until completions were taken; both pass.
    fn push_waiting(&mut self) -> bool {
        self.kept = 0;
        self.promote();
        let has_work = !self.uring.submission().is_empty() || self.uring.submission().taskrun();
        if !has_work {
            return true;
        }
        let outcome = loop {
            match self.uring.submit() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        match (&outcome, self.refused) {
            (Err(error), false) => tracing::warn!(%error, "the kernel takes no commands for now"),
            (Ok(_), true) => tracing::info!("the kernel takes commands again"),
            _ => {}
        }
        self.refused = outcome.is_err();
        outcome.is_ok()
    }
}

/// The kernel's side of a ring. Its completions wait until this thread asks for them, and interrupt nothing; before
/// Linux 6.1 each one does. And which of both it is.
fn build(entries: u32) -> io::Result<(IoUring<squeue::Entry128, cqueue::Entry32>, bool)> {
    let builder = || {
        let mut builder = IoUring::<squeue::Entry128, cqueue::Entry32>::builder();
        builder.setup_clamp();
        builder
    };
    match builder().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().build(entries) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok((builder().build(entries)?, false)),
        outcome => Ok((outcome?, true)),
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Abandoned commands: the kernel may still touch their buffers.
        while self.pending() > 0 {
            self.wait();
        }
    }
}
