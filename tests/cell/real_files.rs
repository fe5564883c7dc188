//! The main job with real files: stored, found again, stored once, unreadable on the disks.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Cell, await_that, digest_tree};
use crate::needles::Needles;

const GIB: u64 = 1 << 30;

/// Folders of real programs, libraries and sources that together hold at least 1 GiB: the installed Rust toolchain, and
/// where that is a small one, the sources of the dependencies and the system's libraries.
fn a_gigabyte() -> Vec<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc runs");
    let toolchain = PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim());
    assert!(toolchain.is_dir(), "{} is a folder", toolchain.display());
    let cargo =
        std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let more = [
        cargo.map(|home| home.join("registry/src")),
        Some("/usr/lib/x86_64-linux-gnu".into()),
        Some("/usr/lib".into()),
    ];
    let mut folders = vec![toolchain];
    let mut bytes = tree_bytes(&folders[0]);
    for folder in more.into_iter().flatten().filter(|folder| folder.is_dir()) {
        if bytes >= GIB {
            break;
        }
        bytes += tree_bytes(&folder);
        folders.push(folder);
    }
    assert!(bytes >= GIB, "{folders:?} hold {bytes} bytes, 1 GiB is needed");
    folders
}

/// Copies each folder under a name of its own.
fn copy_in(cell: &Cell, folders: &[PathBuf], pass: &str) {
    for (number, folder) in folders.iter().enumerate() {
        let source = folder.to_str().expect("the folder's path is text");
        cell.ok(&["cp", "-r", source, &format!("sh://files/{pass}/{number}")]);
    }
}

fn tree_bytes(root: &Path) -> u64 {
    let mut bytes = 0;
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a readable folder").flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                bytes += entry.metadata().expect("a readable file").len();
            }
        }
    }
    bytes
}

/// Sum of the bytes that hosts say they store, padding and copies included.
fn stored_bytes(cell: &Cell) -> u64 {
    let status = cell.status();
    let hosts = status["hosts"].as_array().unwrap_or_else(|| panic!("no hosts in {status}"));
    let osds = hosts.iter().flat_map(|host| host["osds"].as_array().cloned().unwrap_or_default());
    osds.map(|osd| osd["stored_bytes"].as_u64().unwrap_or_else(|| panic!("no stored_bytes in {osd}"))).sum()
}

/// The same, once every host has been heard again: the status is what hosts last said.
fn settled_bytes(cell: &Cell) -> u64 {
    let asked = Instant::now();
    await_that(Duration::from_secs(30), "every host is heard again", || {
        let status = cell.status();
        let ages = status["hosts"].as_array().into_iter().flatten().map(|host| host["age_ms"].as_u64());
        let ages: Vec<Option<u64>> = ages.collect();
        let waited_ms = asked.elapsed().as_millis() as u64;
        // Heard at least half a second after the question: what a heartbeat says was true when it was made.
        let since = |age: &Option<u64>| age.is_some_and(|age_ms| age_ms + 500 < waited_ms);
        if ages.iter().all(since) { Ok(()) } else { Err(format!("{ages:?}")) }
    });
    stored_bytes(cell)
}

#[test]
fn a_gigabyte_of_real_files_comes_back_identical_and_is_stored_once() {
    let cell = Cell::start(&["--disk-size", "8GiB", "--zone-size", "64MiB"]);
    let folders = a_gigabyte();
    copy_in(&cell, &folders, "first");
    for (number, folder) in folders.iter().enumerate() {
        let back = cell.scratch(&format!("back-{number}"));
        cell.ok(&["cp", "-r", &format!("sh://files/first/{number}"), back.to_str().expect("text")]);
        assert_eq!(digest_tree(folder), digest_tree(&back));
    }

    let blocks = cell.number("blocks");
    let sealed = cell.number("block_sealed_bytes");
    let before = settled_bytes(&cell);
    copy_in(&cell, &folders, "second");
    assert_eq!(cell.number("blocks"), blocks, "the second pass makes no new block");
    assert_eq!(settled_bytes(&cell), before, "the second pass writes no new record");

    // Four copies of every sealed block, each with a header and padded to 4 KiB.
    let headers = blocks * 4 * 8192;
    assert!(before >= 4 * sealed, "{before} bytes on disks, {sealed} sealed");
    assert!(before <= 4 * sealed + headers, "{before} bytes on disks, {sealed} sealed in {blocks} blocks");
}

