//! A whole disk read back: labels, journal, headers, records with their padding, footers, and each against the others.

use std::collections::BTreeMap;

use serde::Serialize;

use super::finding::{Finding, FindingName};
use super::slots::SlotReport;
use super::survey::{Summary, Survey};

/// How far reading is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub done_bytes: u64,
    /// As far as it is known by now.
    pub total_bytes: u64,
    /// Findings so far that somebody has to do something about.
    pub bad: u64,
}

/// What reading a disk back came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerifyReport {
    pub summary: Summary,
    /// Labels that are sound and this device's, of two.
    pub labels: u32,
    /// The journal's state; absent when it was not looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<&'static str>,
    pub journal_batches: u32,
    /// Extents that were read.
    pub extents: u32,
    pub headers_sound: u32,
    pub footers: u32,
    pub footers_sound: u32,
    pub records: u64,
    pub records_sound: u64,
    pub read_bytes: u64,
    /// Extents looked at again because the disk is in use and what was seen may have moved.
    pub looked_again: u32,
}

impl Survey<'_> {
    /// Reads everything back. `in_use`: somebody may be writing meanwhile; what looks wrong is looked at a second time.
    /// What is wrong is added to the survey's findings.
    pub async fn verify(&mut self, in_use: bool, progress: &mut dyn FnMut(Progress)) -> VerifyReport {
        let mut report = VerifyReport::default();
        let extents = self.layout().map_or(0, |layout| layout.extents);
        let mut at = Progress::default();
        // What is to be read is known from footers and headers; slots are looked at again when their turn comes.
        for slot in 0..extents {
            at.total_bytes += self.look_at(slot).await.map_or(0, |look| look.report.record_bytes);
            progress(at);
        }
        let mut slots = Vec::new();
        for slot in 0..extents {
            let before = at;
            let mut read = self.verify_slot(slot, &mut at, progress).await;
            let suspicious = read.as_ref().is_some_and(|read| read.bad > 0);
            if in_use && suspicious && self.refresh().await.is_ok() {
                at = before;
                read = self.verify_slot(slot, &mut at, progress).await;
                report.looked_again += 1;
            }
            if let Some(read) = read {
                report.add(&read);
                self.findings.extend(read.findings);
                slots.push(read.slot);
            }
        }
        self.find_twice(&slots);
        report.summary = self.summary(&slots);
        let sound = |copy: &&super::CopyReport| copy.state == super::CopyState::Sound;
        report.labels = self.labels.copies.iter().filter(sound).count() as u32;
        report.journal = self.journal.as_ref().map(|journal| journal.state);
        let batches = |journal: &super::JournalReport| journal.sides.iter().map(|side| side.batches).sum();
        report.journal_batches = self.journal.as_ref().map_or(0, batches);
        progress(Progress { total_bytes: at.done_bytes, ..at });
        report
    }

    async fn verify_slot(&self, slot: u32, at: &mut Progress, progress: &mut dyn FnMut(Progress)) -> Option<SlotRead> {
        let mut look = self.look_at(slot).await?;
        let before = std::mem::take(&mut look.findings);
        let mut read = SlotRead {
            slot: look.report.clone(),
            extent: false,
            header_sound: false,
            footer_sound: None,
            records: 0,
            records_sound: 0,
            read_bytes: 0,
            bad: 0,
            findings: Vec::new(),
        };
        match self.contents(&look).await {
            Some(mut contents) => {
                // Headers and footers are read as well.
                at.total_bytes = at.total_bytes.saturating_sub(look.report.record_bytes) + contents.total_bytes();
                contents
                    .read_back(
                        &mut |bytes| {
                            at.done_bytes += bytes;
                            progress(*at);
                        },
                        &mut |_| {},
                    )
                    .await;
                contents.keep_others(before);
                read.extent = true;
                read.header_sound = contents.header.sound;
                read.footer_sound = contents.footer.as_ref().map(|footer| footer.sound);
                read.records = contents.known.len() as u64;
                read.records_sound = contents.sound_records;
                read.read_bytes = contents.read_bytes;
                read.bad = contents.findings.bad;
                read.findings = contents.findings.list;
            }
            None => {
                let bad = before.iter().filter(|finding| finding.severity == super::Severity::Bad);
                read.bad = bad.count() as u64;
                read.findings = before;
            }
        }
        at.bad += read.bad;
        Some(read)
    }

    /// No extent is in two slots.
    fn find_twice(&mut self, slots: &[SlotReport]) {
        let mut first: BTreeMap<&str, u32> = BTreeMap::new();
        let Some(layout) = self.layout() else { return };
        for slot in slots {
            let Some(extent) = slot.extent.as_deref() else { continue };
            if let Some(other) = first.get(extent) {
                let (value, detail) = (format!("slots {other} and {}", slot.slot), "one extent in two slots");
                let finding = Finding::new(FindingName::ExtentTwice, value, detail);
                let mut finding = finding.within(self.geometry(), &layout, slot.slot, 0);
                finding.extent = Some(extent.to_owned());
                self.findings.add(finding);
            } else {
                first.insert(extent, slot.slot);
            }
        }
    }
}

/// One slot, read.
struct SlotRead {
    slot: SlotReport,
    extent: bool,
    header_sound: bool,
    /// Absent without a footer.
    footer_sound: Option<bool>,
    records: u64,
    records_sound: u64,
    read_bytes: u64,
    bad: u64,
    findings: Vec<Finding>,
}

impl VerifyReport {
    fn add(&mut self, read: &SlotRead) {
        self.extents += u32::from(read.extent);
        self.headers_sound += u32::from(read.header_sound);
        self.footers += u32::from(read.footer_sound.is_some());
        self.footers_sound += u32::from(read.footer_sound == Some(true));
        self.records += read.records;
        self.records_sound += read.records_sound;
        self.read_bytes += read.read_bytes;
    }
}
