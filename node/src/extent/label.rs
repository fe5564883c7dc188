//! The disk label: which cell and OSD a disk is, and how it is divided. Written once, at both ends of the disk.
//!
//! A label that decodes has a checksum over its whole sector, a known version, and a division that follows from the
//! geometry it states.

use shingle_codec::checksum::crc32c;
use shingle_hw::device::ZonedDevice;
use shingle_hw::geometry::Geometry;
use shingle_proto::ids::{CellId, OsdId};
use shingle_proto::limits::JOURNAL_ZONES;
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::format::{FORMAT_VERSION, FormatError, SECTOR_BYTES, check_envelope};
use super::layout::{JOURNAL_FIRST_ZONE, Layout};

/// First bytes of a label.
pub const LABEL_MAGIC: [u8; 8] = *b"SHGLABEL";
/// Bytes of the device's serial number kept in a label.
pub const LABEL_SERIAL_BYTES: usize = 64;

/// The label's bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LabelSector {
    pub magic: [u8; 8],
    pub version: U16,
    pub copy: u8,
    pub reserved: [u8; 5],
    pub cell: U128,
    pub osd: U64,
    pub created_ms: U64,
    pub serial: [u8; LABEL_SERIAL_BYTES],
    pub zones: U32,
    pub conventional_zones: U32,
    pub zone_bytes: U64,
    pub zone_capacity_bytes: U64,
    pub sector_bytes: U32,
    pub extent_first_zone: U32,
    pub zones_per_extent: U32,
    pub extents: U32,
    pub reserve_bytes: U64,
    pub journal_first_zone: U32,
    pub journal_zones: U32,
    pub label_copy_zone: U32,
    pub records_max: U32,
    pub parity_reserve_bytes: U64,
    pub disk: U128,
    pub padding: [u8; 3892],
    pub crc: U32,
}

const _: () = assert!(size_of::<LabelSector>() == SECTOR_BYTES);

/// Which of a disk's two labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LabelCopy {
    /// In the first zone.
    First = 0,
    /// In the last zone.
    Last = 1,
}

/// A disk's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub cell: CellId,
    pub osd: OsdId,
    /// Drawn when the disk was labelled: tells what belongs to this label from what an earlier one left.
    pub disk: u128,
    /// Milliseconds since 1970, for people.
    pub created_ms: u64,
    /// The device's serial number, cut to [`LABEL_SERIAL_BYTES`] bytes, zero padded: a copied label shows.
    pub serial: [u8; LABEL_SERIAL_BYTES],
    pub zones: u32,
    pub conventional_zones: u32,
    pub zone_bytes: u64,
    pub zone_capacity_bytes: u64,
    pub sector_bytes: u32,
    pub layout: Layout,
}

/// A serial number as labels keep it.
pub fn label_serial(serial: &str) -> [u8; LABEL_SERIAL_BYTES] {
    let mut kept = [0; LABEL_SERIAL_BYTES];
    kept.iter_mut().zip(serial.bytes()).for_each(|(to, from)| *to = from);
    kept
}

impl Label {
    /// A new label for a device, from which it takes geometry and serial number.
    pub fn new(
        cell: CellId,
        osd: OsdId,
        disk: u128,
        created_ms: u64,
        device: &dyn ZonedDevice,
        layout: Layout,
    ) -> Self {
        let geometry = device.geometry();
        Self {
            cell,
            osd,
            disk,
            created_ms,
            serial: label_serial(&device.identity().serial),
            zones: geometry.zones,
            conventional_zones: geometry.conventional_zones,
            zone_bytes: geometry.zone_bytes,
            zone_capacity_bytes: geometry.zone_capacity_bytes,
            sector_bytes: geometry.sector_bytes,
            layout,
        }
    }

