//! Injected faults of the memory store.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use shingle_control::store::memory::{Faults, MemoryDisk, MemoryStore};
use shingle_control::store::{Store, StoreError, Transaction};
use shingle_seam::World;
use shingle_seam::on_tokio;

use crate::rig::{content, increment, number, put, run, until_committed, value};

fn faulty(seed: u64, faults: Faults) -> (World, MemoryDisk, MemoryStore) {
    let world = on_tokio::world(1);
    let disk = MemoryDisk::new(seed);
    disk.inject(faults);
    let store = MemoryStore::open(world.clone(), disk.clone());
    (world, disk, store)
}

#[test]
fn injected_conflicts_leave_nothing_behind() {
    run(async {
        let (_, _, store) = faulty(7, Faults { conflicts_per_mille: 500, ..Faults::default() });
        for _ in 0..50 {
            let add = async |transaction: &dyn Transaction| increment(transaction, b"n").await;
            until_committed(&store, add).await.unwrap();
        }
        assert_eq!(number(value(&store, b"n").await), 50);
        assert!(store.metrics().conflicts > 10);
    });
}

#[test]
fn one_seed_hits_the_same_commits_every_time() {
    run(async {
        let faults = Faults { conflicts_per_mille: 300, unknown_per_mille: 300, ..Faults::default() };
        let results = async |seed| {
            let (_, disk, store) = faulty(seed, faults);
            let mut results = Vec::new();
            for n in 1..100_u8 {
                let transaction = store.begin();
                transaction.set(vec![n], Vec::new());
                results.push(transaction.commit().await);
            }
            (results, disk.dump())
        };
        assert_eq!(results(3).await, results(3).await);
        assert_ne!(results(3).await, results(4).await);
    });
}

#[test]
fn unknown_results_have_happened_or_not() {
    run(async {
        let (_, disk, store) = faulty(8, Faults { unknown_per_mille: 500, ..Faults::default() });
        let (mut happened, mut unknown) = (0, 0);
        for n in 0..200_u64 {
            let transaction = store.begin();
            transaction.set(n.to_be_bytes().to_vec(), b"1".to_vec());
            if transaction.commit().await == Err(StoreError::UnknownResult) {
                unknown += 1;
                happened += usize::from(value(&store, &n.to_be_bytes()).await.is_some());
            }
        }
        assert!(unknown > 50 && happened > 10 && happened < unknown - 10, "{happened} of {unknown}");
        assert_eq!(disk.dump().len(), 200 - (unknown - happened));
    });
}

#[test]
fn a_failed_store_acknowledges_nothing() {
    run(async {
        let (_, disk, store) = faulty(11, Faults { failed: true, ..Faults::default() });
        let add = async |transaction: &dyn Transaction| increment(transaction, b"n").await;
        assert!(matches!(until_committed(&store, add).await, Err(StoreError::Failed(_))));
        assert_eq!(disk.dump(), []);
    });
}

#[test]
fn a_crashed_process_leaves_whole_transactions_on_the_disk() {
    run(async {
        let takes = Duration::from_millis(20);
        let (world, disk, store) = faulty(12, Faults { commit_takes: takes, ..Faults::default() });
        let store = Rc::new(store);
        let commit = |n: u64| {
            let store = store.clone();
            let world = world.clone();
            async move {
                world.tasks.sleep(Duration::from_millis(n)).await;
                put(store.as_ref(), &[(&[1, n as u8], b"x"), (&[2, n as u8], b"x")]).await;
            }
        };
        // The process dies, and every commit under way with it.
        let life = world.tasks.timeout(Duration::from_millis(30), join_all((0..40).map(commit))).await;
        assert!(life.is_err());
        drop(store);
        disk.inject(Faults::default());
        let pairs = content(&MemoryStore::open(world.clone(), disk)).await;
        let firsts: Vec<u8> = pairs.iter().filter(|(key, _)| key[0] == 1).map(|(key, _)| key[1]).collect();
        let seconds: Vec<u8> = pairs.iter().filter(|(key, _)| key[0] == 2).map(|(key, _)| key[1]).collect();
        assert_eq!(firsts, seconds, "both keys or none");
        assert!(!firsts.is_empty() && firsts.len() < 40);
    });
}
