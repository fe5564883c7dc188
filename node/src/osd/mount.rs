//! From a device to an OSD: the labels, the journal, the footers of closed extents, and a scan of every other one.
//!
//! What is read is flushed before anything relies on it: a read after a crash may have come from a volatile cache.

use std::rc::Rc;

use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::qualify::profile::MeasuredProfile;
use shingle_hw::zone::{Zone, ZoneCondition, ZoneId};
use shingle_proto::ids::{CellId, ExtentId, OsdId};
use shingle_proto::limits::VOLUME_FREE_BYTES_MIN;
use shingle_proto::message::{ExtentState, FindingKind};
use shingle_seam::World;

use super::budget::Budgets;
use super::extent::Extent;
use super::findings::Findings;
use super::labels::repair_labels;
pub use super::labels::{check_extents, read_label, write_label};
use super::policy::DiskPolicy;
use super::store::Osd;
use crate::extent::journal::replay::{JournalFound, replay};
use crate::extent::journal::{SlotEntry, SlotHealth, SlotState};
use crate::extent::label::Label;
use crate::extent::layout::NoRoom;
use crate::extent::recover::{Hint, Recovered, Slot, is_bad, recover};
use crate::extent::scan::{Outcomes, ScanError, pointer_counts};

/// A device and what people call it.
#[derive(Clone)]
pub struct Disk {
    pub path: String,
    pub device: Rc<dyn ZonedDevice>,
    /// What was measured on it, if anything was.
    pub profile: Option<Rc<MeasuredProfile>>,
}

impl Disk {
    /// How it is used: as assumed of all disks, but for what was measured.
    pub fn policy(&self, assumed: DiskPolicy) -> DiskPolicy {
        self.profile.as_ref().map_or(assumed, |profile| assumed.measured(profile))
    }
}

impl From<Rc<dyn ZonedDevice>> for Disk {
    /// Without a path, the serial number is its name.
    fn from(device: Rc<dyn ZonedDevice>) -> Self {
        Self { path: device.identity().serial.clone(), device, profile: None }
    }
}

/// Why a disk cannot be used. Every variant names the disk and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    #[error("{path}: {cause}")]
    Device { path: String, cause: DeviceError },
    #[error(
        "{path}: not empty and without a Shingle label; nothing was changed. If nothing on it is needed, recreate the \
         disk file or reset all its zones"
    )]
    Garbage { path: String },
    #[error(
        "{path}: both copies of the disk label are lost or damaged; nothing was changed. Its blocks are on other disks: take it out, or \
         reset all its zones to use it again"
    )]
    LabelDamaged { path: String },
    #[error("{path}: written by a newer version (format {version}); run that version of Shingle, or a later one")]
    Newer { path: String, version: u16 },
    #[error(
        "{path}: the disk has another geometry than when it was labelled (truncated, or replaced?); nothing was changed. \
         Restore the disk, or take it out"
    )]
    OtherGeometry { path: String },
    #[error("{path}: the label is another disk's (a copy?): label and disk have different serial numbers; take it out")]
    OtherSerial { path: String },
    #[error("{path}: its label has format {version}, which was never released; reset all its zones to use it again")]
    Older { path: String, version: u16 },
    #[error(
        "{path}: its two labels disagree: {first} at its start, {last} at its end; nothing was changed. Is it put \
         together from two disks? Take it out, or reset all its zones to use it again"
    )]
    LabelsDisagree { path: String, first: String, last: String },
    #[error("{path}: the disk belongs to cell {found}, this host to cell {expected}; give it back to its cell")]
    OtherCell { path: String, found: CellId, expected: CellId },
    #[error("{path}: {cause}; use a larger disk")]
    NoRoom { path: String, cause: NoRoom },
    #[error(
        "{path}: its extents would have {zones} zones of {zone_bytes} bytes each and room for {payload_bytes} bytes of \
         records; with less than {VOLUME_FREE_BYTES_MIN}, two blocks of the largest size, a volume counts as full before \
         anything is in it; nothing was changed. Use a disk with larger zones, or with more of them"
    )]
    SmallExtents { path: String, zones: u32, zone_bytes: u64, payload_bytes: u64 },
    #[error("{path}: {osd} is on another disk of this host too; take one of them out")]
    Twice { path: String, osd: OsdId },
}

