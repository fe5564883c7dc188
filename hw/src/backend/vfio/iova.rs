//! Addresses as the device sees them: which are taken.
//!
//! Invariant: two ranges handed out never overlap until one is given back.

use std::collections::BTreeMap;
use std::ops::Range;

/// Unit of every range: the pages of the controller and of the IOMMU.
pub(super) const PAGE_BYTES: u64 = 4096;

/// Ranges of this size and more start at a multiple of it, so that the IOMMU can use its large pages.
const LARGE_PAGE_BYTES: u64 = 2 << 20;

/// A range of addresses to take from.
pub(super) struct Addresses {
    /// Start and end of free runs; never adjacent to each other.
    free: BTreeMap<u64, u64>,
}

impl Addresses {
    /// Address 0 is left out: nothing that is wrong by being 0 may reach memory.
    pub(super) fn new(range: Range<u64>) -> Self {
        let start = range.start.max(PAGE_BYTES).next_multiple_of(PAGE_BYTES);
        let end = range.end / PAGE_BYTES * PAGE_BYTES;
        Self { free: (start < end).then_some((start, end)).into_iter().collect() }
    }

    /// The lowest range of `bytes`, rounded up to whole pages, or `None` when there is none.
    pub(super) fn take(&mut self, bytes: u64) -> Option<u64> {
        let bytes = bytes.max(1).checked_next_multiple_of(PAGE_BYTES)?;
        let unit = if bytes >= LARGE_PAGE_BYTES { LARGE_PAGE_BYTES } else { PAGE_BYTES };
        let (start, end, at) = self.free.iter().find_map(|(start, end)| {
            let at = start.checked_next_multiple_of(unit)?;
            (at.checked_add(bytes)? <= *end).then_some((*start, *end, at))
        })?;
        self.free.remove(&start);
        for (start, end) in [(start, at), (at + bytes, end)] {
            if start < end {
                self.free.insert(start, end);
            }
        }
        Some(at)
    }

    pub(super) fn give_back(&mut self, at: u64, bytes: u64) {
        let (mut start, mut end) = (at, at + bytes.max(1).next_multiple_of(PAGE_BYTES));
        let before = self.free.range(..end).next_back().map(|(start, end)| (*start, *end));
        assert!(before.is_none_or(|(_, end)| end <= start), "a range is given back once");
        if let Some((first, last)) = before
            && last == start
        {
            start = first;
        }
        if let Some(last) = self.free.remove(&end) {
            end = last;
        }
        self.free.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_ranges_fill_gaps_and_large_ones_are_aligned() {
        let mut addresses = Addresses::new(0..16 << 20);
        assert_eq!(addresses.take(1), Some(4096), "never address 0");
        assert_eq!(addresses.take(3 << 20), Some(2 << 20));
        assert_eq!(addresses.take(8192), Some(8192));
        assert_eq!(addresses.take(12 << 20), None);
        addresses.give_back(4096, 1);
        assert_eq!(addresses.take(4096), Some(4096));
        assert_eq!(addresses.take(u64::MAX), None);
        assert_eq!(Addresses::new(0..4096).take(1), None);
    }

    proptest! {
        #[test]
        fn ranges_never_overlap_and_everything_comes_back(steps in prop::collection::vec((any::<bool>(), 1u64..5 << 20), 1..200)) {
            let whole = 4096..64 << 20;
            let mut addresses = Addresses::new(whole.clone());
            let mut held: Vec<(u64, u64)> = Vec::new();
            for (take, bytes) in steps {
                if take {
                    if let Some(at) = addresses.take(bytes) {
                        let end = at + bytes.next_multiple_of(PAGE_BYTES);
                        prop_assert!(whole.contains(&at) && end <= whole.end);
                        prop_assert!(held.iter().all(|(other, bytes)| other + bytes.next_multiple_of(PAGE_BYTES) <= at || end <= *other));
                        held.push((at, bytes));
                    }
                } else if !held.is_empty() {
                    let (at, bytes) = held.swap_remove(bytes as usize % held.len());
                    addresses.give_back(at, bytes);
                }
            }
            for (at, bytes) in held.drain(..) {
                addresses.give_back(at, bytes);
            }
            prop_assert_eq!(addresses.free, BTreeMap::from([(whole.start, whole.end)]));
        }
    }
}
