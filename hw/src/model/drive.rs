//! A whole drive in memory and in the time of its profile: heads, faults on demand, loss of power at any moment.
//!
//! Invariant: the same profile, seed and calls give the same drive, to the nanosecond.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::profile::{DriveProfile, Media};
use super::timed::TimedDevice;
use crate::backend::memory::MemoryDevice;
use crate::clock::Clock;
use crate::device::ZonedDevice;
use crate::faulty::{Faults, FaultyDevice, Sleep};
use crate::zone::ZoneId;

/// A modelled drive. Clones are handles of the same drive.
#[derive(Clone)]
pub struct ModelledDrive {
    memory: MemoryDevice,
    faults: Faults,
    timed: TimedDevice,
    profile: Rc<DriveProfile>,
}

impl ModelledDrive {
    /// A drive fresh from the factory. The profile must be sound (`DriveProfile::check`).
    pub fn new(profile: &DriveProfile, clock: Rc<dyn Clock>, serial: &str, seed: u64) -> Self {
        Self::with_firmware(profile, clock, serial, seed, |inner| inner)
    }

    /// A drive with something between its medium and its interface: `firmware` wraps the one and is the other.
    pub fn with_firmware(
        profile: &DriveProfile,
        clock: Rc<dyn Clock>,
        serial: &str,
        seed: u64,
        firmware: impl FnOnce(Rc<dyn ZonedDevice>) -> Rc<dyn ZonedDevice>,
    ) -> Self {
        let memory = MemoryDevice::new(profile.geometry(), serial);
        Self::around(memory, profile, clock, seed, firmware)
    }

    /// As `with_firmware`, around a medium that somebody else made.
    pub fn around(
        memory: MemoryDevice,
        profile: &DriveProfile,
        clock: Rc<dyn Clock>,
        seed: u64,
        firmware: impl FnOnce(Rc<dyn ZonedDevice>) -> Rc<dyn ZonedDevice>,
    ) -> Self {
        let faulty = FaultyDevice::new(Rc::new(memory.clone()), sleep(Rc::clone(&clock)), seed);
        let faults = faulty.faults();
        let timed = TimedDevice::new(firmware(Rc::new(faulty)), clock, profile, seed);
        Self { memory, faults, timed, profile: Rc::new(profile.clone()) }
    }

    /// What a host sees.
    pub fn device(&self) -> Rc<dyn ZonedDevice> {
        Rc::new(self.timed.clone())
    }

    pub fn profile(&self) -> &DriveProfile {
        &self.profile
    }

    /// Faults that strike commands on their way to the medium.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Loses power: what is not durable survives as `seed` chooses, commands in flight fail.
    pub fn cut_power(&self, seed: u64) {
        self.memory.crash(seed);
        self.timed.power_cut();
    }

    /// Switches off and on in good order.
    pub fn power_cycle(&self) {
        self.memory.power_cycle();
        self.timed.power_cut();
    }

    /// A fault: the zone can no longer be written, for good.
    pub fn set_read_only(&self, zone: ZoneId) {
        self.memory.set_read_only(zone);
    }

    /// A fault: the zone can no longer be read or written, for good.
    pub fn set_offline(&self, zone: ZoneId) {
        self.memory.set_offline(zone);
    }

    /// The zones of each head; none on flash.
    pub fn heads(&self) -> Vec<Vec<ZoneId>> {
        let Media::Disk(disk) = &self.profile.media else { return Vec::new() };
        let zones = |head| (0..self.profile.shape.zones).filter(move |zone| zone % disk.heads == head).map(ZoneId);
        (0..disk.heads).map(|head| zones(head).collect()).collect()
    }

    /// The zones of each actuator; one range on flash.
    pub fn ranges(&self) -> Vec<std::ops::Range<u32>> {
        let zones = u64::from(self.profile.shape.zones);
        let arms = match &self.profile.media {
            Media::Disk(disk) => u64::from(disk.actuators.max(1)),
            Media::Flash(_) => 1,
        };
        let bound = |arm: u64| (zones * arm).div_ceil(arms) as u32;
        (0..arms).map(|arm| bound(arm)..bound(arm + 1)).collect()
    }

    /// Takes a head out of service, its zones go offline, all others stay as they are.
    pub fn remove_head(&self, head: usize) {
        for zone in self.heads().get(head).into_iter().flatten() {
            self.memory.set_offline(*zone);
        }
    }

    /// Forgets everything that was ever written, and every fault.
    pub fn sanitize(&self) {
        self.memory.sanitize();
        self.faults.clear();
        self.timed.power_cut();
    }

    /// The drive's counters, as its log pages show them.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        self.timed.counters()
    }
}

/// Delays of faults pass in the clock's time.
pub fn sleep(clock: Rc<dyn Clock>) -> Sleep {
    Rc::new(move |delay: Duration| {
        let at_ns = clock.now_ns() + u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX / 2);
        clock.sleep_until(at_ns)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{VirtualClock, block_on};
    use crate::zone::ZoneCondition;

    fn drive(clock: &VirtualClock, name: &str) -> ModelledDrive {
        let profile = DriveProfile::built_in(name).expect("exists");
        ModelledDrive::new(&profile, Rc::new(clock.clone()), "model-1", 1)
    }

    #[test]
    fn commands_take_the_time_of_the_profile_and_a_cut_ends_them() {
        let clock = VirtualClock::new();
        let drive = drive(&clock, "smr");
        let device = drive.device();
        let buffer = device.alloc_buffer(1 << 20);
        let (outcome, _) = block_on(&clock, device.append(ZoneId(3000), buffer, 0..1 << 20)).expect("ends");
        assert_eq!(outcome, Ok(0));
        assert_eq!(block_on(&clock, device.flush()), Ok(Ok(())));
        let flushed_ns = clock.now_ns();
        assert!(flushed_ns > 8_000_000, "a seek and a turn: {flushed_ns}");
        let append = device.append(ZoneId(3000), device.alloc_buffer(4096), 0..4096);
        drive.cut_power(7);
        let (outcome, _) = block_on(&clock, append).expect("ends");
        assert!(outcome.is_err());
        assert_eq!(drive.counters()["power_cycles"], 1);
    }

    #[test]
    fn zones_of_a_removed_head_go_offline_and_no_other() {
        let clock = VirtualClock::new();
        let drive = drive(&clock, "ci");
        drive.remove_head(2);
        let zones = block_on(&clock, drive.device().report(ZoneId(0), u32::MAX)).expect("ends").expect("reports");
        let offline: Vec<ZoneId> =
            zones.iter().filter(|zone| zone.condition == ZoneCondition::Offline).map(|zone| zone.id).collect();
        assert_eq!(offline, drive.heads()[2]);
        assert_eq!(drive.heads().iter().map(Vec::len).sum::<usize>(), 40);
        assert_eq!(drive.ranges(), vec![0..40; 1]);
    }
}
