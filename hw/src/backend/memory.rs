//! A zoned device in memory, for simulation: it obeys every zone rule and has a volatile write cache that a crash may
//! lose, keep or tear.
//!
//! Invariants: what a flush covered survives every crash; what it did not cover survives as a prefix of the zone that
//! ends at any sector, chosen by the crash's seed (conventional zones: any subset of the sectors written). The same
//! calls and the same seeds give the same results.

mod cache;
mod medium;

use std::cell::RefCell;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::buffer::Buffer;
use crate::device::{Command, Identity, Transfer, ZonedDevice};
use crate::draw::Draw;
use crate::error::DeviceError;
use crate::geometry::Geometry;
use crate::image::Image;
use crate::zone::{Zone, ZoneId};
use cache::Cache;

/// A device in memory. Clones are handles of the same device.
#[derive(Clone)]
pub struct MemoryDevice {
    shared: Rc<Shared>,
}

struct Shared {
    identity: Identity,
    geometry: Geometry,
    state: RefCell<State>,
}

struct State {
    cache: Cache,
    /// Counts losses of power: commands of an earlier life change nothing any more.
    life: u64,
    yields: Draw,
    yields_max: u64,
}

impl MemoryDevice {
    /// A device fresh from the factory. The geometry must be sound: `Geometry::check`.
    pub fn new(geometry: Geometry, serial: &str) -> Self {
        assert_eq!(geometry.check(), Ok(()), "a device has a possible geometry");
        let identity = Identity { model: "Shingle memory".to_owned(), serial: serial.to_owned() };
        let cache = Cache::new(geometry.clone());
        let state = RefCell::new(State { cache, life: 0, yields: Draw::new(0), yields_max: 0 });
        Self { shared: Rc::new(Shared { identity, geometry, state }) }
    }

    /// A device that holds what an image says, all of it durable.
    pub fn from_image(image: &Image, serial: &str) -> Self {
        let device = Self::new(image.geometry().clone(), serial);
        {
            let mut state = device.shared.state.borrow_mut();
            image.zones().iter().zip(0..).for_each(|(zone, number)| state.cache.load(ZoneId(number), zone));
        }
        device
    }

    /// From now on every command gives way up to `yields_max` times before it ends, as `seed` chooses, so that commands
    /// of several tasks interleave.
    pub fn yield_up_to(&self, yields_max: u32, seed: u64) {
        let mut state = self.shared.state.borrow_mut();
        state.yields = Draw::new(seed);
        state.yields_max = u64::from(yields_max);
    }

    /// Loses power: what is not durable survives as `seed` chooses, commands in flight fail.
    pub fn crash(&self, seed: u64) {
        let mut state = self.shared.state.borrow_mut();
        state.life += 1;
        state.cache.crash(&mut Draw::new(seed));
    }

    /// Switches off and on in good order: everything written becomes durable, open zones are closed, commands in flight
    /// fail.
    pub fn power_cycle(&self) {
        let mut state = self.shared.state.borrow_mut();
        state.life += 1;
        state.cache.power_cycle();
    }

    /// Forgets everything that was ever written; every zone is as it left the factory.
    pub fn sanitize(&self) {
        let mut state = self.shared.state.borrow_mut();
        state.life += 1;
        state.cache = Cache::new(self.shared.geometry.clone());
    }

    /// Damage at rest: flips the bits of `mask` in one byte of the medium. Nothing happens where nothing was written.
    pub fn flip(&self, zone: ZoneId, offset_bytes: u64, mask: u8) {
        self.shared.state.borrow_mut().cache.flip(zone, offset_bytes, mask);
    }

    /// A fault: the zone can no longer be written, for good.
    pub fn set_read_only(&self, zone: ZoneId) {
        self.shared.state.borrow_mut().cache.set_read_only(zone);
    }

    /// A fault: the zone can no longer be read or written, for good.
    pub fn set_offline(&self, zone: ZoneId) {
        self.shared.state.borrow_mut().cache.set_offline(zone);
    }

    /// Damage at rest: the sector at an offset can no longer be read, until its zone is reset.
    pub fn set_unreadable(&self, zone: ZoneId, offset_bytes: u64) {
        self.shared.state.borrow_mut().cache.set_unreadable(zone, offset_bytes);
    }

