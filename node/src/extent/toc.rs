//! The toc of one extent: (hash, put id) -> place, in 16 bytes per record.
//!
//! A key is kept as a 64-bit fingerprint, so a lookup yields candidates; which of them is meant is proven by the
//! record's header on disk. A fingerprint collision costs a read, never a wrong answer.

use std::collections::BTreeMap;

use shingle_proto::ids::{BlockHash, PutId};
use shingle_proto::limits::RECORD_ALIGN_BYTES;
use smallvec::SmallVec;

/// Where a record lies: in 4 KiB units within its extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub offset_units: u32,
    pub units: u32,
}

impl Place {
    /// The place of a record; both numbers are whole units by construction of the format.
    pub fn new(offset_bytes: u64, bytes: u64) -> Self {
        let unit = u64::from(RECORD_ALIGN_BYTES);
        assert!(offset_bytes.is_multiple_of(unit) && bytes.is_multiple_of(unit), "records are whole 4 KiB units");
        let units = |bytes: u64| u32::try_from(bytes / unit).unwrap_or(u32::MAX);
        Self { offset_units: units(offset_bytes), units: units(bytes) }
    }

    pub fn offset_bytes(self) -> u64 {
        u64::from(self.offset_units) * u64::from(RECORD_ALIGN_BYTES)
    }

    pub fn bytes(self) -> u64 {
        u64::from(self.units) * u64::from(RECORD_ALIGN_BYTES)
    }
}

/// One record of a closed extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    fingerprint: u64,
    place: Place,
}

const _: () = assert!(size_of::<Entry>() == 16);

enum Shape {
    /// Grows; ordered by fingerprint, then offset.
    Open(BTreeMap<(u64, u32), u32>),
    /// Never changes again; ordered alike.
    Closed(Box<[Entry]>),
}

/// The map of one extent.
pub struct Toc {
    shape: Shape,
}

/// Hash and put id are both uniformly random, so mixing them is all a fingerprint needs.
fn fingerprint(hash: &BlockHash, put_id: PutId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = hash.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ put_id.0.rotate_left(32)
}

/// Guesses from a guess: the first one errs by the root of an extent's records, each of these by the root of the last.
const GUESSES: u32 = 2;

/// The first entry whose fingerprint is not below the wanted one. Fingerprints are uniform, so it lies as far in as the
/// wanted one in all numbers, give or take the square root of the length; a second guess from there errs by the root of
/// that. A walk from the last one, in steps that double, touches a line or two of cache, where a search of the whole
/// touches a new one at nearly every step.
fn first_at(entries: &[Entry], wanted: u64) -> usize {
    let length = entries.len();
    // A length is below 2^64, so products with 64-bit fractions fit.
    let share_of = |distance: u64| ((u128::from(distance) * length as u128) >> 64) as usize;
    let mut guess = share_of(wanted);
    for _ in 0..GUESSES {
        let Some(there) = entries.get(guess).map(|entry| entry.fingerprint) else { break };
        guess = match wanted.checked_sub(there) {
            Some(above) => guess.saturating_add(share_of(above)).min(length),
            None => guess.saturating_sub(share_of(there - wanted)),
        };
    }
    let below = |index: usize| entries.get(index).is_some_and(|entry| entry.fingerprint < wanted);
    let among = |range: std::ops::Range<usize>| {
        let near = entries.get(range.clone()).unwrap_or_default();
        range.start + near.partition_point(|entry| entry.fingerprint < wanted)
    };
    let mut step = 1;
    while below(guess) {
        let next = guess.saturating_add(step).min(length);
        if !below(next) {
            return among(guess + 1..next);
        }
        (guess, step) = (next, step * 2);
    }
    while guess > 0 {
        let next = guess.saturating_sub(step);
        if below(next) {
            return among(next + 1..guess);
        }
        (guess, step) = (next, step * 2);
    }
    0
}

impl Toc {
    pub fn new() -> Self {
        Self { shape: Shape::Open(BTreeMap::new()) }
    }

    /// The toc of an extent that never changes again, in 16 bytes per record.
    pub fn closed(records: impl ExactSizeIterator<Item = (BlockHash, PutId, Place)>) -> Self {
        let entries = records.map(|(hash, put_id, place)| Entry { fingerprint: fingerprint(&hash, put_id), place });
        let mut entries: Box<[Entry]> = entries.collect();
        entries.sort_unstable_by_key(|entry| (entry.fingerprint, entry.place.offset_units));
        Self { shape: Shape::Closed(entries) }
    }

