//! Which 4 KiB pages of an arena are in use: a bitmap with a first-fit search.
//!
//! Invariant: a run handed out overlaps no other run until it is given back. First fit keeps the high end of an arena
//! untouched, which is what lets an idle process give memory back.

use std::ops::Range;

/// A bitmap of pages, 1 is used.
pub(super) struct Pages {
    words: Vec<u64>,
    pages: usize,
    used: usize,
    /// No page before this one is free.
    first_free: usize,
}

impl Pages {
    pub(super) fn new(pages: usize) -> Self {
        Self { words: vec![0; pages.div_ceil(64)], pages, used: 0, first_free: 0 }
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Takes the lowest free run of `count` pages.
    pub(super) fn take(&mut self, count: usize) -> Option<usize> {
        if count == 0 || count > self.pages - self.used {
            return None;
        }
        let mut at = self.next(self.first_free..self.pages, false)?;
        self.first_free = at;
        while at + count <= self.pages {
            match self.next(at..at + count, true) {
                None => {
                    self.set(at..at + count, true);
                    return Some(at);
                }
                Some(used) => at = self.next(used..self.pages, false)?,
            }
        }
        None
    }

    pub(super) fn give_back(&mut self, run: Range<usize>) {
        self.first_free = self.first_free.min(run.start);
        self.set(run, false);
    }

    /// Whether no page of `run` is in use.
    pub(super) fn all_free(&self, run: Range<usize>) -> bool {
        self.next(run.start..run.end.min(self.pages), true).is_none()
    }

    /// The first page of `among` whose state is `used`. It looks no further: a search that went on to the end of what is
    /// free would cost more the larger the arena is.
    fn next(&self, among: Range<usize>, used: bool) -> Option<usize> {
        let mut at = among.start;
        while at < among.end {
            let word = self.words.get(at / 64).copied()?;
            let candidates = (if used { word } else { !word }) >> (at % 64);
            if candidates != 0 {
                let found = at + candidates.trailing_zeros() as usize;
                return (found < among.end).then_some(found);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }

    fn set(&mut self, run: Range<usize>, used: bool) {
        assert!(run.end <= self.pages, "a run of pages lies inside its arena");
        let count = run.len();
        for page in run {
            let (word, bit) = (&mut self.words[page / 64], 1 << (page % 64));
            assert!((*word & bit != 0) != used, "a page changes hands only between free and used");
            *word ^= bit;
        }
        self.used = if used { self.used + count } else { self.used - count };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lowest_run_that_fits_is_taken() {
        let mut pages = Pages::new(130);
        assert_eq!(pages.take(64), Some(0));
        assert_eq!(pages.take(64), Some(64));
        assert_eq!(pages.take(3), None);
        assert_eq!(pages.take(2), Some(128));
        pages.give_back(10..20);
        pages.give_back(62..70);
        assert_eq!(pages.take(9), Some(10));
        assert_eq!(pages.take(8), Some(62));
        assert_eq!(pages.take(2), None);
        assert_eq!(pages.take(1), Some(19));
        assert_eq!(pages.used(), 130);
    }

    proptest! {
        #[test]
        fn runs_never_overlap_and_everything_comes_back(steps in prop::collection::vec((any::<bool>(), 1usize..40), 1..200)) {
            let mut pages = Pages::new(300);
            let mut held: Vec<Range<usize>> = Vec::new();
            for (take, size) in steps {
                if take {
                    if let Some(start) = pages.take(size) {
                        let run = start..start + size;
                        prop_assert!(held.iter().all(|other| other.end <= run.start || run.end <= other.start));
                        held.push(run);
                    }
                } else if !held.is_empty() {
                    pages.give_back(held.swap_remove(size % held.len()));
                }
                prop_assert_eq!(pages.used(), held.iter().map(Range::len).sum::<usize>());
            }
            for run in held.drain(..) {
                pages.give_back(run);
            }
            prop_assert_eq!(pages.take(300), Some(0));
        }

        #[test]
        fn the_lowest_run_that_fits_is_taken_whatever_is_used(
            used in prop::collection::btree_set(0usize..200, 0..120),
            count in 1usize..80,
        ) {
            let mut pages = Pages::new(200);
            prop_assert_eq!(pages.take(200), Some(0));
            (0..200).filter(|page| !used.contains(page)).for_each(|page| pages.give_back(page..page + 1));
            let lowest = (0..=200 - count).find(|start| used.range(*start..start + count).next().is_none());
            prop_assert_eq!(pages.take(count), lowest);
        }
    }
}
