//! What a start would make of each slot, without doing it.

use serde::Serialize;
use shingle_hw::zone::{Zone, ZoneCondition};
use shingle_proto::message::{ExtentState, FindingKind};

use super::fields::hex;
use super::finding::{Finding, FindingName};
use super::survey::Survey;
use crate::extent::format::SECTOR_BYTES;
use crate::extent::header::ExtentHeader;
use crate::extent::journal::{SlotEntry, SlotHealth, SlotState};
use crate::extent::layout::Layout;
use crate::extent::placement::Spot;
use crate::extent::reader;
use crate::extent::recover::{Damage, Hint, Lost, Recovered, Slot, recover};
use crate::extent::scan::{Outcomes, ScanError, pointer_counts};

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotReport {
    pub slot: u32,
    pub first_zone: u32,
    pub zones: u32,
    /// `free`, `open`, `closed`, `failed`, `trash`, `resetting`, `torn-creation`, `bad`, `retired`, `newer`, `unreadable`.
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<u8>,
    pub records: u32,
    pub record_bytes: u64,
    /// Within the extent, of the last zone written; absent where write pointers mean nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_pointer_bytes: Option<u64>,
    /// `journal, footer`, `scan, footer` or `scan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_from: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalSays>,
    /// What the scan met that is not a whole record.
    pub outcomes: Vec<OutcomeCount>,
}

/// The journal's entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JournalSays {
    pub state: &'static str,
    pub health: &'static str,
    pub extent: String,
    pub records: u32,
    pub changed_ms: u64,
    /// 0: never.
    pub verified_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub footer_offset_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub footer_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// How often a scan met something; the names are those of `FORMAT.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutcomeCount {
    pub outcome: &'static str,
    pub count: u64,
}

/// One slot, with what later looks at it need.
pub(super) struct SlotLook {
    pub report: SlotReport,
    pub recovered: Option<Box<Recovered>>,
    pub findings: Vec<Finding>,
}

impl JournalSays {
    fn of(entry: &SlotEntry) -> Self {
        let digest = entry.footer.map(|place| place.digest.iter().map(|byte| format!("{byte:02x}")).collect());
        Self {
            state: state_name(entry.state),
            health: match entry.health {
                SlotHealth::Sound => "sound",
                SlotHealth::ReadOnly => "read-only",
                SlotHealth::Offline => "offline",
                SlotHealth::Unusable => "unusable",
            },
            extent: entry.extent.to_string(),
            records: entry.records,
            changed_ms: entry.changed_ms,
            verified_ms: entry.verified_ms,
            footer_offset_bytes: entry.footer.map(|place| place.offset_in_extent),
            footer_bytes: entry.footer.map(|place| place.bytes),
            digest,
        }
    }
}

fn state_name(state: SlotState) -> &'static str {
    match state {
        SlotState::Free => "free",
        SlotState::Open => "open",
        SlotState::Closed => "closed",
        SlotState::Failed => "failed",
        SlotState::Trash => "trash",
        SlotState::Resetting => "resetting",
    }
}

/// Everything a scan counted that is not a whole record.
pub(super) fn outcome_counts(outcomes: &Outcomes) -> Vec<OutcomeCount> {
    let counts = [
        ("torn_header", outcomes.torn_header),
        ("torn_payload", outcomes.torn_payload),
        ("pointer_behind", outcomes.pointer_behind),
        ("lost_flush", outcomes.lost_flush),
        ("pointer_ahead", outcomes.pointer_ahead),
        ("stray", outcomes.stray),
        ("unaligned", outcomes.unaligned),
        ("missing", outcomes.missing),
        ("damaged", outcomes.damaged),
        ("unreadable", outcomes.unreadable),
    ];
    let met = counts.into_iter().filter(|(_, count)| *count > 0);
    met.map(|(outcome, count)| OutcomeCount { outcome, count }).collect()
}

