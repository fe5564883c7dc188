//! Counters of the tables: what the cell's status shows. Scanned once at start, then kept in memory with what each
//! committed transaction added or took away, so that no transaction conflicts on a hot row.

use std::ops::{AddAssign, SubAssign};

/// Counts, or a change of counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Live objects and the sum of their sizes.
    pub objects: i64,
    pub logical_bytes: i64,
    /// Bytes of all blocks that manifests name, finished or not, also of those that reclaim has not taken apart yet.
    pub manifest_bytes: i64,
    /// Block Index rows: unique blocks, their plain and their sealed bytes (of one copy).
    pub blocks: i64,
    pub block_plain_bytes: i64,
    pub block_sealed_bytes: i64,
    pub references: i64,
    /// Intents not yet finished, aborted or taken over.
    pub intents: i64,
    /// Manifests and uploads that wait for reclaim.
    pub reclaim_queue: i64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.objects += other.objects;
        self.logical_bytes += other.logical_bytes;
        self.manifest_bytes += other.manifest_bytes;
        self.blocks += other.blocks;
        self.block_plain_bytes += other.block_plain_bytes;
        self.block_sealed_bytes += other.block_sealed_bytes;
        self.references += other.references;
        self.intents += other.intents;
        self.reclaim_queue += other.reclaim_queue;
    }
}

impl SubAssign for Tally {
    fn sub_assign(&mut self, other: Self) {
        self.objects -= other.objects;
        self.logical_bytes -= other.logical_bytes;
        self.manifest_bytes -= other.manifest_bytes;
        self.blocks -= other.blocks;
        self.block_plain_bytes -= other.block_plain_bytes;
        self.block_sealed_bytes -= other.block_sealed_bytes;
        self.references -= other.references;
        self.intents -= other.intents;
        self.reclaim_queue -= other.reclaim_queue;
    }
}
