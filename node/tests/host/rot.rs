//! Bit rot: every single-bit flip, every truncation and every swap of two sectors of a whole small extent is noticed by
//! what a scrub checks, and never served by a read.

use std::collections::BTreeMap;
use std::rc::Rc;

use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::device::ZonedDevice;
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::ZoneId;
use shingle_node::extent::header::ExtentHeader;
use shingle_node::extent::layout::Layout;
use shingle_node::extent::placement::Spot;
use shingle_node::extent::reader::{Found, examine, read};
use shingle_node::extent::toc::{Place, Toc};
use shingle_node::extent::verify::{Expected, Part, parts};
use shingle_node::osd::refusal::Refusal;
use shingle_proto::ids::{ExtentId, Generation};
use shingle_proto::message::FindingKind;

use crate::rig::{self, Block, block, get, new_extent, put};

const SECTOR: usize = 4096;

/// Twenty zones of 64 KiB, extents of two: an extent of 128 KiB is the least that is divided among zones.
fn geometry() -> Geometry {
    Geometry {
        zones: 20,
        zone_bytes: 64 << 10,
        zone_capacity_bytes: 64 << 10,
        conventional_zones: 1,
        sector_bytes: 4096,
        open_zones_max: 8,
        active_zones_max: 8,
        transfer_bytes_max: 64 << 10,
    }
}

/// A closed extent, in memory and as it lies on the disk.
struct Rotten {
    device: MemoryDevice,
    mounted: rig::Mounted,
    blocks: Vec<Block>,
    header: ExtentHeader,
    layout: Layout,
    toc: Toc,
    digest: [u8; 32],
    parts: Vec<Part>,
    /// Its bytes by offset within the extent.
    image: Vec<u8>,
    places: BTreeMap<u32, Block>,
}

impl Rotten {
    async fn new(world: &shingle_seam::World) -> Self {
        let device = MemoryDevice::new(geometry(), "rot");
        let mounted = rig::start(world, Rc::new(device.clone())).await.unwrap();
        mounted.osd.create_extent(new_extent(1)).await.unwrap();
        // Empty, tiny, exactly a sector, a sector and a bit, many sectors; two of one size, to be swapped.
        let sizes = [0, 1, 100, 100, 4096 - 128, 4096 - 127, 5000, 12_000, 30_000, 3900, 3900, 7000];
        let blocks: Vec<Block> = (1..).zip(sizes).map(|(number, bytes)| block(number, bytes)).collect();
        let (mut toc, mut places) = (Toc::new(), BTreeMap::new());
        for block in &blocks {
            let at = put(&mounted.osd, 1, *block).await.unwrap().offset_bytes;
            let bytes = shingle_node::extent::record::record_bytes(block.bytes);
            toc.insert(&block.hash(), block.put_id(), Place::new(at, bytes));
            places.insert(Place::new(at, bytes).offset_units, *block);
        }
        mounted.osd.close_extent(ExtentId(1), Generation(0)).await.unwrap();
        let extent = mounted.osd.extent(ExtentId(1)).unwrap();
        let footer = extent.footer.get().expect("a closed extent has a footer");
        let layout = mounted.osd.label.layout;
        let parts = parts(&toc, Some(Place::new(footer.offset_in_extent, footer.bytes)));
        let mut image = vec![0; layout.extent_bytes() as usize];
        for part in &parts {
            let spot = Spot::at(part.place().offset_bytes(), &layout).unwrap();
            let bytes = part.place().bytes() as usize;
            let zone = layout.zone(extent.header.slot, spot.zone);
            let whole = read(&device, zone, spot.offset_bytes, bytes).await.unwrap();
            let start = part.place().offset_bytes() as usize;
            image[start..start + bytes].copy_from_slice(&whole[..bytes]);
        }
        let (header, digest) = (extent.header, footer.digest);
        Self { device, mounted, blocks, header, layout, toc, digest, parts, image, places }
    }

    fn bytes_of<'a>(image: &'a [u8], part: &Part) -> &'a [u8] {
        let start = part.place().offset_bytes() as usize;
        &image[start..start + part.place().bytes() as usize]
    }

    /// Whether a scrub of this part of an image finds nothing.
    fn is_good(&self, image: &[u8], part: &Part) -> bool {
        let (header, layout, toc) = (&self.header, &self.layout, &self.toc);
        let expected = Expected { header, layout, toc, digest: Some(self.digest) };
        expected.judge(*part, Self::bytes_of(image, part)).is_ok()
    }

    /// Whether a read of the block whose record this part is would serve what lies there.
    fn is_served(&self, image: &[u8], part: &Part) -> bool {
        let Part::Record(place) = part else { return false };
        let block = self.places[&place.offset_units];
        matches!(
            examine(Self::bytes_of(image, part), self.header.extent, &block.hash(), block.put_id()),
            Found::Whole(_)
        )
    }

    fn assert_noticed(&self, image: &[u8], part: &Part, what: std::fmt::Arguments<'_>) {
        assert!(!self.is_good(image, part), "{what} in {part:?} is not noticed by a scrub");
        assert!(!self.is_served(image, part), "{what} in {part:?} is served");
    }

    fn changed(&self, image: &[u8], part: &Part) -> bool {
        Self::bytes_of(image, part) != Self::bytes_of(&self.image, part)
    }
}

