//! One extent, read as a whole: its header, its footer and every record, each judged by its checksums, and compared with
//! what the others say of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use shingle_codec::checksum::crc32c;
use shingle_proto::ids::{ExtentId, OsdId};
use zerocopy::{FromBytes, IntoBytes};

use super::fields::{Fields, Value};
use super::finding::{Finding, FindingName, Findings, Severity};
use super::slots::{SlotLook, SlotReport};
use super::survey::Survey;
use crate::extent::closed::{Closing, read_closing};
use crate::extent::footer::TocEntry;
use crate::extent::format::SECTOR_BYTES;
use crate::extent::header::{EXTENT_MAGIC, ExtentSector};
use crate::extent::label::Label;
use crate::extent::record::RecordKind;
use crate::extent::recover::Recovered;
use crate::extent::scan::{Scan, Scanned, Seen};
use crate::extent::toc::{Place, Toc};

/// An extent with everything in it.
#[derive(Clone, Debug, Serialize)]
pub struct ExtentContents {
    #[serde(flatten)]
    pub slot: SlotReport,
    pub header: HeaderReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub footer: Option<FooterReport>,
    /// In the order they lie in.
    pub records: Vec<RecordReport>,
}

/// The extent header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderReport {
    pub sound: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crc_computed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Fields>,
}

/// The closing record with the footer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FooterReport {
    pub offset_bytes: u64,
    pub bytes: u64,
    pub sound: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Fields>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordReport {
    /// Within the extent.
    pub offset_bytes: u64,
    pub zone: u32,
    pub zone_offset_bytes: u64,
    /// On disk.
    pub bytes: u64,
    pub block: String,
    pub put_id: String,
    /// Absent where the header does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    pub payload_bytes: u32,
    pub plain_bytes: u32,
    /// Absent without a footer that names records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_footer: Option<bool>,
    /// `sound`, or the name of the finding about it.
    pub verdict: &'static str,
}

/// A record as far as anybody names it.
pub(super) struct Known {
    pub entry: TocEntry,
    pub in_footer: bool,
}

/// Everything that is known of an extent before its records are read.
pub(super) struct Contents<'s> {
    pub survey: &'s Survey<'s>,
    pub label: &'s Label,
    pub slot: u32,
    pub found: &'s Recovered,
    /// By offset in 4 KiB units.
    pub known: BTreeMap<u32, Known>,
    /// Of all of them.
    pub toc: Toc,
    /// Of those that the footer names.
    pub footer_toc: Toc,
    /// Where the closing record is.
    pub closing: Option<Place>,
    pub footer_named: bool,
    pub header: HeaderReport,
    pub footer: Option<FooterReport>,
    pub findings: Findings,
    pub sound_records: u64,
    pub read_bytes: u64,
}

