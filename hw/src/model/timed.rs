//! A device whose commands take the time of a modelled drive, around any other device.
//!
//! Invariants: what the device does stays what the inner one does, only its ends are later; a dropped command still
//! occupies the drive. It counts what a drive counts in its log pages.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::profile::DriveProfile;
use super::service_time::{Progress, ServiceTime, Ticket, Work};
use crate::buffer::Buffer;
use crate::clock::Clock;
use crate::device::{Command, Identity, Transfer, ZonedDevice};
use crate::error::DeviceError;
use crate::geometry::Geometry;
use crate::zone::{Zone, ZoneId};

/// A device in the time of a profile. Clones are handles of the same device.
#[derive(Clone)]
pub struct TimedDevice {
    inner: Rc<dyn ZonedDevice>,
    clock: Rc<dyn Clock>,
    shared: Rc<RefCell<Shared>>,
}

struct Shared {
    time: ServiceTime,
    /// Bytes written per zone, as far as this layer saw: what lies behind them costs no time to read.
    written: Vec<u64>,
    counters: BTreeMap<&'static str, u64>,
}

/// Gives a command's place in the model back, also when nobody waits for its end.
struct Held {
    shared: Rc<RefCell<Shared>>,
    ticket: Ticket,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.borrow_mut().time.forget(self.ticket);
    }
}

impl TimedDevice {
    /// Wraps a device. `seed` decides which reads need another try.
    pub fn new(inner: Rc<dyn ZonedDevice>, clock: Rc<dyn Clock>, profile: &DriveProfile, seed: u64) -> Self {
        let written = vec![0; inner.geometry().zones as usize];
        let shared = Shared { time: ServiceTime::new(profile, seed), written, counters: BTreeMap::new() };
        Self { inner, clock, shared: Rc::new(RefCell::new(shared)) }
    }

    /// The drive lost power: everything in flight ends now. The inner device must lose power first.
    pub fn power_cut(&self) {
        let shared = &mut *self.shared.borrow_mut();
        shared.time.power_cut(self.clock.now_ns());
        *shared.counters.entry("power_cycles").or_default() += 1;
    }

    /// The drive's counters: commands, bytes, rule violations, retries. They only grow.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let shared = self.shared.borrow();
        let mut counters: BTreeMap<String, u64> =
            shared.counters.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        counters.insert("read_retries".to_owned(), shared.time.retries());
        counters
    }

    fn run<T: 'static>(
        &self,
        work: Work,
        command: Command<T>,
        ended: impl FnOnce(&mut Shared, &T) + 'static,
    ) -> Command<T> {
        let (clock, shared) = (Rc::clone(&self.clock), Rc::clone(&self.shared));
        let ticket = shared.borrow_mut().time.submit(clock.now_ns(), work);
        let held = Held { shared, ticket };
        Box::pin(async move {
            loop {
                let now_ns = clock.now_ns();
                let progress = held.shared.borrow_mut().time.progress(now_ns, held.ticket);
                match progress {
                    Progress::Ends { at_ns } if at_ns <= now_ns => break,
                    Progress::Ends { at_ns } | Progress::Waits { until_ns: at_ns } => clock.sleep_until(at_ns).await,
                }
            }
            let outcome = command.await;
            ended(&mut held.shared.borrow_mut(), &outcome);
            outcome
        })
    }

    fn zone_command(
        &self,
        work: Work,
        zone: ZoneId,
        counter: &'static str,
        command: Command<Result<(), DeviceError>>,
        written: impl FnOnce(u64) -> u64 + 'static,
    ) -> Command<Result<(), DeviceError>> {
        self.run(work, command, move |shared, outcome| {
            shared.count(outcome.as_ref().err(), counter, 0, "");
            if outcome.is_ok()
                && let Some(bytes) = shared.written.get_mut(zone.0 as usize)
            {
                *bytes = written(*bytes);
            }
        })
    }
}

