//! What a zoned device holds, as data: cheap to copy, to change in a few zones, and to tell apart by a hash.
//!
//! Invariant: two images with the same conditions and the same bytes have the same hash, whatever way they were built.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::geometry::Geometry;
use crate::zone::{ZoneCondition, ZoneId};

/// One sector of a zone.
#[derive(Clone, Debug)]
pub enum Sector {
    Zeroes,
    Bytes(Arc<SectorBytes>),
    /// The device cannot read it.
    Unreadable,
}

/// A sector's bytes, hashed once.
#[derive(Debug)]
pub struct SectorBytes {
    hash: u64,
    bytes: Box<[u8]>,
}

impl Sector {
    /// A sector of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::Zeroes;
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        Self::Bytes(Arc::new(SectorBytes { hash: hasher.finish(), bytes: bytes.into() }))
    }

    /// Its bytes, unless they are zeroes or cannot be read.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(sector) => Some(&sector.bytes),
            Self::Zeroes | Self::Unreadable => None,
        }
    }
}

impl Hash for Sector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Zeroes => state.write_u64(0),
            Self::Unreadable => state.write_u64(1),
            Self::Bytes(sector) => state.write_u64(sector.hash),
        }
    }
}

/// One zone: its condition, and its sectors up to the write pointer. Of a conventional zone, up to the last one that is
/// not zero.
#[derive(Debug)]
pub struct ZoneImage {
    condition: ZoneCondition,
    sectors: Vec<Sector>,
    hash: u64,
}

impl ZoneImage {
    pub fn new(condition: ZoneCondition, sectors: Vec<Sector>) -> Self {
        let mut hasher = DefaultHasher::new();
        (condition, &sectors).hash(&mut hasher);
        Self { condition, sectors, hash: hasher.finish() }
    }

    pub fn condition(&self) -> ZoneCondition {
        self.condition
    }

    pub fn sectors(&self) -> &[Sector] {
        &self.sectors
    }
}

/// A whole device.
#[derive(Clone, Debug)]
pub struct Image {
    geometry: Arc<Geometry>,
    zones: Vec<Arc<ZoneImage>>,
}

impl Image {
    /// A device fresh from the factory.
    pub fn blank(geometry: &Geometry) -> Self {
        let zone = |condition| Arc::new(ZoneImage::new(condition, Vec::new()));
        let (conventional, empty) = (zone(ZoneCondition::NotWritePointer), zone(ZoneCondition::Empty));
        let first = geometry.conventional_zones.min(geometry.zones) as usize;
        let mut zones = vec![conventional; first];
        zones.resize(geometry.zones as usize, empty);
        Self { geometry: Arc::new(geometry.clone()), zones }
    }

    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// All zones, in order.
    pub fn zones(&self) -> &[Arc<ZoneImage>] {
        &self.zones
    }

    /// One zone; `None` behind the last.
    pub fn zone(&self, zone: ZoneId) -> Option<&ZoneImage> {
        self.zones.get(zone.0 as usize).map(|zone| &**zone)
    }

    /// Replaces one zone; nothing happens behind the last.
    pub fn set(&mut self, zone: ZoneId, image: ZoneImage) {
        if let Some(place) = self.zones.get_mut(zone.0 as usize) {
            *place = Arc::new(image);
        }
    }

    /// Tells images apart.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.zones.iter().for_each(|zone| hasher.write_u64(zone.hash));
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_differ_where_their_bytes_or_conditions_do() {
        let blank = Image::blank(&Geometry::smr_with_zones(1 << 20, 1 << 16));
        let with = |condition, sectors: &[&[u8]]| {
            let mut image = blank.clone();
            image.set(ZoneId(3), ZoneImage::new(condition, sectors.iter().map(|bytes| Sector::of(bytes)).collect()));
            image.hash()
        };
        let (a, b, zero) = ([1; 4096], [2; 4096], [0; 4096]);
        let one = with(ZoneCondition::Closed, &[&a, &b]);
        assert_eq!(one, with(ZoneCondition::Closed, &[&a, &b]));
        let others = [
            with(ZoneCondition::Closed, &[&b, &a]),
            with(ZoneCondition::Full, &[&a, &b]),
            with(ZoneCondition::Closed, &[&a]),
            with(ZoneCondition::Closed, &[&a, &b, &zero]),
            blank.hash(),
        ];
        assert!(others.iter().all(|other| *other != one));
    }
}
