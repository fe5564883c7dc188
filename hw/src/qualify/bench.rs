//! What tests work with: commands to the device under test, self-describing data and its verification, zones to
//! work in.
//!
//! Invariants: every zone a test wrote to is reset when it ends; the bench knows what every zone it wrote must contain.

mod crowd;
mod zones;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

pub use crowd::Crowd;

use super::findings::{Halt, Tally};
use super::latency::Series;
use super::pattern::{self, Damage, Stamp};
use super::plan::Scale;
use super::subject::{Injector, Power, Subject};
use crate::clock;
use crate::device::{Command, ZonedDevice};
use crate::draw::Draw;
use crate::error::DeviceError;
use crate::geometry::Geometry;
use crate::zone::{Zone, ZoneCondition, ZoneId};

/// What a device answered to a command.
pub type Answer<T> = Result<T, DeviceError>;

/// Sectors found damaged, with where they are.
pub type Damages = Vec<(ZoneId, u64, Damage)>;

/// What the host itself counted, to compare with the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounts {
    pub written_bytes: u64,
    pub read_bytes: u64,
    pub flushes: u64,
    pub resets: u64,
    pub finishes: u64,
    pub refusals: u64,
}

/// A test's view of the device.
pub struct Bench<'a> {
    pub subject: &'a Subject,
    pub scale: Scale,
    run: u64,
    draw: RefCell<Draw>,
    generations: RefCell<BTreeMap<ZoneId, u32>>,
    touched: RefCell<BTreeSet<ZoneId>>,
    next_zone: Cell<u32>,
    counts: Cell<HostCounts>,
    broken: Cell<bool>,
    tick: RefCell<Tick<'a>>,
}

/// Told how far a test is; false asks it to stop.
pub type Tick<'a> = Box<dyn FnMut(f64) -> bool + 'a>;

impl<'a> Bench<'a> {
    /// A bench for one run. `seed` decides everything random.
    pub fn new(subject: &'a Subject, scale: Scale, seed: u64, tick: Tick<'a>) -> Self {
        let first = subject.device.geometry().conventional_zones;
        Self {
            subject,
            scale,
            run: Draw::new(seed ^ 0x5157).next(),
            draw: RefCell::new(Draw::new(seed)),
            generations: RefCell::default(),
            touched: RefCell::default(),
            next_zone: Cell::new(first),
            counts: Cell::default(),
            broken: Cell::new(false),
            tick: RefCell::new(tick),
        }
    }

    pub fn geometry(&self) -> &Geometry {
        self.subject.device.geometry()
    }

    pub fn device(&self) -> &dyn ZonedDevice {
        &*self.subject.device
    }

    pub fn sector(&self) -> u64 {
        u64::from(self.geometry().sector_bytes)
    }

    /// Bytes that fit into a sequential zone.
    pub fn capacity(&self) -> u64 {
        self.geometry().zone_capacity_bytes
    }

    /// The largest transfer of at most `bytes`, in whole sectors.
    pub fn transfer(&self, bytes: u64) -> u64 {
        let most = u64::from(self.geometry().transfer_bytes_max).min(self.capacity());
        (bytes.min(most) / self.sector() * self.sector()).max(self.sector())
    }

    pub fn now_ns(&self) -> u64 {
        self.subject.driver.now_ns()
    }

    pub fn counts(&self) -> HostCounts {
        self.counts.get()
    }