impl Survey<'_> {
    /// Every slot, in order. What is wrong with them is added to the survey's findings.
    pub async fn slots(&mut self) -> Vec<SlotReport> {
        let extents = self.layout().map_or(0, |layout| layout.extents);
        let mut reports = Vec::with_capacity(extents as usize);
        for slot in 0..extents {
            if let Some(look) = self.look_at(slot).await {
                self.findings.extend(look.findings);
                reports.push(look.report);
            }
        }
        reports
    }

    /// One slot; `None` when the disk's division is not known.
    pub(super) async fn look_at(&self, slot: u32) -> Option<SlotLook> {
        let label = self.label.as_ref().filter(|label| slot < label.layout.extents)?;
        let layout = &label.layout;
        let zones = self.slot_zones(layout, slot);
        let entry = self.slots.get(&slot);
        let hint = Hint { entry: entry.copied(), whole: self.journal_is_whole };
        let mut report = SlotReport {
            slot,
            first_zone: layout.zone(slot, 0).0,
            zones: layout.zones_per_extent,
            state: "free",
            extent: None,
            volume: None,
            bucket: None,
            member: None,
            records: 0,
            record_bytes: 0,
            write_pointer_bytes: write_pointer(layout, zones),
            known_from: None,
            journal: entry.map(JournalSays::of),
            outcomes: Vec::new(),
        };
        let mut findings = Vec::new();
        let mut recovered = None;
        let plain = |name, value: &str, detail: &str| {
            Finding::new(name, value, detail).within(self.geometry(), layout, slot, 0).of_slot(slot, None)
        };
        report.state = match recover(self.device, label, slot, zones, hint).await {
            Ok(Slot::Free) => "free",
            Ok(Slot::Bad) => "bad",
            Ok(Slot::TornCreation(_)) => {
                findings.push(plain(FindingName::SlotUnfinished, "creation", "a start resets its zone"));
                "torn-creation"
            }
            Ok(Slot::Resetting) => {
                findings.push(plain(FindingName::SlotUnfinished, "reset", "a start completes it"));
                "resetting"
            }
            Ok(Slot::Retired(why)) => {
                let (name, value) = self.first_bytes(layout, slot).await;
                findings.push(plain(name, &value, why));
                "retired"
            }
            Ok(Slot::Extent(found)) => {
                findings.extend(self.damages(layout, slot, &found, entry).await);
                self.describe(&mut report, &found, entry);
                let state = report.state;
                recovered = Some(found);
                state
            }
            Err(ScanError::Newer(version)) => {
                findings.push(plain(
                    FindingName::ExtentNewer,
                    &format!("version {version}"),
                    "a newer program wrote it",
                ));
                "newer"
            }
            Err(ScanError::Device(cause)) => {
                findings.push(plain(FindingName::DeviceFailed, cause.class(), &cause.to_string()));
                "unreadable"
            }
        };
        findings.extend(self.against_journal(layout, slot, recovered.as_deref(), report.state));
        Some(SlotLook { report, recovered, findings })
    }

    fn describe(&self, report: &mut SlotReport, found: &Recovered, entry: Option<&SlotEntry>) {
        let same = entry.filter(|entry| entry.extent == found.header.extent);
        report.state = match found.state {
            ExtentState::Open => "open",
            ExtentState::Closed if same.is_some_and(|entry| entry.state == SlotState::Trash) => "trash",
            ExtentState::Closed => "closed",
            _ => "failed",
        };
        report.extent = Some(found.header.extent.to_string());
        report.volume = Some(found.header.volume.to_string());
        report.bucket = Some(found.header.bucket.to_string());
        report.member = Some(found.header.member);
        report.records = found.records;
        report.record_bytes = found.record_bytes;
        report.known_from = Some(match (found.scanned, found.footer) {
            (false, _) => "journal, footer",
            (true, Some(_)) => "scan, footer",
            (true, None) => "scan",
        });
        report.outcomes = outcome_counts(&found.outcomes);
    }

    /// What stands where a slot's header should be.
    async fn first_bytes(&self, layout: &Layout, slot: u32) -> (FindingName, String) {
        match reader::read(self.device, layout.zone(slot, 0), 0, SECTOR_BYTES).await {
            Ok(bytes) => match ExtentHeader::decode(&bytes) {
                Ok(header) => (
                    FindingName::ExtentHeaderForeign,
                    format!("extent {} of {} in slot {}", header.extent, header.osd, header.slot),
                ),
                Err(_) => (FindingName::SlotUnknown, hex(&bytes)),
            },
            Err(cause) => (FindingName::SlotUnknown, cause.class().to_owned()),
        }
    }

    /// What recovery found damaged, each with its place and what stands there.
    async fn damages(&self, layout: &Layout, slot: u32, found: &Recovered, entry: Option<&SlotEntry>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for damage in &found.damages {
            let name = match (damage.lost, damage.kind) {
                (Lost::Header, _) => FindingName::ExtentHeaderDamaged,
                (Lost::Closing, _) => FindingName::ClosingRecordDamaged,
                (Lost::Footer, _) => FindingName::FooterDamaged,
                (Lost::Record, FindingKind::RecordMissing) | (Lost::Records, _) => FindingName::RecordMissing,
                (Lost::Record, _) => FindingName::RecordDamaged,
                (Lost::Sectors, _) => FindingName::RecordUnreadable,
            };
            let offset = match damage {
                Damage { lost: Lost::Closing, .. } => {
                    entry.and_then(|entry| entry.footer).map(|place| place.offset_in_extent)
                }
                damage => damage.offset_in_extent,
            };
            let value = match offset {
                Some(offset) => self.bytes_at(layout, slot, offset).await,
                None => String::new(),
            };
            let mut finding = Finding::new(name, value, damage.detail.clone());
            if let Some(offset) = offset {
                finding = finding.within(self.geometry(), layout, slot, offset);
            }
            findings.push(finding.of_slot(slot, Some(found.header.extent)).of_block(damage.hash));
        }
        findings
    }

    /// The first bytes at a place of a slot.
    pub(super) async fn bytes_at(&self, layout: &Layout, slot: u32, offset_in_extent: u64) -> String {
        let Some(spot) = Spot::at(offset_in_extent, layout) else { return "outside of the extent".to_owned() };
        match reader::read(self.device, layout.zone(slot, spot.zone), spot.offset_bytes, SECTOR_BYTES).await {
            Ok(bytes) => hex(&bytes),
            Err(cause) => cause.class().to_owned(),
        }
    }

    /// Where journal and slot do not say the same.
    fn against_journal(&self, layout: &Layout, slot: u32, found: Option<&Recovered>, state: &str) -> Option<Finding> {
        let entry = self.slots.get(&slot).copied().unwrap_or(SlotEntry { slot, ..SlotEntry::default() });
        let named = |name, value: String, detail: &str| {
            let extent = found.map(|found| found.header.extent);
            let finding = Finding::new(name, value, detail).within(self.geometry(), layout, slot, 0);
            Some(finding.of_slot(slot, extent.or(Some(entry.extent).filter(|extent| extent.0 != 0))))
        };
        let says = format!("journal {} {}, slot {state}", state_name(entry.state), entry.extent);
        let held = matches!(entry.state, SlotState::Open | SlotState::Closed | SlotState::Failed | SlotState::Trash);
        let Some(found) = found else {
            return match state {
                "free" if held && self.journal_is_whole => {
                    named(FindingName::ExtentGone, says, "no reset was begun, and its zones are empty")
                }
                "free" if entry.state != SlotState::Free => {
                    named(FindingName::JournalBehind, says, "the reset ended and its entry was lost")
                }
                _ => None,
            };
        };
        if !self.journal_is_whole {
            return None;
        }
        if entry.extent != found.header.extent {
            return named(FindingName::JournalBehind, says, "the entry of its creation was lost");
        }
        match (entry.state, found.state) {
            (SlotState::Closed | SlotState::Trash, ExtentState::Closed) => {
                let place = entry.footer.filter(|_| found.scanned && found.footer != entry.footer)?;
                let value = match found.footer {
                    Some(footer) => format!("journal {}, disk {}", place.offset_in_extent, footer.offset_in_extent),
                    None => format!("journal {}, none on disk", place.offset_in_extent),
                };
                named(FindingName::FooterDisagrees, value, "the footer is not the one the journal points at")
            }
            (SlotState::Open, ExtentState::Closed | ExtentState::Failed) => {
                named(FindingName::JournalBehind, says, "the extent ended and the entry was lost")
            }
            _ => None,
        }
    }
}

/// Offset in the extent of the write pointer of the last zone written.
fn write_pointer(layout: &Layout, zones: &[Zone]) -> Option<u64> {
    let Some(written) = zones.iter().rposition(|zone| zone.condition != ZoneCondition::Empty) else { return Some(0) };
    let zone = zones.get(written).filter(|zone| pointer_counts(zone))?;
    Some(written as u64 * layout.zone_used_bytes + zone.write_pointer_bytes)
}