    /// Whether the device still has the shape it was labelled with.
    pub fn fits(&self, geometry: &Geometry) -> bool {
        self.zones == geometry.zones
            && self.conventional_zones == geometry.conventional_zones
            && self.zone_bytes == geometry.zone_bytes
            && self.zone_capacity_bytes == geometry.zone_capacity_bytes
            && self.sector_bytes == geometry.sector_bytes
    }

    /// The sector of one of the two labels.
    pub fn encode(&self, copy: LabelCopy) -> [u8; SECTOR_BYTES] {
        let mut sector = LabelSector {
            magic: LABEL_MAGIC,
            version: U16::new(FORMAT_VERSION),
            copy: copy as u8,
            reserved: [0; 5],
            cell: U128::new(self.cell.0),
            osd: U64::new(self.osd.0),
            created_ms: U64::new(self.created_ms),
            serial: self.serial,
            zones: U32::new(self.zones),
            conventional_zones: U32::new(self.conventional_zones),
            zone_bytes: U64::new(self.zone_bytes),
            zone_capacity_bytes: U64::new(self.zone_capacity_bytes),
            sector_bytes: U32::new(self.sector_bytes),
            extent_first_zone: U32::new(self.layout.extent_first_zone),
            zones_per_extent: U32::new(self.layout.zones_per_extent),
            extents: U32::new(self.layout.extents),
            reserve_bytes: U64::new(self.layout.reserve_bytes),
            journal_first_zone: U32::new(JOURNAL_FIRST_ZONE),
            journal_zones: U32::new(JOURNAL_ZONES),
            label_copy_zone: U32::new(self.zones.saturating_sub(1)),
            records_max: U32::new(self.layout.records_max),
            parity_reserve_bytes: U64::new(self.layout.parity_reserve_bytes),
            disk: U128::new(self.disk),
            padding: [0; 3892],
            crc: U32::ZERO,
        };
        sector.crc = U32::new(crc32c(&sector.as_bytes()[..SECTOR_BYTES - 4]));
        zerocopy::transmute!(sector)
    }

    /// Decodes one of the two labels from the first bytes of its zone.
    pub fn decode(bytes: &[u8], copy: LabelCopy) -> Result<Self, FormatError> {
        let (sector, _) = LabelSector::ref_from_prefix(bytes).map_err(|_| FormatError::Short)?;
        check_envelope(sector.as_bytes(), &LABEL_MAGIC)?;
        if sector.copy != copy as u8 {
            return Err(FormatError::Field("copy"));
        }
        let geometry = Geometry {
            zones: sector.zones.get(),
            zone_bytes: sector.zone_bytes.get(),
            zone_capacity_bytes: sector.zone_capacity_bytes.get(),
            conventional_zones: sector.conventional_zones.get(),
            sector_bytes: sector.sector_bytes.get(),
            open_zones_max: 0,
            active_zones_max: 0,
            transfer_bytes_max: 0,
        };
        let layout = Layout::of(&geometry).map_err(|_| FormatError::Field("zones"))?;
        let stated = Layout {
            extent_first_zone: sector.extent_first_zone.get(),
            zones_per_extent: sector.zones_per_extent.get(),
            extents: sector.extents.get(),
            zone_used_bytes: layout.zone_used_bytes,
            reserve_bytes: sector.reserve_bytes.get(),
            parity_reserve_bytes: sector.parity_reserve_bytes.get(),
            records_max: sector.records_max.get(),
        };
        if stated != layout {
            return Err(FormatError::Field("zones_per_extent"));
        }
        Ok(Self {
            cell: CellId(sector.cell.get()),
            osd: OsdId(sector.osd.get()),
            disk: sector.disk.get(),
            created_ms: sector.created_ms.get(),
            serial: sector.serial,
            zones: geometry.zones,
            conventional_zones: geometry.conventional_zones,
            zone_bytes: geometry.zone_bytes,
            zone_capacity_bytes: geometry.zone_capacity_bytes,
            sector_bytes: geometry.sector_bytes,
            layout,
        })
    }
}
