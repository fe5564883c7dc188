//! A device that loses power when it is given its n-th command.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::buffer::Buffer;
use shingle_hw::device::{Command, Identity, Transfer, ZonedDevice};
use shingle_hw::error::DeviceError;
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::{Zone, ZoneId};

pub struct PowerCut {
    inner: Rc<dyn ZonedDevice>,
    pub commands: Cell<u64>,
    cut_at: u64,
    /// What the loss of power does to the device.
    lose: Box<dyn Fn()>,
    off: Cell<bool>,
}

impl PowerCut {
    /// Loses power instead of starting command `cut_at` (counted from 0).
    pub fn new(inner: MemoryDevice, cut_at: u64, seed: u64) -> Rc<Self> {
        let device = inner.clone();
        Self::around(Rc::new(inner), cut_at, move || device.crash(seed))
    }

    /// The same for any device; `lose` is called when power is lost.
    pub fn around(inner: Rc<dyn ZonedDevice>, cut_at: u64, lose: impl Fn() + 'static) -> Rc<Self> {
        Rc::new(Self { inner, commands: Cell::new(0), cut_at, lose: Box::new(lose), off: Cell::new(false) })
    }

    pub fn is_off(&self) -> bool {
        self.off.get()
    }

    /// Whether the command may start.
    fn powered(&self) -> bool {
        let command = self.commands.get();
        self.commands.set(command + 1);
        if command == self.cut_at {
            self.off.set(true);
            (self.lose)();
        }
        !self.off.get()
    }

    fn lost<T: 'static>() -> Command<Result<T, DeviceError>> {
        Box::pin(async { Err(DeviceError::Failed { reason: "power was lost", errno: 5 }) })
    }

    fn lost_with<T: 'static>(buffer: Buffer) -> Transfer<T> {
        Box::pin(async { (Err(DeviceError::Failed { reason: "power was lost", errno: 5 }), buffer) })
    }

    /// Commands that only change a zone's state.
    fn change(
        &self,
        change: impl FnOnce(&dyn ZonedDevice) -> Command<Result<(), DeviceError>>,
    ) -> Command<Result<(), DeviceError>> {
        if self.powered() { change(&*self.inner) } else { Self::lost() }
    }
}

impl ZonedDevice for PowerCut {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }

    fn geometry(&self) -> &Geometry {
        self.inner.geometry()
    }

    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>> {
        if self.powered() { self.inner.report(first, count) } else { Self::lost() }
    }

    fn append(&self, zone: ZoneId, buffer: Buffer, bytes: Range<usize>) -> Transfer<u64> {
        if self.powered() { self.inner.append(zone, buffer, bytes) } else { Self::lost_with(buffer) }
    }

    fn write(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        if self.powered() { self.inner.write(zone, offset_bytes, buffer, bytes) } else { Self::lost_with(buffer) }
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        if self.powered() { self.inner.read(zone, offset_bytes, buffer, bytes) } else { Self::lost_with(buffer) }
    }

    fn flush(&self) -> Command<Result<(), DeviceError>> {
        self.change(|device| device.flush())
    }

    fn open(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.change(|device| device.open(zone))
    }

    fn close(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.change(|device| device.close(zone))
    }

    fn finish(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.change(|device| device.finish(zone))
    }

    fn reset(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.change(|device| device.reset(zone))
    }

    fn alloc_buffer(&self, bytes: usize) -> Buffer {
        self.inner.alloc_buffer(bytes)
    }
}