    /// Host memory that the device's contents take, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.shared.state.borrow().cache.memory_bytes()
    }

    /// A command that has begun and ends after some yields. `end` gets the device, or nothing after a loss of power.
    fn ending<T: 'static>(&self, end: impl FnOnce(Option<&mut Cache>) -> T + 'static) -> Command<T> {
        let mut state = self.shared.state.borrow_mut();
        let bound = state.yields_max + 1;
        let yields = state.yields.below(bound);
        Box::pin(Ending { shared: Rc::clone(&self.shared), life: state.life, yields, end: Some(Box::new(end)) })
    }

    /// A command that ends as it begins.
    fn settled<T: 'static>(&self, outcome: T) -> Command<T> {
        self.ending(move |_| outcome)
    }

    /// A command without a buffer that changes the state at once.
    fn change(&self, change: impl FnOnce(&mut Cache) -> Result<(), DeviceError>) -> Command<Result<(), DeviceError>> {
        let outcome = change(&mut self.shared.state.borrow_mut().cache);
        self.ending(move |cache| if cache.is_some() { outcome } else { Err(power_lost()) })
    }
}

fn power_lost() -> DeviceError {
    DeviceError::Failed { reason: "power was lost", errno: libc::ENODEV }
}

/// The length of a transfer, when it stays inside its buffer and starts at a whole sector of it.
fn length_of(buffer: &Buffer, bytes: &Range<usize>, sector_bytes: u32) -> Result<u64, DeviceError> {
    crate::device::transfer_length(buffer.len(), bytes, sector_bytes)
}

impl ZonedDevice for MemoryDevice {
    fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    fn geometry(&self) -> &Geometry {
        &self.shared.geometry
    }

    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>> {
        self.ending(move |cache| cache.map(|cache| cache.report(first, count)).ok_or_else(power_lost))
    }

    fn append(&self, zone: ZoneId, buffer: Buffer, bytes: Range<usize>) -> Transfer<u64> {
        let begun = length_of(&buffer, &bytes, self.shared.geometry.sector_bytes).and_then(|_| {
            let data = buffer.get(bytes).unwrap_or_default();
            self.shared.state.borrow_mut().cache.begin_append(zone, data)
        });
        match begun {
            Ok(offset_bytes) => self.ending(move |cache| match cache {
                Some(cache) => {
                    cache.end_append(zone);
                    (Ok(offset_bytes), buffer)
                }
                None => (Err(power_lost()), buffer),
            }),
            Err(error) => self.settled((Err(error), buffer)),
        }
    }

    fn write(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let written = length_of(&buffer, &bytes, self.shared.geometry.sector_bytes).and_then(|_| {
            let data = buffer.get(bytes).unwrap_or_default();
            self.shared.state.borrow_mut().cache.write(zone, offset_bytes, data)
        });
        self.ending(move |cache| (if cache.is_some() { written } else { Err(power_lost()) }, buffer))
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, mut buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        if let Err(error) = length_of(&buffer, &bytes, self.shared.geometry.sector_bytes) {
            return self.settled((Err(error), buffer));
        }
        self.ending(move |cache| {
            let data = buffer.get_mut(bytes).unwrap_or_default();
            let outcome = cache.map_or_else(|| Err(power_lost()), |cache| cache.read(zone, offset_bytes, data));
            (outcome, buffer)
        })
    }

    fn flush(&self) -> Command<Result<(), DeviceError>> {
        let covered = self.shared.state.borrow().cache.begin_flush();
        self.ending(move |cache| cache.map(|cache| cache.end_flush(covered)).ok_or_else(power_lost))
    }

    fn open(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.change(|cache| cache.open(zone))
    }

    fn close(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.change(|cache| cache.close(zone))
    }

    fn finish(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.change(|cache| cache.finish(zone))
    }

    fn reset(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        let begun = self.shared.state.borrow_mut().cache.begin_reset(zone);
        match begun {
            Ok(()) => self.ending(move |cache| cache.map(|cache| cache.end_reset(zone)).ok_or_else(power_lost)),
            Err(error) => self.settled(Err(error)),
        }
    }

    fn alloc_buffer(&self, bytes: usize) -> Buffer {
        Buffer::new_unpooled(bytes)
    }
}

type End<T> = Box<dyn FnOnce(Option<&mut Cache>) -> T>;

/// A command in flight. Dropped before its end, it ends all the same, as a drive would end it.
struct Ending<T> {
    shared: Rc<Shared>,
    life: u64,
    yields: u64,
    end: Option<End<T>>,
}

impl<T> Ending<T> {
    fn finish(&mut self) -> Option<T> {
        let end = self.end.take()?;
        let mut state = self.shared.state.borrow_mut();
        let same_life = state.life == self.life;
        Some(end(same_life.then_some(&mut state.cache)))
    }
}

impl<T> Future for Ending<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if self.yields > 0 {
            self.yields -= 1;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.finish() {
            Some(outcome) => Poll::Ready(outcome),
            None => panic!("a command is not polled after its end"),
        }
    }
}

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        drop(self.finish());
    }
}
