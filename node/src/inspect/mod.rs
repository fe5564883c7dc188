//! What is on a disk, as data for people: labels, journal, zones, extents, records, and whatever is wrong with them.
//!
//! Invariants: nothing is changed, only `report` and `read` are ever called; whatever the disk holds comes out as a report
//! or as a [`Finding`] (invariants 10 and 11). What decides here is what decides at a start: `recover`, `replay`, the
//! scan and the judgement of a scrub.

mod contents;
mod damage;
mod fields;
mod find;
mod finding;
mod journal;
mod labels;
mod read_back;
mod slots;
mod survey;
mod verify;
mod zones;

pub use contents::{ExtentContents, FooterReport, HeaderReport, RecordReport};
pub use fields::{Fields, Value};
pub use find::{Hit, RecordSearch};
pub use finding::{Finding, FindingName, Findings, Severity};
pub use journal::{FlawReport, JournalReport, SideReport};
pub use labels::{CopyReport, CopyState, Difference, LabelsReport};
pub use slots::{JournalSays, OutcomeCount, SlotReport};
pub use survey::{Summary, Survey};
pub use verify::{Progress, VerifyReport};
pub use zones::{ZoneReport, ZoneUse};
