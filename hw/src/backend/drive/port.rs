//! The port of a drive: what a back end for real drives has to bring.

use std::future::Future;
use std::ops::Range;

use crate::buffer::Buffer;
use crate::device::Command;
use crate::zone::{ZoneCondition, ZoneId};

/// What can be done with a zone's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Open,
    Close,
    Finish,
    Reset,
}

/// What a zone is written like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    Conventional,
    Sequential,
    /// Sequential at the drive's preference: a host-aware drive.
    Other,
}

/// A line of the drive's own zone report. All sizes in bytes, from the drive's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub start_bytes: u64,
    pub length_bytes: u64,
    pub capacity_bytes: u64,
    pub kind: LineKind,
    pub condition: ZoneCondition,
    /// Absolute; means nothing in some conditions.
    pub write_pointer_bytes: u64,
}

impl Line {
    /// Offset of the write pointer within the zone, as far as that can be.
    pub fn write_pointer_in_zone(&self) -> u64 {
        self.write_pointer_bytes.saturating_sub(self.start_bytes).min(self.capacity_bytes)
    }
}

/// What a drive, or the way to it, said instead of doing what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortError {
    InvalidField,
    Boundary,
    Full,
    ReadOnly,
    Offline,
    WritePointer,
    TooManyOpen,
    TooManyActive,
    Condition,
    /// The command failed on the medium, or nothing more exact is known: the zone's report may tell.
    Medium {
        errno: i32,
    },
    /// The drive or the way to it is gone.
    Failed {
        errno: i32,
    },
}

/// A transfer at a port.
pub type PortTransfer<T> = Command<(Result<T, PortError>, Buffer)>;

/// A way to a drive. Commands start when they are called. Offsets are within the zone; every range was checked.
pub trait Port: 'static {
    /// Appends that may be in flight in one zone.
    fn appends_max(&self) -> u16;
    /// Appends to a zone whose write pointer will be at `offset_bytes` when the appends before it have ended; where the
    /// bytes landed.
    fn append(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> PortTransfer<u64>;
    fn write(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> PortTransfer<()>;
    fn read(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> PortTransfer<()>;
    fn flush(&self) -> Command<Result<(), PortError>>;
    /// Actions take effect in the order of the calls.
    fn manage(&self, zone: ZoneId, action: Action) -> Command<Result<(), PortError>>;
    fn report(&self, first: ZoneId, count: u32) -> impl Future<Output = Result<Vec<Line>, PortError>> + 'static;
    /// Blocks until commands that run outside the ring have ended.
    fn wait(&self) {}
}
