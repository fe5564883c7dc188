//! A device that counts what the engine asks of it, and times the calls that hand a command over.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;
use shingle_hw::buffer::Buffer;
use shingle_hw::device::{Command, Identity, Part, Transfer, ZonedDevice};
use shingle_hw::error::DeviceError;
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::{Zone, ZoneId};

/// Calls of one kind, and the seconds inside them.
#[derive(Default)]
pub struct Calls {
    count: Cell<u64>,
    bytes: Cell<u64>,
    ns: Cell<u64>,
    /// From the call to the answer, summed over the commands.
    answer_ns: Cell<u64>,
}

impl Calls {
    /// Counts a call, and times it if asked to: two readings of the clock, about 50 ns.
    fn time<T>(&self, timed: bool, call: impl FnOnce() -> T) -> T {
        if !timed {
            self.count.set(self.count.get() + 1);
            return call();
        }
        let start = Instant::now();
        let result = call();
        self.count.set(self.count.get() + 1);
        self.ns.set(self.ns.get() + start.elapsed().as_nanos() as u64);
        result
    }

    /// Times the answer of a command of this kind.
    fn answered<T: 'static>(self: &Rc<Self>, timed: bool, command: Command<T>) -> Command<T> {
        if !timed {
            return command;
        }
        let (calls, start) = (self.clone(), Instant::now());
        Box::pin(async move {
            let answer = command.await;
            calls.answer_ns.set(calls.answer_ns.get() + start.elapsed().as_nanos() as u64);
            answer
        })
    }

    fn add_bytes(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }
}

/// All calls of one device.
#[derive(Default)]
pub struct Meter {
    /// Appends and writes.
    pub writes: Rc<Calls>,
    pub reads: Rc<Calls>,
    pub flushes: Rc<Calls>,
    /// Whether calls are timed, not only counted.
    pub timed: Cell<bool>,
}

/// The meter at one moment, or the difference of two.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Reading {
    pub writes: u64,
    pub written_bytes: u64,
    pub reads: u64,
    pub read_bytes: u64,
    pub flushes: u64,
    /// In calls that hand over a write; the drive's own checksum over it included.
    pub write_call_seconds: f64,
    pub read_call_seconds: f64,
    pub flush_call_seconds: f64,
    /// From calls to answers, summed over commands.
    pub write_answer_seconds: f64,
    pub read_answer_seconds: f64,
    pub flush_answer_seconds: f64,
}

impl Meter {
    pub fn read(&self) -> Reading {
        let seconds = |calls: &Calls| calls.ns.get() as f64 / 1e9;
        Reading {
            writes: self.writes.count.get(),
            written_bytes: self.writes.bytes.get(),
            reads: self.reads.count.get(),
            read_bytes: self.reads.bytes.get(),
            flushes: self.flushes.count.get(),
            write_call_seconds: seconds(&self.writes),
            read_call_seconds: seconds(&self.reads),
            flush_call_seconds: seconds(&self.flushes),
            write_answer_seconds: self.writes.answer_ns.get() as f64 / 1e9,
            read_answer_seconds: self.reads.answer_ns.get() as f64 / 1e9,
            flush_answer_seconds: self.flushes.answer_ns.get() as f64 / 1e9,
        }
    }
}

impl Reading {
    /// What happened since an earlier reading.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            writes: self.writes - before.writes,
            written_bytes: self.written_bytes - before.written_bytes,
            reads: self.reads - before.reads,
            read_bytes: self.read_bytes - before.read_bytes,
            flushes: self.flushes - before.flushes,
            write_call_seconds: self.write_call_seconds - before.write_call_seconds,
            read_call_seconds: self.read_call_seconds - before.read_call_seconds,
            flush_call_seconds: self.flush_call_seconds - before.flush_call_seconds,
            write_answer_seconds: self.write_answer_seconds - before.write_answer_seconds,
            read_answer_seconds: self.read_answer_seconds - before.read_answer_seconds,
            flush_answer_seconds: self.flush_answer_seconds - before.flush_answer_seconds,
        }
    }
}

/// A device behind a meter.
pub struct Metered {
    device: Rc<dyn ZonedDevice>,
    meter: Rc<Meter>,
}

impl Metered {
    pub fn new(device: Rc<dyn ZonedDevice>, meter: Rc<Meter>) -> Self {
        Self { device, meter }
    }
}

impl ZonedDevice for Metered {
    fn identity(&self) -> &Identity {
        self.device.identity()
    }

    fn geometry(&self) -> &Geometry {
        self.device.geometry()
    }

    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>> {
        self.device.report(first, count)
    }

    fn append(&self, zone: ZoneId, buffer: Buffer, bytes: Range<usize>) -> Transfer<u64> {
        self.meter.writes.add_bytes(bytes.len());
        let timed = self.meter.timed.get();
        let command = self.meter.writes.time(timed, || self.device.append(zone, buffer, bytes));
        self.meter.writes.answered(timed, command)
    }

    fn append_parts(&self, zone: ZoneId, parts: Vec<Part>) -> Command<(Result<u64, DeviceError>, Vec<Part>)> {
        parts.iter().for_each(|(_, bytes)| self.meter.writes.add_bytes(bytes.len()));
        let timed = self.meter.timed.get();
        let command = self.meter.writes.time(timed, || self.device.append_parts(zone, parts));
        self.meter.writes.answered(timed, command)
    }

    fn write(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        self.meter.writes.add_bytes(bytes.len());
        let timed = self.meter.timed.get();
        let command = self.meter.writes.time(timed, || self.device.write(zone, offset_bytes, buffer, bytes));
        self.meter.writes.answered(timed, command)
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        self.meter.reads.add_bytes(bytes.len());
        let timed = self.meter.timed.get();
        let command = self.meter.reads.time(timed, || self.device.read(zone, offset_bytes, buffer, bytes));
        self.meter.reads.answered(timed, command)
    }

    fn flush(&self) -> Command<Result<(), DeviceError>> {
        let timed = self.meter.timed.get();
        let command = self.meter.flushes.time(timed, || self.device.flush());
        self.meter.flushes.answered(timed, command)
    }

    fn open(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.device.open(zone)
    }

    fn close(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.device.close(zone)
    }

    fn finish(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.device.finish(zone)
    }

    fn reset(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.device.reset(zone)
    }

    fn alloc_buffer(&self, bytes: usize) -> Buffer {
        self.device.alloc_buffer(bytes)
    }
}
