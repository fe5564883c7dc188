//! Optimistic conflict detection: may this transaction commit after those that committed since it read?
//!
//! Pure: it is told the time and touches nothing. It remembers which keys were written at which version for
//! `TRANSACTION_LIFE_MS`; a transaction that read before that is too old to be judged and must run again.
//! Invariant: a transaction is admitted only if no key or range it read was written after the version it read at.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use shingle_proto::limits::{STORE_CONFLICT_KEYS_MAX, TRANSACTION_LIFE_MS};
use shingle_seam::clock::Monotonic;

use super::StoreError;

/// The order of commits; every commit that writes gets the next one. Starts at zero with every start of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(pub u64);

/// What a transaction read and must find unchanged.
#[derive(Clone, Debug, Default)]
pub struct ReadSet {
    pub keys: BTreeSet<Vec<u8>>,
    /// `begin <= key < end`.
    pub ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

impl ReadSet {
    /// Bytes of all its keys and bounds.
    pub fn bytes(&self) -> usize {
        let keys: usize = self.keys.iter().map(Vec::len).sum();
        let ranges: usize = self.ranges.iter().map(|(begin, end)| begin.len() + end.len()).sum();
        keys + ranges
    }
}

/// A commit of the recent past.
struct Past {
    version: Version,
    at: Monotonic,
    keys: Vec<Arc<[u8]>>,
}

/// The memory of recent commits.
#[derive(Default)]
pub struct Resolver {
    last_write: BTreeMap<Arc<[u8]>, Version>,
    past: VecDeque<Past>,
    past_keys: usize,
    /// Commits up to this one are forgotten: who read before it cannot be judged.
    floor: Version,
    last: Version,
}

impl Resolver {
    /// The version of the last admitted commit.
    pub fn last(&self) -> Version {
        self.last
    }

    /// Commits up to this version are forgotten.
    pub fn floor(&self) -> Version {
        self.floor
    }

    /// Whether a transaction that read `reads` at `read_version` may commit now.
    pub fn check(&self, read_version: Version, reads: &ReadSet, age_ms: u64) -> Result<(), StoreError> {
        if read_version < self.floor {
            return Err(StoreError::TooOld { age_ms });
        }
        let newer = |version: &Version| *version > read_version;
        let key_changed = reads.keys.iter().any(|key| self.last_write.get(key.as_slice()).is_some_and(newer));
        let range_changed = || reads.ranges.iter().any(|(begin, end)| self.written_in(begin, end).any(newer));
        if key_changed || range_changed() { Err(StoreError::Conflict) } else { Ok(()) }
    }

    /// Remembers a commit that was admitted and gives it its version.
    pub fn record<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>, now: Monotonic) -> Version {
        self.last = Version(self.last.0 + 1);
        let keys: Vec<Arc<[u8]>> = keys.map(Arc::from).collect();
        for key in &keys {
            self.last_write.insert(key.clone(), self.last);
        }
        self.past_keys += keys.len();
        self.past.push_back(Past { version: self.last, at: now, keys });
        self.last
    }

    /// Forgets commits older than a transaction's life, and older ones still when there are too many keys. Gives
    /// back their keys, for stores that keep old values as long as somebody may read them.
    pub fn forget(&mut self, now: Monotonic) -> Vec<Arc<[u8]>> {
        let life = Duration::from_millis(TRANSACTION_LIFE_MS);
        let mut forgotten = Vec::new();
        while let Some(past) = self.past.front() {
            if now - past.at <= life && self.past_keys <= STORE_CONFLICT_KEYS_MAX {
                break;
            }
            let Some(past) = self.past.pop_front() else { break };
            self.floor = past.version;
            self.past_keys -= past.keys.len();
            for key in &past.keys {
                if self.last_write.get(key) == Some(&past.version) {
                    self.last_write.remove(key);
                }
            }
            forgotten.extend(past.keys);
        }
        forgotten
    }

