//! The two labels of a disk: read, judged against each other and the device, written, and one repaired from the other.
//!
//! A disk that is not provably ours, or of another cell, version or shape, is refused and left as it is.

use shingle_hw::buffer::Buffer;
use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::{Zone, ZoneCondition, ZoneId};
use shingle_proto::ids::{CellId, OsdId};
use shingle_proto::limits::{MIB, VOLUME_FREE_BYTES_MIN};
use shingle_seam::World;

use super::mount::{Disk, MountError};
use crate::extent::format::{FormatError, SECTOR_BYTES};
use crate::extent::label::{LABEL_MAGIC, Label, LabelCopy, label_serial};
use crate::extent::layout::{LABEL_ZONE, Layout};
use crate::extent::reader;
use crate::extent::scan::pointer_counts;

/// Bytes at the start of a conventional first zone that must be zero on an empty disk: room for any file system's mark.
const BLANK_CHECK_BYTES: u64 = MIB;

/// What stands where a label should be.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    Sound(Box<Label>),
    /// Never written, as far as one can tell.
    Absent,
    /// Damaged, or out of reach.
    Broken,
}

/// The zone of each label.
fn label_zones(device: &dyn ZonedDevice) -> [(LabelCopy, ZoneId); 2] {
    [(LabelCopy::First, LABEL_ZONE), (LabelCopy::Last, Layout::label_copy_zone(device.geometry()))]
}

/// The disk's label; `None` on an empty disk, or one whose labelling was cut off. Changes nothing.
pub async fn read_label(disk: &Disk) -> Result<Option<Label>, MountError> {
    let path = || disk.path.clone();
    let device = &*disk.device;
    let failed = |cause| MountError::Device { path: path(), cause };
    let zones = device.report(ZoneId(0), device.geometry().zones).await.map_err(failed)?;
    let mut readings = Vec::new();
    for (copy, zone) in label_zones(device) {
        readings.push(read_copy(disk, zones.get(zone.0 as usize), copy).await?);
    }
    match &readings[..] {
        [Reading::Sound(first), Reading::Sound(last)] if first != last => {
            let names = |label: &Label| format!("{} of cell {}", label.osd, label.cell);
            Err(MountError::LabelsDisagree { path: path(), first: names(first), last: names(last) })
        }
        [Reading::Sound(label), _] | [_, Reading::Sound(label)] => {
            if !label.fits(device.geometry()) {
                return Err(MountError::OtherGeometry { path: path() });
            }
            if label.serial != label_serial(&device.identity().serial) {
                return Err(MountError::OtherSerial { path: path() });
            }
            Ok(Some((**label).clone()))
        }
        _ if is_blank(device, &zones).await.map_err(failed)? => Ok(None),
        readings if readings.contains(&Reading::Broken) => Err(MountError::LabelDamaged { path: path() }),
        _ => Err(MountError::Garbage { path: path() }),
    }
}

/// One of the labels; an error when a newer or an unreleased version wrote it.
async fn read_copy(disk: &Disk, zone: Option<&Zone>, copy: LabelCopy) -> Result<Reading, MountError> {
    let path = disk.path.clone();
    let Some(zone) = zone else { return Ok(Reading::Absent) };
    match zone.condition {
        ZoneCondition::Empty => return Ok(Reading::Absent),
        ZoneCondition::Offline => return Ok(Reading::Broken),
        _ => {}
    }
    let sector = match reader::read(&*disk.device, zone.id, 0, SECTOR_BYTES).await {
        Ok(sector) => sector,
        Err(cause @ DeviceError::Failed { .. }) => return Err(MountError::Device { path, cause }),
        Err(_) => return Ok(Reading::Broken),
    };
    match Label::decode(&sector, copy) {
        Ok(label) => Ok(Reading::Sound(Box::new(label))),
        Err(FormatError::Newer(version)) => Err(MountError::Newer { path, version }),
        Err(FormatError::Older(version)) => Err(MountError::Older { path, version }),
        Err(FormatError::Absent | FormatError::Short) => Ok(Reading::Absent),
        Err(FormatError::Checksum | FormatError::Field(_)) => Ok(Reading::Broken),
    }
}