#[test]
fn known_plain_text_and_keys_are_on_no_disk_and_in_no_table() {
    let cell = Cell::start(&["--disk-size", "4GiB", "--zone-size", "64MiB"]);
    let mark = b"KNOWN-PLAIN-TEXT-0f3a9c-that-nobody-else-writes";
    let file = cell.scratch("plain").join("marked");
    // Too short to compress and long enough to: both ways of sealing.
    fs::write(&file, mark).expect("a file");
    cell.ok(&["cp", file.to_str().expect("text"), "sh://secret/short"]);
    fs::write(&file, mark.repeat(5000)).expect("a file");
    cell.ok(&["cp", file.to_str().expect("text"), "sh://secret/long"]);
    assert_eq!(cell.ok(&["cat", "sh://secret/short"]).as_bytes(), mark);

    let key_file = fs::read_to_string(cell.dir().join("kek.key")).expect("the key file");
    let hex = key_file.split_whitespace().last().expect("a key");
    let key: Vec<u8> =
        (0..64).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits")).collect();
    let mut files = cell.disks();
    let mut folders = vec![cell.dir().join("control")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the store's folder").flatten() {
            if entry.path().is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    assert!(files.len() > 10, "disks and tables are looked at");
    let needles = Needles::new(&[&mark[..24], &key, hex.as_bytes()]);
    assert!(needles.are_in(&file), "what is looked for is found where it is");
    for path in files {
        assert!(!needles.are_in(&path), "{} holds what must not be there", path.display());
    }
}

#[test]
fn a_large_object_streams_through_a_small_gateway() {
    use rand::{RngCore, SeedableRng, rngs::StdRng};
    const PIECE: usize = 32 << 20;
    const PIECES: usize = 48;
    const RESIDENT_KIB_MAX: u64 = 512 << 10;
    let cell = Cell::start(&["--disk-size", "4GiB", "--zone-size", "64MiB"]);
    // The same noise again and again: the gateway hashes all of it, the disks hold it once.
    let mut noise = vec![0; PIECE];
    StdRng::seed_from_u64(9).fill_bytes(&mut noise);
    let mut copy = cell.command(crate::harness::program());
    copy.args(["cp", "-", "sh://large/object"]).stdin(std::process::Stdio::piped());
    let mut copy = copy.spawn().expect("shingle runs");
    let mut input = copy.stdin.take().expect("a pipe");
    for _ in 0..PIECES {
        std::io::Write::write_all(&mut input, &noise).expect("the copy reads");
    }
    drop(input);
    assert!(copy.wait().expect("the copy ends").success(), "{}", cell.log());

    let mut cat = cell.command(crate::harness::program());
    cat.args(["cat", "sh://large/object"]).stdout(std::process::Stdio::piped());
    let mut cat = cat.spawn().expect("shingle runs");
    let mut output = cat.stdout.take().expect("a pipe");
    let mut piece = vec![0; PIECE];
    for number in 0..PIECES {
        output.read_exact(&mut piece).unwrap_or_else(|error| panic!("piece {number}: {error}"));
        assert!(piece == noise, "piece {number} is as it was");
    }
    assert_eq!(output.read(&mut piece).expect("the end"), 0, "no byte more");
    assert!(cat.wait().expect("cat ends").success());

    let status = fs::read_to_string(format!("/proc/{}/status", cell.pids()["gateway"])).expect("the gateway runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < RESIDENT_KIB_MAX, "the gateway's peak was {peak} KiB");
}
