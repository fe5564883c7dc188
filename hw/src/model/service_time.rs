//! How long a drive takes for its commands: pure computation, no clock and no bytes.
//!
//! Invariants: a command never ends before it was submitted; time given to a model never goes back; the same commands
//! at the same times with the same seed end at the same times.

use super::disk::DiskTime;
use super::flash::FlashTime;
use super::profile::{DriveProfile, Media};

/// A command, as far as its time depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// `bytes` are those that come from the medium: what was never written costs only the wire.
    Read {
        zone: u32,
        offset_bytes: u64,
        bytes: u64,
    },
    Write {
        zone: u32,
        offset_bytes: u64,
        bytes: u64,
    },
    /// Every write submitted before it must be on the medium.
    Flush,
    Report {
        zones: u32,
    },
    Open,
    Close,
    /// `left_bytes` were not written.
    Finish {
        zone: u32,
        left_bytes: u64,
    },
    Reset {
        zone: u32,
    },
}

/// A command that was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(super) u64);

/// What is known about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It ends then, or has.
    Ends { at_ns: u64 },
    /// Nothing is known before that time: ask again then.
    Waits { until_ns: u64 },
}

/// What a disk's arms have done so far, all of them together; nothing on flash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArmTime {
    /// Seeks, turns and retries.
    pub positioning_ns: u64,
    /// Bytes under the head.
    pub transfer_ns: u64,
}

/// A drive's time.
pub enum ServiceTime {
    Disk(Box<DiskTime>),
    Flash(Box<FlashTime>),
}

impl ServiceTime {
    /// A drive at rest. The profile must be sound (`DriveProfile::check`).
    pub fn new(profile: &DriveProfile, seed: u64) -> Self {
        match &profile.media {
            Media::Disk(disk) => Self::Disk(Box::new(DiskTime::new(profile, disk, seed))),
            Media::Flash(flash) => Self::Flash(Box::new(FlashTime::new(profile, flash))),
        }
    }

    /// Starts a command.
    pub fn submit(&mut self, now_ns: u64, work: Work) -> Ticket {
        match self {
            Self::Disk(disk) => disk.submit(now_ns, work),
            Self::Flash(flash) => flash.submit(now_ns, work),
        }
    }

    /// What is known about a command now. A command that the model does not know has ended.
    pub fn progress(&mut self, now_ns: u64, ticket: Ticket) -> Progress {
        match self {
            Self::Disk(disk) => disk.progress(now_ns, ticket),
            Self::Flash(flash) => flash.progress(now_ns, ticket),
        }
    }

    /// Forgets a command that nobody waits for any more; the drive does it all the same.
    pub fn forget(&mut self, ticket: Ticket) {
        match self {
            Self::Disk(disk) => disk.forget(ticket),
            Self::Flash(flash) => flash.forget(ticket),
        }
    }

    /// Everything in flight ends now, the cache is empty.
    pub fn power_cut(&mut self, now_ns: u64) {
        match self {
            Self::Disk(disk) => disk.power_cut(now_ns),
            Self::Flash(flash) => flash.power_cut(now_ns),
        }
    }

    /// What the arms have been given to do so far.
    pub fn arm_time(&self) -> ArmTime {
        match self {
            Self::Disk(disk) => disk.arm_time(),
            Self::Flash(_) => ArmTime::default(),
        }
    }

    /// Reads that needed more than one try so far.
    pub fn retries(&self) -> u64 {
        match self {
            Self::Disk(disk) => disk.retries(),
            Self::Flash(_) => 0,
        }
    }
}

/// Nanoseconds of so many microseconds.
pub(super) fn micros(us: f64) -> u64 {
    (us * 1e3).round().max(0.0) as u64
}

/// Nanoseconds of so many bytes at so many 10^6 bytes a second.
pub(super) fn transfer_ns(bytes: u64, mb_s: f64) -> u64 {
    (bytes as f64 * 1e3 / mb_s).round() as u64
}
