//! `shingle zone` as a user meets it: outcomes, refusals by class and exit code, the guard of labelled disks.

use std::path::Path;
use std::process::{Command, Output};

fn shingle(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shingle"));
    command.current_dir(directory).args(arguments).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn prepared() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let created = shingle(
        directory.path(),
        &["zone", "create", "disk", "--size", "4MiB", "--zone-size", "1MiB", "--serial", "Z1"],
    );
    assert!(created.status.success(), "{}", text(&created.stderr));
    std::fs::write(directory.path().join("data"), vec![7; 8192]).expect("written");
    directory
}

#[test]
fn zones_are_written_read_and_reported() {
    let directory = prepared();
    let run = |arguments: &[&str]| {
        let output = shingle(directory.path(), arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        output.stdout
    };
    let appended = text(&run(&["zone", "append", "disk", "2", "--in", "data", "--json"]));
    let document: serde_json::Value = serde_json::from_str(&appended).expect("JSON");
    assert_eq!((&document["offset_bytes"], &document["zone"]["write_pointer_bytes"]), (&0.into(), &8192.into()));
    assert_eq!(run(&["zone", "read", "disk", "2", "--bytes", "8192"]), vec![7; 8192]);
    run(&["zone", "write", "disk", "0", "--offset", "4096", "--in", "data"]);
    assert_eq!(run(&["zone", "read", "disk", "0", "--offset", "8192"]), vec![7; 4096]);
    run(&["zone", "finish", "disk", "2"]);
    let report = text(&run(&["zone", "report", "disk"]));
    assert!(report.contains("Z1") && report.contains("full"), "{report}");
    run(&["zone", "reset", "disk", "2"]);
    assert!(text(&run(&["zone", "report", "disk", "--first", "2"])).contains("empty"));
}

#[test]
fn refusals_name_their_class() {
    let directory = prepared();
    let refused = |arguments: &[&str], class: &str| {
        let output = shingle(directory.path(), &[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(6), "{arguments:?}: {}", text(&output.stderr));
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(document["refused"], class, "{arguments:?}");
    };
    refused(&["zone", "close", "disk", "2"], "condition");
    refused(&["zone", "read", "disk", "2", "--offset", "100"], "invalid-field");
    refused(&["zone", "open", "disk", "99"], "boundary");
    assert!(shingle(directory.path(), &["zone", "finish", "disk", "3"]).status.success());
    refused(&["zone", "append", "disk", "3", "--in", "data"], "full");
}

#[test]
fn a_labelled_disk_is_guarded_by_its_serial_number() {
    let directory = prepared();
    let mut label = b"SHGLABEL".to_vec();
    label.resize(4096, 0);
    std::fs::write(directory.path().join("label"), label).expect("written");
    let run = |arguments: &[&str]| shingle(directory.path(), arguments).status.code();
    assert_eq!(run(&["zone", "write", "disk", "0", "--in", "label"]), Some(0));
    assert_eq!(run(&["zone", "append", "disk", "2", "--in", "data"]), Some(2));
    assert_eq!(run(&["zone", "append", "disk", "2", "--in", "data", "--i-own", "other"]), Some(2));
    assert_eq!(run(&["zone", "report", "disk"]), Some(0), "looking is free");
    assert_eq!(run(&["zone", "append", "disk", "2", "--in", "data", "--i-own", "Z1"]), Some(0));
}
