//! S3 clients people use, unchanged and with their default settings, against a real cell.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::Cell;

/// Where tests/run puts the clients that come from PyPI.
fn clients() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients/bin");
    assert!(path.join("python").exists(), "{} is missing: tests/run makes it", path.display());
    path
}

fn check(cell: &Cell, mut command: Command) {
    let search = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{search}", clients().display()));
    command.current_dir(cell.scratch("client"));
    let output = command.output().expect("the client runs");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        cell.log()
    );
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

#[test]
fn boto3_rclone_and_s5cmd_work_unchanged() {
    let cell = Cell::start(&["--disk-size", "4GiB", "--zone-size", "64MiB"]);
    let mut boto3 = cell.command(clients().join("python"));
    boto3.arg(script("s3_boto3.py"));
    check(&cell, boto3);
    // Parts of another client that are not whole blocks: what arrives is checked all the same.
    for key in ["odd-parts", "copied"] {
        let target = cell.scratch("fetched").join(key);
        let told = cell.ok(&["cp", "--json", &format!("sh://stays/{key}"), &target.to_string_lossy()]);
        assert!(told.contains("\"checked\":true"), "{told}");
        assert_eq!(std::fs::metadata(target).expect("fetched").len(), (23 << 20) + 17);
    }
    for name in ["s3_rclone.sh", "s3_s5cmd.sh"] {
        let mut shell = cell.command("bash");
        shell.arg(script(name));
        check(&cell, shell);
    }
}

#[test]
fn an_upload_of_ten_thousand_parts_completes() {
    let cell = Cell::start(&["--disk-size", "4GiB", "--zone-size", "64MiB"]);
    let mut boto3 = cell.command(clients().join("python"));
    boto3.arg(script("s3_ten_thousand_parts.py"));
    check(&cell, boto3);
}
