//! What was found, for scripts: one document of one shape, whatever was asked for.

use serde::Serialize;
use shingle_hw::backend::Look;
use shingle_hw::geometry::Geometry;
use shingle_node::inspect::{
    ExtentContents, Findings, JournalReport, LabelsReport, RecordSearch, SlotReport, Summary, VerifyReport, ZoneReport,
};

use crate::zone::view::ZoneLine;

/// The version of the document.
const SCHEMA: &str = "shingle-inspect/1";

/// A whole document.
#[derive(Serialize)]
pub struct Document<'a> {
    pub schema: &'static str,
    pub device: DeviceHead,
    /// Absent when the device could not be opened.
    #[serde(flatten)]
    pub content: Option<&'a Content>,
    pub findings: &'a Findings,
}

/// The device as it is found; of one that cannot be opened, its path.
#[derive(Serialize)]
pub struct DeviceHead {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub geometry: Option<Geometry>,
    /// Somebody may write to it: what is seen of its ends is outdated.
    pub in_use: bool,
    pub users: Vec<UserHead>,
}

/// A process that has the device open for writing.
#[derive(Serialize)]
pub struct UserHead {
    pub pid: u32,
    pub name: String,
}

/// What was asked for.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    Label(LabelDocument),
    Zones(Vec<ZoneEntry>),
    Extents(Vec<SlotReport>),
    Extent(Box<ExtentContents>),
    Record(RecordDocument),
    Verify(VerifyDocument),
}

/// The labels, and the disk in a few numbers.
#[derive(Serialize)]
pub struct LabelDocument {
    #[serde(flatten)]
    pub labels: LabelsReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalReport>,
    pub summary: Summary,
}

/// A zone and its use.
#[derive(Serialize)]
pub struct ZoneEntry {
    #[serde(flatten)]
    pub line: ZoneLine,
    #[serde(flatten)]
    pub report: ZoneReport,
}

/// The records of a block.
#[derive(Serialize)]
pub struct RecordDocument {
    pub asked: String,
    #[serde(flatten)]
    pub search: RecordSearch,
    /// Checksums prove the ciphertext, never the name.
    pub name_proven: bool,
}

/// A disk read back.
#[derive(Serialize)]
pub struct VerifyDocument {
    pub clean: bool,
    pub seconds: f64,
    #[serde(flatten)]
    pub report: VerifyReport,
}

impl DeviceHead {
    pub fn of(path: String, look: &Look) -> Self {
        let identity = look.device.identity();
        Self {
            path,
            model: Some(identity.model.clone()),
            serial: Some(identity.serial.clone()),
            geometry: Some(look.device.geometry().clone()),
            in_use: look.in_use,
            users: look.users.iter().map(|user| UserHead { pid: user.pid, name: user.name.clone() }).collect(),
        }
    }

    pub fn unknown(path: String) -> Self {
        Self { path, model: None, serial: None, geometry: None, in_use: false, users: Vec::new() }
    }
}

impl<'a> Document<'a> {
    pub fn new(device: DeviceHead, content: Option<&'a Content>, findings: &'a Findings) -> Self {
        Self { schema: SCHEMA, device, content, findings }
    }
}
