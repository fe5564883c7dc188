//! Bad input of every kind: a clear error for whoever sent it, and nothing else notices.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::process::Output;
use std::time::Duration;

use crate::harness::{Cell, await_that, program};

fn small_cell() -> Cell {
    Cell::start(&["--disk-size", "4GiB", "--zone-size", "64MiB"])
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every TCP port the cell's children listen on, from the kernel's table.
fn listening_ports(cell: &Cell) -> Vec<u16> {
    let mut inodes = std::collections::BTreeSet::new();
    for pid in cell.pids().values() {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("a child's descriptors").flatten() {
            let link = fs::read_link(entry.path()).unwrap_or_default();
            if let Some(inode) = link.to_string_lossy().strip_prefix("socket:[") {
                inodes.insert(inode.trim_end_matches(']').to_owned());
            }
        }
    }
    let mut ports = Vec::new();
    for line in fs::read_to_string("/proc/net/tcp").expect("the kernel's sockets").lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [_, local, _, "0A", ..] = fields.as_slice() {
            let (address, port) = local.split_once(':').expect("address:port");
            if fields.get(9).is_some_and(|inode| inodes.contains(*inode)) {
                assert!(address.ends_with("7F"), "a listener off loopback: {line}");
                ports.push(u16::from_str_radix(port, 16).expect("a hex port"));
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() >= 7, "control, gateway and five hosts listen: {ports:?}");
    ports
}

#[test]
fn garbage_on_every_port_harms_nobody() {
    use rand::{RngCore, SeedableRng, rngs::StdRng};
    let cell = small_cell();
    let file = cell.scratch("files").join("file");
    fs::write(&file, b"as before").expect("a file");
    cell.ok(&["cp", file.to_str().expect("text"), "sh://bad/before"]);
    let pids = cell.pids();
    let mut random = StdRng::seed_from_u64(4);
    for port in listening_ports(&cell) {
        for round in 0..6 {
            let mut garbage = vec![0; [1, 95, 4096, 100_000, 64, 7][round]];
            random.fill_bytes(&mut garbage);
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the port listens");
            stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
            // The peer may hang up before everything is sent: that is what it should do.
            drop(stream.write_all(&garbage));
            drop(stream.read(&mut [0; 1024]));
        }
    }
    assert_eq!(cell.pids(), pids, "no process died");
    assert_eq!(cell.ok(&["cat", "sh://bad/before"]), "as before");
    cell.ok(&["cp", file.to_str().expect("text"), "sh://bad/after"]);
}

#[test]
fn a_flipped_byte_on_a_disk_is_found_and_another_copy_served() {
    let cell = small_cell();
    let file = cell.scratch("files").join("file");
    let content: Vec<u8> = (0..3_000_000u32).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(&file, &content).expect("a file");
    cell.ok(&["cp", file.to_str().expect("text"), "sh://rot/file"]);

    // Three of four copies of everything are damaged: some byte in the middle of each allocated megabyte of the data.
    let mut damaged = 0;
    for disk in cell.disks() {
        let host =
            disk.parent().and_then(|host| host.file_name()).expect("a host's folder").to_string_lossy().into_owned();
        if host.ends_with("-1") || host.ends_with("-2") {
            damaged += damage(&disk);
        }
    }
    assert!(damaged > 0, "something was damaged");
    for _ in 0..6 {
        let output = cell.run(&["cat", "sh://rot/file"]);
        assert!(output.status.success(), "{}\n{}", stderr(&output), cell.log());
        assert!(output.stdout == content, "wrong bytes are never served");
    }
    await_that(Duration::from_secs(20), "the damage is a finding", || match cell.number("findings") {
        0 => Err(cell.log()),
        _ => Ok(()),
    });
}

/// Flips one byte in the middle of every 512 KiB of data that is not zero. Volumes end up with two good copies or more.
fn damage(disk: &std::path::Path) -> usize {
    let mut file = OpenOptions::new().read(true).write(true).open(disk).expect("a disk file");
    let end = file.metadata().expect("metadata").len();
    // Behind the first zones: labels and tables are another test's business.
    let mut at = 128 << 20;
    let mut flipped = 0;
    let mut page = [0; 4096];
    while at + 4096 <= end {
        file.seek(SeekFrom::Start(at + (256 << 10))).expect("inside the file");
        file.read_exact(&mut page).expect("inside the file");
        if page.iter().filter(|byte| **byte != 0).count() > 2048 {
            page[2000] ^= 0x10;
            file.seek(SeekFrom::Start(at + (256 << 10))).expect("inside the file");
            file.write_all(&page).expect("a writable disk file");
            flipped += 1;
        }
        at += 512 << 10;
    }
    file.sync_all().expect("the damage is on disk");
    flipped
}

#[test]
fn a_disk_that_was_truncated_or_has_another_geometry_is_refused_by_name() {
    let mut cell = small_cell();
    cell.stop();
    let disk = cell.disks().remove(0);
    let length = fs::metadata(&disk).expect("metadata").len();
    OpenOptions::new().write(true).open(&disk).expect("a disk file").set_len(length / 2).expect("truncated");
    let output = up_and_fail(&cell, &[]);
    let text = stderr(&output) + &String::from_utf8_lossy(&output.stdout) + &cell.log();
    let name = disk.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(text.contains(&name) && text.contains("truncated"), "the error names the disk and the damage: {text}");

    let output = up_and_fail(&cell, &["--disk-size", "6GiB"]);
    assert!(stderr(&output).contains("6GiB") || stderr(&output).contains("disk-size"), "{}", stderr(&output));
}

/// `shingle up` that must fail within a minute, by itself.
fn up_and_fail(cell: &Cell, flags: &[&str]) -> Output {
    let dir = cell.dir();
    let arguments = ["up", "--no-tui", "--dir", dir.to_str().expect("text")];
    fail_within("60", &[&arguments, flags].concat())
}

/// A control process that must end within seconds, by itself.
fn control_and_fail(dir: &std::path::Path, listen: &str) -> Output {
    fail_within("20", &["control", "--listen", listen, "--dir", dir.to_str().expect("text")])
}

fn fail_within(seconds: &str, arguments: &[&str]) -> Output {
    let output = std::process::Command::new("timeout")
        .arg(seconds)
        .arg(program())
        .args(arguments)
        .output()
        .expect("shingle runs");
    assert!(!output.status.success(), "shingle {arguments:?} succeeded");
    assert_ne!(output.status.code(), Some(124), "shingle {arguments:?} gives up by itself: {}", stderr(&output));
    output
}

#[test]
fn a_folder_in_use_and_one_of_another_version_are_refused() {
    let mut cell = small_cell();
    let output = up_and_fail(&cell, &[]);
    assert!(stderr(&output).contains("in use"), "{}", stderr(&output));
    cell.stop();
    fs::write(cell.dir().join("version"), "99\n").expect("a version file");
    let output = up_and_fail(&cell, &[]);
    assert!(stderr(&output).contains("version"), "{}", stderr(&output));
}

#[test]
fn a_shape_that_cannot_be_had_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("cell");
    for flags in [["--hosts", "3"], ["--disk-size", "100MiB"], ["--zone-size", "3MiB"]] {
        let mut command = std::process::Command::new(program());
        let output = command.args(["up", "--no-tui", "--dir"]).arg(&dir).args(flags).output().expect("shingle runs");
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(!dir.exists(), "{flags:?} left something behind");
    }
}

#[test]
fn a_configuration_with_an_unknown_key_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("shingle.toml");
    fs::write(&config, "[host]\nlisten = \"127.0.0.1:0\"\nspindles = 3\n").expect("a file");
    let output =
        std::process::Command::new(program()).args(["host", "--config"]).arg(&config).output().expect("shingle runs");
    assert!(!output.status.success());
    assert!(stderr(&output).contains("spindles"), "{}", stderr(&output));
}

