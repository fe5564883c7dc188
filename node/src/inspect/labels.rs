//! Both labels of a disk: each field of each copy, whether they agree, and whether they are this device's.

use serde::Serialize;
use shingle_codec::checksum::crc32c;
use shingle_hw::device::ZonedDevice;
use shingle_hw::zone::{Zone, ZoneCondition, ZoneId};
use shingle_proto::ids::{CellId, OsdId};
use zerocopy::{FromBytes, IntoBytes};

use super::fields::{Fields, Value, hex, printable};
use super::finding::{Finding, FindingName};
use crate::extent::format::{FormatError, SECTOR_BYTES};
use crate::extent::label::{LABEL_MAGIC, Label, LabelCopy, LabelSector, label_serial};
use crate::extent::layout::{LABEL_ZONE, Layout};
use crate::extent::reader;

/// What stands in a label's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyState {
    Sound,
    /// Something else, or nothing.
    Absent,
    Damaged,
    Illegal,
    Newer,
    Older,
    Unreadable,
}

/// One of the two labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// `first` or `last`.
    pub copy: &'static str,
    pub zone: u32,
    pub state: CopyState,
    /// Why it is not sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crc_stored: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crc_computed: Option<String>,
    /// As this version lays them out; of a label that is not sound, what would be them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Fields>,
    /// What stands there instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// One field that two sources disagree about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub field: &'static str,
    pub label: Value,
    /// Of the other label, or of the device.
    pub other: Value,
}

/// Both labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelsReport {
    pub copies: Vec<CopyReport>,
    /// Both are sound, and alike.
    pub agree: bool,
    /// Fields in which the two differ, first copy and last copy.
    pub disagreements: Vec<Difference>,
    /// Fields in which the label differs from the device.
    pub not_the_device: Vec<Difference>,
}

/// What reading the labels came to.
pub(super) struct LabelsRead {
    pub report: LabelsReport,
    /// The one that holds.
    pub label: Option<Label>,
    pub findings: Vec<Finding>,
}

/// Reads both labels. `zones` is the device's whole report.
pub(super) async fn read_labels(device: &dyn ZonedDevice, zones: &[Zone]) -> LabelsRead {
    let geometry = device.geometry();
    let (mut copies, mut sound, mut findings) = (Vec::new(), Vec::new(), Vec::new());
    for (copy, zone) in [(LabelCopy::First, LABEL_ZONE), (LabelCopy::Last, Layout::label_copy_zone(geometry))] {
        let (report, label) = read_copy(device, zones.get(zone.0 as usize), copy, zone).await;
        findings.extend(finding_of(&report).map(|finding| finding.at(geometry, zone, 0)));
        copies.push(report);
        sound.extend(label);
    }
    if copies.iter().all(|copy| copy.state == CopyState::Absent && copy.bytes.is_none()) && is_blank(zones) {
        findings = vec![Finding::new(FindingName::BlankDisk, "empty", "no label, and every zone is empty")];
    }
    let disagreements = match &copies[..] {
        [CopyReport { fields: Some(first), .. }, CopyReport { fields: Some(last), .. }] => {
            let differences = first.differences(last).filter(|(field, ..)| !matches!(*field, "copy" | "crc"));
            let differences = differences.map(|(field, label, other)| difference(field, label.clone(), other.clone()));
            differences.collect()
        }
        _ => Vec::new(),
    };
    let agree = matches!(&sound[..], [first, last] if first == last);
    if sound.len() == 2 && !agree {
        let zone = Layout::label_copy_zone(geometry);
        let all = |difference: &Difference| {
            let Difference { field, label, other } = difference;
            Finding::new(
                FindingName::LabelsDisagree,
                format!("{field}: {label} in the first, {other} in the last"),
                "the two labels are not of one disk",
            )
            .at(geometry, zone, 0)
        };
        findings.extend(disagreements.iter().map(all));
    }
    let label = sound.into_iter().next();
    let not_the_device = label.as_ref().map(|label| against_device(device, label)).unwrap_or_default();
    findings.extend(not_the_device.iter().map(|difference| {
        let Difference { field, label, other } = difference;
        let name = if *field == "serial" { FindingName::LabelOtherSerial } else { FindingName::LabelOtherGeometry };
        let value = format!("{field}: {label} in the label, {other} of the device");
        Finding::new(name, value, "the label is not this device's").at(geometry, LABEL_ZONE, 0)
    }));
    LabelsRead { report: LabelsReport { copies, agree, disagreements, not_the_device }, label, findings }
}

fn difference(field: &'static str, label: Value, other: Value) -> Difference {
    Difference { field, label, other }
}

fn is_blank(zones: &[Zone]) -> bool {
    zones.iter().all(|zone| matches!(zone.condition, ZoneCondition::Empty | ZoneCondition::NotWritePointer))
}

