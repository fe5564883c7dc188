//! One look at a disk: report, labels, journal; everything else starts from here.

use std::collections::BTreeMap;

use serde::Serialize;
use shingle_hw::buffer::Buffer;
use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::{Zone, ZoneCondition, ZoneId};
use shingle_proto::ids::{CellId, OsdId};
use shingle_proto::limits::JOURNAL_BATCH_BYTES_MAX;

use super::fields::Value;
use super::finding::{Finding, FindingName, Findings};
use super::journal::{self, JournalReport};
use super::labels::{CopyState, LabelsRead, LabelsReport, read_labels};
use super::slots::SlotReport;
use crate::extent::format::SECTOR_BYTES;
use crate::extent::header::ExtentHeader;
use crate::extent::journal::log::journal_zones;
use crate::extent::journal::replay::{JournalFound, replay};
use crate::extent::journal::{Batch, SlotEntry};
use crate::extent::label::{Label, label_serial};
use crate::extent::layout::Layout;
use crate::extent::reader;
use crate::extent::scan::ScanError;

/// A disk as it was when it was looked at.
pub struct Survey<'a> {
    pub(super) device: &'a dyn ZonedDevice,
    /// The device's report.
    pub zones: Vec<Zone>,
    pub labels: LabelsReport,
    /// Absent when it is not known where it would be, or when it cannot be read.
    pub journal: Option<JournalReport>,
    /// What is wrong with labels, journal and zones.
    pub findings: Findings,
    /// The label that holds, or one made up from the rest of the disk.
    pub(super) label: Option<Label>,
    /// What the journal says, by slot.
    pub(super) slots: BTreeMap<u32, SlotEntry>,
    pub(super) journal_is_whole: bool,
}

/// A disk in a few numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Slots by state.
    pub slots: BTreeMap<&'static str, u32>,
    /// Zones by condition.
    pub zones: BTreeMap<&'static str, u32>,
    pub records: u64,
    pub record_bytes: u64,
    /// Bytes of records that all slots together can hold.
    pub room_bytes: u64,
}

impl<'a> Survey<'a> {
    /// Looks at a disk.
    ///
    /// # Errors
    /// The device does not even report its zones.
    pub async fn of(device: &'a dyn ZonedDevice) -> Result<Self, DeviceError> {
        let zones = device.report(ZoneId(0), device.geometry().zones).await?;
        let LabelsRead { report, label, findings } = read_labels(device, &zones).await;
        let mut survey = Self {
            device,
            zones,
            labels: report,
            journal: None,
            findings: Findings::default(),
            label,
            slots: BTreeMap::new(),
            journal_is_whole: false,
        };
        survey.findings.extend(findings);
        let unknown = |copy: &super::CopyReport| matches!(copy.state, CopyState::Newer | CopyState::Older);
        // What a version means that this program does not know is not guessed.
        let known = !survey.labels.copies.iter().any(unknown) || survey.label.is_some();
        if survey.label.is_none() && known && !survey.is_blank() {
            survey.assume_label().await;
        }
        survey.read_journal().await;
        let bad = survey.bad_zones();
        survey.findings.extend(bad);
        Ok(survey)
    }

    /// Takes report and journal anew: the disk may be in use.
    pub(super) async fn refresh(&mut self) -> Result<(), DeviceError> {
        self.zones = self.device.report(ZoneId(0), self.geometry().zones).await?;
        self.read_journal().await;
        Ok(())
    }

