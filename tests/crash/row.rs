//! The rows of the table: what the device was doing at a boundary.

use shingle_hw::faulty::CommandKind;
use shingle_hw::recorder::Action;
use shingle_node::extent::header::EXTENT_MAGIC;
use shingle_node::extent::label::LABEL_MAGIC;
use shingle_node::extent::layout::{JOURNAL_FIRST_ZONE, LABEL_ZONE};
use shingle_node::extent::record::{RECORD_MAGIC, Record};
use shingle_proto::limits::JOURNAL_ZONES;

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// The disk as it was when it was switched on.
    Start,
    Label,
    Journal,
    Header,
    Record,
    /// Several records that waited together, in one append.
    Records,
    /// A piece of a record that begins inside it.
    RecordRest,
    Close,
    Flush,
    Finish,
    Reset,
    JournalReset,
    ZoneFailed,
    /// Opening and closing of zones.
    ZoneState,
}

/// A boundary's place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum When {
    Begun,
    Ended,
}

/// A row: what has just begun or ended.
pub type Row = (What, When);

/// Every row that the scripts must reach.
pub const EXPECTED: &[What] = &[
    What::Start,
    What::Label,
    What::Journal,
    What::Header,
    What::Record,
    What::Records,
    What::RecordRest,
    What::Close,
    What::Flush,
    What::Finish,
    What::Reset,
    What::JournalReset,
    What::ZoneFailed,
];

impl What {
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "switched on",
            Self::Label => "label",
            Self::Journal => "journal batch",
            Self::Header => "extent header",
            Self::Record => "record",
            Self::Records => "several records",
            Self::RecordRest => "record, next piece",
            Self::Close => "closing record, footer",
            Self::Flush => "flush",
            Self::Finish => "zone finish",
            Self::Reset => "zone reset",
            Self::JournalReset => "journal reset",
            Self::ZoneFailed => "zone failure",
            Self::ZoneState => "zone open, close",
        }
    }

    /// What a command is for; `None` when it changes nothing on the device.
    pub fn of(action: &Action) -> Option<Self> {
        let journal = (JOURNAL_FIRST_ZONE..JOURNAL_FIRST_ZONE + JOURNAL_ZONES).contains(&action.zone.0);
        Some(match action.kind {
            CommandKind::Report | CommandKind::Read => return None,
            CommandKind::Flush => Self::Flush,
            CommandKind::Open | CommandKind::Close => Self::ZoneState,
            CommandKind::Finish => Self::Finish,
            CommandKind::Reset if journal => Self::JournalReset,
            CommandKind::Reset if action.zone == LABEL_ZONE => Self::Label,
            CommandKind::Reset => Self::Reset,
            CommandKind::Append | CommandKind::Write => of_data(&action.data, journal),
        })
    }
}

fn of_data(data: &[u8], journal: bool) -> What {
    const CLOSE: u8 = 3;
    let magic = data.get(..8).unwrap_or_default();
    if journal {
        What::Journal
    } else if magic == LABEL_MAGIC {
        What::Label
    } else if magic == EXTENT_MAGIC {
        What::Header
    } else if magic != RECORD_MAGIC {
        What::RecordRest
    } else if data.get(10) == Some(&CLOSE) {
        What::Close
    } else if holds_several(data) {
        What::Records
    } else {
        What::Record
    }
}

/// Whether another record begins behind the first one.
fn holds_several(data: &[u8]) -> bool {
    let first_bytes = Record::decode(data).map_or(u64::MAX, |record| record.bytes());
    usize::try_from(first_bytes)
        .is_ok_and(|first| data.get(first..).is_some_and(|rest| rest.starts_with(&RECORD_MAGIC)))
}
