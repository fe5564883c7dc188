//! A cell on real devices that loses processes while files are copied into it, and what has to be there afterwards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use shingle_seam::entropy::{Entropy, SystemEntropy};

use crate::cell::{Cell, Copied, logs};
use crate::files;

/// Files of one copy, during which the kill comes.
const FILES: u64 = 16;
/// Files acknowledged before it, at most.
const FILES_BEFORE_MAX: u64 = 8;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// A host, while everybody else goes on.
    Host(u32),
    /// Every process at once.
    All,
}

/// The cell and what it has acknowledged.
pub struct Killing {
    folder: PathBuf,
    devices: Vec<PathBuf>,
    cell: Cell,
    stored: BTreeSet<u64>,
}

impl Killing {
    /// A cell with a host, and a copy of every block, on each of the devices.
    pub fn start(folder: &str, devices: &[PathBuf]) -> Self {
        let (folder, devices) = (PathBuf::from(folder), devices.to_vec());
        let cell = Cell::start(&folder, devices.len(), &devices);
        Self { folder, devices, cell, stored: BTreeSet::new() }
    }

    /// `kill -9` at some moment of a copy, and the same again. Kills are numbered, and so are the files of each.
    pub fn kill(&mut self, kill: u64, victim: Victim) {
        let since = Instant::now();
        self.cell.wait_until_writable();
        files::make(Path::new("/tmp/new"), kill * FILES..(kill + 1) * FILES);
        let when = 1 + (SystemEntropy.u64() % FILES_BEFORE_MAX) as usize;
        let mut copy = self.cell.start_copy("/tmp/new", "sh://kills/");
        let acknowledged = |copied: Copied| copied.done.then(|| files::number(&copied.name));
        let before: Vec<u64> = copy.by_ref().take(when).filter_map(acknowledged).collect();
        match victim {
            Victim::Host(number) => self.cell.restart_host(number),
            Victim::All => {
                self.cell.end();
                copy.end();
                self.cell = Cell::start(&self.folder, self.devices.len(), &self.devices);
            }
        }
        let after = copy.filter_map(acknowledged).collect::<Vec<u64>>();
        println!(
            "kill {kill}, {victim:?}: {} files acknowledged before, {} after it, {:?}",
            before.len(),
            after.len(),
            since.elapsed()
        );
        self.stored.extend(before.into_iter().chain(after));
    }

    /// Everything acknowledged is there: now, and in a cell started anew on the devices by these names.
    pub fn all_is_there(&mut self, devices: impl FnOnce() -> Vec<PathBuf>) {
        assert!(!self.stored.is_empty(), "something was stored");
        self.read_back();
        self.cell.end();
        self.devices = devices();
        self.cell = Cell::start(&self.folder, self.devices.len(), &self.devices);
        self.read_back();
    }

    fn read_back(&self) {
        self.cell.copy("sh://kills/", "/tmp/kills-back");
        let found = files::take_whole(Path::new("/tmp/kills-back"));
        let lost: Vec<_> = self.stored.difference(&found).collect();
        assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}\n{}", logs());
    }
}
