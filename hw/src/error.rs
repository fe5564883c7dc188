//! Why a device refused or failed, one variant per reaction.

use crate::zone::ZoneId;

/// A command's failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Offset or length is not whole sectors, is zero, or exceeds the transfer limit: a defect of the caller.
    #[error("invalid field: offset {offset_bytes}, length {length_bytes}")]
    InvalidField { offset_bytes: u64, length_bytes: u64 },
    /// The command crosses a zone's end or capacity, or names a zone that does not exist.
    #[error("zone {}: {offset_bytes} + {length_bytes} bytes cross the zone's boundary", zone.0)]
    Boundary { zone: ZoneId, offset_bytes: u64, length_bytes: u64 },
    #[error("zone {} is full", zone.0)]
    Full { zone: ZoneId },
    #[error("zone {} is read-only", zone.0)]
    ReadOnly { zone: ZoneId },
    #[error("zone {} is offline", zone.0)]
    Offline { zone: ZoneId },
    /// A write that is not at the write pointer.
    #[error("zone {}: write at {offset_bytes}, write pointer at {write_pointer_bytes}", zone.0)]
    WritePointer { zone: ZoneId, offset_bytes: u64, write_pointer_bytes: u64 },
    #[error("too many open zones: the limit is {limit}")]
    TooManyOpen { limit: u32 },
    #[error("too many active zones: the limit is {limit}")]
    TooManyActive { limit: u32 },
    /// The command is not legal in the zone's condition (open of a full zone, append to a conventional one).
    #[error("zone {}: the command is not legal in its condition", zone.0)]
    Condition { zone: ZoneId },
    /// The medium: these bytes cannot be read.
    #[error("unreadable sector in zone {} at {offset_bytes}", zone.0)]
    Unreadable { zone: ZoneId, offset_bytes: u64 },
    /// The file system of an emulated drive has no room for these bytes: they were not taken, and what was written before
    /// stays. Other writes may fail alike until there is space again.
    #[error("zone {}: no space left behind it for {length_bytes} bytes", zone.0)]
    NoSpace { zone: ZoneId, length_bytes: u64 },
    /// The device was opened to be looked at: nothing on it can be changed.
    #[error("the device is open for looking only")]
    LookOnly,
    /// The device or its path is gone; nothing it had not flushed may be relied on.
    #[error("the device failed: {reason} (os error {errno})")]
    Failed { reason: &'static str, errno: i32 },
}

/// Every class that `DeviceError::class` can name.
pub const ERROR_CLASSES: [&str; 13] = [
    "invalid-field",
    "boundary",
    "full",
    "read-only",
    "offline",
    "write-pointer",
    "too-many-open",
    "too-many-active",
    "condition",
    "unreadable",
    "no-space",
    "look-only",
    "failed",
];

impl DeviceError {
    /// The kind of the error in one word, for reports and scripts; it never changes.
    pub fn class(&self) -> &'static str {
        match self {
            Self::InvalidField { .. } => "invalid-field",
            Self::Boundary { .. } => "boundary",
            Self::Full { .. } => "full",
            Self::ReadOnly { .. } => "read-only",
            Self::Offline { .. } => "offline",
            Self::WritePointer { .. } => "write-pointer",
            Self::TooManyOpen { .. } => "too-many-open",
            Self::TooManyActive { .. } => "too-many-active",
            Self::Condition { .. } => "condition",
            Self::Unreadable { .. } => "unreadable",
            Self::NoSpace { .. } => "no-space",
            Self::LookOnly => "look-only",
            Self::Failed { .. } => "failed",
        }
    }
}
