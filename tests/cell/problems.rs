//! What an operator is told: nothing while all is well, who is missing when somebody is, and how old the last word on
//! every extent is.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Cell, signal};

/// The kinds of the problems told, each with the host it is about.
fn problems(status: &Value) -> Vec<(String, u64)> {
    let problems = status["problems"].as_array().unwrap_or_else(|| panic!("no problems in {status}"));
    let kind = |problem: &Value| problem["kind"].as_str().unwrap_or_default().to_owned();
    problems.iter().map(|problem| (kind(problem), problem["host"].as_u64().unwrap_or(0))).collect()
}

fn until(cell: &Cell, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let status = cell.status();
        if holds(&status) {
            return status;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}: {status}\n{}", cell.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_host_that_stops_is_named_until_it_is_back_and_ages_are_told() {
    let cell = Cell::start(&["--disk-size", "8GiB", "--zone-size", "64MiB"]);
    let file = cell.scratch("files").join("file");
    std::fs::write(&file, vec![7; 3 << 20]).expect("a file");
    cell.ok(&["cp", file.to_str().expect("text"), "sh://told/file"]);
    let healthy = until(&cell, "nothing is wrong", |status| status["ready"] == true && problems(status).is_empty());
    assert_eq!((&healthy["findings"], &healthy["lack"]), (&Value::from(0), &Value::from("Nothing")));

    let host = cell.pids()["host-3"];
    signal(host, libc::SIGSTOP);
    until(&cell, "the stopped host is named", |status| problems(status).contains(&("HostSilent".into(), 3)));
    signal(host, libc::SIGCONT);
    let back = until(&cell, "all is well again", |status| status["ready"] == true && problems(status).is_empty());
    assert_eq!(cell.pids()["host-3"], host, "it went on, nobody started another one");

    // The file's four copies were never verified yet, and say so, in the sums and one by one.
    let osds = |status: &Value| -> Vec<Value> {
        let hosts = status["hosts"].as_array().cloned().unwrap_or_default();
        hosts.iter().flat_map(|host| host["osds"].as_array().cloned().unwrap_or_default()).collect()
    };
    assert!(osds(&back).iter().all(|osd| osd["scrub"]["sweep_ms"] == 14 * 86_400_000), "{back}");
    until(&cell, "four disks have something to verify", |status| {
        let held = |osd: &Value| osd["scrub"]["held_bytes"].as_u64().is_some_and(|bytes| bytes > 0);
        osds(status).iter().filter(|osd| held(osd)).count() == 4
    });
    let dir = cell.dir();
    let ask = |flag: &str| {
        let text = cell.ok(&["status", flag, "--json", "--dir", dir.to_str().expect("text")]);
        serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let ages = ask("--extents");
    let extents = ages["extents"].as_array().expect("extents");
    assert_eq!((extents.len(), &ages["unanswered"]), (4, &Value::Array(Vec::new())), "{ages}");
    assert!(extents.iter().all(|extent| extent["verified_ms"].is_null() && extent["records"] == 1), "{ages}");
    assert_eq!(ask("--findings"), Value::Array(Vec::new()));
}
