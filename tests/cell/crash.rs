//! Processes killed in the middle of work: nothing acknowledged is lost, nothing half-written shows.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use crate::harness::{Cell, await_that, digest_tree, make_files, program, wait};

fn start_copy(cell: &Cell, from: &Path, to: &str) -> Child {
    let mut command = cell.command(program());
    command.args(["cp", "-r", from.to_str().expect("text"), to]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command.spawn().expect("shingle runs")
}

fn wait_for_objects(cell: &Cell, count: u64) {
    await_that(Duration::from_secs(60), "the copy makes progress", || {
        let objects = cell.number("objects");
        if objects >= count { Ok(()) } else { Err(format!("{objects} of {count} objects\n{}", cell.log())) }
    });
}

#[test]
fn a_copy_survives_the_death_of_a_host() {
    let cell = Cell::start(&["--disk-size", "8GiB", "--zone-size", "64MiB"]);
    let files = cell.scratch("files");
    make_files(&files, 120, 2 << 20, 1);
    let first = cell.pids()["host-2"];
    let mut copy = start_copy(&cell, &files, "sh://crash/tree");
    wait_for_objects(&cell, 20);
    cell.kill("host-2");
    let status = wait(&mut copy, Duration::from_secs(180)).expect("the copy ends");
    let output = copy.wait_with_output().expect("its output");
    assert!(status.success(), "{status}: {}\n{}", String::from_utf8_lossy(&output.stderr), cell.log());

    let back = cell.scratch("back");
    cell.ok(&["cp", "-r", "sh://crash/tree", back.to_str().expect("text")]);
    assert_eq!(digest_tree(&files), digest_tree(&back));

    // The host comes back by itself and knows its extents again.
    await_that(Duration::from_secs(60), "host 2 is back with its extents", || {
        let status = cell.status();
        let host = status["hosts"].as_array().and_then(|hosts| hosts.iter().find(|host| host["host"] == 2).cloned());
        let records = |osd: &serde_json::Value| osd["stored_bytes"].as_u64().unwrap_or(0);
        let host = host.unwrap_or_default();
        let stored: u64 = host["osds"].as_array().map_or(0, |osds| osds.iter().map(records).sum());
        let back = cell.pids()["host-2"] != first && host["alive"] == true && stored > 0;
        if back { Ok(()) } else { Err(format!("{host}\n{}", cell.log())) }
    });
    let again = cell.scratch("again");
    cell.ok(&["cp", "-r", "sh://crash/tree", again.to_str().expect("text")]);
    assert_eq!(digest_tree(&files), digest_tree(&again));
}

#[test]
fn acknowledged_objects_survive_the_death_of_every_process() {
    let mut cell = Cell::start(&["--disk-size", "8GiB", "--zone-size", "64MiB"]);
    let files = cell.scratch("files");
    make_files(&files, 150, 2 << 20, 2);
    for round in 0..3u64 {
        let target = format!("sh://crash/round-{round}");
        let mut command = cell.command(program());
        command.args(["cp", "-r", "--json", files.to_str().expect("text"), &target]);
        let list = cell.scratch("lists").join(format!("{round}"));
        command.stdout(fs::File::create(&list).expect("a list")).stderr(std::process::Stdio::null());
        let mut copy = command.spawn().expect("shingle runs");
        wait_for_objects(&cell, round * 150 + 10 + 30 * round);
        cell.kill_all();
        copy.kill().expect("the copy can be killed");
        copy.wait().expect("the copy ends");
        // The copy prints a line for a file only after the answer; those are the acknowledged ones.
        let printed = fs::read_to_string(&list).expect("the list");
        let acknowledged: Vec<String> = printed
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|line| line["status"] == "ok")
            .filter_map(|line| Some(line["target"].as_str()?.rsplit('/').next()?.to_owned()))
            .collect();
        assert!(!acknowledged.is_empty(), "something was acknowledged: {printed}");
        cell.up();
        let back = cell.scratch(&format!("back-{round}"));
        cell.ok(&["cp", "-r", &target, back.to_str().expect("text")]);
        let (original, stored) = (digest_tree(&files), digest_tree(&back));
        for name in &acknowledged {
            assert!(stored.contains_key(Path::new(name)), "{name} was acknowledged in round {round}");
        }
        for (name, digest) in &stored {
            assert_eq!(original.get(name), Some(digest), "{} is whole or absent", name.display());
        }
        // Everything works as before.
        cell.ok(&["cp", "-r", files.to_str().expect("text"), &target]);
        wait_for_objects(&cell, (round + 1) * 150);
    }
}
