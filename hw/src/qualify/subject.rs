//! The device under test, with everything a test may do to it besides sending commands.
//!
//! Invariant: what a rig cannot do is `None` here, and tests that need it are skipped with that reason.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::clock::Driver;
use crate::device::ZonedDevice;
use crate::draw::Draw;
use crate::faulty::Faults;
use crate::geometry::Geometry;
use crate::model::drive::ModelledDrive;
use crate::model::profile::{DriveProfile, Media};
use crate::zone::{ZoneCondition, ZoneId};

/// What kind of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// Host-managed SMR hard disk.
    SmrHm,
    /// Zoned flash.
    Zns,
    /// A drive in a file or in memory.
    Emulated,
}

/// What a device says of itself, stored in every report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passport {
    pub kind: DeviceKind,
    pub model: String,
    pub serial: String,
    pub firmware: String,
    pub interface: String,
    #[serde(flatten)]
    pub geometry: Geometry,
    /// `heads`, `ranges`, `native-append`, `zrwa`, `cdl` and the like.
    pub features: Vec<String>,
    pub heads: u32,
}

/// Switches the device's power. The device handle stays usable afterwards.
pub trait Power {
    /// Cuts power now; `seed` decides what an emulated drive loses.
    fn cut(&self, seed: u64);
    /// Off and on in good order.
    fn cycle(&self);
}

/// Breaks the device on demand.
pub trait Injector {
    /// Faults that strike commands.
    fn faults(&self) -> Faults;
    /// The zone turns read-only or offline.
    fn fail_zone(&self, zone: ZoneId, condition: ZoneCondition);
    /// Ends every fault. What was on the device may be gone.
    fn renew(&self);
}

/// Heads and actuators.
pub trait Elements {
    /// The zones of each head.
    fn heads(&self) -> Vec<Vec<ZoneId>>;
    /// Takes a head out of service and keeps the data of all others.
    fn remove(&self, head: usize);
    /// The zones of each actuator.
    fn ranges(&self) -> Vec<std::ops::Range<u32>>;
}

impl Passport {
    /// The passport of a device, without features.
    pub fn of(device: &dyn ZonedDevice, kind: DeviceKind, interface: &str) -> Self {
        let identity = device.identity();
        Self {
            kind,
            model: identity.model.clone(),
            serial: identity.serial.clone(),
            firmware: String::new(),
            interface: interface.to_owned(),
            geometry: device.geometry().clone(),
            features: Vec::new(),
            heads: 0,
        }
    }
}

/// Erases everything.
pub trait Sanitize {
    fn sanitize(&self);
}

/// The device's own counters, by name; they only grow.
pub trait Telemetry {
    fn counters(&self) -> BTreeMap<String, u64>;
}

/// Makes another drive of the same family, for tests of cohorts.
pub type MakeDrive = Rc<dyn Fn(u64) -> Subject>;

/// The firmware of a sound drive: nothing between medium and interface.
pub fn sound(inner: Rc<dyn ZonedDevice>) -> Rc<dyn ZonedDevice> {
    inner
}

/// A device under test.
#[derive(Clone)]
pub struct Subject {
    pub device: Rc<dyn ZonedDevice>,
    pub driver: Rc<dyn Driver>,
    /// Hours pass in seconds.
    pub virtual_time: bool,
    pub passport: Passport,
    pub power: Option<Rc<dyn Power>>,
    pub injector: Option<Rc<dyn Injector>>,
    pub elements: Option<Rc<dyn Elements>>,
    pub sanitizer: Option<Rc<dyn Sanitize>>,
    pub telemetry: Option<Rc<dyn Telemetry>>,
    pub cohort: Option<MakeDrive>,
}

impl Subject {
    /// A device that can only be sent commands.
    pub fn bare(device: Rc<dyn ZonedDevice>, driver: Rc<dyn Driver>, passport: Passport) -> Self {
        Self {
            device,
            driver,
            virtual_time: false,
            passport,
            power: None,
            injector: None,
            elements: None,
            sanitizer: None,
            telemetry: None,
            cohort: None,
        }
    }

