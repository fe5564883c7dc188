//! What a script asked for and what it was promised, by the position in the device's log at which that was so.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shingle_hw::recorder::Log;

use crate::disk::Block;

/// What was asked for, and what was answered, so far.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    pub attempted: BTreeSet<(u128, Block)>,
    /// Acknowledged records, and their offsets within the extent.
    pub stored: BTreeMap<(u128, Block), u64>,
    pub create_attempted: BTreeSet<u128>,
    /// Acknowledged extents, and their slots.
    pub created: BTreeMap<u128, u32>,
    pub close_attempted: BTreeSet<u128>,
    pub closed: BTreeSet<u128>,
    /// Extents that a failure of the device may have ended.
    pub troubled: BTreeSet<u128>,
}

impl Promises {
    /// Whether the extent may be gone: closed without any record, its zones are free to be reused.
    pub fn may_be_gone(&self, extent: u128) -> bool {
        let held = self.attempted.range((extent, Block { number: 0, bytes: 0 })..).next();
        self.close_attempted.contains(&extent) && held.is_none_or(|(other, _)| *other != extent)
    }
}

/// The promises of one life of a disk.
pub struct Ledger {
    log: Log,
    versions: RefCell<Vec<(usize, Arc<Promises>)>>,
}

impl Ledger {
    /// Goes on from what earlier lives promised.
    pub fn new(log: Log, before: Arc<Promises>) -> Self {
        Self { log, versions: RefCell::new(vec![(0, before)]) }
    }

    pub fn now(&self) -> Arc<Promises> {
        self.versions.borrow().last().map(|(_, promises)| promises.clone()).unwrap_or_default()
    }

    pub fn change(&self, change: impl FnOnce(&mut Promises)) {
        let mut promises = (*self.now()).clone();
        change(&mut promises);
        self.versions.borrow_mut().push((self.log.position(), Arc::new(promises)));
    }

    /// All versions, with the position in the log from which on each holds.
    pub fn versions(&self) -> Vec<(usize, Arc<Promises>)> {
        self.versions.borrow().clone()
    }
}
