//! What is wrong with a disk: one name per cause, where it is, and what stands there.

use std::collections::BTreeMap;

use serde::ser::{Serialize, Serializer};
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::ZoneId;
use shingle_proto::ids::{BlockHash, ExtentId};
use shingle_proto::limits::INSPECT_FINDINGS_MAX;

use crate::extent::layout::Layout;
use crate::extent::placement::Spot;

macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $severity:ident;)*) => {
        /// What a finding is about. The names never change: scripts match them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FindingName {
            $($(#[$doc])* $variant,)*
        }

        impl FindingName {
            /// Every name there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }
        }
    };
}

names! {
    /// The file of an emulated drive: one superblock.
    SuperblockDamaged = "superblock-damaged", Bad;
    ZoneTableDamaged = "zone-table-damaged", Bad;
    FileTruncated = "file-truncated", Bad;
    /// Not even the shape of the device is known.
    NotADisk = "not-a-disk", Bad;
    DeviceVersion = "device-version", Bad;
    /// The device failed a command that should work whatever the disk holds.
    DeviceFailed = "device-failed", Bad;
    ZoneReadOnly = "zone-read-only", Bad;
    ZoneOffline = "zone-offline", Bad;
    /// No label, and nothing else either.
    BlankDisk = "blank-disk", Note;
    /// No label in the place of one.
    LabelAbsent = "label-absent", Bad;
    LabelDamaged = "label-damaged", Bad;
    /// A sound checksum over a field that may not be.
    LabelIllegal = "label-illegal", Bad;
    LabelNewer = "label-newer", Bad;
    LabelOlder = "label-older", Bad;
    LabelUnreadable = "label-unreadable", Bad;
    LabelsDisagree = "labels-disagree", Bad;
    /// A copy: the label names another device.
    LabelOtherSerial = "label-other-serial", Bad;
    LabelOtherGeometry = "label-other-geometry", Bad;
    /// No label holds; what the disk is was taken from its journal and its extents.
    IdentityAssumed = "identity-assumed", Note;
    /// No extent fits a device of this shape.
    NoRoom = "no-room", Bad;
    JournalAbsent = "journal-absent", Note;
    /// Batches that were durable are gone: a start scans.
    JournalStale = "journal-stale", Bad;
    JournalDamaged = "journal-damaged", Bad;
    JournalForeign = "journal-foreign", Bad;
    JournalNewer = "journal-newer", Bad;
    /// A place in the journal that is no batch, and proof that one was there.
    JournalBatchDamaged = "journal-batch-damaged", Bad;
    /// The journal ends with a batch that is not whole: a loss of power, as far as one can tell.
    JournalTornTail = "journal-torn-tail", Note;
    /// The journal names an extent that its zones do not hold.
    ExtentGone = "extent-gone", Bad;
    /// Journal and zones disagree as a loss of power leaves them.
    JournalBehind = "journal-behind", Note;
    ExtentHeaderDamaged = "extent-header-damaged", Bad;
    /// Of another disk or another slot.
    ExtentHeaderForeign = "extent-header-foreign", Bad;
    /// One extent in two slots.
    ExtentTwice = "extent-twice", Bad;
    ExtentNewer = "extent-newer", Bad;
    /// Neither a header nor a record in zones that are not empty.
    SlotUnknown = "slot-unknown", Bad;
    /// The creation or the reset of an extent was cut off: a start completes it.
    SlotUnfinished = "slot-unfinished", Note;
    RecordHeaderDamaged = "record-header-damaged", Bad;
    /// Payload or padding.
    RecordDamaged = "record-damaged", Bad;
    /// Another record where this one was written.
    RecordMisplaced = "record-misplaced", Bad;
    RecordMissing = "record-missing", Bad;
    RecordUnreadable = "record-unreadable", Bad;
    ClosingRecordDamaged = "closing-record-damaged", Bad;
    FooterDamaged = "footer-damaged", Bad;
    /// Footer and records, or footer and journal, say different things.
    FooterDisagrees = "footer-disagrees", Bad;
    /// A record that the footer does not name.
    RecordNotInFooter = "record-not-in-footer", Bad;
}

/// Whether somebody has to do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing; a start copes with it.
    Note,
    Bad,
}

impl Serialize for FindingName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub name: FindingName,
    pub severity: Severity,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<u32>,
    /// Within the zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset_bytes: Option<u64>,
    /// From the device's start; of a finding about the file of an emulated drive, from the file's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extent: Option<String>,
    /// The block whose record it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
    /// What stands there.
    pub value: String,
    pub detail: String,
}

impl Finding {
    pub fn new(name: FindingName, value: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            name,
            severity: name.severity(),
            zone: None,
            offset_bytes: None,
            device_bytes: None,
            slot: None,
            extent: None,
            block: None,
            value: value.into(),
            detail: detail.into(),
        }
    }

    /// At an offset of a zone.
    #[must_use]
    pub fn at(mut self, geometry: &Geometry, zone: ZoneId, offset_bytes: u64) -> Self {
        self.zone = Some(zone.0);
        self.offset_bytes = Some(offset_bytes);
        self.device_bytes = Some(u64::from(zone.0).saturating_mul(geometry.zone_bytes).saturating_add(offset_bytes));
        self
    }

    /// At an offset of a slot.
    #[must_use]
    pub fn within(mut self, geometry: &Geometry, layout: &Layout, slot: u32, offset_in_extent: u64) -> Self {
        self.slot = Some(slot);
        match Spot::at(offset_in_extent, layout).filter(|_| slot < layout.extents) {
            Some(spot) => self.at(geometry, layout.zone(slot, spot.zone), spot.offset_bytes),
            None => self,
        }
    }

    #[must_use]
    pub fn of_slot(mut self, slot: u32, extent: Option<ExtentId>) -> Self {
        self.slot = Some(slot);
        self.extent = extent.map(|extent| extent.to_string());
        self
    }

    #[must_use]
    pub fn of_block(mut self, hash: Option<BlockHash>) -> Self {
        self.block = hash.map(|hash| hash.to_string());
        self
    }
}

/// All findings of one look, as many as anybody reads.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Findings {
    /// The first [`INSPECT_FINDINGS_MAX`] of them.
    pub list: Vec<Finding>,
    /// How many there are of each name.
    pub counts: BTreeMap<FindingName, u64>,
    /// Bad ones, listed or not.
    pub bad: u64,
    /// Not listed.
    pub unlisted: u64,
}

impl Findings {
    pub fn add(&mut self, finding: Finding) {
        *self.counts.entry(finding.name).or_default() += 1;
        self.bad += u64::from(finding.severity == Severity::Bad);
        if self.list.len() < INSPECT_FINDINGS_MAX {
            self.list.push(finding);
        } else {
            self.unlisted += 1;
        }
    }

    /// Takes those out that are listed and meant.
    pub(super) fn remove(&mut self, meant: impl Fn(&Finding) -> bool) {
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.list).into_iter().partition(meant);
        self.list = kept;
        for finding in gone {
            self.bad -= u64::from(finding.severity == Severity::Bad);
            if let Some(count) = self.counts.get_mut(&finding.name) {
                *count -= 1;
            }
        }
        self.counts.retain(|_, count| *count > 0);
    }

    pub fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.add(finding));
    }
}
