//! The fixed shape of a zoned device.
//!
//! Invariant: a geometry that passed `check` makes every computation of a device address fit an `i64`.

use serde::{Deserialize, Serialize};

use crate::error::DeviceError;

/// Bytes in a zone of today's SMR hard disks.
const SMR_ZONE_BYTES: u64 = 256 * 1024 * 1024;

/// Zones that today's SMR hard disks keep open.
const SMR_OPEN_ZONES: u32 = 128;

/// Largest transfer of an emulated SMR disk: a batch of the largest records, small enough to schedule around.
const SMR_TRANSFER_BYTES: u32 = 16 * 1024 * 1024;

/// Most zones of a device: 64 TB in zones of 16 MiB, well above what is sold.
const ZONES_MAX: u32 = 1 << 22;

/// A device's shape and limits. All sizes in bytes; zones are numbered from 0. Reports and documents carry it as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    pub zones: u32,
    /// Distance between the starts of two zones.
    pub zone_bytes: u64,
    /// Bytes that can be written in a sequential zone; at most `zone_bytes`.
    pub zone_capacity_bytes: u64,
    /// The first so many zones are conventional: written anywhere, no write pointer.
    pub conventional_zones: u32,
    /// Unit of every offset and length: 512 or 4096.
    pub sector_bytes: u32,
    /// Zones open at once (implicitly or explicitly); 0 is no limit.
    pub open_zones_max: u32,
    /// Zones open or closed (with a resource of the device) at once; 0 is no limit.
    pub active_zones_max: u32,
    /// Largest single append or write; a multiple of `sector_bytes`.
    pub transfer_bytes_max: u32,
}

/// A geometry in files that people write: with keys in kebab-case.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Geometry", rename_all = "kebab-case")]
pub(crate) struct InKebabCase {
    zones: u32,
    zone_bytes: u64,
    zone_capacity_bytes: u64,
    conventional_zones: u32,
    sector_bytes: u32,
    open_zones_max: u32,
    active_zones_max: u32,
    transfer_bytes_max: u32,
}

/// Why no device can have a geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    #[error("sectors have 512 or 4096 bytes, not {sector_bytes}")]
    Sector { sector_bytes: u32 },
    #[error("{zones} zones: a device has 1 to {ZONES_MAX}, of which {conventional_zones} cannot be conventional")]
    Zones { zones: u32, conventional_zones: u32 },
    #[error(
        "zones of {zone_bytes} bytes with a capacity of {zone_capacity_bytes}: both must be whole sectors, not 0, and the capacity the smaller one"
    )]
    ZoneSize { zone_bytes: u64, zone_capacity_bytes: u64 },
    #[error("the device would be larger than 2^62 bytes")]
    TooLarge,
    #[error("a transfer limit of {transfer_bytes_max} bytes is not whole sectors, or 0")]
    Transfer { transfer_bytes_max: u32 },
    #[error("{open_zones_max} zones open of {active_zones_max} active at most")]
    Limits { open_zones_max: u32, active_zones_max: u32 },
}

impl Geometry {
    /// An emulated host-managed SMR disk of `disk_bytes` (rounded down to whole zones): zones of 256 MiB, 128 of them
    /// open at most, 1 % (at least one) conventional, sectors of 4096 bytes. Fewer bytes than two zones make a geometry
    /// that `check` refuses or that has no sequential zone.
    pub fn smr(disk_bytes: u64) -> Self {
        Self::smr_with_zones(disk_bytes, SMR_ZONE_BYTES)
    }

    /// As `smr`, with zones of another size: small disks for tests.
    pub fn smr_with_zones(disk_bytes: u64, zone_bytes: u64) -> Self {
        let zones = u32::try_from(disk_bytes / zone_bytes.max(1)).unwrap_or(u32::MAX);
        Self {
            zones,
            zone_bytes,
            zone_capacity_bytes: zone_bytes,
            conventional_zones: (zones / 100).max(1),
            sector_bytes: 4096,
            open_zones_max: SMR_OPEN_ZONES,
            active_zones_max: 0,
            transfer_bytes_max: SMR_TRANSFER_BYTES,
        }
    }

    /// Bytes from the first zone's start to the last one's end.
    pub fn device_bytes(&self) -> u64 {
        u64::from(self.zones) * self.zone_bytes
    }

