//! The findings a control process knows: pure, bounded, one entry for one damaged thing.
//!
//! Invariants: an open finding is never dropped for another one, nor one disk's for another disk's. What finds no room is
//! counted and told by the next scrub again. What is not yet in the store is in `unsaved`.

use std::collections::{BTreeMap, BTreeSet};

use shingle_proto::ids::OsdId;
use shingle_proto::limits::{FINDING_SAVE_MS, FINDINGS_KEPT_MAX, FINDINGS_OSD_MAX};
use shingle_proto::message::{self, FindingCount, FindingKind, FindingRecord, FindingState};

use crate::tables::findings::{Finding, FindingKey};

/// A row to be written, or to be removed.
pub type Change = (FindingKey, Option<Finding>);

#[derive(Debug)]
struct Entry {
    row: Finding,
    /// Its `last_ms` in the store.
    saved_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Book {
    entries: BTreeMap<FindingKey, Entry>,
    by_id: BTreeMap<u64, FindingKey>,
    of_osd: BTreeMap<OsdId, usize>,
    unsaved: BTreeSet<FindingKey>,
    /// Found since the start, and no room for them.
    not_kept: u64,
}

impl Book {
    /// Takes over a row of the store.
    pub fn load(&mut self, key: FindingKey, row: Finding) {
        let saved_ms = row.last_ms;
        self.insert(key, Entry { row, saved_ms });
    }

    /// Takes over something found. The same damage again only counts, and is written at most every `FINDING_SAVE_MS`.
    pub fn take(&mut self, finding: &message::Finding, now_ms: u64) {
        let (key, detail) = FindingKey::of(finding);
        if let Some(Entry { row, saved_ms }) = self.entries.get_mut(&key) {
            (row.last_ms, row.count) = (row.last_ms.max(now_ms), row.count.saturating_add(1));
            let again = row.state != FindingState::Open;
            if again {
                (row.state, row.ended_ms) = (FindingState::Open, 0);
            }
            if again || row.last_ms.saturating_sub(*saved_ms) >= FINDING_SAVE_MS {
                self.unsaved.insert(key);
            }
            return;
        }
        let FindingKey { osd, extent, kind, .. } = &key;
        if !self.make_room(*osd) {
            if self.not_kept == 0 {
                tracing::error!(?kind, %osd, %extent, "there is no room for a finding, nor for further ones: {detail}");
            }
            self.not_kept += 1;
            return;
        }
        tracing::error!(?kind, %osd, %extent, what = ?key.what, "finding: {detail}");
        let id = self.by_id.last_key_value().map_or(1, |(id, _)| id + 1);
        let row = Finding::new(&key, id, now_ms, detail);
        self.unsaved.insert(key.clone());
        self.insert(key, Entry { row, saved_ms: 0 });
    }

    fn insert(&mut self, key: FindingKey, entry: Entry) {
        self.by_id.insert(entry.row.id, key.clone());
        *self.of_osd.entry(key.osd).or_default() += 1;
        self.entries.insert(key, entry);
    }

    /// Whether one more finding of a disk may be kept; the oldest one that has ended goes for it.
    fn make_room(&mut self, osd: OsdId) -> bool {
        let crowded = self.of_osd.get(&osd).is_some_and(|count| *count >= FINDINGS_OSD_MAX);
        if !crowded && self.entries.len() < FINDINGS_KEPT_MAX {
            return true;
        }
        let ended = |key: &&FindingKey| {
            let over = self.entries.get(*key).is_some_and(|entry| entry.row.state != FindingState::Open);
            over && (!crowded || key.osd == osd)
        };
        let Some(key) = self.by_id.values().find(ended).cloned() else { return false };
        self.forget(&key);
        true
    }

    fn forget(&mut self, key: &FindingKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_id.remove(&entry.row.id);
            if let Some(count) = self.of_osd.get_mut(&key.osd) {
                *count -= 1;
            }
            self.of_osd.retain(|_, count| *count > 0);
            self.unsaved.insert(key.clone());
        }
    }

    /// Up to `limit` changes that the store does not have.
    pub fn unsaved(&self, limit: usize) -> Vec<Change> {
        let current = |key: &FindingKey| (key.clone(), self.entries.get(key).map(|entry| entry.row.clone()));
        self.unsaved.iter().take(limit).map(current).collect()
    }

    /// The store has them.
    pub fn saved(&mut self, changes: &[Change]) {
        for (key, row) in changes {
            match (self.entries.get_mut(key), row) {
                (Some(entry), Some(row)) => {
                    entry.saved_ms = row.last_ms;
                    if entry.row.state == row.state && entry.row.id == row.id {
                        self.unsaved.remove(key);
                    }
                }
                (None, None) => drop(self.unsaved.remove(key)),
                // Gone or come back meanwhile: that is the next change.
                _ => {}
            }
        }
    }

    /// All that were found, those that found no room since the start included.
    pub fn count(&self) -> u64 {
        self.entries.len() as u64 + self.not_kept
    }

    /// Those of them that have not come to an end.
    pub fn open(&self) -> u64 {
        let open = self.entries.values().filter(|entry| entry.row.state == FindingState::Open).count();
        open as u64 + self.not_kept
    }

    /// Those that are kept, by kind.
    pub fn counts(&self) -> Vec<FindingCount> {
        let mut counts: BTreeMap<FindingKind, FindingCount> = BTreeMap::new();
        for (key, entry) in &self.entries {
            let count = counts.entry(key.kind).or_insert(FindingCount { kind: key.kind, open: 0, total: 0 });
            count.total += 1;
            count.open += u64::from(entry.row.state == FindingState::Open);
        }
        counts.into_values().collect()
    }