impl Survey<'_> {
    /// The slots whose extents' ids begin so. What is wrong with others is not told.
    pub async fn slots_named(&self, id: &str) -> Vec<SlotReport> {
        let mut named = Vec::new();
        for slot in 0..self.layout().map_or(0, |layout| layout.extents) {
            let Some(look) = self.look_at(slot).await else { break };
            named.extend(
                Some(look.report).filter(|slot| slot.extent.as_deref().is_some_and(|extent| extent.starts_with(id))),
            );
        }
        named
    }

    /// Reads all of an extent. What is wrong with it is added to the survey's findings. `None` when the slot holds none.
    pub async fn extent(&mut self, slot: u32) -> Option<ExtentContents> {
        let mut look = self.look_at(slot).await?;
        let before = std::mem::take(&mut look.findings);
        let mut records = Vec::new();
        let mut contents = self.contents(&look).await?;
        contents.read_back(&mut |_| {}, &mut |record| records.push(record)).await;
        contents.keep_others(before);
        let Contents { header, footer, findings, .. } = contents;
        self.findings.extend(findings.list);
        records.sort_by_key(|record| record.offset_bytes);
        Some(ExtentContents { slot: look.report, header, footer, records })
    }

    /// What is known of a slot's extent: from its footer, and from a scan of its headers.
    pub(super) async fn contents<'s>(&'s self, look: &'s SlotLook) -> Option<Contents<'s>> {
        let (label, found) = (self.label.as_ref()?, look.recovered.as_deref()?);
        let slot = look.report.slot;
        let extent = found.header.extent;
        let zones = self.slot_zones(&label.layout, slot);
        let mut contents = Contents {
            survey: self,
            label,
            slot,
            found,
            known: BTreeMap::new(),
            toc: Toc::new(),
            footer_toc: Toc::new(),
            closing: None,
            footer_named: false,
            header: HeaderReport::default(),
            footer: None,
            findings: Findings::default(),
            sound_records: 0,
            read_bytes: 0,
        };
        let scanned = match Scan::new(self.device, label.layout, zones, extent).run().await {
            Ok(scanned) => scanned,
            Err(error) => {
                let finding = Finding::new(FindingName::DeviceFailed, "scan", error.to_string());
                contents
                    .findings
                    .add(finding.within(self.geometry(), &label.layout, slot, 0).of_slot(slot, Some(extent)));
                Scanned::default()
            }
        };
        contents.find_closing(&scanned);
        let closing = match contents.closing {
            Some(place) => {
                let at = (place.offset_bytes(), place.bytes());
                // What cannot be read here is told of when the part is read again.
                read_closing(self.device, label, (slot, zones), extent, at).await.unwrap_or_default()
            }
            None => None,
        };
        contents.take_footer(closing.as_ref());
        contents.take_scanned(&scanned);
        Some(contents)
    }
}

