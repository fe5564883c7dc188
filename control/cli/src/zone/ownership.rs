//! Whether somebody's data is on a device, and whether the user said that it may go.

use shingle_hw::error::DeviceError;
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::ZoneId;
use shingle_node::extent::label::LABEL_MAGIC;

use super::device::Opened;
use crate::failure::Failure;

/// Whether a device carries a Shingle label, in its first zone or in the copy in its last one. What cannot be read
/// carries none.
pub fn is_labelled(opened: &Opened) -> Result<bool, Failure> {
    let geometry: &Geometry = opened.device.geometry();
    let sector_bytes = geometry.sector_bytes as usize;
    for zone in [0, geometry.zones.saturating_sub(1)] {
        let buffer = opened.device.alloc_buffer(sector_bytes);
        let (outcome, buffer) = opened.run(opened.device.read(ZoneId(zone), 0, buffer, 0..sector_bytes));
        match outcome {
            Ok(()) if buffer.starts_with(&LABEL_MAGIC) => return Ok(true),
            Ok(()) | Err(DeviceError::Offline { .. } | DeviceError::Unreadable { .. }) => {}
            Err(error) => return Err(Failure::Refused { class: error.class(), what: error.to_string() }),
        }
    }
    Ok(false)
}

/// Refuses unless `claimed` is the device's serial number, typed by somebody who read it.
pub fn check_claim(serial: &str, claimed: Option<&str>, why: &str) -> Result<(), Failure> {
    match claimed {
        Some(claimed) if claimed == serial => Ok(()),
        Some(claimed) => Err(Failure::usage(
            format!("--i-own {claimed} is not this device: its serial number is {serial}"),
            "check that it is the device you mean",
        )),
        None => Err(Failure::usage(
            format!("{why}, and what is on the device would be lost"),
            format!("if it is yours to lose, add --i-own {serial}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_serial_number_opens_the_door() {
        assert!(check_claim("S1", Some("S1"), "why").is_ok());
        assert!(check_claim("S1", Some("S2"), "why").is_err());
        assert!(check_claim("S1", None, "why").is_err());
    }
}