    /// Adds a record of an open extent.
    pub fn insert(&mut self, hash: &BlockHash, put_id: PutId, place: Place) {
        match &mut self.shape {
            Shape::Open(map) => drop(map.insert((fingerprint(hash, put_id), place.offset_units), place.units)),
            Shape::Closed(_) => panic!("an extent never changes after it is closed"),
        }
    }

    /// Where the record may lie, the latest first. More than one is chance, or the same put once more.
    pub fn candidates(&self, hash: &BlockHash, put_id: PutId) -> SmallVec<[Place; 1]> {
        let wanted = fingerprint(hash, put_id);
        match &self.shape {
            Shape::Open(map) => map
                .range((wanted, 0)..=(wanted, u32::MAX))
                .rev()
                .map(|(&(_, offset_units), &units)| Place { offset_units, units })
                .collect(),
            Shape::Closed(entries) => {
                let first = first_at(entries, wanted);
                let same = entries.iter().skip(first).take_while(|entry| entry.fingerprint == wanted);
                let mut places: SmallVec<[Place; 1]> = same.map(|entry| entry.place).collect();
                places.reverse();
                places
            }
        }
    }

    /// Where every record lies, in no order.
    pub fn places(&self) -> Vec<Place> {
        match &self.shape {
            Shape::Open(map) => map.iter().map(|(&(_, offset_units), &units)| Place { offset_units, units }).collect(),
            Shape::Closed(entries) => entries.iter().map(|entry| entry.place).collect(),
        }
    }

    /// Shrinks to 16 bytes per record; nothing can be added any more.
    pub fn close(&mut self) {
        if let Shape::Open(map) = &mut self.shape {
            let entries = std::mem::take(map)
                .into_iter()
                .map(|((fingerprint, offset_units), units)| Entry { fingerprint, place: Place { offset_units, units } })
                .collect();
            self.shape = Shape::Closed(entries);
        }
    }

    /// Records in it.
    pub fn len(&self) -> usize {
        match &self.shape {
            Shape::Open(map) => map.len(),
            Shape::Closed(entries) => entries.len(),
        }
    }

    /// Heap memory of a closed extent's toc.
    pub fn closed_bytes(&self) -> usize {
        match &self.shape {
            Shape::Open(_) => 0,
            Shape::Closed(entries) => size_of_val::<[Entry]>(entries),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Toc {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> (BlockHash, PutId) {
        let mut hash = [7; 32];
        hash[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        (BlockHash(hash), PutId(number))
    }

    #[test]
    fn every_record_is_found_open_and_closed() {
        let mut toc = Toc::new();
        for number in 0..1000 {
            let (hash, put_id) = key(number);
            toc.insert(&hash, put_id, Place::new(number * 8192, 8192));
        }
        for closed in [false, true] {
            if closed {
                toc.close();
            }
            assert_eq!(toc.len(), 1000);
            for number in 0..1000 {
                let (hash, put_id) = key(number);
                assert_eq!(toc.candidates(&hash, put_id)[..], [Place::new(number * 8192, 8192)]);
            }
            assert!(toc.candidates(&BlockHash([1; 32]), PutId(5)).is_empty());
        }
    }

    #[test]
    fn guesses_that_err_cost_a_walk_and_never_an_answer() {
        let spread = |index: u64| index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let shapes: [&dyn Fn(u64) -> u64; 5] =
            [&spread, &|index| index, &|index| u64::MAX - index, &|_| 7, &|index| spread(index) >> (index % 64)];
        for (shape, length) in shapes.iter().flat_map(|shape| [0, 1, 2, 3, 100, 1000].map(|length| (shape, length))) {
            let place = Place::new(0, 4096);
            let mut entries: Vec<Entry> = (0..length).map(|index| Entry { fingerprint: shape(index), place }).collect();
            entries.sort_unstable_by_key(|entry| entry.fingerprint);
            let held = entries.iter().map(|entry| entry.fingerprint);
            let around = held.flat_map(|at| [at.saturating_sub(1), at, at.saturating_add(1)]);
            for wanted in around.chain([0, 1, u64::MAX / 2, u64::MAX]) {
                let expected = entries.partition_point(|entry| entry.fingerprint < wanted);
                assert_eq!(first_at(&entries, wanted), expected, "{wanted} of {length}");
            }
        }
    }

    #[test]
    fn colliding_fingerprints_yield_every_candidate() {
        let (hash, put_id) = key(3);
        let mut other = hash;
        other.0[31] ^= 1;
        let mut toc = Toc::new();
        toc.insert(&hash, put_id, Place::new(4096, 4096));
        toc.insert(&other, put_id, Place::new(8192, 4096));
        toc.close();
        assert_eq!(toc.candidates(&hash, put_id)[..], [Place::new(8192, 4096), Place::new(4096, 4096)]);
    }
}