    pub fn geometry(&self) -> &'a Geometry {
        self.device.geometry()
    }

    /// How the disk is divided, if that is known.
    pub fn layout(&self) -> Option<Layout> {
        self.label.as_ref().map(|label| label.layout)
    }

    /// The report's lines of one slot.
    pub(super) fn slot_zones(&self, layout: &Layout, slot: u32) -> &[Zone] {
        let first = layout.zone(slot, 0).0 as usize;
        let last = first + layout.zones_per_extent as usize;
        self.zones.get(first..last.min(self.zones.len())).unwrap_or_default()
    }

    /// The disk in a few numbers.
    pub fn summary(&self, slots: &[SlotReport]) -> Summary {
        let mut summary = Summary::default();
        for slot in slots {
            *summary.slots.entry(slot.state).or_default() += 1;
            summary.records += u64::from(slot.records);
            summary.record_bytes += slot.record_bytes;
        }
        for zone in &self.zones {
            *summary.zones.entry(zone.condition.name()).or_default() += 1;
        }
        summary.room_bytes = self.layout().map_or(0, |layout| layout.payload_bytes() * u64::from(layout.extents));
        summary
    }

    fn is_blank(&self) -> bool {
        self.findings.counts.contains_key(&FindingName::BlankDisk)
    }

    /// Without a label: the geometry says how the disk is divided, journal and extents whose it is.
    async fn assume_label(&mut self) {
        let geometry = self.geometry();
        let layout = match Layout::of(geometry) {
            Ok(layout) => layout,
            Err(cause) => {
                let value = format!("{} zones", geometry.zones);
                return self.findings.add(Finding::new(FindingName::NoRoom, value, cause.to_string()));
            }
        };
        let (mut osd, mut disk) = (None, 0);
        for zone in journal_zones() {
            let batch_bytes = u64::from(JOURNAL_BATCH_BYTES_MAX).min(layout.zone_used_bytes) as usize;
            let batch = self.first_bytes_of(zone, batch_bytes).await.and_then(|bytes| Batch::decode(&bytes).ok());
            if let Some(batch) = batch {
                (osd, disk) = (Some(batch.chain.osd), batch.chain.disk);
            }
        }
        let mut owners: BTreeMap<OsdId, u32> = BTreeMap::new();
        for slot in 0..layout.extents {
            let header = self.first_bytes_of(layout.zone(slot, 0), SECTOR_BYTES).await;
            if let Some(header) = header.and_then(|bytes| ExtentHeader::decode(&bytes).ok()) {
                *owners.entry(header.osd).or_default() += 1;
            }
        }
        let owner = owners.into_iter().max_by_key(|(_, extents)| *extents).map(|(osd, _)| osd);
        // Nothing of ours anywhere: there is nothing to take apart.
        let Some(osd) = owner.or(osd) else { return };
        let value = Value::text(osd).to_string();
        let detail = "no label holds: the division follows from the geometry, the OSD from journal and extent headers";
        self.findings.add(Finding::new(FindingName::IdentityAssumed, value, detail));
        self.label = Some(Label {
            cell: CellId(0),
            osd,
            disk,
            created_ms: 0,
            serial: label_serial(&self.device.identity().serial),
            zones: geometry.zones,
            conventional_zones: geometry.conventional_zones,
            zone_bytes: geometry.zone_bytes,
            zone_capacity_bytes: geometry.zone_capacity_bytes,
            sector_bytes: geometry.sector_bytes,
            layout,
        });
    }

    async fn first_bytes_of(&self, zone: ZoneId, bytes: usize) -> Option<Buffer> {
        let line = self.zones.get(zone.0 as usize)?;
        if matches!(line.condition, ZoneCondition::Empty | ZoneCondition::Offline) {
            return None;
        }
        reader::read(self.device, zone, 0, bytes).await.ok()
    }

    async fn read_journal(&mut self) {
        let Some(label) = &self.label else { return };
        let geometry = self.device.geometry();
        match replay(self.device, label, &self.zones).await {
            Ok(replayed) => {
                self.journal = Some(JournalReport::of(&replayed));
                self.journal_is_whole = replayed.found == JournalFound::Whole;
                let found = journal::findings(&replayed, geometry);
                self.slots = replayed.slots;
                self.replace_journal_findings(found);
            }
            Err(error) => {
                let zone = journal_zones().next().unwrap_or_default();
                let (name, value) = match &error {
                    ScanError::Newer(version) => (FindingName::JournalNewer, format!("version {version}")),
                    ScanError::Device(cause) => (FindingName::DeviceFailed, cause.class().to_owned()),
                };
                let finding = Finding::new(name, value, format!("the journal: {error}")).at(geometry, zone, 0);
                self.replace_journal_findings(vec![finding]);
            }
        }
    }

    /// A new look at the journal makes the last one's findings void.
    fn replace_journal_findings(&mut self, found: Vec<Finding>) {
        let of_journal = |finding: &Finding| finding.name.name().starts_with("journal-") && finding.slot.is_none();
        self.findings.remove(of_journal);
        self.findings.extend(found);
    }

    fn bad_zones(&self) -> Vec<Finding> {
        let named = |zone: &Zone| match zone.condition {
            ZoneCondition::ReadOnly => Some((zone.id, FindingName::ZoneReadOnly, "it can no longer be written")),
            ZoneCondition::Offline => Some((zone.id, FindingName::ZoneOffline, "it can no longer be read")),
            _ => None,
        };
        let found = self.zones.iter().filter_map(named);
        found
            .map(|(zone, name, detail)| {
                let finding = Finding::new(name, name.name(), detail).at(self.device.geometry(), zone, 0);
                match self.layout().and_then(|layout| layout.slot_of(zone)) {
                    Some((slot, _)) => {
                        let entry = self.slots.get(&slot).filter(|entry| entry.extent.0 != 0);
                        finding.of_slot(slot, entry.map(|entry| entry.extent))
                    }
                    None => finding,
                }
            })
            .collect()
    }
}
