//! How long a durable commit takes: our committer against plain fjall with a sync per transaction.
//!
//! `cargo run -p shingle-control --example commit_latency -- [DIRECTORY] [SECONDS]`. Each transaction writes two rows of 48 +
//! 200 bytes, as a block's reference and entry do; ours also reads one key, so that the conflict check has work.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use shingle_control::store::Store;
use shingle_control::store::embedded::EmbeddedStore;
use shingle_seam::clock::SystemClock;

const WRITERS: [u64; 2] = [1, 64];

struct Result {
    name: &'static str,
    writers: u64,
    took: Duration,
    latency_us: Histogram<u64>,
    syncs: u64,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are constants that fit")
}

fn row(writer: u64, number: u64, kind: u8) -> (Vec<u8>, Vec<u8>) {
    // Hashes are random: spread the keys as they would be.
    let spread = (writer << 40 | number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut key = vec![kind; 48];
    key[1..9].copy_from_slice(&spread.to_be_bytes());
    key[9..17].copy_from_slice(&writer.to_be_bytes());
    key[17..25].copy_from_slice(&number.to_be_bytes());
    (key, vec![kind; 200])
}

async fn write_ours(store: &EmbeddedStore, writer: u64, end: Instant) -> Histogram<u64> {
    let mut latency_us = histogram();
    for number in 0.. {
        if Instant::now() >= end {
            break;
        }
        let transaction = store.begin();
        let (key, value) = row(writer, number, 1);
        transaction.get(&key).await.expect("the store reads");
        transaction.set(key, value);
        let (key, value) = row(writer, number, 2);
        transaction.set(key, value);
        let start = Instant::now();
        transaction.commit().await.expect("the store commits");
        latency_us.saturating_record(start.elapsed().as_micros() as u64);
    }
    latency_us
}

fn ours(dir: &Path, writers: u64, time: Duration) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = EmbeddedStore::open(dir, Rc::new(SystemClock::new())).expect("the store opens");
        let start = Instant::now();
        let all = join_all((0..writers).map(|writer| write_ours(&store, writer, start + time))).await;
        let took = start.elapsed();
        let mut latency_us = histogram();
        all.iter().for_each(|one| latency_us += one);
        Result { name: "our committer", writers, took, latency_us, syncs: store.metrics().syncs }
    })
}

fn write_plain(database: &Database, keyspace: &Keyspace, writer: u64, end: Instant) -> Histogram<u64> {
    let mut latency_us = histogram();
    for number in 0.. {
        if Instant::now() >= end {
            break;
        }
        let mut batch = database.batch();
        for kind in [1, 2] {
            let (key, value) = row(writer, number, kind);
            batch.insert(keyspace, key, value);
        }
        let start = Instant::now();
        batch.commit().expect("fjall commits");
        database.persist(PersistMode::SyncAll).expect("fjall syncs");
        latency_us.saturating_record(start.elapsed().as_micros() as u64);
    }
    latency_us
}

fn plain(dir: &Path, writers: u64, time: Duration) -> Result {
    let database = Database::builder(dir).open().expect("fjall opens");
    let keyspace = database.keyspace("rows", KeyspaceCreateOptions::default).expect("fjall makes a key space");
    let start = Instant::now();
    let mut latency_us = histogram();
    std::thread::scope(|scope| {
        let write = |writer| write_plain(&database, &keyspace, writer, start + time);
        let threads: Vec<_> = (0..writers).map(|writer| scope.spawn(move || write(writer))).collect();
        for thread in threads {
            latency_us += thread.join().expect("a writer does not panic");
        }
    });
    let syncs = latency_us.len();
    Result { name: "plain fjall", writers, took: start.elapsed(), latency_us, syncs }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().and_then(|seconds| seconds.parse().ok()).unwrap_or(5);
    println!(
        "{:<14} {:>7} {:>10} {:>8} {:>8} {:>9} {:>12}",
        "", "writers", "commits/s", "p50 ms", "p99 ms", "max ms", "commits/sync"
    );
    for writers in WRITERS {
        for run in [ours, plain] {
            let dir = directory.join(format!("commit-latency-{}", std::process::id()));
            let result = run(&dir, writers, Duration::from_secs(seconds));
            std::fs::remove_dir_all(&dir).expect("its own directory can be removed");
            let at = |quantile| result.latency_us.value_at_quantile(quantile) as f64 / 1000.0;
            let commits = result.latency_us.len();
            println!(
                "{:<14} {:>7} {:>10.0} {:>8.2} {:>8.2} {:>9.2} {:>12.1}",
                result.name,
                result.writers,
                commits as f64 / result.took.as_secs_f64(),
                at(0.5),
                at(0.99),
                at(1.0),
                commits as f64 / result.syncs.max(1) as f64,
            );
        }
    }
}
