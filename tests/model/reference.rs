//! The reference model: what an OSD is, when nothing of how it works is left.

use std::collections::BTreeMap;

use crate::disk::Block;

/// One extent: records that are there for sure, and where.
#[derive(Clone, Debug, Default)]
pub struct Extent {
    pub closed: bool,
    /// The highest generation named since the disk was mounted.
    pub generation: u64,
    pub records: BTreeMap<Block, u64>,
}

/// All extents of one disk.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    pub extents: BTreeMap<u128, Extent>,
}

/// What may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Done,
    Unknown,
    Closed,
    Stale,
    Absent,
}

impl Reference {
    /// Creating an extent: the same again is fine while it is open. One that was closed without a record may have been
    /// given back, and is new then.
    pub fn create(&self, extent: u128) -> &'static [Expected] {
        match self.extents.get(&extent) {
            Some(found) if found.closed && found.records.is_empty() => &[Expected::Closed, Expected::Done],
            Some(found) if found.closed => &[Expected::Closed],
            _ => &[Expected::Done],
        }
    }

    /// Appending: the first reason against it counts. The same record again is done already.
    pub fn append(&self, extent: u128, generation: u64) -> &'static [Expected] {
        self.answer(extent, generation, |found| if found.closed { Expected::Closed } else { Expected::Done })
    }

    pub fn read(&self, extent: u128, block: Block, generation: u64) -> &'static [Expected] {
        self.answer(extent, generation, |found| match found.records.contains_key(&block) {
            true => Expected::Done,
            false => Expected::Absent,
        })
    }

    pub fn close(&self, extent: u128, generation: u64) -> &'static [Expected] {
        self.answer(extent, generation, |_| Expected::Done)
    }

    fn answer(&self, extent: u128, generation: u64, sound: impl Fn(&Extent) -> Expected) -> &'static [Expected] {
        let Some(found) = self.extents.get(&extent) else { return &[Expected::Unknown] };
        let stale = generation != 0 && generation < found.generation;
        let may_be_gone = found.closed && found.records.is_empty();
        match (may_be_gone, sound(found)) {
            (true, Expected::Closed) => &[Expected::Closed, Expected::Unknown],
            (true, _) if stale => &[Expected::Stale, Expected::Unknown],
            (true, Expected::Absent) => &[Expected::Absent, Expected::Unknown],
            (true, _) => &[Expected::Done, Expected::Unknown],
            (false, Expected::Closed) => &[Expected::Closed],
            (false, _) if stale => &[Expected::Stale],
            (false, Expected::Absent) => &[Expected::Absent],
            (false, _) => &[Expected::Done],
        }
    }

    /// What was not refused as closed or unknown has told the extent its generation.
    pub fn saw(&mut self, extent: u128, generation: u64) {
        if let Some(found) = self.extents.get_mut(&extent) {
            found.generation = found.generation.max(generation);
        }
    }

    /// Generations live in memory.
    pub fn restarted(&mut self) {
        self.extents.values_mut().for_each(|extent| extent.generation = 0);
    }
}
