//! How full a disk's queue is: every transfer takes a part of it, by its size, and one more starts as long as it is not
//! full. So small transfers are as many in flight as they need, and large ones no more than keep the disk busy: what is
//! in the drive is beyond the host's say who goes first.
//!
//! Invariant: where all sizes have one depth, exactly so many are in flight, as long as they are not more bytes than a
//! disk of which nothing is known gets at once.

use shingle_hw::qualify::profile::{AtSize, MeasuredProfile};
use shingle_proto::limits::MIB;

/// A full queue.
pub const FULL: u64 = 1 << 24;

/// Sizes told apart: up to 4 KiB, 8 KiB, and so on to 4 MiB, and whatever is larger.
const SIZES: usize = 12;
const SMALLEST_BYTES: u64 = 4096;

/// Bytes in flight that keep a disk busy of which nothing is known by size: a quarter of a second of an SMR disk. More of
/// them only wait in the drive, and what they bring has left the processor's cache before it is looked at: 4 MiB reads
/// of an emulated drive ran at 0.6-0.8 of fio's rate with 31 in flight and at 1.0-1.1 with 8 (`shingle bench engine`).
const BUSY_BYTES: u64 = 32 * MIB;

/// The part of the queue that one transfer of each size takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depths {
    parts: [u64; SIZES],
    /// Of larger transfers than this nothing is known: [`BUSY_BYTES`] fill the queue, however few they are.
    known_bytes: u64,
}

impl Depths {
    /// So many transfers of whatever size, at least 1.
    pub fn same(depth: u32) -> Self {
        Self { parts: [part(depth); SIZES], known_bytes: u64::MAX }
    }

    /// Of a disk of which nothing is known by size: so many transfers, at least 1, and no more than keep it busy.
    pub fn assumed(depth: u32) -> Self {
        Self { known_bytes: 0, ..Self::same(depth) }
    }

    /// What a profile says; `None` where it says nothing by size.
    pub fn measured(profile: &MeasuredProfile) -> Option<Self> {
        let mut parts = [0; SIZES];
        for (index, slot) in parts.iter_mut().enumerate() {
            *slot = part(in_flight(&profile.depths, SMALLEST_BYTES << index)?);
        }
        Some(Self { parts, known_bytes: profile.depths.last()?.bytes })
    }

    /// What a transfer of so many bytes takes of the queue, at most [`FULL`].
    pub fn part(&self, bytes: u64) -> u64 {
        let units = bytes.div_ceil(SMALLEST_BYTES).max(1);
        let index = (u64::BITS - (units - 1).leading_zeros()) as usize;
        let by_size = self.parts.get(index.min(SIZES - 1)).copied().unwrap_or(FULL);
        if bytes <= self.known_bytes {
            return by_size;
        }
        let by_bytes = u128::from(bytes) * u128::from(FULL) / u128::from(BUSY_BYTES);
        by_size.max(u64::try_from(by_bytes).unwrap_or(FULL).min(FULL))
    }

    /// Transfers of so many bytes that fill the queue.
    pub fn in_flight(&self, bytes: u64) -> u64 {
        FULL.div_ceil(self.part(bytes).max(1))
    }
}

/// The queue is full when so many such parts are in it, and not one earlier.
fn part(depth: u32) -> u64 {
    FULL.div_ceil(u64::from(depth.max(1)))
}

/// Between two measured sizes the depth falls by the same factor for every doubling; beyond them it is that of the nearest.
fn in_flight(depths: &[AtSize], bytes: u64) -> Option<u32> {
    let above = depths.iter().position(|at| at.bytes >= bytes);
    let right = above.and_then(|index| depths.get(index));
    let left = above.map_or(depths.last(), |index| depths.get(index.checked_sub(1)?));
    let (left, right) = match (left, right) {
        (Some(left), Some(right)) if right.bytes > left.bytes => (left, right),
        (only, None) | (None, only) => return only.map(|at| at.in_flight),
        (Some(_), Some(right)) => return Some(right.in_flight),
    };
    let way = (bytes as f64 / left.bytes as f64).ln() / (right.bytes as f64 / left.bytes as f64).ln();
    let [from, to] = [left, right].map(|at| f64::from(at.in_flight).ln());
    Some((from + (to - from) * way).exp().round() as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shingle_hw::geometry::Geometry;

    use super::*;

    fn measured(depths: &[(u64, u32)]) -> Option<Depths> {
        let depths = depths.iter().map(|(bytes, in_flight)| AtSize { bytes: *bytes, in_flight: *in_flight }).collect();
        Depths::measured(&MeasuredProfile { depths, ..MeasuredProfile::unmeasured("M", &Geometry::smr(1 << 40)) })
    }

    #[test]
    fn each_size_has_the_depth_that_was_measured_for_it() {
        let flash = measured(&[(4 << 10, 128), (64 << 10, 8), (1 << 20, 2)]).unwrap();
        let depth = |kib: u64| flash.in_flight(kib << 10);
        assert_eq!([1, 4, 64, 1024].map(depth), [128, 128, 8, 2]);
        assert_eq!([8, 16, 32].map(depth), [64, 32, 16], "half for every doubling between 4 and 64 KiB");
        assert_eq!([128, 256, 512].map(depth), [6, 4, 3]);
        assert_eq!([2048, 4096, 8192].map(depth), [2, 2, 2], "beyond what was measured as at its end");
        assert_eq!(flash.in_flight((64 << 10) + 1), depth(128), "a size counts as the next larger one");
        let one = measured(&[(64 << 10, 16)]).unwrap();
        assert_eq!(
            [4, 64, 1024, 4096].map(|kib| one.in_flight(kib << 10)),
            [16, 16, 16, 8],
            "not more than keep it busy"
        );
        assert_eq!(measured(&[]), None);
        assert!([0, 1, u64::MAX].iter().all(|bytes| (1..=FULL).contains(&flash.part(*bytes))));
    }

    #[test]
    fn unknown_disk_has_no_more_in_flight_than_keeps_it_busy() {
        let depths = Depths::assumed(32);
        let depth = |kib: u64| depths.in_flight(kib << 10);
        assert_eq!([4, 64, 1024].map(depth), [32, 32, 32]);
        assert_eq!([2048, 4096, 4100, 8192, 1 << 20].map(depth), [16, 8, 8, 4, 1]);
        assert_eq!(Depths::assumed(4).in_flight(2 << 20), 4, "what is configured is not exceeded");
    }

    proptest! {
        #[test]
        fn so_many_parts_fill_the_queue_and_one_less_does_not(depth in 1..=1024_u32, bytes in 0..u64::MAX) {
            let part = Depths::same(depth).part(bytes);
            prop_assert!(u64::from(depth) * part >= FULL);
            prop_assert!(u64::from(depth - 1) * part < FULL);
            prop_assert_eq!(Depths::same(depth).in_flight(bytes), u64::from(depth));
        }
    }
}
