//! The zone table in memory: what the file holds of it, and what the next flush must write.
//!
//! Invariants: the page on disk is never overwritten in place, the other copy is; a page claims bytes as settled only
//! when a flush that covered them has ended. Flushes follow each other, at most one is between `begin_flush` and
//! `end_flush`.

use std::collections::{BTreeMap, BTreeSet};

use super::format::{self, Entry, Kept, Layout, PAGE_BYTES, PAGE_ZONES, Stamp};
use crate::buffer::Buffer;
use crate::crc::crc32c_joined;
use crate::geometry::Geometry;
use crate::zone::{ZoneCondition, ZoneId};
use crate::zone_state::ZoneStates;

/// The table of one device.
pub(super) struct Table {
    layout: Layout,
    zones: u32,
    conventional_zones: u32,
    /// Which copy of each page is the newer one on disk.
    newest_copy: Vec<u8>,
    /// Pages whose zones changed since they were written.
    dirty: BTreeSet<u32>,
    /// Pages on disk with tails: right, but to be checked when the device is opened.
    unsettled: BTreeSet<u32>,
    /// Bytes of each zone that an ended flush covers.
    settled_bytes: Vec<u64>,
    /// CRC32C of what was appended since the latest flush began, of zones where there is some.
    tails: BTreeMap<ZoneId, u32>,
    /// What the running flush settles when it ends.
    settling: BTreeMap<ZoneId, u64>,
    sequence: u64,
    completed: u64,
}

/// A run of pages to be written.
pub(super) struct PageWrite {
    pub(super) offset: u64,
    pub(super) buffer: Buffer,
    pub(super) bytes: usize,
}

impl Table {
    /// A table as read from the disk: per page the newer copy, per zone the bytes believed.
    pub(super) fn new(geometry: &Geometry, newest_copy: Vec<u8>, settled_bytes: Vec<u64>, stamp: Stamp) -> Self {
        Self {
            layout: Layout::of(geometry),
            zones: geometry.zones,
            conventional_zones: geometry.conventional_zones,
            newest_copy,
            dirty: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            settled_bytes,
            tails: BTreeMap::new(),
            settling: BTreeMap::new(),
            sequence: stamp.sequence,
            completed: stamp.completed,
        }
    }

    /// Bytes were appended to a zone; `crc` is theirs.
    pub(super) fn appended(&mut self, zone: ZoneId, crc: u32, bytes: u64) {
        let joined = self.tails.get(&zone).map_or(crc, |tail| crc32c_joined(*tail, crc, bytes));
        self.tails.insert(zone, joined);
        self.changed(zone);
    }

    /// A zone's condition changed.
    pub(super) fn changed(&mut self, zone: ZoneId) {
        self.dirty.insert(page_of(zone));
    }

    /// A zone lost its bytes.
    pub(super) fn reset(&mut self, zone: ZoneId) {
        self.tails.remove(&zone);
        self.settling.remove(&zone);
        if let Some(settled) = self.settled_bytes.get_mut(zone.0 as usize) {
            *settled = 0;
        }
        self.changed(zone);
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Makes the next flush write pages with tails once more, without them.
    pub(super) fn settle(&mut self) {
        self.dirty.append(&mut self.unsettled);
    }

    /// Starts a flush: the pages to write, in runs. Without changed pages there are none.
    pub(super) fn begin_flush(&mut self, states: &ZoneStates) -> Vec<PageWrite> {
        self.sequence += 1;
        let stamp = Stamp { sequence: self.sequence, completed: self.completed };
        let tails = std::mem::take(&mut self.tails);
        let mut writes: Vec<PageWrite> = Vec::new();
        for run in runs(&std::mem::take(&mut self.dirty), |page| self.next_copy(page)) {
            let bytes = run.len() * PAGE_BYTES;
            let mut buffer = Buffer::new_unpooled(bytes);
            let offset = self.layout.page_offset(run.start, self.next_copy(run.start));
            for (page, out) in run.zip(buffer.chunks_exact_mut(PAGE_BYTES)) {
                let entries = self.entries(page, states, &tails);
                format::encode_page(out, page, stamp, &entries);
                let tailed = entries.iter().any(|entry| entry.settled_bytes < entry.written_bytes);
                if tailed {
                    self.unsettled.insert(page)
                } else {
                    self.unsettled.remove(&page)
                };
                if let Some(copy) = self.newest_copy.get_mut(page as usize) {
                    *copy = 1 - *copy;
                }
            }
            writes.push(PageWrite { offset, buffer, bytes });
        }
        self.settling = tails.into_keys().map(|zone| (zone, states.written_bytes(zone))).collect();
        writes
    }

    /// The flush ended well: what it covered is settled.
    pub(super) fn end_flush(&mut self) {
        self.completed = self.sequence;
        for (zone, bytes) in std::mem::take(&mut self.settling) {
            if let Some(settled) = self.settled_bytes.get_mut(zone.0 as usize) {
                *settled = bytes;
            }
        }
    }

    fn next_copy(&self, page: u32) -> u8 {
        1 - self.newest_copy.get(page as usize).copied().unwrap_or(1)
    }

    fn entries(&self, page: u32, states: &ZoneStates, tails: &BTreeMap<ZoneId, u32>) -> Vec<Entry> {
        let first = page * PAGE_ZONES as u32;
        let end = first.saturating_add(PAGE_ZONES as u32).min(self.zones);
        (first..end).map(|zone| self.entry(ZoneId(zone), states, tails)).collect()
    }

    fn entry(&self, zone: ZoneId, states: &ZoneStates, tails: &BTreeMap<ZoneId, u32>) -> Entry {
        let written_bytes = states.written_bytes(zone);
        let full = states.zone(zone).is_some_and(|zone| zone.condition == ZoneCondition::Full);
        let kept = match written_bytes {
            _ if zone.0 < self.conventional_zones => Kept::Conventional,
            _ if full => Kept::Full,
            0 => Kept::Empty,
            _ => Kept::Closed,
        };
        match tails.get(&zone) {
            Some(tail_crc) => {
                let settled_bytes = self.settled_bytes.get(zone.0 as usize).copied().unwrap_or(0);
                Entry { kept, settled_bytes, written_bytes, tail_crc: *tail_crc }
            }
            None => Entry { kept, settled_bytes: written_bytes, written_bytes, tail_crc: 0 },
        }
    }
}

/// The page that describes a zone.
fn page_of(zone: ZoneId) -> u32 {
    zone.0 / PAGE_ZONES as u32
}

/// Neighbouring pages whose next copies are neighbours in the file too.
fn runs(pages: &BTreeSet<u32>, copy: impl Fn(u32) -> u8) -> Vec<std::ops::Range<u32>> {
    let mut runs: Vec<std::ops::Range<u32>> = Vec::new();
    for page in pages.iter().copied() {
        match runs.last_mut() {
            Some(run) if run.end == page && copy(run.start) == copy(page) => run.end += 1,
            _ => runs.push(page..page + 1),
        }
    }
    runs
}
