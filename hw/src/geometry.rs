//! The fixed shape of a zoned device.

/// A device's shape and limits. All sizes in bytes; zones are numbered from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl Geometry {
    /// Bytes from the first zone's start to the last one's end.
    pub fn device_bytes(&self) -> u64 {
        u64::from(self.zones) * self.zone_bytes
    }
}
