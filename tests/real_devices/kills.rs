//! Hosts on an SMR disk and on ZNS namespaces, both ways to them, killed while they write.
//!
//! The SMR disk is emulated in the guest's memory, so it does not survive a reset of the machine: `kill -9` is the
//! hardest end of a host on it that can be tried here. What the kernel has taken over by then is not lost with the
//! process; what the process only had in mind is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use shingle_seam::entropy::{Entropy, SystemEntropy};

use crate::cell::Cell;
use crate::devices::{scsi_debug, zns_block, zns_generic};
use crate::disks::blank;
use crate::files;

/// Files of one copy, during which the kill comes.
const FILES: u64 = 16;
/// Files acknowledged before it, at most.
const FILES_BEFORE_MAX: u64 = 8;
/// Kills that these small disks bear: each may cost the extents that were open.
const KILLS_PER_CELL: u64 = 5;

/// Kills unless RIG_KILLS says otherwise: the SMR disk's host, then everything, then a host on ZNS.
const KILLS_DEFAULT: u64 = 3;

#[test]
fn nothing_acknowledged_is_lost_when_processes_are_killed_while_they_write() {
    let kills = std::env::var("RIG_KILLS").map_or(KILLS_DEFAULT, |kills| kills.parse().expect("a number of kills"));
    let devices = [scsi_debug(), zns_generic("zns-a"), zns_block("zns-b")];
    for first in (0..kills).step_by(KILLS_PER_CELL as usize) {
        one_cell(&devices, first..kills.min(first + KILLS_PER_CELL));
    }
}

fn one_cell(devices: &[PathBuf], kills: std::ops::Range<u64>) {
    devices.iter().for_each(|device| blank(device));
    let folder = format!("/tmp/killed-{}", kills.start);
    let mut cell = Cell::start(Path::new(&folder), devices.len(), devices);
    let mut stored = BTreeSet::new();
    for kill in kills {
        let since = Instant::now();
        cell.wait_until_writable();
        files::make(Path::new("/tmp/new"), kill * FILES..(kill + 1) * FILES);
        let when = 1 + (SystemEntropy.u64() % FILES_BEFORE_MAX) as usize;
        let mut copy = cell.start_copy("/tmp/new", "sh://kills/");
        let acknowledged = |copied: crate::cell::Copied| copied.done.then(|| files::number(&copied.name));
        let before: Vec<u64> = copy.by_ref().take(when).filter_map(acknowledged).collect();
        match kill % 3 {
            0 => cell.restart_host(1),
            1 => {
                drop(cell);
                copy.end();
                cell = Cell::start(Path::new(&folder), devices.len(), devices);
            }
            _ => cell.restart_host(2 + (kill / 3 % 2) as u32),
        }
        let after = copy.filter_map(acknowledged).collect::<Vec<u64>>();
        println!(
            "kill {kill}: {} files acknowledged before, {} after it, {:?}",
            before.len(),
            after.len(),
            since.elapsed()
        );
        stored.extend(before.into_iter().chain(after));
    }
    assert!(!stored.is_empty(), "something was stored");
    read_back(&cell, &stored);
    // A cell started anew on the same devices has it all.
    drop(cell);
    read_back(&Cell::start(Path::new(&folder), devices.len(), devices), &stored);
}

fn read_back(cell: &Cell, stored: &BTreeSet<u64>) {
    cell.copy("sh://kills/", "/tmp/kills-back");
    let found = files::take_whole(Path::new("/tmp/kills-back"));
    let lost: Vec<_> = stored.difference(&found).collect();
    assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}\n{}", crate::cell::logs());
}
