//! A host on a file system of its own that fills up under its disks: nothing acknowledged is lost, puts go elsewhere.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use shingle_proto::limits::DISK_ROOM_RESERVE_BYTES;

use crate::harness::{Cell, await_that, digest_tree, make_files};

/// What the host's disks may take before they are full, and what the filler takes of it.
const ROOM_BYTES: u64 = 112 << 20;
const FILLER_BYTES: u64 = 40 << 20;

/// A file system in a file, mounted until dropped.
struct SmallFileSystem {
    at: PathBuf,
}

impl SmallFileSystem {
    /// `None` where this user may not mount.
    fn mount(image: &Path, at: &Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let file = fs::File::create(image).expect("an image");
        file.set_len(DISK_ROOM_RESERVE_BYTES + ROOM_BYTES).expect("a sparse image");
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-O", "^has_journal"]).arg(image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at))?;
        Some(Self { at: at.to_owned() })
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        // Lazily: a process that was just killed may not have let go of its files yet.
        if run(Command::new("umount").arg("-l").arg(&self.at)).is_none() {
            eprintln!("{} stays mounted", self.at.display());
        }
    }
}

fn run(command: &mut Command) -> Option<()> {
    match command.output() {
        Ok(output) if output.status.success() => Some(()),
        Ok(output) => {
            eprintln!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            None
        }
        Err(error) => {
            eprintln!("{command:?}: {error}");
            None
        }
    }
}

/// Host 2 as the status shows it, and the problems of the cell by kind and detail.
fn host_2(cell: &Cell) -> (serde_json::Value, Vec<(String, String)>) {
    let status = cell.status();
    let host = status["hosts"].as_array().and_then(|hosts| hosts.iter().find(|host| host["host"] == 2).cloned());
    let problems = status["problems"].as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let problems = problems.iter().map(|problem| (text(&problem["kind"]), text(&problem["detail"])));
    (host.unwrap_or_default(), problems.collect())
}

fn appends(host: &serde_json::Value) -> u64 {
    host["osds"].as_array().map_or(0, |osds| osds.iter().filter_map(|osd| osd["appends"].as_u64()).sum())
}

/// Kills host 2 and waits until another process of it is heard.
fn restart_host_2(cell: &Cell) {
    let (before, _) = host_2(cell);
    cell.kill("host-2");
    await_that(Duration::from_secs(60), "host 2 is heard again", || {
        let (host, _) = host_2(cell);
        (host["alive"] == true && host["boot"] != before["boot"]).then_some(()).ok_or_else(|| cell.log())
    });
}

fn copy(cell: &Cell, from: &Path, name: &str) {
    cell.ok(&["cp", "-r", from.to_str().expect("text"), &format!("sh://full/{name}")]);
}

fn check(cell: &Cell, original: &Path, name: &str, attempt: u32) {
    let back = cell.scratch(&format!("back-{name}-{attempt}"));
    cell.ok(&["cp", "-r", &format!("sh://full/{name}"), back.to_str().expect("text")]);
    assert_eq!(digest_tree(original), digest_tree(&back));
}

/// Takes all that is left of a file system.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).expect("a file");
    let end = loop {
        if let Err(error) = file.write_all(&vec![1; 1 << 20]).and_then(|()| file.sync_data()) {
            break error;
        }
    };
    assert_eq!(end.kind(), std::io::ErrorKind::StorageFull);
}

fn await_healthy(cell: &Cell) {
    await_that(Duration::from_secs(60), "nothing is wrong any more", || {
        let (_, problems) = host_2(cell);
        if problems.is_empty() { Ok(()) } else { Err(format!("{problems:?}")) }
    });
}

/// Stores new bytes until host 2 has taken some of them.
fn await_appends(cell: &Cell, name: &str) {
    let before = appends(&host_2(cell).0);
    let mut seed = name.len() as u64 * 1000;
    await_that(Duration::from_secs(60), "host 2 takes blocks again", || {
        let more = cell.scratch(name);
        seed += 1;
        make_files(&more, 2, 200_000, seed);
        copy(cell, &more, name);
        let (host, _) = host_2(cell);
        if appends(&host) > before { Ok(()) } else { Err(format!("{host}")) }
    });
}

#[test]
fn a_host_whose_file_system_is_full_is_named_and_goes_on_when_there_is_space() {
    let mut cell = Cell::start(&["--disk-size", "8GiB", "--zone-size", "64MiB"]);
    cell.stop();
    let home = cell.dir().join("hosts/host-2");
    let aside = cell.scratch("aside");
    let image = cell.scratch("images").join("host-2.ext4");
    run(Command::new("cp").args(["-a", "--sparse=always"]).arg(home.join(".")).arg(&aside)).expect("copied");
    let Some(_mounted) = SmallFileSystem::mount(&image, &home) else {
        eprintln!("SKIPPED: mounting a small file system needs root, mkfs.ext4 and loop devices");
        return;
    };
    run(Command::new("cp").args(["-a", "--sparse=always"]).arg(aside.join(".")).arg(&home)).expect("copied back");
    let filler = home.join("filler");
    fs::write(&filler, vec![1; FILLER_BYTES as usize]).expect("the filler fits");
    cell.up();

    let files = cell.scratch("files");
    make_files(&files, 80, 2 << 20, 11);
    copy(&cell, &files, "more-than-fits");
    let problems = await_that(Duration::from_secs(30), "the full disks are named", || {
        let (_, problems) = host_2(&cell);
        problems.iter().any(|(kind, _)| kind == "OsdNoSpace").then_some(problems.clone()).ok_or(format!("{problems:?}"))
    });
    assert!(problems.iter().any(|(_, detail)| detail.contains("host-2") && detail.contains("disk-")), "{problems:?}");
    check(&cell, &files, "more-than-fits", 1);

    // Nothing at all is left: what was just allowed meets the end of the file system. It starts all the same, and what
    // it has can be read.
    let rest = home.join("rest");
    fill(&rest);
    let few = cell.scratch("few");
    make_files(&few, 8, 1 << 20, 12);
    copy(&cell, &few, "while-full");
    restart_host_2(&cell);
    check(&cell, &files, "more-than-fits", 2);

    // There is room, then none from one moment to the next.
    fs::remove_file(&filler).expect("the filler goes");
    fs::remove_file(&rest).expect("the rest goes");
    await_healthy(&cell);
    await_appends(&cell, "with-room");
    fill(&rest);
    let other = cell.scratch("other");
    make_files(&other, 8, 1 << 20, 13);
    copy(&cell, &other, "while-full-again");
    check(&cell, &other, "while-full-again", 1);

    fs::remove_file(&rest).expect("the rest goes");
    restart_host_2(&cell);
    await_healthy(&cell);
    await_appends(&cell, "after-a-restart");
    check(&cell, &files, "more-than-fits", 3);
    check(&cell, &few, "while-full", 1);
    cell.stop();
}
