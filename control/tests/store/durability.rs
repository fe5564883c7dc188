//! The embedded store on its own: kill -9 between commits, a medium that fails, and what does not open.
//!
//! Children are this test binary again, told by environment variables what to do.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use futures_util::future::join_all;
use shingle_control::store::embedded::{EmbeddedStore, OpenError};
use shingle_control::store::{Store, StoreError};
use shingle_seam::clock::SystemClock;

use crate::rig::{put, run, value};

const CHILD_DIR: &str = "SHINGLE_TEST_STORE_DIR";
const WRITERS: u64 = 8;

fn open(dir: &Path) -> Result<EmbeddedStore, OpenError> {
    EmbeddedStore::open(dir, Rc::new(SystemClock::new()))
}

fn child(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD_DIR, dir).stdout(Stdio::piped());
    command
}

fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok)
}

/// Two keys that are always written together.
fn pair_of(round: u64, writer: u64, n: u64) -> [Vec<u8>; 2] {
    let name = [round, writer, n].map(u64::to_be_bytes).concat();
    [[b"a", name.as_slice()].concat(), [b"b", name.as_slice()].concat()]
}

async fn write_for_ever(store: &EmbeddedStore, round: u64, writer: u64) {
    for n in 0.. {
        let [first, second] = pair_of(round, writer, n);
        put(store, &[(&first, &[7; 100]), (&second, &[7; 100])]).await;
        // One write call: lines of several writers do not mix, and a killed process leaves no half acknowledgement.
        std::io::stdout().write_all(format!("ACK {writer} {n}\n").as_bytes()).unwrap();
    }
}

/// Commits until it is killed.
#[test]
fn child_that_commits() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let round = std::env::var("SHINGLE_TEST_ROUND").unwrap().parse().unwrap();
    run(async {
        let store = open(Path::new(&dir)).unwrap();
        join_all((0..WRITERS).map(|writer| write_for_ever(&store, round, writer))).await;
    });
}

#[test]
fn every_acknowledged_commit_survives_kill_nine_and_none_is_half_there() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let mut command = child("durability::child_that_commits", dir.path());
        let mut child = command.env("SHINGLE_TEST_ROUND", round.to_string()).spawn().unwrap();
        let mut acknowledged = [None; WRITERS as usize];
        let mut count = 0;
        let mut killed = false;
        for line in lines(&mut child) {
            let mut words = line.split(' ').skip_while(|word| !word.ends_with("ACK")).skip(1);
            let (Some(writer), Some(n)) = (words.next(), words.next()) else { continue };
            let (writer, n): (usize, u64) = (writer.parse().unwrap(), n.parse().unwrap());
            acknowledged[writer] = Some(n);
            count += 1;
            if count > 150 * (round + 1) && !killed {
                child.kill().unwrap(); // what it had acknowledged by then is still read from the pipe
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child ended by itself");
        run(async {
            let store = open(dir.path()).unwrap();
            for (writer, last) in (0..).zip(acknowledged) {
                let last = last.map_or(0, |last| last + 1);
                for n in 0..last + 2 {
                    let [first, second] = pair_of(round, writer, n);
                    let (first, second) = (value(&store, &first).await, value(&store, &second).await);
                    assert_eq!(first, second, "both or none: round {round}, writer {writer}, {n}");
                    assert!(n >= last || first.is_some(), "lost: round {round}, writer {writer}, {n}");
                }
            }
        });
    }
}

/// Its files may not grow beyond 1 MiB, so a commit fails for good some time.
#[test]
fn child_whose_medium_fails() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    run(async {
        let store = open(Path::new(&dir)).unwrap();
        let own = std::process::id().to_string();
        let limited = Command::new("prlimit").args(["--pid", &own, "--fsize=1048576"]).status().unwrap();
        assert!(limited.success());
        let mut n = 0_u64;
        loop {
            n += 1;
            let transaction = store.begin();
            transaction.set(n.to_be_bytes().to_vec(), vec![1; 50_000]);
            match transaction.commit().await {
                Ok(()) => println!("ACK {n}"),
                Err(StoreError::Failed(reason)) => break println!("FAILED {reason}"),
                Err(other) => panic!("{other}"),
            }
        }
        let small = store.begin();
        small.set(b"small".to_vec(), b"fits".to_vec());
        assert!(matches!(small.commit().await, Err(StoreError::Failed(_))), "nothing is acknowledged after a failure");
        assert!(value(&store, &1_u64.to_be_bytes()).await.is_some(), "what is durable can still be read");
        assert!(!store.failed().await.is_empty());
        println!("POISONED {n}");
    });
}

#[test]
fn a_failed_write_poisons_the_store_and_acknowledged_commits_survive_it() {
    let dir = tempfile::tempdir().unwrap();
    let inner = child("durability::child_whose_medium_fails", dir.path());
    // The shell makes the signal of the limit ignored, so that the write fails instead.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    let mut child = command.env(CHILD_DIR, dir.path()).stdout(Stdio::piped()).spawn().unwrap();
    let lines: Vec<String> = lines(&mut child).collect();
    child.wait().unwrap();
    let acknowledged = lines.iter().filter(|line| line.contains("ACK ")).count() as u64;
    assert!(acknowledged >= 10, "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("POISONED")), "{lines:?}");
    run(async {
        let store = open(dir.path()).unwrap();
        for n in 1..=acknowledged {
            assert!(value(&store, &n.to_be_bytes()).await.is_some(), "lost {n} of {acknowledged}");
        }
        put(&store, &[(b"again", b"1")]).await;
    });
}

#[test]
fn a_store_in_use_of_another_version_or_damaged_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Locked { .. })));
    drop(store);
    drop(open(dir.path()).unwrap());

    let version = dir.path().join("SHINGLE-STORE");
    std::fs::write(&version, "shingle store 999\n").unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::OtherVersion { found, .. }) if found.contains("999")));
    std::fs::remove_file(&version).unwrap();
    assert!(open(dir.path()).is_err(), "a tree without its version file is not taken over");
    std::fs::write(&version, "shingle store 1\n").unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::OtherVersion { .. }), "references were not counted then: {error}");
    std::fs::write(&version, "shingle store 2\n").unwrap();
    drop(open(dir.path()).unwrap());

    std::fs::write(dir.path().join("tree/version"), "garbage").unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::OtherVersion { .. } | OpenError::Damaged { .. }), "{error}");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(open(&file), Err(OpenError::Io { .. })));
}