/// What starting from a disk found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountReport {
    pub open: u64,
    pub closed: u64,
    pub failed: u64,
    pub free: u64,
    /// Creations of extents that were cut off; their zones were reset.
    pub torn_creations: u64,
    /// Resets of extents that were cut off and completed now.
    pub resets_completed: u64,
    /// Slots that are neither free nor an extent.
    pub retired: u64,
    /// Labels written again from the other copy.
    pub labels_repaired: u64,
    /// What the journal was.
    pub journal: JournalFound,
    /// Closed extents known from their footers alone, none of their records looked for.
    pub by_footer: u64,
    pub outcomes: Outcomes,
}

/// Recovers a labelled disk.
pub async fn mount(
    world: World,
    disk: Disk,
    label: Label,
    findings: Rc<Findings>,
    budgets: Budgets,
) -> Result<(Rc<Osd>, MountReport), MountError> {
    let path = disk.path.clone();
    let failed = |cause| MountError::Device { path: path.clone(), cause };
    let scan_failed = |error| match error {
        ScanError::Device(cause) => failed(cause),
        ScanError::Newer(version) => MountError::Newer { path: path.clone(), version },
    };
    let device = disk.device.clone();
    let layout = label.layout;
    let zones = device.report(ZoneId(0), device.geometry().zones).await.map_err(failed)?;
    let replayed = replay(&*device, &label, &zones).await.map_err(scan_failed)?;
    let osd = Rc::new(Osd::new(world, device.clone(), disk.path.clone(), label, findings, budgets));
    let mut report = MountReport { journal: replayed.found, ..MountReport::default() };
    let whole = replayed.found == JournalFound::Whole;
    for slot in 0..layout.extents {
        let first = layout.zone(slot, 0).0 as usize;
        let lines = zones.get(first..first + layout.zones_per_extent as usize).unwrap_or_default();
        let hint = Hint { entry: replayed.slots.get(&slot).copied(), whole };
        let found = recover(&*device, &osd.label, slot, lines, hint).await.map_err(scan_failed)?;
        osd.adopt(slot, lines, hint, found, &mut report).await.map_err(failed)?;
    }
    let behind = (layout.extent_first_zone + layout.extents * layout.zones_per_extent) as usize;
    osd.count_strays(zones.get(behind..zones.len().saturating_sub(1)).unwrap_or_default());
    for zone in zones.first().into_iter().chain(zones.last()) {
        finish_if_active(&*device, zone).await.map_err(failed)?;
    }
    match repair_labels(&disk, &osd.label).await {
        Ok(repaired) => report.labels_repaired = repaired,
        Err((_, cause @ DeviceError::Failed { .. })) => return Err(failed(cause)),
        Err((zone, cause)) => {
            tracing::error!(path, zone = zone.0, %cause, "one of the two labels is missing and cannot be written");
        }
    }
    device.flush().await.map_err(failed)?;
    osd.begin_journal(&replayed).await.map_err(failed)?;
    for zone in zones.iter().filter(|zone| is_bad(zone)) {
        osd.zone_lost(zone.id, zone.condition);
    }
    report.free = osd.free_slots.borrow().len() as u64;
    tracing::info!(path, osd = %osd.id(), ?report, "mounted");
    Ok((osd, report))
}

/// Zones nothing is written to any more give their resources back.
async fn finish_if_active(device: &dyn ZonedDevice, zone: &Zone) -> Result<(), DeviceError> {
    if pointer_counts(zone) { device.finish(zone.id).await } else { Ok(()) }
}

