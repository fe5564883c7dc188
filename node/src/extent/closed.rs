//! A closed extent by its closing record: read from the place the journal names, believed only when it proves itself.

use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::{Zone, ZoneCondition};
use shingle_proto::ids::ExtentId;

use super::footer::Footer;
use super::journal::FooterPlace;
use super::label::Label;
use super::placement::Spot;
use super::reader::read;
use super::record::{RECORD_HEADER_BYTES, Record, RecordKind};

/// A closing record with a sound footer.
pub struct Closing {
    pub record: Record,
    pub footer: Footer,
    pub place: FooterPlace,
}

/// The closing record of `extent` at an offset of its slot, of so many bytes; `None` when there is none that is sound,
/// of this disk, slot and extent.
///
/// # Errors
/// Only when the device itself failed.
pub async fn read_closing(
    device: &dyn ZonedDevice,
    label: &Label,
    (slot, zones): (u32, &[Zone]),
    extent: ExtentId,
    (offset_in_extent, bytes): (u64, u64),
) -> Result<Option<Closing>, DeviceError> {
    let layout = &label.layout;
    let Some(spot) = Spot::at(offset_in_extent, layout) else { return Ok(None) };
    let Some(zone) = zones.get(spot.zone as usize) else { return Ok(None) };
    let inside = bytes > 0 && spot.offset_bytes + bytes <= layout.zone_used_bytes;
    if !inside || matches!(zone.condition, ZoneCondition::Empty | ZoneCondition::Offline) {
        return Ok(None);
    }
    let buffer = match read(device, zone.id, spot.offset_bytes, bytes as usize).await {
        Ok(buffer) => buffer,
        Err(failure @ DeviceError::Failed { .. }) => return Err(failure),
        // The scan that follows says what is wrong here.
        Err(_) => return Ok(None),
    };
    let whole = buffer.get(..bytes as usize).unwrap_or_default();
    let Ok(record) = Record::decode(whole) else { return Ok(None) };
    if record.extent != extent || record.kind != RecordKind::Close || !record.payload_is_whole(whole) {
        return Ok(None);
    }
    let payload_end = RECORD_HEADER_BYTES + record.payload_bytes as usize;
    let payload = whole.get(RECORD_HEADER_BYTES..payload_end).unwrap_or_default();
    let Ok((footer, digest)) = Footer::decode(payload, layout, offset_in_extent) else { return Ok(None) };
    if (footer.extent, footer.osd, footer.slot) != (extent, label.osd, slot) {
        return Ok(None);
    }
    Ok(Some(Closing { record, footer, place: FooterPlace { offset_in_extent, bytes, digest } }))
}
