//! `shingle qualify` as a user meets it: a run with all its files, negative controls, comparisons, refusals.

use std::path::Path;
use std::process::{Command, Output};

fn shingle(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shingle"));
    command.current_dir(directory).args(arguments).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_run_writes_every_document_and_compares_with_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str]| {
        let output = shingle(directory.path(), arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let told = run(&["qualify", "model:ci", "--plan", "ci", "--only", "C-0,P-02,P-03,F-01", "--out", "run"]);
    assert!(told.starts_with("QUALIFIED"), "{told}");
    for name in ["report.json", "report.html", "junit.xml", "latency.hlog", "drive.toml", "emulator.toml"] {
        assert!(directory.path().join("run").join(name).is_file(), "{name}");
    }
    assert!(!directory.path().join("run/state.json").exists());
    let page = std::fs::read_to_string(directory.path().join("run/report.html")).expect("reads");
    assert!(page.contains("<svg") && !page.contains("http"), "nothing is loaded from anywhere");
    let diff = run(&["qualify", "diff", "run", "run"]);
    assert!(diff.contains("non-inferior") && diff.contains("this pair only") && !diff.contains("WORSE"), "{diff}");
    let fitted = run(&["qualify", "fit", "run/report.json"]);
    std::fs::write(directory.path().join("fitted.toml"), fitted).expect("written");
    let told = run(&["qualify", "model:fitted.toml", "--plan", "smoke", "--only", "C-01", "--json", "--out", "again"]);
    let report: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(report["schema"], "shingle-qualify/1");
    assert_eq!(report["verdict"]["qualified"], true);
}

#[test]
fn an_emulated_drive_is_tested_by_its_owner_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str]| shingle(directory.path(), arguments);
    let create = ["zone", "create", "disk", "--size", "8MiB", "--zone-size", "512KiB", "--serial", "Q1"];
    assert!(run(&create).status.success());
    assert_eq!(run(&["qualify", "disk"]).status.code(), Some(2), "nobody said that it is theirs");
    assert_eq!(run(&["qualify", "disk", "--i-own", "Q2"]).status.code(), Some(2));
    let tested = run(&["qualify", "disk", "--i-own", "Q1", "--only", "C-01,C-02,C-04,D-02,F-01", "--out", "run"]);
    let told = text(&tested.stdout);
    assert!(tested.status.success() && told.contains("4 pass"), "{told}{}", text(&tested.stderr));
    assert!(text(&tested.stderr).contains("no power relay"), "what was skipped says why");
    let mut label = b"SHGLABEL".to_vec();
    label.resize(4096, 0);
    std::fs::write(directory.path().join("label"), label).expect("written");
    assert!(run(&["zone", "write", "disk", "0", "--in", "label"]).status.success());
    assert_eq!(run(&["qualify", "disk", "--i-own", "Q1"]).status.code(), Some(3), "a labelled disk is refused");
}

#[test]
fn the_negative_controls_are_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = shingle(directory.path(), &["qualify", "--negative-controls"]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let words: Vec<&str> = told.split_whitespace().collect();
    assert_eq!((words[0], words[2]), ("caught", "of"));
    assert_eq!(words[1], words[3], "{told}");
}
