//! `shingle qualify` as a user meets it: a run with all its files, negative controls, comparisons, refusals.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

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
    let diff = run(&["qualify", "diff", "run", "run", "--html", "diff.html"]);
    let page = std::fs::read_to_string(directory.path().join("diff.html")).expect("reads");
    assert!(page.contains("non-inferior</span>") && page.contains("class=\"forest\"") && !page.contains("http"));
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

/// Starts a run, sends it a signal when a test has passed, and returns how it ended: its exit code and what it said after
/// the signal.
fn signalled(directory: &Path, arguments: &[&str], passed: &str, signal: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shingle"));
    command.current_dir(directory).args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut run = command.spawn().expect("starts");
    let mut lines = BufReader::new(run.stderr.take().expect("piped")).lines();
    let seen = lines.by_ref().map_while(Result::ok).any(|line| line.contains(passed));
    assert!(seen, "the run ended before {passed}");
    let sent = Command::new("kill").args([signal, &run.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    let told: Vec<String> = lines.map_while(Result::ok).collect();
    (run.wait().expect("ends").code(), told.join("\n"))
}

/// The verdict of every test of a run.
fn grid(directory: &Path, run: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(directory.join(run).join("report.json")).expect("reads");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let tests = report["tests"].as_array().expect("tests").iter();
    tests.map(|test| (test["id"].to_string(), test["status"].to_string())).collect()
}

#[test]
fn a_run_stopped_by_ctrl_c_goes_on_where_it_was_and_comes_to_the_same_verdict() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    // Its own time is a month; the test in hand when the signal comes is somewhere in the middle.
    let plan = ["qualify", "model:ci", "--plan", "ci", "--only", "C,D,F,T", "--seed", "7"];
    let whole = shingle(directory, &[&plan[..], &["--out", "whole"]].concat());
    let (code, told) = signalled(directory, &[&plan[..], &["--out", "cut"]].concat(), "C-05", "-INT");
    assert_eq!(code, Some(130), "{told}");
    assert!(told.contains("stopping after the command in hand"), "{told}");
    assert!(told.contains("go on with: shingle qualify --resume cut"), "{told}");
    assert!(directory.join("cut/state.json").is_file() && !directory.join("cut/report.json").exists());
    let resumed = shingle(directory, &["qualify", "--resume", "cut"]);
    assert!(!text(&resumed.stderr).contains("C-05"), "what had ended is not run again: {}", text(&resumed.stderr));
    assert_eq!(resumed.status.code(), whole.status.code(), "{}", text(&resumed.stderr));
    assert_eq!(grid(directory, "cut"), grid(directory, "whole"));
    assert!(!directory.join("cut/state.json").exists());
    let again = shingle(directory, &["qualify", "--resume", "cut"]);
    assert_eq!(again.status.code(), Some(2), "nothing is left to go on with");
}

#[test]
fn a_killed_run_loses_at_most_the_test_in_hand() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let create = ["zone", "create", "disk", "--size", "8MiB", "--zone-size", "512KiB", "--serial", "Q1"];
    assert!(shingle(directory, &create).status.success());
    let plan = ["qualify", "disk", "--i-own", "Q1", "--plan", "ci", "--only", "C,D-02", "--seed", "7"];
    let whole = shingle(directory, &[&plan[..], &["--out", "whole"]].concat());
    let (code, _) = signalled(directory, &[&plan[..], &["--out", "cut"]].concat(), "C-05", "-KILL");
    assert_eq!(code, None);
    let resumed = shingle(directory, &["qualify", "--resume", "cut"]);
    assert_eq!(resumed.status.code(), whole.status.code(), "{}", text(&resumed.stderr));
    assert!(!text(&resumed.stderr).contains("C-04"), "{}", text(&resumed.stderr));
    assert_eq!(grid(directory, "cut"), grid(directory, "whole"));
}