    /// A number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.draw.borrow_mut().below(bound)
    }

    pub fn coin(&self) -> bool {
        self.draw.borrow_mut().coin()
    }

    /// Tells how far the test is; ends it when the user asked.
    pub fn tick(&self, done: u64, total: u64) -> Result<(), Halt> {
        let fraction = done as f64 / total.max(1) as f64;
        if (self.tick.borrow_mut())(fraction) { Ok(()) } else { Err(Halt::Interrupted) }
    }

    /// Runs a command to its end.
    pub fn wait<F: Future>(&self, command: F) -> Result<F::Output, Halt> {
        clock::block_on(&*self.subject.driver, command).map_err(|stuck| Halt::Drive(stuck.to_string()))
    }

    /// The next command of a crowd that ends; `None` when none is left.
    pub fn next<T>(&self, crowd: &mut Crowd<T>) -> Result<Option<(u64, T)>, Halt> {
        self.wait(crowd.next())
    }

    /// Lets time move `steps` times while a future runs; `None` when it has not ended.
    pub fn steps<F: Future + ?Sized>(&self, future: Pin<&mut F>, steps: u64) -> Result<Option<F::Output>, Halt> {
        clock::run_steps(&*self.subject.driver, future, steps).map_err(|stuck| Halt::Drive(stuck.to_string()))
    }

    pub fn sleep(&self, time: Duration) -> Result<(), Halt> {
        let at_ns = self.now_ns() + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2);
        self.wait(self.subject.driver.sleep_until(at_ns))
    }

    pub fn power(&self) -> Result<&dyn Power, Halt> {
        self.subject.power.as_deref().ok_or_else(|| Halt::Skip("no power relay".to_owned()))
    }

    pub fn injector(&self) -> Result<&dyn Injector, Halt> {
        self.subject.injector.as_deref().ok_or_else(|| Halt::Skip("no fault injector".to_owned()))
    }

    fn count(&self, change: impl FnOnce(&mut HostCounts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// Sends a command without data.
    pub fn zone_op(&self, operation: ZoneOperation, zone: ZoneId) -> Result<Answer<()>, Halt> {
        let answer = self.wait(self.start_zone_op(operation, zone))?;
        self.noted(&answer, |counts| match operation {
            ZoneOperation::Finish => counts.finishes += 1,
            ZoneOperation::Reset => counts.resets += 1,
            _ => {}
        });
        if operation == ZoneOperation::Reset && answer.is_ok() {
            *self.generations.borrow_mut().entry(zone).or_default() += 1;
        }
        Ok(answer)
    }

    fn noted<T>(&self, answer: &Answer<T>, change: impl FnOnce(&mut HostCounts)) {
        self.count(|counts| if answer.is_ok() { change(counts) } else { counts.refusals += 1 });
    }

    pub fn open(&self, zone: ZoneId) -> Result<Answer<()>, Halt> {
        self.zone_op(ZoneOperation::Open, zone)
    }

    pub fn close(&self, zone: ZoneId) -> Result<Answer<()>, Halt> {
        self.zone_op(ZoneOperation::Close, zone)
    }

    pub fn finish(&self, zone: ZoneId) -> Result<Answer<()>, Halt> {
        self.zone_op(ZoneOperation::Finish, zone)
    }

    pub fn reset(&self, zone: ZoneId) -> Result<Answer<()>, Halt> {
        self.zone_op(ZoneOperation::Reset, zone)
    }

    pub fn flush(&self) -> Result<Answer<()>, Halt> {
        let answer = self.wait(self.device().flush())?;
        self.noted(&answer, |counts| counts.flushes += 1);
        Ok(answer)
    }

    pub fn report(&self, first: ZoneId, count: u32) -> Result<Answer<Vec<Zone>>, Halt> {
        self.wait(self.device().report(first, count))
    }

    /// A zone's line of the report.
    pub fn zone(&self, zone: ZoneId) -> Result<Zone, Halt> {
        let zones =
            self.report(zone, 1)?.map_err(|error| Halt::Drive(format!("report of zone {}: {error}", zone.0)))?;
        let found = zones.first().copied().filter(|found| found.id == zone);
        found.ok_or_else(|| Halt::Drive(format!("the report of zone {} does not contain it", zone.0)))
    }

    /// Appends raw bytes of any length; `bytes` may be more than a buffer has room for.
    pub fn append_raw(&self, zone: ZoneId, bytes: std::ops::Range<usize>) -> Result<Answer<u64>, Halt> {
        self.touch(zone);
        let buffer = self.device().alloc_buffer(bytes.end.max(1));
        let length = bytes.len() as u64;
        let (answer, _) = self.wait(self.device().append(zone, buffer, bytes))?;
        self.noted(&answer, |counts| counts.written_bytes += length);
        Ok(answer)
    }

    /// Starts a command about a zone. After a reset that ended, `renewed` must be called.
    pub fn start_zone_op(&self, operation: ZoneOperation, zone: ZoneId) -> Command<Answer<()>> {
        self.touch(zone);
        let device = self.device();
        match operation {
            ZoneOperation::Open => device.open(zone),
            ZoneOperation::Close => device.close(zone),
            ZoneOperation::Finish => device.finish(zone),
            ZoneOperation::Reset => device.reset(zone),
        }
    }

    /// A zone became empty without `reset`: what is written from now on is a new generation.
    pub fn renewed(&self, zone: ZoneId) {
        *self.generations.borrow_mut().entry(zone).or_default() += 1;
    }

    /// Breaks a zone; the runner renews the device after the test.
    pub fn break_zone(&self, zone: ZoneId, condition: ZoneCondition) -> Result<(), Halt> {
        self.broken.set(true);
        self.injector()?.fail_zone(zone, condition);
        Ok(())
    }

    /// The device was changed in a way that only renewing it undoes.
    pub fn note_broken(&self) {
        self.broken.set(true);
    }

    /// Ends every injected fault, and makes the device whole when a test broke it.
    pub fn renew(&self) {
        let Some(injector) = self.subject.injector.as_deref() else { return };
        injector.faults().clear();
        if self.broken.replace(false) {
            injector.renew();
        }
    }

    /// What a sector of a zone must contain.
    pub fn stamp(&self, zone: ZoneId, offset_bytes: u64) -> Stamp {
        let generation = self.generations.borrow().get(&zone).copied().unwrap_or(0);
        Stamp { run: self.run, zone, generation, offset_bytes }
    }

    /// Starts an append of `bytes` at `offset_bytes`, where the host believes the write pointer to be.
    pub fn start_append(&self, zone: ZoneId, offset_bytes: u64, bytes: u64) -> Command<Answer<u64>> {
        self.touch(zone);
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        let buffer = self.stamped(zone, offset_bytes, length);
        let append = self.device().append(zone, buffer, 0..length);
        Box::pin(async move { append.await.0 })
    }

    fn stamped(&self, zone: ZoneId, offset_bytes: u64, length: usize) -> crate::buffer::Buffer {
        let mut buffer = self.device().alloc_buffer(length);
        let sector_bytes = self.sector();
        for (index, sector) in
            (0u64..).zip(buffer.chunks_mut(sector_bytes as usize).take(length / sector_bytes as usize))
        {
            pattern::fill(sector, &self.stamp(zone, offset_bytes + index * sector_bytes));
        }
        buffer
    }

    /// Appends stamped data; the answer is what the device says, wherever it says the data landed.
    pub fn append(&self, zone: ZoneId, offset_bytes: u64, bytes: u64) -> Result<Answer<u64>, Halt> {
        let answer = self.wait(self.start_append(zone, offset_bytes, bytes))?;
        self.noted(&answer, |counts| counts.written_bytes += bytes);
        Ok(answer)
    }

    /// Writes stamped data into a conventional zone; also where a device must refuse it.
    pub fn write(&self, zone: ZoneId, offset_bytes: u64, bytes: u64) -> Result<Answer<()>, Halt> {
        if zone.0 >= self.geometry().conventional_zones {
            self.touch(zone);
        }
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        let buffer = self.stamped(zone, offset_bytes, length);
        let (answer, _) = self.wait(self.device().write(zone, offset_bytes, buffer, 0..length))?;
        self.noted(&answer, |counts| counts.written_bytes += bytes);
        Ok(answer)
    }

    /// Appends that a test cannot do without.
    pub fn must_append(&self, zone: ZoneId, offset_bytes: u64, bytes: u64) -> Result<(), Halt> {
        match self.append(zone, offset_bytes, bytes)? {
            Ok(at) if at == offset_bytes => Ok(()),
            Ok(at) => Err(Halt::Drive(format!("zone {}: an append landed at {at} instead of {offset_bytes}", zone.0))),
            Err(error) => Err(Halt::Drive(format!("a legal append was refused: {error}"))),
        }
    }

    /// Fills a zone from `offset_bytes` up to `until_bytes`.
    pub fn must_fill(&self, zone: ZoneId, offset_bytes: u64, until_bytes: u64) -> Result<(), Halt> {
        let mut at = offset_bytes;
        while at < until_bytes {
            let bytes = self.transfer(until_bytes - at);
            self.must_append(zone, at, bytes)?;
            at += bytes;
        }
        Ok(())
    }

    /// Turns the answer of a command that must succeed into its value.
    pub fn must<T>(&self, answer: Answer<T>, what: &str) -> Result<T, Halt> {
        answer.map_err(|error| Halt::Drive(format!("{what} was refused: {error}")))
    }

    /// Starts a read; the answer carries the bytes.
    pub fn start_read(&self, zone: ZoneId, offset_bytes: u64, bytes: u64) -> Command<Answer<Vec<u8>>> {
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut buffer = self.device().alloc_buffer(length);
        // What the device does not write shows.
        buffer.fill(0xa5);
        let read = self.device().read(zone, offset_bytes, buffer, 0..length);
        Box::pin(async move {
            let (answer, buffer) = read.await;
            answer.map(|()| buffer.get(..length).unwrap_or_default().to_vec())
        })
    }

    pub fn read(&self, zone: ZoneId, offset_bytes: u64, bytes: u64) -> Result<Answer<Vec<u8>>, Halt> {
        let answer = self.wait(self.start_read(zone, offset_bytes, bytes))?;
        self.noted(&answer, |counts| counts.read_bytes += bytes);
        Ok(answer)
    }

    /// Judges sectors read from a zone.
    pub fn judge(&self, zone: ZoneId, offset_bytes: u64, data: &[u8]) -> Damages {
        let sector_bytes = self.sector();
        let sectors = (0u64..).zip(data.chunks_exact(sector_bytes as usize));
        let judged = sectors.filter_map(|(index, sector)| {
            let at = offset_bytes + index * sector_bytes;
            pattern::judge(sector, &self.stamp(zone, at)).err().map(|damage| (zone, at, damage))
        });
        judged.collect()
    }

    /// Reads a part of a zone back and checks every sector; a refused read is a violation as well.
    pub fn verify(&self, zone: ZoneId, bytes: std::ops::Range<u64>, tally: &mut Tally) -> Result<Damages, Halt> {
        let mut found = Vec::new();
        let mut at = bytes.start;
        while at < bytes.end {
            let length = self.transfer(bytes.end - at);
            match self.read(zone, at, length)? {
                Ok(data) => {
                    let damages = self.judge(zone, at, &data);
                    let sectors = length / self.sector();
                    tally.checks += sectors - (damages.len() as u64).min(sectors);
                    for (zone, at, damage) in &damages {
                        tally.check(false, || format!("zone {} at {at}: {damage}", zone.0));
                    }
                    found.extend(damages);
                }
                Err(error) => {
                    tally.check(false, || format!("zone {} at {at}: {error}", zone.0));
                }
            }
            at += length;
        }
        Ok(found)
    }

    /// Checks that no sector from `from_bytes` on shows anything that was ever written.
    pub fn verify_blank(&self, zone: ZoneId, from_bytes: u64, tally: &mut Tally) -> Result<(), Halt> {
        let until = self.capacity().min(from_bytes + 4 * self.transfer(u64::MAX));
        let mut at = from_bytes;
        while at < until {
            let length = self.transfer(until - at);
            // Restricted reads: an error is as good as zeroes.
            if let Ok(data) = self.read(zone, at, length)? {
                for (index, sector) in (0u64..).zip(data.chunks(self.sector() as usize)) {
                    let place = at + index * self.sector();
                    tally.check(!pattern::is_stamped(sector), || {
                        format!("zone {} at {place}: old data behind the write pointer", zone.0)
                    });
                }
            }
            at += length;
        }
        Ok(())
    }

    /// Times a command.
    pub fn timed<T>(&self, series: &mut Series, command: impl FnOnce() -> Result<T, Halt>) -> Result<T, Halt> {
        let start_ns = self.now_ns();
        let outcome = command()?;
        series.record(start_ns, self.now_ns() - start_ns);
        Ok(outcome)
    }

    fn touch(&self, zone: ZoneId) {
        if zone.0 >= self.geometry().conventional_zones && zone.0 < self.geometry().zones {
            self.touched.borrow_mut().insert(zone);
        }
    }
}

/// Commands about a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneOperation {
    Open,
    Close,
    Finish,
    Reset,
}
