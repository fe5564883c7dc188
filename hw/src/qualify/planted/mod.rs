//! Planted device bugs: drives that are wrong in one way each. A suite that has never failed anything proves nothing;
//! these are what it must fail.
//!
//! Invariant: a planted drive differs from the sound one in its bug only.

mod device;
mod slowness;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::subject::{Elements, Power, Sanitize, Subject, Telemetry};
use crate::backend::memory::MemoryDevice;
use crate::clock::VirtualClock;
use crate::device::ZonedDevice;
use crate::model::drive::ModelledDrive;
use crate::model::profile::DriveProfile;
use crate::zone::ZoneId;
use device::{PlantedDevice, Workings};
use slowness::Slowness;

/// What is wrong with a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    NoPointerCheck,
    UnlimitedOpen,
    UnlimitedActive,
    ActiveLeak,
    ExplicitAutoClosed,
    CloseOfEmpty,
    FinishIgnored,
    FinishDestroys,
    ResetIgnored,
    ResetHitsNeighbour,
    StaleAfterReset,
    LyingFlush,
    EveryThirdFlush,
    LostWrite,
    MisdirectedWrite,
    TornWrite,
    FlippedBit,
    PointerJump,
    SideBySideLost,
    ShortPointer,
    WrongType,
    DuplicateLine,
    OversizeAccepted,
    UnalignedAccepted,
    FullAccepted,
    CrossingAccepted,
    WrongClass,
    OfflineReadable,
    UnreadableAsZeroes,
    UnreadableElsewhere,
    PointerAheadAfterCut,
    OpenAfterCut,
    CutLosesFlushed,
    CutDamagesNeighbour,
    GhostsAfterCut,
    CountsTwice,
    CountersForgotten,
    RemovalTakesTwo,
    SanitizeIgnored,
    WeakAfterPause,
    StreamsFirst,
}