#[test]
fn a_listener_off_loopback_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = control_and_fail(folder.path(), "0.0.0.0:0");
    assert!(stderr(&output).contains("loopback"), "{}", stderr(&output));
}

#[test]
fn a_store_in_use_and_a_damaged_one_are_refused_with_what_to_do() {
    let mut cell = small_cell();
    let store = cell.dir().join("control");
    let output = control_and_fail(&store, "127.0.0.1:0");
    assert_eq!(output.status.code(), Some(5), "in use: {}", stderr(&output));
    assert!(stderr(&output).contains("stop the control process"), "{}", stderr(&output));
    cell.stop();
    let journal = store.join("tree/0.jnl");
    let mut file = OpenOptions::new().read(true).write(true).open(&journal).expect("a journal");
    file.write_all(b"no batch").expect("a writable journal");
    file.sync_all().expect("the damage is on disk");
    let output = control_and_fail(&store, "127.0.0.1:0");
    assert_eq!(output.status.code(), Some(1), "damaged: {}", stderr(&output));
    assert!(stderr(&output).contains("0.jnl is damaged at byte 0"), "{}", stderr(&output));
    assert!(stderr(&output).contains("put back a copy"), "{}", stderr(&output));
}

#[test]
fn a_client_that_hangs_up_half_way_leaves_nothing_behind() {
    let cell = small_cell();
    cell.ok(&["cp", program().to_str().expect("text"), "sh://half/whole"]);
    let address = cell.environment()["AWS_ENDPOINT_URL"].trim_start_matches("http://").to_owned();
    // Without a signature the answer is 403, however the body goes on.
    let mut stream = TcpStream::connect(&address).expect("the gateway listens");
    stream
        .write_all(b"PUT /half/unsigned HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nonly this")
        .expect("a request");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    let mut answer = vec![0; 64];
    let count = stream.read(&mut answer).expect("an answer");
    assert!(String::from_utf8_lossy(&answer[..count]).contains(" 403 "), "{}", String::from_utf8_lossy(&answer));
    drop(stream);

    // A signed upload whose sender dies.
    let mut copy = cell.command(program());
    copy.args(["cp", "-", "sh://half/piped"]).stdin(std::process::Stdio::piped());
    let mut copy = copy.spawn().expect("shingle runs");
    let mut pipe = copy.stdin.take().expect("a pipe");
    pipe.write_all(&vec![7; 20 << 20]).expect("the copy reads");
    copy.kill().expect("killed");
    copy.wait().expect("reaped");
    drop(pipe);
    let listing = cell.ok(&["ls", "sh://half"]);
    assert!(listing.contains("whole") && !listing.contains("piped") && !listing.contains("unsigned"), "{listing}");
}
