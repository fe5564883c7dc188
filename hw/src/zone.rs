//! One zone, as a report shows it (ZBC-2, ZNS 1.1: the conditions are the standards').

/// A zone's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ZoneId(pub u32);

/// A zone's condition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ZoneCondition {
    /// Conventional: no write pointer.
    NotWritePointer,
    Empty,
    ImplicitOpen,
    ExplicitOpen,
    Closed,
    Full,
    ReadOnly,
    Offline,
}

/// A line of a zone report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Zone {
    pub id: ZoneId,
    pub condition: ZoneCondition,
    pub capacity_bytes: u64,
    /// Offset within the zone where the next byte lands. Means nothing for conventional, full, read-only and offline
    /// zones.
    pub write_pointer_bytes: u64,
}

impl ZoneCondition {
    /// The condition as reports print it; it never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotWritePointer => "not-write-pointer",
            Self::Empty => "empty",
            Self::ImplicitOpen => "implicit-open",
            Self::ExplicitOpen => "explicit-open",
            Self::Closed => "closed",
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::Offline => "offline",
        }
    }
}
