//! Serializability: what two transactions that know nothing of each other may and may not do.

use std::rc::Rc;

use futures_util::future::join_all;
use shingle_control::store::{RangeRead, StoreError, Transaction};

use crate::rig::{all, increment, number, on_every_store, put, until_committed, value};

#[test]
fn concurrent_increments_all_count() {
    on_every_store(async |rig| {
        let store = rig.open();
        let writer = async |_| {
            for _ in 0..20 {
                let add = async |transaction: &dyn Transaction| increment(transaction, b"counter").await;
                until_committed(store.as_ref(), add).await.unwrap();
            }
        };
        join_all((0..8).map(writer)).await;
        assert_eq!(number(value(store.as_ref(), b"counter").await), 160);
    });
}

#[test]
fn commits_that_come_together_share_a_sync() {
    on_every_store(async |rig| {
        let store = rig.open();
        let writer = |n: u64| {
            let store = Rc::clone(&store);
            async move { put(store.as_ref(), &[(&(n + 1).to_be_bytes(), b"value")]).await }
        };
        join_all((0..200).map(writer)).await;
        let metrics = store.metrics();
        assert_eq!(metrics.commits, 200);
        assert!(metrics.syncs <= metrics.commits);
    });
}

#[test]
fn write_skew_is_prevented() {
    on_every_store(async |rig| {
        let store = rig.open();
        put(store.as_ref(), &[(b"x", b"1"), (b"y", b"1")]).await;
        // Each of two doctors goes off duty because the other one is on duty.
        let (first, second) = (store.begin(), store.begin());
        for transaction in [&first, &second] {
            assert!(transaction.get(b"x").await.unwrap().is_some());
            assert!(transaction.get(b"y").await.unwrap().is_some());
        }
        first.clear(b"x".to_vec());
        second.clear(b"y".to_vec());
        assert_eq!(first.commit().await, Ok(()));
        assert_eq!(second.commit().await, Err(StoreError::Conflict));
        assert!(value(store.as_ref(), b"y").await.is_some(), "a conflict leaves nothing");
    });
}

#[test]
fn a_phantom_in_a_range_is_prevented() {
    on_every_store(async |rig| {
        let store = rig.open();
        let transaction = store.begin();
        assert_eq!(transaction.range(all(b"a", b"m")).await, Ok(Vec::new()));
        transaction.set(b"empty".to_vec(), b"yes".to_vec());
        put(store.as_ref(), &[(b"lll", b"")]).await;
        assert_eq!(transaction.commit().await, Err(StoreError::Conflict));
    });
}

#[test]
fn a_row_that_vanishes_from_a_range_conflicts_too() {
    on_every_store(async |rig| {
        let store = rig.open();
        put(store.as_ref(), &[(b"b", b"")]).await;
        let transaction = store.begin();
        assert_eq!(transaction.range(all(b"a", b"m")).await.unwrap().len(), 1);
        transaction.set(b"z".to_vec(), Vec::new());
        let other = store.begin();
        other.clear(b"b".to_vec());
        other.commit().await.unwrap();
        assert_eq!(transaction.commit().await, Err(StoreError::Conflict));
    });
}

#[test]
fn a_limited_range_conflicts_only_up_to_its_last_pair() {
    on_every_store(async |rig| {
        for (reverse, behind, inside) in [(false, b"c5", b"b5"), (true, b"c5", b"d5")] {
            for (changed, result) in [(behind, Ok(())), (inside, Err(StoreError::Conflict))] {
                let store = rig.open();
                let cleared = store.begin();
                cleared.clear(changed.to_vec());
                cleared.commit().await.unwrap();
                put(store.as_ref(), &[(b"b", b""), (b"c", b""), (b"d", b""), (b"e", b"")]).await;
                let transaction = store.begin();
                let pairs = transaction.range(RangeRead { limit: 2, reverse, ..all(b"a", b"z") }).await.unwrap();
                assert_eq!(pairs[1].0, if reverse { b"d" } else { b"c" });
                transaction.set(b"zz".to_vec(), Vec::new());
                put(store.as_ref(), &[(changed, b"")]).await;
                assert_eq!(transaction.commit().await, result, "reverse {reverse}, changed {changed:?}");
            }
        }
    });
}

#[test]
fn a_snapshot_range_does_not_conflict_but_the_same_key_read_does() {
    on_every_store(async |rig| {
        let store = rig.open();
        for (read_key, result) in [(false, Ok(())), (true, Err(StoreError::Conflict))] {
            let transaction = store.begin();
            transaction.range(RangeRead { snapshot: true, ..all(b"a", b"m") }).await.unwrap();
            if read_key {
                transaction.get(b"b").await.unwrap();
            }
            transaction.set(b"z".to_vec(), Vec::new());
            put(store.as_ref(), &[(b"b", b"")]).await;
            assert_eq!(transaction.commit().await, result);
        }
    });
}

#[test]
fn blind_writes_and_read_only_transactions_never_conflict() {
    on_every_store(async |rig| {
        let store = rig.open();
        let blind = store.begin();
        blind.set(b"a".to_vec(), b"blind".to_vec());
        let reader = store.begin();
        assert_eq!(reader.get(b"a").await, Ok(None));
        put(store.as_ref(), &[(b"a", b"1")]).await;
        assert_eq!(blind.commit().await, Ok(()));
        assert_eq!(reader.commit().await, Ok(()));
        assert_eq!(value(store.as_ref(), b"a").await, Some(b"blind".to_vec()));
    });
}

#[test]
fn a_cleared_key_that_was_read_conflicts_and_an_absent_one_does_not_come_back() {
    on_every_store(async |rig| {
        let store = rig.open();
        put(store.as_ref(), &[(b"block", b"1"), (b"reference", b"1")]).await;
        // A dedup hit against the last delete: one of them must lose.
        let hit = store.begin();
        assert!(hit.get(b"block").await.unwrap().is_some());
        hit.set(b"reference2".to_vec(), b"1".to_vec());
        let delete = store.begin();
        assert!(delete.range(all(b"reference\0", b"reference\xff")).await.unwrap().is_empty());
        delete.clear(b"block".to_vec());
        assert_eq!(delete.commit().await, Ok(()));
        assert_eq!(hit.commit().await, Err(StoreError::Conflict));
        assert_eq!(value(store.as_ref(), b"reference2").await, None);
    });
}

#[test]
fn additions_to_one_counter_conflict_with_its_readers_only() {
    on_every_store(async |rig| {
        let store = rig.open();
        let reader = store.begin();
        assert_eq!(reader.get(b"counter").await.unwrap(), None);
        let peeker = store.begin();
        assert_eq!(peeker.peek(b"counter").await.unwrap(), None);
        let adders: Vec<_> = (0..20_u64).map(|_| store.begin()).collect();
        for (delta, adder) in (1..).zip(&adders) {
            assert_eq!(adder.peek(b"other").await.unwrap(), None, "each has a snapshot from before the others");
            adder.add(b"counter".to_vec(), delta);
        }
        for result in join_all(adders.into_iter().map(|adder| adder.commit())).await {
            result.unwrap();
        }
        assert_eq!(value(store.as_ref(), b"counter").await, Some(210_u64.to_le_bytes().to_vec()));
        reader.set(b"by reader".to_vec(), vec![1]);
        assert_eq!(reader.commit().await, Err(StoreError::Conflict));
        peeker.set(b"by peeker".to_vec(), vec![1]);
        peeker.commit().await.unwrap();
    });
}
