//! Commands in flight on a controller's I/O queue: started, ended, watched over.
//!
//! Invariants: the memory of a command lives until the controller has ended the command or cannot reach the memory any
//! more; a command is never tried twice; never more commands are with the controller than it has numbers for, the
//! others wait in order. A command that takes too long is aborted; when that does not end it, or the controller fails or
//! disappears, the device is cut off, every command ends with an error, and so does each one from then on.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::controller::{Controller, ControllerError};
use super::dma::{Dma, Mapping};
use super::memory::Memory;
use super::prp;
use super::queue::{QueuePair, Submission};
use crate::backend::nvme::{Ended, Transport};
use crate::buffer::Buffer;
use crate::ring::{NvmeAnswer, NvmeCommand, Ring, Source, TICK};

/// How long after a completion polling goes on before an interrupt is awaited: about the cost of being woken a few times.
const HOT: Duration = Duration::from_micros(100);

/// How long commands may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Any command; the kernel's driver waits as long.
    pub(super) command: Duration,
    /// A command that was aborted.
    pub(super) abort: Duration,
    /// Between two looks at what is under way.
    pub(super) look: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { command: Duration::from_secs(30), abort: Duration::from_secs(5), look: TICK }
    }
}

/// The way to a namespace by queues of our own. Clones share it.
#[derive(Clone)]
pub struct Queues(pub(super) Rc<Engine>);

impl Transport for Queues {
    fn submit(
        &self,
        command: NvmeCommand,
        data: Option<(Buffer, Range<usize>)>,
    ) -> impl Future<Output = Ended> + 'static {
        self.0.submit(command, data)
    }
}

/// An I/O queue at work.
pub(super) struct Engine {
    state: RefCell<State>,
    ring: Rc<Ring>,
    patience: Patience,
    pending: Cell<usize>,
    /// When something ended last.
    ended: Cell<Instant>,
}

struct State {
    controller: Controller,
    queue: QueuePair,
    dma: Rc<Dma>,
    /// A list of pages for each command number.
    lists: Memory,
    list_bytes: usize,
    transfer_bytes_max: usize,
    /// By command number.
    running: Vec<Option<Running>>,
    free: Vec<u16>,
    waiting: VecDeque<Job>,
    started: u64,
    abort: Option<Abort>,
    look_at: Instant,
    /// The errno everything ends with.
    failure: Option<i32>,
}

struct Job {
    command: NvmeCommand,
    data: Option<(Buffer, Range<usize>)>,
    outcome: Rc<RefCell<Outcome>>,
}

struct Running {
    job: Job,
    /// Of a buffer that is not the pool's.
    mapping: Option<Mapping>,
    since: Instant,
    /// Tells it from others with the same number.
    serial: u64,
}

/// A command that was told to end.
struct Abort {
    command: u16,
    serial: u64,
    until: Instant,
}

/// What a command ends with.
#[derive(Default)]
struct Outcome {
    ended: Option<Ended>,
    waker: Option<Waker>,
}

/// Waits for a command; dropped, it changes nothing.
pub(super) struct Pending(Rc<RefCell<Outcome>>);