#[test]
fn parts_are_every_byte_below_the_write_pointer() {
    rig::run(async |world| {
        let rotten = Rotten::new(&world).await;
        assert!(rotten.parts.iter().all(|part| rotten.is_good(&rotten.image, part)));
        let served = rotten.parts.iter().filter(|part| rotten.is_served(&rotten.image, part)).count();
        assert_eq!(served, rotten.blocks.len());
        let zones = rotten.device.report(rotten.layout.zone(rotten.header.slot, 0), 2).await.unwrap();
        assert_eq!(zones.len(), 2);
        let mut next = 0;
        for part in &rotten.parts {
            let start = part.place().offset_bytes();
            // The end of a zone that the next record did not fit into is the only gap.
            assert!(start == next || start % rotten.layout.zone_used_bytes == 0, "{part:?} behind {next}");
            next = start + part.place().bytes();
        }
        assert!(matches!(rotten.parts.last(), Some(Part::Closing(_))));
    });
}

#[test]
fn every_flipped_bit_is_noticed_and_never_served() {
    rig::run(async |world| {
        let rotten = Rotten::new(&world).await;
        let mut image = rotten.image.clone();
        let mut flips = 0;
        for part in &rotten.parts {
            let start = part.place().offset_bytes() as usize;
            for byte in start..start + part.place().bytes() as usize {
                for bit in 0..8 {
                    image[byte] ^= 1 << bit;
                    rotten.assert_noticed(&image, part, format_args!("bit {bit} of byte {byte}"));
                    image[byte] ^= 1 << bit;
                    flips += 1;
                }
            }
        }
        assert!(flips > 800_000, "only {flips}");
        assert!(image == rotten.image);
    });
}

#[test]
fn every_truncation_is_noticed_and_never_served() {
    rig::run(async |world| {
        let rotten = Rotten::new(&world).await;
        let end = rotten.parts.last().map(|part| part.place().offset_bytes() + part.place().bytes()).unwrap() as usize;
        // What lies behind a shorter write pointer reads as zeroes.
        for cut in (0..end).step_by(512) {
            let mut image = rotten.image.clone();
            image[cut..].fill(0);
            let hit: Vec<&Part> = rotten.parts.iter().filter(|part| rotten.changed(&image, part)).collect();
            assert!(!hit.is_empty() || rotten.image[cut..].iter().all(|byte| *byte == 0), "cut at {cut}");
            hit.iter().for_each(|part| rotten.assert_noticed(&image, part, format_args!("a cut at {cut}")));
        }
    });
}

#[test]
fn every_swap_of_two_sectors_is_noticed_and_never_served() {
    rig::run(async |world| {
        let rotten = Rotten::new(&world).await;
        let sectors = rotten.image.len() / SECTOR;
        let mut noticed = 0;
        for first in 0..sectors {
            for second in first + 1..sectors {
                let mut image = rotten.image.clone();
                let (before, behind) = image.split_at_mut(second * SECTOR);
                before[first * SECTOR..(first + 1) * SECTOR].swap_with_slice(&mut behind[..SECTOR]);
                for part in rotten.parts.iter().filter(|part| rotten.changed(&image, part)) {
                    rotten.assert_noticed(&image, part, format_args!("a swap of sectors {first} and {second}"));
                    noticed += 1;
                }
            }
        }
        assert!(noticed > 400, "{noticed}");
    });
}

#[test]
fn flipped_bits_of_a_medium_are_refused_by_reads_and_found() {
    rig::run(async |world| {
        let rotten = Rotten::new(&world).await;
        let osd = &rotten.mounted.osd;
        for part in &rotten.parts {
            let Part::Record(place) = part else { continue };
            let block = rotten.places[&place.offset_units];
            let spot = Spot::at(place.offset_bytes(), &rotten.layout).unwrap();
            let zone: ZoneId = rotten.layout.zone(rotten.header.slot, spot.zone);
            for step in 0..40 {
                let byte = place.bytes() * step / 40;
                let mask = 1 << (step % 8);
                rotten.device.flip(zone, spot.offset_bytes + byte, mask);
                let read = get(osd, 1, block).await;
                assert!(matches!(read, Err(Refusal::RecordDamaged(_))), "byte {byte}: {read:?}");
                rotten.device.flip(zone, spot.offset_bytes + byte, mask);
            }
            assert_eq!(get(osd, 1, block).await, Ok(block.payload()));
        }
        let (found, _) = rotten.mounted.findings.batch();
        assert_eq!(found.len(), rotten.blocks.len(), "one finding for each block, however often it was read");
        assert!(found.iter().all(|finding| finding.kind == FindingKind::RecordDamaged));
    });
}