impl Contents<'_> {
    pub fn extent(&self) -> ExtentId {
        self.found.header.extent
    }

    /// A finding at a place of this extent.
    pub fn finding(&self, name: FindingName, offset: u64, value: impl Into<String>, detail: &str) -> Finding {
        let finding = Finding::new(name, value, detail);
        finding
            .within(self.survey.geometry(), &self.label.layout, self.slot, offset)
            .of_slot(self.slot, Some(self.extent()))
    }

    /// What was found of the slot before, unless it has been told with more detail since.
    pub fn keep_others(&mut self, findings: Vec<Finding>) {
        let told: Vec<FindingName> = self.findings.counts.keys().copied().collect();
        let place = |finding: &Finding| finding.zone.zip(finding.offset_bytes);
        let places: BTreeSet<(u32, u64)> = self.findings.list.iter().filter_map(place).collect();
        // A scan says of a record with a torn header that it is missing; its footer says where it was.
        let explained = |name: FindingName| match name {
            FindingName::RecordMissing => told.contains(&FindingName::RecordHeaderDamaged),
            FindingName::ClosingRecordDamaged => told.contains(&FindingName::FooterDamaged),
            FindingName::FooterDamaged => told.contains(&FindingName::ClosingRecordDamaged),
            _ => false,
        };
        let new = |finding: &Finding| {
            let elsewhere = place(finding).is_none_or(|place| !places.contains(&place));
            !told.contains(&finding.name)
                && !explained(finding.name)
                && (elsewhere || finding.severity == Severity::Note)
        };
        self.findings.extend(findings.into_iter().filter(new));
    }

    /// Where the closing record is: where recovery found it, where the scan did, where the journal says.
    fn find_closing(&mut self, scanned: &Scanned) {
        let layout = &self.label.layout;
        let by_recovery = self.found.footer.map(|footer| Place::new(footer.offset_in_extent, footer.bytes));
        let by_scan = scanned.closed.map(|seen| Place::new(seen.spot.offset_in_extent(layout), seen.record.bytes()));
        let entry = self.survey.slots.get(&self.slot).filter(|entry| entry.extent == self.extent());
        let by_journal = entry.and_then(|entry| entry.footer).filter(|footer| {
            footer.offset_in_extent.checked_add(footer.bytes).is_some_and(|end| end <= layout.extent_bytes())
        });
        let by_journal = by_journal.map(|footer| Place::new(footer.offset_in_extent, footer.bytes));
        self.closing = by_recovery.or(by_scan).or(by_journal);
    }

    fn take_footer(&mut self, closing: Option<&Closing>) {
        let Some(place) = self.closing else { return };
        let fields = closing.map(|closing| {
            let footer = &closing.footer;
            Fields(vec![
                ("slot", footer.slot.into()),
                ("extent", Value::text(footer.extent)),
                ("osd", Value::text(footer.osd)),
                ("created_ms", footer.created_ms.into()),
                ("closed_ms", footer.closed_ms.into()),
                ("record_bytes", footer.record_bytes.into()),
                ("records", footer.records.into()),
                ("entries", (footer.entries.len() as u64).into()),
                ("digest", Value::Text(closing.place.digest.iter().map(|byte| format!("{byte:02x}")).collect())),
                ("sequence", closing.record.sequence.into()),
            ])
        });
        self.footer =
            Some(FooterReport { offset_bytes: place.offset_bytes(), bytes: place.bytes(), sound: false, fields });
        let Some(closing) = closing.filter(|closing| closing.footer.is_complete()) else { return };
        self.footer_named = true;
        for entry in &closing.footer.entries {
            self.toc.insert(&entry.hash, entry.put_id, entry.place);
            self.footer_toc.insert(&entry.hash, entry.put_id, entry.place);
            self.known.insert(entry.place.offset_units, Known { entry: *entry, in_footer: true });
        }
    }

    fn take_scanned(&mut self, scanned: &Scanned) {
        let layout = self.label.layout;
        let records = scanned.whole.iter().chain(&scanned.damaged);
        // A closing record is a part of its own.
        for seen in records.filter(|seen| seen.record.kind != RecordKind::Close) {
            let entry = TocEntry::of(&seen.record, seen.spot.offset_in_extent(&layout));
            if self.known.contains_key(&entry.place.offset_units) {
                continue;
            }
            if self.footer_named {
                let (value, at) = (format!("block {}", entry.hash), entry.place.offset_bytes());
                let finding = self.finding(FindingName::RecordNotInFooter, at, value, "the footer does not name it");
                self.findings.add(finding.of_block(Some(entry.hash)));
            }
            self.toc.insert(&entry.hash, entry.put_id, entry.place);
            self.known.insert(entry.place.offset_units, Known { entry, in_footer: false });
        }
        if self.footer_named {
            return;
        }
        for (first, last) in scanned.missing.iter().copied() {
            let before = scanned.whole.iter().rfind(|seen| seen.record.sequence < first);
            let behind = |seen: &Seen| seen.spot.offset_in_extent(&layout) + seen.record.bytes();
            let offset = before.map_or(SECTOR_BYTES as u64, behind);
            let value = format!("sequences {first} to {last}");
            let finding = self.finding(FindingName::RecordMissing, offset, value, "durable once, and no record now");
            self.findings.add(finding);
        }
    }

    /// What the header's sector says, sound or not.
    pub fn describe_header(&mut self, sector: &[u8], sound: bool) {
        self.header.sound = sound;
        let Ok((raw, _)) = ExtentSector::ref_from_prefix(sector) else { return };
        if raw.magic != EXTENT_MAGIC {
            return;
        }
        let covered = raw.as_bytes().get(..SECTOR_BYTES - 4).unwrap_or_default();
        self.header.crc_computed = Some(Value::hex(crc32c(covered)).to_string());
        self.header.fields = Some(Fields(vec![
            ("version", raw.version.get().into()),
            ("extent", Value::text(ExtentId(raw.extent.get()))),
            ("volume", Value::text(shingle_proto::ids::VolumeId(raw.volume.get()))),
            ("bucket", Value::text(shingle_proto::ids::BucketId(raw.bucket.get()))),
            ("member", raw.member.into()),
            ("created_ms", raw.created_ms.get().into()),
            ("osd", Value::text(OsdId(raw.osd.get()))),
            ("slot", raw.slot.get().into()),
            ("crc", Value::hex(raw.crc.get())),
        ]));
    }
}
