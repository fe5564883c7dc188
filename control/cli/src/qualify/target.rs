//! The device under test: a real one, an emulated drive in a file, or a modelled drive in memory.
//!
//! Invariant: no device that carries a Shingle label, or that anybody uses, is ever tested.

use std::path::Path;
use std::rc::Rc;

use shingle_hw::backend::vfio;
use shingle_hw::faulty::FaultyDevice;
use shingle_hw::model::drive::sleep;
use shingle_hw::model::profile::{BUILT_IN, DriveProfile};
use shingle_hw::qualify::real_clock::RealClock;
use shingle_hw::qualify::subject::{self, DeviceKind, Passport, Subject};

use crate::failure::Failure;
use crate::zone::{device, ownership, usage};

/// Prefix of modelled drives.
const MODEL: &str = "model:";

/// Opens what the user named. `claimed` is the serial number typed with `--i-own`.
pub fn open(name: &str, claimed: Option<&str>, seed: u64) -> Result<Subject, Failure> {
    match name.strip_prefix(MODEL) {
        Some(profile) => Ok(Subject::modelled(&profile_of(profile)?.for_memory(), seed, subject::sound)),
        None => open_device(Path::new(name), claimed, seed),
    }
}

fn profile_of(name: &str) -> Result<DriveProfile, Failure> {
    if let Some(profile) = DriveProfile::built_in(name) {
        return Ok(profile);
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        Failure::usage(
            format!("{name}: {error}"),
            format!("name a profile file, or one of {} after {MODEL}", BUILT_IN.join(", ")),
        )
    })?;
    DriveProfile::parse(&text).map_err(|error| Failure::unfit(format!("{name}: {error}"), ""))
}

fn open_device(path: &Path, claimed: Option<&str>, seed: u64) -> Result<Subject, Failure> {
    if let Some(first) = usage::uses(path).first() {
        let what = format!("{} is {first}", path.display());
        return Err(Failure::InUse { what, advice: "a device in use is never qualified; free it first".into() });
    }
    let opened = device::open(path)?;
    if ownership::is_labelled(&opened)? {
        return Err(Failure::unfit(
            format!("{} carries a Shingle label: it is, or was, part of a cell", path.display()),
            "a labelled disk is never qualified; if it is retired, erase its label with `shingle zone reset`",
        ));
    }
    let serial = opened.device.identity().serial.clone();
    ownership::check_claim(&serial, claimed, "qualification writes to the whole device")?;
    let clock = Rc::new(RealClock::new(Rc::clone(&opened.ring)));
    let emulated = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    if !emulated {
        let (kind, interface) = kind_of(path);
        let passport = Passport::of(&*opened.device, kind, interface);
        return Ok(Subject::bare(opened.device, clock, passport));
    }
    // Faults are injected in front of an emulated drive: the host's part of those tests is what they check.
    let faulty = FaultyDevice::new(opened.device, sleep(Rc::<RealClock>::clone(&clock)), seed);
    let faults = faulty.faults();
    let passport = Passport::of(&faulty, DeviceKind::Emulated, "file");
    let mut subject = Subject::bare(Rc::new(faulty), clock, passport);
    subject.injector = Some(Rc::new(faults));
    Ok(subject)
}

/// What the kernel's name of a device says: both nodes of an NVMe namespace are zoned flash, the others disks.
fn kind_of(path: &Path) -> (DeviceKind, &'static str) {
    if vfio::is_named(path) {
        return (DeviceKind::Zns, "vfio");
    }
    let node = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = node.file_name().unwrap_or_default().to_string_lossy();
    match &*name {
        generic if generic.starts_with("ng") => (DeviceKind::Zns, "nvme"),
        block if block.starts_with("nvme") => (DeviceKind::Zns, "block"),
        _ => (DeviceKind::SmrHm, "block"),
    }
}