impl Shared {
    fn count(&mut self, error: Option<&DeviceError>, command: &'static str, bytes: u64, unit: &'static str) {
        let mut add = |name, count| *self.counters.entry(name).or_default() += count;
        match error {
            None => {
                add(command, 1);
                if !unit.is_empty() {
                    add(unit, bytes);
                }
            }
            Some(DeviceError::Unreadable { .. }) => add("uncorrected_reads", 1),
            Some(DeviceError::Failed { .. }) => add("failed_commands", 1),
            Some(DeviceError::TooManyOpen { .. } | DeviceError::TooManyActive { .. }) => add("failed_opens", 1),
            Some(_) => add("rule_violations", 1),
        }
    }

    /// How many of a read's bytes come from the medium.
    fn medium_bytes(&self, geometry: &Geometry, zone: ZoneId, offset_bytes: u64, bytes: u64) -> u64 {
        let conventional = zone.0 < geometry.conventional_zones;
        let written = self.written.get(zone.0 as usize).copied().unwrap_or(0);
        if conventional { bytes } else { written.saturating_sub(offset_bytes).min(bytes) }
    }
}

impl ZonedDevice for TimedDevice {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }

    fn geometry(&self) -> &Geometry {
        self.inner.geometry()
    }

    fn appends_per_zone(&self) -> u16 {
        self.inner.appends_per_zone()
    }

    fn room_bytes(&self) -> Option<u64> {
        self.inner.room_bytes()
    }

    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>> {
        let zones = count.min(self.geometry().zones);
        self.run(Work::Report { zones }, self.inner.report(first, count), |shared, outcome| {
            shared.count(outcome.as_ref().err(), "reports", 0, "");
        })
    }

    fn append(&self, zone: ZoneId, buffer: Buffer, bytes: Range<usize>) -> Transfer<u64> {
        let length = bytes.len() as u64;
        let offset_bytes = self.shared.borrow().written.get(zone.0 as usize).copied().unwrap_or(0);
        let work = Work::Write { zone: zone.0, offset_bytes, bytes: length };
        self.run(work, self.inner.append(zone, buffer, bytes), move |shared, (outcome, _)| {
            shared.count(outcome.as_ref().err(), "writes", length, "written_bytes");
            if let (Ok(at), Some(written)) = (outcome, shared.written.get_mut(zone.0 as usize)) {
                *written = at + length;
            }
        })
    }

    fn write(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let length = bytes.len() as u64;
        let work = Work::Write { zone: zone.0, offset_bytes, bytes: length };
        self.run(work, self.inner.write(zone, offset_bytes, buffer, bytes), move |shared, (outcome, _)| {
            shared.count(outcome.as_ref().err(), "writes", length, "written_bytes");
        })
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let length = bytes.len() as u64;
        let medium_bytes = self.shared.borrow().medium_bytes(self.geometry(), zone, offset_bytes, length);
        let work = Work::Read { zone: zone.0, offset_bytes, bytes: medium_bytes };
        self.run(work, self.inner.read(zone, offset_bytes, buffer, bytes), move |shared, (outcome, _)| {
            shared.count(outcome.as_ref().err(), "reads", length, "read_bytes");
        })
    }

    fn flush(&self) -> Command<Result<(), DeviceError>> {
        self.run(Work::Flush, self.inner.flush(), |shared, outcome| {
            shared.count(outcome.as_ref().err(), "flushes", 0, "");
        })
    }

    fn open(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.zone_command(Work::Open, zone, "zones_opened", self.inner.open(zone), |written| written)
    }

    fn close(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.zone_command(Work::Close, zone, "zones_closed", self.inner.close(zone), |written| written)
    }

    fn finish(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        let written = self.shared.borrow().written.get(zone.0 as usize).copied().unwrap_or(0);
        let left_bytes = self.geometry().zone_capacity_bytes.saturating_sub(written);
        let work = Work::Finish { zone: zone.0, left_bytes };
        self.zone_command(work, zone, "zones_finished", self.inner.finish(zone), |written| written)
    }

    fn reset(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.zone_command(Work::Reset { zone: zone.0 }, zone, "zones_reset", self.inner.reset(zone), |_| 0)
    }

    fn alloc_buffer(&self, bytes: usize) -> Buffer {
        self.inner.alloc_buffer(bytes)
    }
}
