//! From a device to an OSD: the label, then every extent by scanning.
//!
//! A disk that is not provably ours, or of another cell, version or shape, is refused and left as it is. What a scan
//! finds is flushed before anything relies on it: a read after a crash may have come from a volatile cache.

use std::rc::Rc;

use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::{Zone, ZoneCondition, ZoneId};
use shingle_proto::ids::{CellId, ExtentId, OsdId};
use shingle_proto::limits::MIB;
use shingle_proto::message::{ExtentState, FindingKind};
use shingle_seam::World;

use super::budget::Budgets;
use super::extent::Extent;
use super::findings::Findings;
use super::store::Osd;
use crate::extent::format::{FormatError, SECTOR_BYTES};
use crate::extent::label::{LABEL_MAGIC, Label, label_serial};
use crate::extent::layout::{LABEL_ZONE, Layout, NoRoom};
use crate::extent::reader;
use crate::extent::recover::{Recovered, Slot, recover};
use crate::extent::scan::{Outcomes, ScanError};

/// A device and what people call it.
#[derive(Clone)]
pub struct Disk {
    pub path: String,
    pub device: Rc<dyn ZonedDevice>,
}

impl From<Rc<dyn ZonedDevice>> for Disk {
    /// Without a path, the serial number is its name.
    fn from(device: Rc<dyn ZonedDevice>) -> Self {
        Self { path: device.identity().serial.clone(), device }
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
        "{path}: the disk label fails its checksum; nothing was changed. Its blocks are on other disks: take it out, or \
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
    #[error("{path}: the disk belongs to cell {found}, this host to cell {expected}; give it back to its cell")]
    OtherCell { path: String, found: CellId, expected: CellId },
    #[error("{path}: {cause}; use a larger disk")]
    NoRoom { path: String, cause: NoRoom },
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
    /// Slots that are neither free nor an extent.
    pub retired: u64,
    pub outcomes: Outcomes,
}

/// Bytes at the start of a conventional first zone that must be zero on an empty disk: room for any file system's mark.
const BLANK_CHECK_BYTES: u64 = MIB;

/// The disk's label; `None` on an empty disk, or one whose labelling was cut off.
pub async fn read_label(disk: &Disk) -> Result<Option<Label>, MountError> {
    let path = || disk.path.clone();
    let device = &*disk.device;
    let failed = |cause| MountError::Device { path: path(), cause };
    let geometry = device.geometry();
    let zones = device.report(ZoneId(0), geometry.zones).await.map_err(failed)?;
    let Some((first, others)) = zones.split_first() else {
        return Err(MountError::Garbage { path: path() });
    };
    let others_empty =
        others.iter().all(|zone| matches!(zone.condition, ZoneCondition::Empty | ZoneCondition::NotWritePointer));
    if first.condition == ZoneCondition::Empty {
        return if others_empty { Ok(None) } else { Err(MountError::Garbage { path: path() }) };
    }
    let bytes = BLANK_CHECK_BYTES.min(geometry.zone_capacity_bytes) as usize;
    let head = reader::read(device, LABEL_ZONE, 0, bytes).await.map_err(failed)?;
    let head = head.get(..bytes).unwrap_or_default();
    let unfinished = match first.condition {
        ZoneCondition::NotWritePointer => {
            head.iter().all(|byte| *byte == 0)
                || head.starts_with(&LABEL_MAGIC) && head.iter().skip(SECTOR_BYTES).all(|byte| *byte == 0)
        }
        ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed => {
            first.write_pointer_bytes <= SECTOR_BYTES as u64
        }
        _ => false,
    };
    match Label::decode(head) {
        Ok(label) => {
            if !label.fits(geometry) {
                return Err(MountError::OtherGeometry { path: path() });
            }
            if label.serial != label_serial(&device.identity().serial) {
                return Err(MountError::OtherSerial { path: path() });
            }
            Ok(Some(label))
        }
        Err(FormatError::Newer(version)) => Err(MountError::Newer { path: path(), version }),
        Err(_) if others_empty && unfinished => Ok(None),
        Err(FormatError::Absent | FormatError::Short) => Err(MountError::Garbage { path: path() }),
        Err(FormatError::Checksum | FormatError::Field(_)) => Err(MountError::LabelDamaged { path: path() }),
    }
}

/// Labels an empty disk, durably.
pub async fn write_label(world: &World, disk: &Disk, cell: CellId) -> Result<Label, MountError> {
    let device = &*disk.device;
    let failed = |cause| MountError::Device { path: disk.path.clone(), cause };
    let geometry = device.geometry();
    let layout = Layout::of(geometry).map_err(|cause| MountError::NoRoom { path: disk.path.clone(), cause })?;
    let osd = OsdId(world.entropy.u64().max(1));
    let label = Label::new(cell, osd, world.clock.unix_ms(), &device.identity().serial, geometry, layout);
    let mut buffer = device.alloc_buffer(SECTOR_BYTES);
    if let Some(sector) = buffer.get_mut(..SECTOR_BYTES) {
        sector.copy_from_slice(&label.encode());
    }
    let sequential = geometry.conventional_zones == 0;
    if sequential {
        let zones = device.report(LABEL_ZONE, 1).await.map_err(failed)?;
        if zones.first().is_some_and(|zone| zone.condition != ZoneCondition::Empty) {
            device.reset(LABEL_ZONE).await.map_err(failed)?;
        }
        let (landed, _) = device.append(LABEL_ZONE, buffer, 0..SECTOR_BYTES).await;
        landed.map_err(failed)?;
    } else {
        let (written, _) = device.write(LABEL_ZONE, 0, buffer, 0..SECTOR_BYTES).await;
        written.map_err(failed)?;
    }
    device.flush().await.map_err(failed)?;
    tracing::info!(path = disk.path, osd = %osd, %cell, extents = layout.extents, "labelled an empty disk");
    Ok(label)
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
    let device = disk.device.clone();
    let layout = label.layout;
    let zones = device.report(ZoneId(0), device.geometry().zones).await.map_err(failed)?;
    let osd = Osd::new(world, disk.device, disk.path, label, findings, budgets);
    let mut report = MountReport::default();
    if let Some(first) = zones.first() {
        finish_if_active(&*device, first).await.map_err(failed)?;
    }
    for slot in 0..layout.extents {
        let first = layout.zone(slot, 0).0 as usize;
        let lines = zones.get(first..first + layout.zones_per_extent as usize).unwrap_or_default();
        let found = recover(&*device, &layout, osd.id(), slot, lines).await.map_err(|error| match error {
            ScanError::Device(cause) => failed(cause),
            ScanError::Newer(version) => MountError::Newer { path: path.clone(), version },
        })?;
        osd.adopt(slot, found, &mut report).await.map_err(failed)?;
    }
    device.flush().await.map_err(failed)?;
    report.free = osd.free_slots.borrow().len() as u64;
    tracing::info!(path, osd = %osd.id(), ?report, "mounted");
    Ok((Rc::new(osd), report))
}

/// Zones nothing is written to any more give their resources back.
async fn finish_if_active(device: &dyn ZonedDevice, zone: &Zone) -> Result<(), DeviceError> {
    match zone.condition {
        ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed => {
            device.finish(zone.id).await
        }
        _ => Ok(()),
    }
}

impl Osd {
    async fn adopt(&self, slot: u32, found: Slot, report: &mut MountReport) -> Result<(), DeviceError> {
        match found {
            Slot::Free => drop(self.free_slots.borrow_mut().insert(slot)),
            Slot::TornCreation(zone) => {
                self.device.reset(zone).await?;
                report.torn_creations += 1;
                self.free_slots.borrow_mut().insert(slot);
            }
            Slot::Retired(why) => {
                report.retired += 1;
                let detail = format!("slot {slot} from zone {}: {why}", self.layout().zone(slot, 0).0);
                self.findings.add(FindingKind::RecordMissing, self.id(), ExtentId(0), None, &detail);
            }
            Slot::Extent(recovered) => self.adopt_extent(*recovered, report).await?,
        }
        Ok(())
    }

    async fn adopt_extent(&self, recovered: Recovered, report: &mut MountReport) -> Result<(), DeviceError> {
        let id = recovered.header.extent;
        report.outcomes.add(&recovered.outcomes);
        match recovered.state {
            ExtentState::Open => report.open += 1,
            ExtentState::Closed => report.closed += 1,
            _ => report.failed += 1,
        }
        for damage in &recovered.damages {
            let block = damage.hash.map(|hash| (hash, damage.put_id));
            self.findings.add(damage.kind, self.id(), id, block, &damage.detail);
        }
        let mut sealed = true;
        for zone in &recovered.to_finish {
            match self.device.finish(*zone).await {
                Ok(()) => {}
                Err(cause @ DeviceError::Failed { .. }) => return Err(cause),
                Err(cause) => {
                    sealed = false;
                    tracing::warn!(path = self.path, extent = %id, zone = zone.0, %cause, "a zone cannot be finished");
                }
            }
        }
        let extent = Extent::recovered(recovered, self.layout());
        if !sealed {
            extent.sealed.set(false);
        }
        self.extents.borrow_mut().insert(id, Rc::new(extent));
        Ok(())
    }
}