impl Bug {
    /// Every bug with what it does.
    pub const ALL: [(Self, &'static str); 41] = [
        (Self::NoPointerCheck, "writes into sequential zones are accepted anywhere"),
        (Self::UnlimitedOpen, "more zones are open than the limit says"),
        (Self::UnlimitedActive, "more zones are active than the limit says"),
        (Self::ActiveLeak, "every reset leaks a place for an active zone"),
        (Self::ExplicitAutoClosed, "an explicitly opened zone is closed to make room"),
        (Self::CloseOfEmpty, "closing an empty zone makes it closed"),
        (Self::FinishIgnored, "finish answers well and does nothing"),
        (Self::FinishDestroys, "a finished zone reads as zeroes"),
        (Self::ResetIgnored, "reset answers well and does nothing"),
        (Self::ResetHitsNeighbour, "reset empties the next zone as well"),
        (Self::StaleAfterReset, "old data can be read behind the pointer after a reset"),
        (Self::LyingFlush, "flush answers well and does nothing"),
        (Self::EveryThirdFlush, "every third flush does nothing"),
        (Self::LostWrite, "one append in 37 leaves zeroes"),
        (Self::MisdirectedWrite, "one append in 41 lands a sector off"),
        (Self::TornWrite, "one append in 43 loses its second half"),
        (Self::FlippedBit, "one append in 47 has a flipped bit"),
        (Self::PointerJump, "after one append in 29 the pointer is a sector too far"),
        (Self::SideBySideLost, "of three appends at once the last leaves zeroes"),
        (Self::ShortPointer, "reports show some pointers a sector short"),
        (Self::WrongType, "the first sequential zone is reported as conventional"),
        (Self::DuplicateLine, "long reports repeat a zone and omit the next"),
        (Self::OversizeAccepted, "appends above the transfer limit are accepted"),
        (Self::UnalignedAccepted, "lengths that are not whole sectors are rounded"),
        (Self::FullAccepted, "appends to full zones answer well"),
        (Self::CrossingAccepted, "appends across the capacity are cut and acknowledged"),
        (Self::WrongClass, "a read-only zone answers that it is full"),
        (Self::OfflineReadable, "an offline zone reads as zeroes"),
        (Self::UnreadableAsZeroes, "unreadable sectors read as zeroes"),
        (Self::UnreadableElsewhere, "errors of unreadable sectors name another place"),
        (Self::PointerAheadAfterCut, "after a power cut pointers are a sector too far"),
        (Self::OpenAfterCut, "after a power cut zones are still open"),
        (Self::CutLosesFlushed, "one power cut in 5 loses a flushed zone"),
        (Self::CutDamagesNeighbour, "a power cut flips a bit in another zone"),
        (Self::GhostsAfterCut, "after a power cut lost data can be read behind the pointer"),
        (Self::CountsTwice, "written bytes are counted twice"),
        (Self::CountersForgotten, "a power cut resets the counters"),
        (Self::RemovalTakesTwo, "removing a head takes the next head's zones as well"),
        (Self::SanitizeIgnored, "sanitize answers well and does nothing"),
        (Self::WeakAfterPause, "what is written first after a pause needs two more turns to be read"),
        (Self::StreamsFirst, "reads elsewhere wait while a sequential stream goes on"),
    ];

    /// The bug's name: its variant.
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// A modelled drive with a bug, as a subject of tests.
pub fn subject(bug: Bug, profile: &DriveProfile, seed: u64) -> Subject {
    let mut geometry = profile.geometry();
    match bug {
        Bug::UnlimitedOpen => geometry.open_zones_max = 0,
        Bug::UnlimitedActive => geometry.active_zones_max = 0,
        Bug::OversizeAccepted => geometry.transfer_bytes_max *= 2,
        _ => {}
    }
    let memory = MemoryDevice::new(geometry, &format!("PLANTED-{}", bug.name()));
    let clock = Rc::new(VirtualClock::new());
    let workings = Rc::new(RefCell::new(Workings::default()));
    let (shown, inside) = (profile.geometry(), Rc::clone(&workings));
    let slowness = Slowness::new(Rc::<VirtualClock>::clone(&clock));
    let drive = ModelledDrive::around(memory.clone(), profile, Rc::<VirtualClock>::clone(&clock), seed, move |inner| {
        Rc::new(PlantedDevice::new(inner, bug, shown, inside, slowness))
    });
    let mut subject = Subject::of_drive(&drive, clock);
    let body = Rc::new(Body { drive, memory, bug, workings });
    subject.power = Some(Rc::<Body>::clone(&body));
    subject.telemetry = Some(Rc::<Body>::clone(&body));
    subject.sanitizer = Some(Rc::<Body>::clone(&body));
    if subject.elements.is_some() {
        subject.elements = Some(body);
    }
    subject
}

/// The rest of a planted drive: power, heads, counters.
struct Body {
    drive: ModelledDrive,
    memory: MemoryDevice,
    bug: Bug,
    workings: Rc<RefCell<Workings>>,
}

impl Power for Body {
    fn cut(&self, seed: u64) {
        self.drive.cut_power(seed);
        let forgotten = self.drive.counters();
        let workings = &mut *self.workings.borrow_mut();
        workings.cut();
        if self.bug == Bug::CountersForgotten {
            workings.forgotten = forgotten;
        }
        let victim = workings.oldest_written();
        match (self.bug, victim) {
            (Bug::CutLosesFlushed, Some(zone)) if workings.cuts.is_multiple_of(5) => {
                workings.written.remove(&zone);
                // A dropped command ends all the same.
                drop(self.memory.reset(zone));
            }
            (Bug::CutDamagesNeighbour, Some(zone)) => self.memory.flip(zone, 1000, 8),
            _ => {}
        }
    }

    fn cycle(&self) {
        self.drive.power_cycle();
    }
}

impl Telemetry for Body {
    fn counters(&self) -> BTreeMap<String, u64> {
        let mut counters = self.drive.counters();
        if self.bug == Bug::CountsTwice
            && let Some(bytes) = counters.get_mut("written_bytes")
        {
            *bytes *= 2;
        }
        for (name, base) in &self.workings.borrow().forgotten {
            counters.entry(name.clone()).and_modify(|count| *count = count.saturating_sub(*base));
        }
        counters
    }
}

impl Elements for Body {
    fn heads(&self) -> Vec<Vec<ZoneId>> {
        self.drive.heads()
    }

    fn remove(&self, head: usize) {
        self.drive.remove_head(head);
        if self.bug == Bug::RemovalTakesTwo {
            self.drive.remove_head(head + 1);
        }
    }

    fn ranges(&self) -> Vec<std::ops::Range<u32>> {
        self.drive.ranges()
    }
}

impl Sanitize for Body {
    fn sanitize(&self) {
        if self.bug != Bug::SanitizeIgnored {
            self.drive.sanitize();
        }
    }
}