    /// The newest ones, newest last.
    pub fn newest(&self, limit: usize) -> Vec<FindingRecord> {
        let mut records: Vec<_> = self.by_id.values().rev().filter_map(|key| self.record(key)).take(limit).collect();
        records.reverse();
        records
    }

    /// Those behind an id, and whether there are no more.
    pub fn after(&self, id: u64, limit: usize) -> (Vec<FindingRecord>, bool) {
        let behind = id.saturating_add(1)..;
        let mut keys = self.by_id.range(behind).map(|(_, key)| key);
        let records = keys.by_ref().take(limit).filter_map(|key| self.record(key)).collect();
        (records, keys.next().is_none())
    }

    fn record(&self, key: &FindingKey) -> Option<FindingRecord> {
        self.entries.get(key).map(|entry| entry.row.to_message(key))
    }
}

#[cfg(test)]
mod tests {
    use shingle_proto::message::Hash256;

    use super::*;

    fn finding(osd: u64, put_id: u64) -> message::Finding {
        let hash = Some(Hash256 { bytes: [9; 32] });
        message::Finding { osd, hash, put_id, detail: "payload checksum".into(), ..message::Finding::default() }
    }

    fn save(book: &mut Book) -> Vec<Change> {
        let changes = book.unsaved(usize::MAX);
        book.saved(&changes);
        assert!(book.unsaved(1).is_empty());
        changes
    }

    #[test]
    fn the_same_damage_counts_and_is_written_once_in_a_while() {
        let mut book = Book::default();
        book.take(&finding(1, 1), 1_000);
        assert_eq!(save(&mut book).len(), 1);
        (0..5).for_each(|times| book.take(&finding(1, 1), 2_000 + times));
        assert!(book.unsaved(1).is_empty(), "seconds later it is not worth a transaction");
        book.take(&finding(1, 1), 1_000 + FINDING_SAVE_MS);
        let changes = save(&mut book);
        let row = changes[0].1.as_ref().unwrap();
        assert_eq!((changes.len(), row.count, row.found_ms), (1, 7, 1_000));
        assert_eq!((row.last_ms, book.count(), book.open()), (1_000 + FINDING_SAVE_MS, 1, 1));
    }

    #[test]
    fn what_ended_and_is_found_again_is_open_again() {
        let mut book = Book::default();
        let (key, detail) = FindingKey::of(&finding(1, 1));
        let row = Finding::new(&key, 1, 5, detail);
        book.load(key, Finding { state: FindingState::Repaired, ended_ms: 9, ..row });
        assert_eq!((book.count(), book.open()), (1, 0));
        book.take(&finding(1, 1), 10);
        let changes = save(&mut book);
        let row = changes[0].1.as_ref().unwrap();
        assert_eq!((row.state, row.ended_ms, row.count), (FindingState::Open, 0, 2));
    }

    #[test]
    fn a_disk_that_is_all_damage_leaves_room_for_others_and_what_is_open_stays() {
        let mut book = Book::default();
        let many = FINDINGS_OSD_MAX as u64 + 10;
        (0..many).for_each(|put_id| book.take(&finding(1, put_id), 1));
        book.take(&finding(2, 1), 2);
        assert_eq!(book.entries.len(), FINDINGS_OSD_MAX + 1);
        assert_eq!((book.count(), book.open()), (many + 1, many + 1), "what found no room counts");
        let (first, _) = book.after(0, 1);
        assert_eq!(first[0].finding.put_id, 0, "the oldest open one is still there");
    }

    #[test]
    fn an_ended_one_goes_when_there_is_no_room() {
        let mut book = Book::default();
        for id in 1..=FINDINGS_OSD_MAX as u64 {
            let (key, detail) = FindingKey::of(&finding(1, id));
            let state = if id == 3 { FindingState::Repaired } else { FindingState::Open };
            let row = Finding::new(&key, id, 1, detail);
            book.load(key, Finding { state, ..row });
        }
        book.take(&finding(1, 99_999), 2);
        let changes = save(&mut book);
        let removed: Vec<_> = changes.iter().filter(|(_, row)| row.is_none()).map(|(key, _)| key.clone()).collect();
        assert_eq!(removed, [FindingKey::of(&finding(1, 3)).0]);
        assert_eq!((book.entries.len(), book.not_kept), (FINDINGS_OSD_MAX, 0));
    }

    #[test]
    fn lists_are_in_the_order_of_finding() {
        let mut book = Book::default();
        (1..=10).for_each(|put_id| book.take(&finding(20 - put_id, put_id), put_id));
        let put_ids =
            |records: &[FindingRecord]| records.iter().map(|record| record.finding.put_id).collect::<Vec<_>>();
        assert_eq!(put_ids(&book.newest(3)), [8, 9, 10]);
        let (page, end) = book.after(0, 6);
        assert_eq!((put_ids(&page), end), ((1..=6).collect(), false));
        let (page, end) = book.after(page.last().unwrap().id, 6);
        assert_eq!((put_ids(&page), end), ((7..=10).collect(), true));
        let counts = book.counts();
        assert_eq!((counts.len(), counts[0].open, counts[0].total), (1, 10, 10));
    }

    #[test]
    fn a_row_that_changes_while_it_is_written_is_written_again() {
        let mut book = Book::default();
        book.take(&finding(1, 1), 1);
        let changes = book.unsaved(10);
        let key = changes[0].0.clone();
        book.entries.get_mut(&key).unwrap().row.state = FindingState::Repaired;
        book.saved(&changes);
        assert_eq!(book.unsaved(10).len(), 1);
        book.forget(&key);
        book.saved(&changes);
        assert_eq!(book.unsaved(10), [(key, None)]);
    }
}