impl Future for Pending {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let mut outcome = self.0.borrow_mut();
        match outcome.ended.take() {
            Some(ended) => Poll::Ready(ended),
            None => {
                outcome.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Commands that have ended, to be told outside all borrows.
type Endings = Vec<(Job, io::Result<NvmeAnswer>)>;

impl Engine {
    /// Drives a queue whose transfers have at most `transfer_bytes_max` bytes.
    pub(super) fn start(
        controller: Controller,
        queue: QueuePair,
        dma: Rc<Dma>,
        ring: Rc<Ring>,
        transfer_bytes_max: usize,
        patience: Patience,
    ) -> Result<Rc<Self>, ControllerError> {
        // A full queue cannot be told from an empty one: one entry stays free.
        let commands = queue.entries() - 1;
        let list_bytes = (prp::list_pages(transfer_bytes_max as u64) * super::iova::PAGE_BYTES) as usize;
        let lists = Memory::new(&dma, list_bytes * usize::from(commands)).map_err(ControllerError::Memory)?;
        let state = State {
            controller,
            queue,
            dma,
            lists,
            list_bytes,
            transfer_bytes_max,
            running: (0..commands).map(|_| None).collect(),
            free: (0..commands).rev().collect(),
            waiting: VecDeque::new(),
            started: 0,
            abort: None,
            look_at: Instant::now(),
            failure: None,
        };
        let (state, ended) = (RefCell::new(state), Cell::new(Instant::now()));
        let engine = Rc::new(Self { state, ring, patience, pending: Cell::new(0), ended });
        let source: Rc<dyn Source> = Rc::<Self>::clone(&engine);
        engine.ring.attach(Rc::downgrade(&source));
        Ok(engine)
    }

    fn submit(&self, command: NvmeCommand, data: Option<(Buffer, Range<usize>)>) -> Pending {
        let outcome = Rc::new(RefCell::new(Outcome::default()));
        let mut endings = Vec::new();
        {
            let state = &mut *self.state.borrow_mut();
            state.waiting.push_back(Job { command, data, outcome: Rc::clone(&outcome) });
            self.pending.set(self.pending.get() + 1);
            state.start_waiting(&mut endings);
        }
        self.settle(endings);
        if self.pending.get() > 0 {
            self.ring.tick();
        }
        Pending(outcome)
    }

    fn settle(&self, endings: Endings) -> usize {
        let count = endings.len();
        self.pending.set(self.pending.get() - count);
        for (job, result) in endings {
            let buffer = job.data.map(|(buffer, _)| buffer);
            let waker = {
                let mut outcome = job.outcome.borrow_mut();
                outcome.ended = Some((result, buffer));
                outcome.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        count
    }
}

impl Source for Engine {
    fn poll(&self) -> usize {
        if self.pending.get() == 0 {
            return 0;
        }
        let (now, mut endings) = (Instant::now(), Vec::new());
        {
            let state = &mut *self.state.borrow_mut();
            if state.take_completions(&mut endings) {
                self.ended.set(now);
            }
            if now >= state.look_at {
                state.look_at = now + self.patience.look;
                state.look(now, &self.patience, &mut endings);
            }
            state.start_waiting(&mut endings);
        }
        let count = self.settle(endings);
        if self.pending.get() > 0 {
            self.ring.tick();
        }
        count
    }

    fn has_ended(&self) -> bool {
        self.pending.get() > 0 && self.state.borrow().queue.has_next()
    }

    fn pending(&self) -> usize {
        self.pending.get()
    }

    fn is_hot(&self) -> bool {
        self.pending.get() > 0 && self.ended.get().elapsed() < HOT
    }
}

impl State {
    /// Hands waiting commands to the controller while there are numbers for them.
    fn start_waiting(&mut self, endings: &mut Endings) {
        let mut pushed = false;
        while let Some(number) = self.free.last().copied() {
            let Some(job) = self.waiting.pop_front() else { break };
            if let Some(errno) = self.failure {
                endings.push((job, Err(io::Error::from_raw_os_error(errno))));
                continue;
            }
            let (data, mapping) = match self.name_data(number, job.data.as_ref()) {
                Ok(named) => named,
                Err(error) => {
                    endings.push((job, Err(error)));
                    continue;
                }
            };
            let NvmeCommand { opcode, nsid, words, .. } = job.command;
            self.queue.push(&Submission { opcode, command: number, nsid, data, words });
            self.free.pop();
            self.started += 1;
            let running = Running { job, mapping, since: Instant::now(), serial: self.started };
            if let Some(place) = self.running.get_mut(usize::from(number)) {
                *place = Some(running);
            }
            pushed = true;
        }
        if pushed {
            self.queue.ring();
        }
    }

    /// The entries that tell a command where its data are.
    fn name_data(&self, number: u16, data: Option<&(Buffer, Range<usize>)>) -> io::Result<([u64; 2], Option<Mapping>)> {
        let Some((buffer, bytes)) = data else { return Ok(([0; 2], None)) };
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let part = buffer.get(bytes.clone()).ok_or_else(invalid)?;
        if part.is_empty() || part.len() > self.transfer_bytes_max {
            return Err(invalid());
        }
        let (iova, mapping) = match self.dma.in_pool(part.as_ptr(), part.len()) {
            Some(iova) => (iova, None),
            None => {
                let start = NonNull::new(buffer.as_ptr().cast_mut()).ok_or_else(invalid)?;
                let mapping = self.dma.map(start, buffer.len())?;
                (mapping.iova() + bytes.start as u64, Some(mapping))
            }
        };
        let list = usize::from(number) * self.list_bytes;
        let pages = prp::pages(iova, part.len() as u64, self.lists.iova() + list as u64);
        for (index, entry) in pages.list.iter().enumerate() {
            self.lists.write_wide(list + 8 * index, *entry);
        }
        Ok(([pages.first, pages.second], mapping))
    }

    /// Takes what the controller has ended; whether that was anything.
    fn take_completions(&mut self, endings: &mut Endings) -> bool {
        let mut any = false;
        while self.failure.is_none()
            && let Some(completion) = self.queue.pop()
        {
            any = true;
            let Some(running) = self.running.get_mut(usize::from(completion.command)).and_then(Option::take) else {
                self.fail(libc::EPROTO, "it ended a command that nobody gave it", endings);
                return true;
            };
            self.free.push(completion.command);
            let unmapped = running.mapping.map_or(Ok(()), |mapping| self.dma.unmap(mapping));
            let answer = NvmeAnswer { status: completion.status, result: completion.result };
            let mut job = running.job;
            if let Err(error) = unmapped {
                tracing::error!(%error, "a buffer stays with a device that cannot be cut off from it");
                job.replace_buffer();
            }
            endings.push((job, Ok(answer)));
        }
        if any {
            self.queue.acknowledge();
        }
        any
    }

    /// Looks for what takes too long, and whether the controller still works.
    fn look(&mut self, now: Instant, patience: &Patience, endings: &mut Endings) {
        if self.failure.is_some() {
            return;
        }
        match self.controller.condition() {
            Err(ControllerError::Gone) => return self.fail(libc::ENODEV, "it is gone", endings),
            Err(ControllerError::Reset) => return self.fail(libc::EIO, "it was reset by somebody else", endings),
            Err(_) => return self.fail(libc::EIO, "it reports a fatal status", endings),
            Ok(()) => {}
        }
        // Answers to aborts; what counts is whether their commands end.
        while self.controller.collect().is_some() {}
        if let Some(abort) = &self.abort {
            let running = self.running.get(usize::from(abort.command)).and_then(Option::as_ref);
            if running.is_none_or(|running| running.serial != abort.serial) {
                self.abort = None;
            } else if now > abort.until {
                return self.fail(libc::ETIMEDOUT, "a command does not end", endings);
            }
        }
        if self.abort.is_none() {
            let late = |running: &Running| now.duration_since(running.since) > patience.command;
            let found = (0u16..).zip(&self.running).find_map(|(number, running)| {
                let running = running.as_ref().filter(|running| late(running))?;
                Some((number, running.serial, running.job.command.opcode))
            });
            if let Some((command, serial, opcode)) = found {
                tracing::warn!(opcode, "a command takes too long and is aborted");
                self.controller.abort(command);
                self.abort = Some(Abort { command, serial, until: now + patience.abort });
            }
        }
    }

    /// Ends the device: it reaches no memory any more, and every command ends with an error.
    fn fail(&mut self, errno: i32, reason: &'static str, endings: &mut Endings) {
        let commands = self.running.iter().flatten().count();
        tracing::error!(reason, commands, "an NVMe controller failed: the device takes no more commands");
        self.failure = Some(errno);
        self.controller.stop();
        let safe = self.dma.cut_off();
        for (number, place) in (0u16..).zip(&mut self.running) {
            let Some(running) = place.take() else { continue };
            self.free.push(number);
            let mut job = running.job;
            if !safe {
                job.replace_buffer();
            }
            endings.push((job, Err(io::Error::from_raw_os_error(errno))));
        }
    }
}

impl Job {
    /// Leaves the buffer to the device for ever; whoever waits for it gets another one.
    fn replace_buffer(&mut self) {
        if let Some((buffer, _)) = &mut self.data {
            let other = Buffer::new_unpooled(buffer.len());
            std::mem::forget(std::mem::replace(buffer, other));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let mut endings = Vec::new();
        let state = self.state.get_mut();
        if state.failure.is_none() {
            if state.running.iter().any(Option::is_some) {
                state.fail(libc::ECANCELED, "it was dropped with commands under way", &mut endings);
            } else if let Err(error) = state.controller.close() {
                tracing::error!(%error, "an NVMe controller was not shut down in order");
                state.controller.stop();
                state.dma.cut_off();
            }
        }
        state.start_waiting(&mut endings);
        self.settle(endings);
    }
}