impl Osd {
    async fn adopt(
        self: &Rc<Self>,
        slot: u32,
        zones: &[Zone],
        hint: Hint,
        found: Slot,
        report: &mut MountReport,
    ) -> Result<(), DeviceError> {
        let mut known = hint.entry.unwrap_or(SlotEntry { slot, ..SlotEntry::default() });
        let mut free = false;
        match found {
            Slot::Free => free = true,
            Slot::Bad => {
                report.retired += 1;
                self.ledger.adopt(known);
            }
            Slot::TornCreation(zone) => {
                known.health = known.health.max(self.reset_zone(zone).await?);
                report.torn_creations += 1;
                free = true;
            }
            Slot::Resetting => {
                let left = |zone: &&Zone| zone.condition != ZoneCondition::Empty && !is_bad(zone);
                for zone in zones.iter().rev().filter(left) {
                    known.health = known.health.max(self.reset_zone(zone.id).await?);
                }
                let whole = known.health == SlotHealth::Sound && !zones.iter().any(is_bad);
                if whole {
                    report.resets_completed += 1;
                } else {
                    // What cannot be reset stays what it was: an extent that nobody has any more.
                    report.retired += 1;
                    self.ledger.adopt(known);
                }
                free = whole;
            }
            Slot::Retired(why) => {
                report.retired += 1;
                self.ledger.adopt(known);
                self.count_strays(zones);
                let detail = format!("slot {slot} from zone {}: {why}", self.layout().zone(slot, 0).0);
                self.findings.add(FindingKind::RecordMissing, self.id(), ExtentId(0), None, &detail);
            }
            Slot::Extent(recovered) => self.adopt_extent(*recovered, known, report).await?,
        }
        if free {
            self.ledger.adopt(SlotEntry { slot, health: known.health, ..SlotEntry::default() });
            if known.health == SlotHealth::Sound {
                self.free_slots.borrow_mut().insert(slot);
            } else {
                report.retired += 1;
            }
        }
        Ok(())
    }

    /// Resets a zone that holds nothing anybody needs; what the slot is fit for if that fails.
    async fn reset_zone(&self, zone: ZoneId) -> Result<SlotHealth, DeviceError> {
        match self.device.reset(zone).await {
            Ok(()) => Ok(SlotHealth::Sound),
            Err(cause @ DeviceError::Failed { .. }) => Err(cause),
            Err(cause) => {
                tracing::error!(path = self.path, zone = zone.0, %cause, "a zone cannot be reset; its slot is given up");
                Ok(SlotHealth::Unusable)
            }
        }
    }

    /// Zones that nothing gives back while this OSD runs.
    fn count_strays(&self, zones: &[Zone]) {
        let strays = zones.iter().filter(|zone| pointer_counts(zone)).count();
        self.stray_zones.set(self.stray_zones.get() + strays);
    }

    async fn adopt_extent(
        self: &Rc<Self>,
        recovered: Recovered,
        known: SlotEntry,
        report: &mut MountReport,
    ) -> Result<(), DeviceError> {
        let id = recovered.header.extent;
        report.outcomes.add(&recovered.outcomes);
        report.by_footer += u64::from(!recovered.scanned);
        let state = match recovered.state {
            ExtentState::Open => {
                report.open += 1;
                SlotState::Open
            }
            ExtentState::Closed => {
                report.closed += 1;
                SlotState::Closed
            }
            _ => {
                report.failed += 1;
                SlotState::Failed
            }
        };
        for damage in &recovered.damages {
            let block = damage.hash.map(|hash| (hash, damage.put_id));
            self.findings.add(damage.kind, self.id(), id, block, &damage.detail);
        }
        let mut unfinished = false;
        for zone in &recovered.to_finish {
            match self.device.finish(*zone).await {
                Ok(()) => {}
                Err(cause @ DeviceError::Failed { .. }) => return Err(cause),
                Err(cause) => {
                    unfinished = true;
                    tracing::warn!(path = self.path, extent = %id, zone = zone.0, %cause, "a zone cannot be finished");
                }
            }
        }
        let extent = Extent::recovered(recovered, self.layout());
        if unfinished {
            extent.sealed.set(false);
            extent.holds_zone.set(true);
        }
        let same = known.extent == id;
        let changed_ms = if same && known.state == state { known.changed_ms } else { self.world.clock.unix_ms() };
        if same {
            extent.verified_ms.set(known.verified_ms);
        }
        self.ledger.adopt(SlotEntry {
            slot: extent.header.slot,
            state,
            health: known.health,
            extent: id,
            footer: extent.footer.get(),
            records: extent.records.get(),
            changed_ms,
            verified_ms: extent.verified_ms.get(),
        });
        self.extents.borrow_mut().insert(id, Rc::new(extent));
        Ok(())
    }
}
