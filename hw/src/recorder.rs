//! A device that keeps a log of every command given to the one it wraps: what it was, when it began and how it ended.
//!
//! Invariant: the log's order is the order in which the wrapped device saw commands begin and its caller saw them end.

use std::cell::RefCell;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::buffer::Buffer;
use crate::device::{Command, Identity, Transfer, ZonedDevice};
use crate::error::DeviceError;
use crate::faulty::CommandKind;
use crate::geometry::Geometry;
use crate::zone::{Zone, ZoneCondition, ZoneId};

/// What a command was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    pub kind: CommandKind,
    /// Zone 0 for flushes, which concern all.
    pub zone: ZoneId,
    /// Where reads and writes begin within the zone; appends land where they land.
    pub offset_bytes: u64,
    /// What appends and writes carry; how much reads and reports ask for is not kept.
    pub data: Arc<[u8]>,
    /// Flushes that had ended well before it began.
    pub epoch: u32,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Commands are numbered in the order of their beginnings.
    Begun { command: usize, action: Action },
    /// For an append, the offset where it landed; otherwise 0.
    Ended { command: usize, outcome: Result<u64, DeviceError> },
    /// The zone turned read-only or offline.
    ZoneFailed { zone: ZoneId, condition: ZoneCondition },
}

/// The log of one device; clones are handles of the same log.
#[derive(Clone, Default)]
pub struct Log {
    lines: Rc<RefCell<Lines>>,
}

#[derive(Default)]
struct Lines {
    events: Vec<Event>,
    commands: usize,
    epoch: u32,
}

impl Log {
    /// Events so far.
    pub fn position(&self) -> usize {
        self.lines.borrow().events.len()
    }

    /// All events so far, in order.
    pub fn events(&self) -> Vec<Event> {
        self.lines.borrow().events.clone()
    }

    /// Notes that a zone has failed; making it so is the caller's business.
    pub fn zone_failed(&self, zone: ZoneId, condition: ZoneCondition) {
        self.lines.borrow_mut().events.push(Event::ZoneFailed { zone, condition });
    }

    fn begin(&self, kind: CommandKind, zone: ZoneId, offset_bytes: u64, data: &[u8]) -> usize {
        let mut lines = self.lines.borrow_mut();
        let command = lines.commands;
        lines.commands += 1;
        let action = Action { kind, zone, offset_bytes, data: data.into(), epoch: lines.epoch };
        lines.events.push(Event::Begun { command, action });
        command
    }

    fn end(&self, command: usize, kind: CommandKind, outcome: Result<u64, DeviceError>) {
        let mut lines = self.lines.borrow_mut();
        lines.epoch += u32::from(kind == CommandKind::Flush && outcome.is_ok());
        lines.events.push(Event::Ended { command, outcome });
    }
}

/// A device whose commands are recorded.
pub struct Recorder {
    inner: Rc<dyn ZonedDevice>,
    log: Log,
}

impl Recorder {
    pub fn new(inner: Rc<dyn ZonedDevice>) -> Self {
        Self { inner, log: Log::default() }
    }

    pub fn log(&self) -> Log {
        self.log.clone()
    }

    /// Follows a command to its end. `landed` reads its result.
    fn follow<T: 'static>(
        &self,
        kind: CommandKind,
        command: usize,
        inner: Command<T>,
        landed: impl Fn(&T) -> Result<u64, DeviceError> + Unpin + 'static,
    ) -> Command<T> {
        Box::pin(Following { inner, kind, command, log: self.log.clone(), landed })
    }

    /// A command about a zone that carries no data.
    fn zone_command(
        &self,
        kind: CommandKind,
        zone: ZoneId,
        pass: impl FnOnce(&dyn ZonedDevice) -> Command<Result<(), DeviceError>>,
    ) -> Command<Result<(), DeviceError>> {
        let command = self.log.begin(kind, zone, 0, &[]);
        self.follow(kind, command, pass(&*self.inner), |outcome| outcome.clone().map(|()| 0))
    }
}

struct Following<T, F> {
    inner: Command<T>,
    kind: CommandKind,
    command: usize,
    log: Log,
    landed: F,
}

impl<T, F: Fn(&T) -> Result<u64, DeviceError> + Unpin> Future for Following<T, F> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let polled = self.inner.as_mut().poll(context);
        if let Poll::Ready(outcome) = &polled {
            self.log.end(self.command, self.kind, (self.landed)(outcome));
        }
        polled
    }
}

impl ZonedDevice for Recorder {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }

    fn geometry(&self) -> &Geometry {
        self.inner.geometry()
    }

    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>> {
        let command = self.log.begin(CommandKind::Report, first, 0, &[]);
        let report = self.inner.report(first, count);
        self.follow(CommandKind::Report, command, report, |outcome| outcome.as_ref().map(|_| 0).map_err(Clone::clone))
    }

    fn append(&self, zone: ZoneId, buffer: Buffer, bytes: Range<usize>) -> Transfer<u64> {
        let data = buffer.get(bytes.clone()).unwrap_or_default();
        let command = self.log.begin(CommandKind::Append, zone, 0, data);
        let append = self.inner.append(zone, buffer, bytes);
        self.follow(CommandKind::Append, command, append, |(outcome, _)| outcome.clone())
    }

    fn write(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let data = buffer.get(bytes.clone()).unwrap_or_default();
        let command = self.log.begin(CommandKind::Write, zone, offset_bytes, data);
        let write = self.inner.write(zone, offset_bytes, buffer, bytes);
        self.follow(CommandKind::Write, command, write, |(outcome, _)| outcome.clone().map(|()| 0))
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let command = self.log.begin(CommandKind::Read, zone, offset_bytes, &[]);
        let read = self.inner.read(zone, offset_bytes, buffer, bytes);
        self.follow(CommandKind::Read, command, read, |(outcome, _)| outcome.clone().map(|()| 0))
    }

    fn flush(&self) -> Command<Result<(), DeviceError>> {
        self.zone_command(CommandKind::Flush, ZoneId(0), |inner| inner.flush())
    }

    fn open(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.zone_command(CommandKind::Open, zone, |inner| inner.open(zone))
    }

    fn close(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.zone_command(CommandKind::Close, zone, |inner| inner.close(zone))
    }

    fn finish(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.zone_command(CommandKind::Finish, zone, |inner| inner.finish(zone))
    }

    fn reset(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.zone_command(CommandKind::Reset, zone, |inner| inner.reset(zone))
    }

    fn alloc_buffer(&self, bytes: usize) -> Buffer {
        self.inner.alloc_buffer(bytes)
    }
}