    /// A modelled drive in virtual time, with everything that can be done to one. `firmware` is what lies between
    /// medium and interface: `sound` for a sound drive.
    pub fn modelled(
        profile: &DriveProfile,
        seed: u64,
        firmware: impl FnOnce(Rc<dyn ZonedDevice>) -> Rc<dyn ZonedDevice>,
    ) -> Self {
        let clock = Rc::new(crate::clock::VirtualClock::new());
        let serial = format!("MODEL-{:06}", Draw::new(seed).below(1_000_000));
        let drive = ModelledDrive::with_firmware(
            profile,
            Rc::<crate::clock::VirtualClock>::clone(&clock),
            &serial,
            seed,
            firmware,
        );
        let mut subject = Self::of_drive(&drive, clock);
        let family = profile.clone();
        subject.cohort = Some(Rc::new(move |seed| Self::modelled(&family, seed, sound)));
        subject
    }

    /// A modelled drive that somebody else made, on its clock.
    pub fn of_drive(drive: &ModelledDrive, driver: Rc<dyn Driver>) -> Self {
        let device = drive.device();
        let mut passport = Passport::of(&*device, DeviceKind::Emulated, "emulated");
        passport.model.clone_from(&drive.profile().name);
        passport.firmware = "model/1".to_owned();
        if let Media::Disk(disk) = &drive.profile().media {
            passport.heads = disk.heads;
            passport.features.push("heads".to_owned());
            if disk.actuators > 1 {
                passport.features.push("ranges".to_owned());
            }
            if disk.laser.warm_up_us > 0.0 {
                passport.features.push("hamr".to_owned());
            }
        }
        let shared = Rc::new(drive.clone());
        let elements: Option<Rc<dyn Elements>> = (passport.heads > 0).then(|| Rc::clone(&shared) as Rc<dyn Elements>);
        Self {
            device,
            driver,
            virtual_time: true,
            passport,
            power: Some(Rc::<ModelledDrive>::clone(&shared)),
            injector: Some(Rc::<ModelledDrive>::clone(&shared)),
            elements,
            sanitizer: Some(Rc::<ModelledDrive>::clone(&shared)),
            telemetry: Some(shared),
            cohort: None,
        }
    }
}

impl Power for ModelledDrive {
    fn cut(&self, seed: u64) {
        self.cut_power(seed);
    }

    fn cycle(&self) {
        self.power_cycle();
    }
}

impl Injector for ModelledDrive {
    fn faults(&self) -> Faults {
        Self::faults(self)
    }

    fn fail_zone(&self, zone: ZoneId, condition: ZoneCondition) {
        if condition == ZoneCondition::Offline {
            self.set_offline(zone);
        } else {
            self.set_read_only(zone);
        }
    }

    fn renew(&self) {
        Self::sanitize(self);
    }
}

impl Elements for ModelledDrive {
    fn heads(&self) -> Vec<Vec<ZoneId>> {
        Self::heads(self)
    }

    fn remove(&self, head: usize) {
        self.remove_head(head);
    }

    fn ranges(&self) -> Vec<std::ops::Range<u32>> {
        Self::ranges(self)
    }
}

impl Sanitize for ModelledDrive {
    fn sanitize(&self) {
        Self::sanitize(self);
    }
}

impl Telemetry for ModelledDrive {
    fn counters(&self) -> BTreeMap<String, u64> {
        Self::counters(self)
    }
}

/// Faults in front of a device that has none of its own: an emulated drive in a file.
impl Injector for Faults {
    fn faults(&self) -> Faults {
        self.clone()
    }

    fn fail_zone(&self, zone: ZoneId, condition: ZoneCondition) {
        if condition == ZoneCondition::Offline {
            self.set_offline(zone);
        } else {
            self.set_read_only(zone);
        }
    }

    fn renew(&self) {
        self.clear();
    }
}
