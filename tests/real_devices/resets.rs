//! The machine is reset in the middle of writes, again and again; nothing acknowledged is lost.
//!
//! A reset stops every processor at once and loses what is in memory, while the drives keep their power and their
//! zones. It comes from outside at a moment nobody here knows, and outside is also where acknowledgements are written
//! down as they come and compared with what later lives of the machine read back: nothing rests on this side's memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cell::{Cell, logs};
use crate::content::digest;
use crate::devices::{zns_block, zns_generic};
use crate::files;
use crate::port::{Port, Task};

/// Files copied at a time; the reset comes during one of these copies.
const BATCH: u64 = 40;
/// Numbers are the life's, so that files of one life are known by them.
const FILES_PER_LIFE: u64 = 1_000_000;

/// Both ways to ZNS, and each drive is reached the other way in the next life.
fn devices(life: u64) -> [PathBuf; 2] {
    match life % 2 {
        0 => [zns_generic("zns-a"), zns_block("zns-b")],
        _ => [zns_block("zns-a"), zns_generic("zns-b")],
    }
}

#[test]
#[ignore = "resets the machine it runs on, for `hw/rig/run resets`"]
fn nothing_acknowledged_is_lost_when_the_machine_is_reset() {
    let (mut port, task) = Port::open();
    let Task { life, read_from, write } = task;
    let since = Instant::now();
    let cell = Cell::start(Path::new("/store/cell"), 2, &devices(life));
    let up = since.elapsed();
    (read_from..life).for_each(|life| read_back(&cell, &mut port, life));
    port.say("read");
    println!("life {life}: cell up after {} ms, read back after {} ms", up.as_millis(), since.elapsed().as_millis());
    if !write {
        return;
    }
    cell.wait_until_writable();
    let mut next = life * FILES_PER_LIFE;
    loop {
        files::make(Path::new("/tmp/new"), next..next + BATCH);
        next += BATCH;
        for copied in cell.start_copy("/tmp/new", &format!("sh://resets/{life}/")) {
            assert!(copied.done, "{} was not stored\n{}", copied.name, logs());
            port.say(&format!("stored {}", files::number(&copied.name)));
        }
    }
}

/// Tells the judge of every file that a life left.
fn read_back(cell: &Cell, port: &mut Port, life: u64) {
    let folder = Path::new("/tmp/back");
    cell.copy(&format!("sh://resets/{life}/"), "/tmp/back");
    for (number, found) in files::all(folder) {
        port.say(&format!("found {number} {}", digest(&found)));
    }
    fs::remove_dir_all(folder).expect("removed");
}