async fn read_copy(
    device: &dyn ZonedDevice,
    line: Option<&Zone>,
    copy: LabelCopy,
    zone: ZoneId,
) -> (CopyReport, Option<Label>) {
    let report = |state, error: Option<String>| CopyReport {
        copy: if copy == LabelCopy::First { "first" } else { "last" },
        zone: zone.0,
        state,
        error,
        crc_stored: None,
        crc_computed: None,
        fields: None,
        bytes: None,
    };
    if line.is_none_or(|line| line.condition == ZoneCondition::Empty) {
        return (report(CopyState::Absent, Some("nothing was written to its zone".to_owned())), None);
    }
    let sector = match reader::read(device, zone, 0, SECTOR_BYTES).await {
        Ok(sector) => sector,
        Err(cause) => return (report(CopyState::Unreadable, Some(cause.to_string())), None),
    };
    let sector = sector.get(..SECTOR_BYTES).unwrap_or_default();
    if sector.iter().all(|byte| *byte == 0) {
        return (report(CopyState::Absent, Some("zeroes in its place".to_owned())), None);
    }
    let decoded = Label::decode(sector, copy);
    let state = match &decoded {
        Ok(_) => CopyState::Sound,
        Err(FormatError::Absent | FormatError::Short) => CopyState::Absent,
        Err(FormatError::Checksum) => CopyState::Damaged,
        Err(FormatError::Field(_)) => CopyState::Illegal,
        Err(FormatError::Newer(_)) => CopyState::Newer,
        Err(FormatError::Older(_)) => CopyState::Older,
    };
    let mut report = report(state, decoded.as_ref().err().map(ToString::to_string));
    match LabelSector::ref_from_bytes(sector) {
        Ok(raw) if raw.magic == LABEL_MAGIC => {
            let covered = raw.as_bytes().get(..SECTOR_BYTES - 4).unwrap_or_default();
            report.crc_stored = Some(Value::hex(raw.crc.get()).to_string());
            report.crc_computed = Some(Value::hex(crc32c(covered)).to_string());
            report.fields = Some(fields_of(raw));
        }
        _ => report.bytes = Some(hex(sector)),
    }
    (report, decoded.ok())
}

fn fields_of(raw: &LabelSector) -> Fields {
    Fields(vec![
        ("version", raw.version.get().into()),
        ("copy", raw.copy.into()),
        ("cell", Value::text(CellId(raw.cell.get()))),
        ("osd", Value::text(OsdId(raw.osd.get()))),
        ("disk", Value::Text(format!("{:032x}", raw.disk.get()))),
        ("created_ms", raw.created_ms.get().into()),
        ("serial", Value::Text(printable(&raw.serial))),
        ("zones", raw.zones.get().into()),
        ("conventional_zones", raw.conventional_zones.get().into()),
        ("zone_bytes", raw.zone_bytes.get().into()),
        ("zone_capacity_bytes", raw.zone_capacity_bytes.get().into()),
        ("sector_bytes", raw.sector_bytes.get().into()),
        ("extent_first_zone", raw.extent_first_zone.get().into()),
        ("zones_per_extent", raw.zones_per_extent.get().into()),
        ("extents", raw.extents.get().into()),
        ("reserve_bytes", raw.reserve_bytes.get().into()),
        ("parity_reserve_bytes", raw.parity_reserve_bytes.get().into()),
        ("records_max", raw.records_max.get().into()),
        ("journal_first_zone", raw.journal_first_zone.get().into()),
        ("journal_zones", raw.journal_zones.get().into()),
        ("label_copy_zone", raw.label_copy_zone.get().into()),
        ("crc", Value::hex(raw.crc.get())),
    ])
}

fn finding_of(report: &CopyReport) -> Option<Finding> {
    let crcs = || match (&report.crc_stored, &report.crc_computed) {
        (Some(stored), Some(computed)) => format!("crc {stored}, computed {computed}"),
        _ => report.bytes.clone().unwrap_or_default(),
    };
    let version =
        || report.fields.as_ref().and_then(|fields| fields.get("version")).map(|found| format!("version {found}"));
    let (name, value) = match report.state {
        CopyState::Sound => return None,
        CopyState::Absent => (FindingName::LabelAbsent, report.bytes.clone().unwrap_or_else(|| "nothing".to_owned())),
        CopyState::Damaged => (FindingName::LabelDamaged, crcs()),
        CopyState::Illegal => (FindingName::LabelIllegal, report.error.clone().unwrap_or_default()),
        CopyState::Newer => (FindingName::LabelNewer, version().unwrap_or_default()),
        CopyState::Older => (FindingName::LabelOlder, version().unwrap_or_default()),
        CopyState::Unreadable => (FindingName::LabelUnreadable, report.error.clone().unwrap_or_default()),
    };
    let detail = format!("the {} label: {}", report.copy, report.error.as_deref().unwrap_or("not sound"));
    Some(Finding::new(name, value, detail))
}

/// What the label claims of the device and the device does not.
fn against_device(device: &dyn ZonedDevice, label: &Label) -> Vec<Difference> {
    let geometry = device.geometry();
    let numbers: [(&'static str, u64, u64); 5] = [
        ("zones", label.zones.into(), geometry.zones.into()),
        ("conventional_zones", label.conventional_zones.into(), geometry.conventional_zones.into()),
        ("zone_bytes", label.zone_bytes, geometry.zone_bytes),
        ("zone_capacity_bytes", label.zone_capacity_bytes, geometry.zone_capacity_bytes),
        ("sector_bytes", label.sector_bytes.into(), geometry.sector_bytes.into()),
    ];
    let differs = |(_, label, device): &(&'static str, u64, u64)| label != device;
    let numbers = numbers.into_iter().filter(differs);
    let mut found: Vec<Difference> =
        numbers.map(|(field, label, device)| difference(field, label.into(), device.into())).collect();
    let serial = &device.identity().serial;
    // A device that tells none cannot contradict the label.
    if !serial.is_empty() && label.serial != label_serial(serial) {
        let stored = Value::Text(printable(&label.serial));
        found.push(difference("serial", stored, Value::Text(serial.clone())));
    }
    found
}