    /// Every field with its key in files that people write.
    pub fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("zones", self.zones.into()),
            ("zone-bytes", self.zone_bytes),
            ("zone-capacity-bytes", self.zone_capacity_bytes),
            ("conventional-zones", self.conventional_zones.into()),
            ("sector-bytes", self.sector_bytes.into()),
            ("open-zones-max", self.open_zones_max.into()),
            ("active-zones-max", self.active_zones_max.into()),
            ("transfer-bytes-max", self.transfer_bytes_max.into()),
        ]
    }

    /// Whether a device can have this shape.
    pub fn check(&self) -> Result<(), GeometryError> {
        let Self { zones, zone_bytes, zone_capacity_bytes, conventional_zones, .. } = *self;
        let sector_bytes = u64::from(self.sector_bytes);
        if !matches!(self.sector_bytes, 512 | 4096) {
            return Err(GeometryError::Sector { sector_bytes: self.sector_bytes });
        }
        if zones == 0 || zones > ZONES_MAX || conventional_zones > zones {
            return Err(GeometryError::Zones { zones, conventional_zones });
        }
        let whole = |bytes: u64| bytes != 0 && bytes.is_multiple_of(sector_bytes);
        if !whole(zone_bytes) || !whole(zone_capacity_bytes) || zone_capacity_bytes > zone_bytes {
            return Err(GeometryError::ZoneSize { zone_bytes, zone_capacity_bytes });
        }
        if zone_bytes.checked_mul(u64::from(zones)).is_none_or(|bytes| bytes > 1 << 62) {
            return Err(GeometryError::TooLarge);
        }
        if !whole(u64::from(self.transfer_bytes_max)) {
            return Err(GeometryError::Transfer { transfer_bytes_max: self.transfer_bytes_max });
        }
        if self.active_zones_max != 0 && self.open_zones_max > self.active_zones_max {
            let (open_zones_max, active_zones_max) = (self.open_zones_max, self.active_zones_max);
            return Err(GeometryError::Limits { open_zones_max, active_zones_max });
        }
        Ok(())
    }

    /// Whether offset and length are whole sectors, and the length neither 0 nor above the transfer limit.
    pub fn check_transfer(&self, offset_bytes: u64, length_bytes: u64) -> Result<(), DeviceError> {
        let sector_bytes = u64::from(self.sector_bytes);
        let whole = offset_bytes.is_multiple_of(sector_bytes) && length_bytes.is_multiple_of(sector_bytes);
        if whole && length_bytes != 0 && length_bytes <= u64::from(self.transfer_bytes_max) {
            Ok(())
        } else {
            Err(DeviceError::InvalidField { offset_bytes, length_bytes })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emulated_smr_disk_has_the_shape_of_a_real_one() {
        let geometry = Geometry::smr(64 << 30);
        assert_eq!(geometry.check(), Ok(()));
        assert_eq!((geometry.zones, geometry.conventional_zones, geometry.open_zones_max), (256, 2, 128));
        assert_eq!(geometry.device_bytes(), 64 << 30);
        assert_eq!(Geometry::smr(20 << 40).check(), Ok(()));
        assert!(Geometry::smr(1).check().is_err());
    }

    #[test]
    fn impossible_shapes_are_refused() {
        let sound = Geometry::smr_with_zones(1 << 20, 1 << 16);
        assert_eq!(sound.check(), Ok(()));
        let spoil = |change: fn(&mut Geometry)| {
            let mut geometry = sound.clone();
            change(&mut geometry);
            geometry.check().expect_err("spoilt")
        };
        assert!(matches!(spoil(|g| g.sector_bytes = 520), GeometryError::Sector { .. }));
        assert!(matches!(spoil(|g| g.zones = 0), GeometryError::Zones { .. }));
        assert!(matches!(spoil(|g| g.conventional_zones = 99), GeometryError::Zones { .. }));
        assert!(matches!(spoil(|g| g.zone_capacity_bytes += 4096), GeometryError::ZoneSize { .. }));
        assert!(matches!(spoil(|g| g.zone_bytes += 1), GeometryError::ZoneSize { .. }));
        assert!(matches!(spoil(|g| g.zone_bytes = 1 << 62), GeometryError::TooLarge));
        assert!(matches!(spoil(|g| g.transfer_bytes_max = 0), GeometryError::Transfer { .. }));
        assert!(matches!(spoil(|g| g.active_zones_max = g.open_zones_max - 1), GeometryError::Limits { .. }));
    }
}