/// Whether nothing but perhaps the beginning of a labelling was ever written, as far as the disk can be read.
async fn is_blank(device: &dyn ZonedDevice, zones: &[Zone]) -> Result<bool, DeviceError> {
    let label_zones = label_zones(device).map(|(_, zone)| zone);
    for zone in zones {
        let for_label = label_zones.contains(&zone.id);
        let blank = match zone.condition {
            // Of an offline zone nothing is left that labelling could destroy.
            ZoneCondition::Empty | ZoneCondition::Offline => true,
            ZoneCondition::NotWritePointer if !for_label => true,
            ZoneCondition::ReadOnly => begins_blank(device, zone.id, for_label).await?,
            _ if !for_label => false,
            _ if pointer_counts(zone) => zone.write_pointer_bytes <= SECTOR_BYTES as u64,
            _ => begins_blank(device, zone.id, true).await?,
        };
        if !blank {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a zone begins with zeroes, or with a label that was cut off where there may be one.
async fn begins_blank(device: &dyn ZonedDevice, zone: ZoneId, for_label: bool) -> Result<bool, DeviceError> {
    let bytes = BLANK_CHECK_BYTES.min(device.geometry().zone_capacity_bytes) as usize;
    let head = reader::read(device, zone, 0, bytes).await?;
    let head = head.get(..bytes).unwrap_or_default();
    let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let (sector, rest) = head.split_at(SECTOR_BYTES.min(head.len()));
    Ok(is_zero(rest) && (is_zero(sector) || for_label && sector.starts_with(&LABEL_MAGIC)))
}

/// Whether volumes can use the extents that an empty disk would be divided into: control closes those with less than
/// `VOLUME_FREE_BYTES_MIN` left in a member, and would open and close them for ever.
///
/// # Errors
/// When an extent has less room than that from the start, or the disk has room for none.
pub fn check_extents(disk: &Disk) -> Result<(), MountError> {
    let path = || disk.path.clone();
    let layout = Layout::of(disk.device.geometry()).map_err(|cause| MountError::NoRoom { path: path(), cause })?;
    let payload_bytes = layout.payload_bytes();
    if payload_bytes < VOLUME_FREE_BYTES_MIN {
        let (zones, zone_bytes) = (layout.zones_per_extent, layout.zone_used_bytes);
        return Err(MountError::SmallExtents { path: path(), zones, zone_bytes, payload_bytes });
    }
    Ok(())
}

/// Labels an empty disk at both ends, durably.
pub async fn write_label(world: &World, disk: &Disk, cell: CellId) -> Result<Label, MountError> {
    let device = &*disk.device;
    let failed = |cause| MountError::Device { path: disk.path.clone(), cause };
    let layout =
        Layout::of(device.geometry()).map_err(|cause| MountError::NoRoom { path: disk.path.clone(), cause })?;
    let osd = OsdId(world.entropy.u64().max(1));
    let label = Label::new(cell, osd, world.entropy.u128(), world.clock.unix_ms(), device, layout);
    let mut written = 0;
    let mut refused = None;
    for (copy, zone) in label_zones(device) {
        match write_copy(device, &label, copy, zone).await {
            Ok(()) => written += 1,
            // One label is enough to know the disk by.
            Err(cause @ (DeviceError::ReadOnly { .. } | DeviceError::Offline { .. })) => refused = Some(cause),
            Err(cause) => return Err(failed(cause)),
        }
        device.flush().await.map_err(failed)?;
    }
    if let Some(cause) = refused.filter(|_| written == 0) {
        return Err(failed(cause));
    }
    tracing::info!(path = disk.path, osd = %osd, %cell, extents = layout.extents, "labelled an empty disk");
    Ok(label)
}

/// Writes again what is missing of the two labels. `label` was read from the other one and proven to be this disk's.
///
/// # Errors
/// The first that could not be written, and why; the other one still holds.
pub(super) async fn repair_labels(disk: &Disk, label: &Label) -> Result<u64, (ZoneId, DeviceError)> {
    let device = &*disk.device;
    let mut repaired = 0;
    for (copy, zone) in label_zones(device) {
        let failed = |cause| (zone, cause);
        let lines = device.report(zone, 1).await.map_err(failed)?;
        if matches!(read_copy(disk, lines.first(), copy).await, Ok(Reading::Sound(found)) if *found == *label) {
            continue;
        }
        write_copy(device, label, copy, zone).await.map_err(failed)?;
        device.flush().await.map_err(failed)?;
        tracing::warn!(path = disk.path, zone = zone.0, ?copy, "a missing or broken label was written again");
        repaired += 1;
    }
    Ok(repaired)
}

async fn write_copy(device: &dyn ZonedDevice, label: &Label, copy: LabelCopy, zone: ZoneId) -> Result<(), DeviceError> {
    let mut buffer: Buffer = device.alloc_buffer(SECTOR_BYTES);
    if let Some(sector) = buffer.get_mut(..SECTOR_BYTES) {
        sector.copy_from_slice(&label.encode(copy));
    }
    if zone.0 < device.geometry().conventional_zones {
        return device.write(zone, 0, buffer, 0..SECTOR_BYTES).await.0;
    }
    let line = device.report(zone, 1).await?.pop();
    if line.is_some_and(|line| line.condition != ZoneCondition::Empty) {
        device.reset(zone).await?;
    }
    device.append(zone, buffer, 0..SECTOR_BYTES).await.0?;
    // A full label zone has a label in it, whatever a loss of power leaves of the last commands.
    device.flush().await?;
    // Nothing is written to it any more: it gives its resources back.
    device.finish(zone).await
}
