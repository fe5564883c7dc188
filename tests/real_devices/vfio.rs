//! A drive that was taken from the kernel, in a whole cell: `shingle zone` hands it over and back, a host drives it and
//! is killed, and what it has written is there for the next one, whichever way that one reaches the drive.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::rc::Rc;

use shingle_hw::backend;
use shingle_hw::buffer::BufferPool;
use shingle_hw::ring::Ring;

use crate::cell::PROGRAM;
use crate::devices::{nvme_address, wait_for, zns_block, zns_generic};
use crate::disks::{blank, until_free};
use crate::killing::{Killing, Victim};

/// Exit codes of the program.
const UNFIT: i32 = 3;
const IN_USE: i32 = 5;
const REFUSED: i32 = 6;

/// A drive with few zones is enough for commands to single zones.
const SPARE: &str = "zns-4096";
const SERVED: &str = "zns-a";

fn zone(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("zone").args(arguments).stdin(Stdio::null()).output().expect("shingle runs")
}

/// What a command says that has to succeed.
fn told(arguments: &[&str]) -> serde_json::Value {
    let output = zone(&[arguments, &["--json"]].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "zone {arguments:?}: {}\n{error}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("zone {arguments:?}: {error}"))
}

/// Why a command is refused, with this exit code.
fn refusal(arguments: &[&str], code: i32) -> String {
    let output = zone(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "zone {arguments:?}: {error}");
    error
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Modules are loaded while tests run already.
fn wait_for_driver() {
    wait_for("vfio-pci", || fs::exists("/sys/bus/pci/drivers/vfio-pci").ok().filter(|there| *there));
}

/// Takes the drive; its name from then on.
fn take(serial: &str) -> String {
    wait_for_driver();
    let taken = told(&["take", text(&zns_generic(serial))]);
    taken["device"].as_str().expect("a name").to_owned()
}

#[test]
fn a_drive_changes_hands_by_command_and_not_while_it_is_used() {
    let node = zns_generic(SPARE);
    blank(&node);
    let (by_kernel, address) = (told(&["report", text(&node)]), nvme_address(SPARE));
    let name = format!("vfio:{address}");
    assert!(refusal(&["report", &name], UNFIT).contains("zone take"), "a drive is not taken silently");
    let open = |name: &str| {
        let (ring, pool) = (Ring::new(16).expect("io_uring works here"), BufferPool::new(1 << 20).expect("mapped"));
        backend::open(Path::new(name), Rc::clone(&ring), pool).expect("opens")
    };
    let used = open(text(&node));
    wait_for_driver();
    refusal(&["take", text(&node)], IN_USE);
    drop(used);
    until_free(&node);

    assert_eq!(take(SPARE), name);
    assert_eq!(told(&["take", &address])["device"], name, "taking it again changes nothing");
    assert!(!node.exists(), "the kernel has no node of it any more");
    let by_us = told(&["report", &name]);
    for same in ["serial", "model", "zones", "zone_capacity_bytes", "open_zones_max", "active_zones_max", "report"] {
        assert_eq!(by_us[same], by_kernel[same], "{same}");
    }
    fs::write("/tmp/two-sectors", [0x5a; 8192]).expect("a file");
    assert_eq!(told(&["append", &name, "3", "--in", "/tmp/two-sectors"])["zone"]["write_pointer_bytes"], 8192);
    assert_eq!(told(&["append", &name, "3", "--in", "/tmp/two-sectors"])["offset_bytes"], 8192);
    assert!(refusal(&["append", &name, "24", "--in", "/tmp/two-sectors"], REFUSED).contains("boundary"));
    let used = open(&name);
    refusal(&["report", &name], IN_USE);
    refusal(&["give-back", &name], IN_USE);
    drop(used);

    told(&["give-back", &name]);
    let node = zns_generic(SPARE);
    let read = wait_for("the drive", || Some(zone(&["read", text(&node), "3", "--bytes", "16384"])).filter(succeeded));
    assert_eq!(read.stdout, [0x5a; 16384], "the kernel finds what was written");
    told(&["reset", text(&node), "3"]);
}

fn succeeded(output: &Output) -> bool {
    output.status.success()
}

#[test]
fn a_host_that_drives_its_drive_itself_is_killed_and_finds_everything() {
    let other = zns_block("zns-b");
    blank(&other);
    blank(&zns_generic(SERVED));
    let name = take(SERVED);
    let devices = [PathBuf::from(&name), other.clone()];
    let mut cell = Killing::start("/tmp/driven", &devices);
    refusal(&["report", &name], IN_USE);
    for (kill, victim) in (0..).zip([Victim::Host(1), Victim::All, Victim::Host(1)]) {
        cell.kill(kill, victim);
    }
    cell.all_is_there(|| {
        let inspected = Command::new(PROGRAM).args(["inspect", &name, "verify"]).output().expect("shingle runs");
        let error = String::from_utf8_lossy(&inspected.stderr);
        assert!(inspected.status.success(), "{error}\n{}", String::from_utf8_lossy(&inspected.stdout));
        told(&["give-back", &name]);
        vec![zns_generic(SERVED), other]
    });
}