    fn written_in<'a>(&'a self, begin: &'a [u8], end: &'a [u8]) -> impl Iterator<Item = &'a Version> {
        let bounds = (Bound::Included(begin), if begin < end { Bound::Excluded(end) } else { Bound::Included(begin) });
        let empty = begin >= end;
        self.last_write.range::<[u8], _>(bounds).map(|(_, version)| version).filter(move |_| !empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Monotonic = Monotonic(0);

    fn keys(keys: &[&[u8]]) -> ReadSet {
        ReadSet { keys: keys.iter().map(|key| key.to_vec()).collect(), ranges: Vec::new() }
    }

    fn range(begin: &[u8], end: &[u8]) -> ReadSet {
        ReadSet { keys: BTreeSet::new(), ranges: vec![(begin.to_vec(), end.to_vec())] }
    }

    fn wrote(resolver: &mut Resolver, key: &[u8], now: Monotonic) -> Version {
        resolver.record([key].into_iter(), now)
    }

    #[test]
    fn a_key_written_after_it_was_read_conflicts_and_before_does_not() {
        let mut resolver = Resolver::default();
        let before = resolver.last();
        let after = wrote(&mut resolver, b"k", START);
        assert_eq!(resolver.check(before, &keys(&[b"a", b"k"]), 0), Err(StoreError::Conflict));
        assert_eq!(resolver.check(after, &keys(&[b"k"]), 0), Ok(()));
        assert_eq!(resolver.check(before, &keys(&[b"kk"]), 0), Ok(()));
    }

    #[test]
    fn a_range_conflicts_with_keys_inside_it_only() {
        let mut resolver = Resolver::default();
        let before = resolver.last();
        wrote(&mut resolver, b"k", START);
        assert_eq!(resolver.check(before, &range(b"a", b"z"), 0), Err(StoreError::Conflict));
        assert_eq!(resolver.check(before, &range(b"k", b"k\0"), 0), Err(StoreError::Conflict));
        assert_eq!(resolver.check(before, &range(b"a", b"k"), 0), Ok(()), "the end is not part of the range");
        assert_eq!(resolver.check(before, &range(b"k\0", b"z"), 0), Ok(()));
        assert_eq!(resolver.check(before, &range(b"z", b"a"), 0), Ok(()), "an inverted range holds nothing");
        assert_eq!(resolver.check(before, &range(b"k", b"k"), 0), Ok(()), "an empty range holds nothing");
    }

    #[test]
    fn who_read_before_the_window_is_too_old() {
        let mut resolver = Resolver::default();
        let before = resolver.last();
        let first = wrote(&mut resolver, b"k", START);
        wrote(&mut resolver, b"k", START + Duration::from_millis(TRANSACTION_LIFE_MS));
        let forgotten = resolver.forget(START + Duration::from_millis(TRANSACTION_LIFE_MS + 1));
        assert_eq!(forgotten.len(), 1);
        assert_eq!(resolver.check(before, &keys(&[b"other"]), 7), Err(StoreError::TooOld { age_ms: 7 }));
        assert_eq!(resolver.check(first, &keys(&[b"k"]), 7), Err(StoreError::Conflict), "the later write is known");
    }

    #[test]
    fn the_window_is_bounded_in_keys_too() {
        let mut resolver = Resolver::default();
        let batch: Vec<Vec<u8>> = (0..1000u32).map(|key| key.to_be_bytes().to_vec()).collect();
        for _ in 0..STORE_CONFLICT_KEYS_MAX / 1000 + 2 {
            resolver.record(batch.iter().map(Vec::as_slice), START);
            resolver.forget(START);
        }
        assert!(resolver.past_keys <= STORE_CONFLICT_KEYS_MAX);
        assert!(resolver.floor() > Version(0));
        assert_eq!(resolver.last_write.len(), 1000, "the newest version of every key is remembered");
    }
}
