//! Reads, writes, ranges, sizes and time.

use std::time::Duration;

use shingle_control::store::{RangeRead, StoreError};
use shingle_proto::limits::{STORE_KEY_BYTES_MAX, STORE_VALUE_BYTES_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_LIFE_MS};

use crate::rig::{all, content, on_every_store, put, value};

fn keys(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<&str> {
    pairs.iter().map(|(key, _)| std::str::from_utf8(key).unwrap()).collect()
}

#[test]
fn a_transaction_reads_its_own_writes_and_nobody_elses_before_their_commit() {
    on_every_store(async |rig| {
        let store = rig.open();
        put(store.as_ref(), &[(b"a", b"1"), (b"b", b"1"), (b"c", b"1")]).await;
        let transaction = store.begin();
        transaction.set(b"b".to_vec(), b"2".to_vec());
        transaction.set(b"bb".to_vec(), b"2".to_vec());
        transaction.clear(b"c".to_vec());
        assert_eq!(transaction.get(b"b").await, Ok(Some(b"2".to_vec())));
        assert_eq!(transaction.get(b"c").await, Ok(None));
        let pairs = transaction.range(all(b"a", b"z")).await.unwrap();
        assert_eq!(keys(&pairs), ["a", "b", "bb"]);
        assert_eq!(pairs[1].1, b"2");
        assert_eq!(keys(&content(store.as_ref()).await), ["a", "b", "c"]);
        transaction.commit().await.unwrap();
        assert_eq!(keys(&content(store.as_ref()).await), ["a", "b", "bb"]);
    });
}

#[test]
fn a_transaction_that_is_dropped_leaves_nothing() {
    on_every_store(async |rig| {
        let store = rig.open();
        let transaction = store.begin();
        transaction.set(b"a".to_vec(), b"1".to_vec());
        drop(transaction);
        assert_eq!(content(store.as_ref()).await, []);
    });
}

#[test]
fn all_reads_of_a_transaction_see_one_snapshot() {
    on_every_store(async |rig| {
        let store = rig.open();
        put(store.as_ref(), &[(b"a", b"1"), (b"b", b"1")]).await;
        let transaction = store.begin();
        assert_eq!(transaction.get(b"a").await, Ok(Some(b"1".to_vec())));
        put(store.as_ref(), &[(b"b", b"2"), (b"c", b"2")]).await;
        assert_eq!(transaction.get(b"b").await, Ok(Some(b"1".to_vec())));
        assert_eq!(keys(&transaction.range(all(b"a", b"z")).await.unwrap()), ["a", "b"]);
    });
}

#[test]
fn ranges_obey_bounds_limit_and_direction_with_own_writes_between() {
    on_every_store(async |rig| {
        let store = rig.open();
        put(store.as_ref(), &[(b"a", b""), (b"c", b""), (b"e", b""), (b"g", b"")]).await;
        let transaction = store.begin();
        transaction.set(b"d".to_vec(), Vec::new());
        transaction.clear(b"c".to_vec());
        transaction.clear(b"g".to_vec());
        let range = async |begin: &[u8], end: &[u8], limit, reverse| {
            let read = RangeRead { limit, reverse, ..all(begin, end) };
            let pairs = transaction.range(read).await.unwrap();
            keys(&pairs).concat()
        };
        assert_eq!(range(b"a", b"z", usize::MAX, false).await, "ade");
        assert_eq!(range(b"a", b"z", usize::MAX, true).await, "eda");
        assert_eq!(range(b"a", b"z", 2, false).await, "ad");
        assert_eq!(range(b"a", b"z", 2, true).await, "ed");
        assert_eq!(range(b"a", b"e", 9, false).await, "ad", "the end is excluded");
        assert_eq!(range(b"a\0", b"e\0", 9, false).await, "de", "the beginning is included");
        assert_eq!(range(b"a", b"z", 0, false).await, "");
        assert_eq!(range(b"e", b"e", 9, false).await, "");
        assert_eq!(range(b"z", b"a", 9, false).await, "", "an inverted range is empty");
    });
}

#[test]
fn what_was_committed_is_there_after_a_reopen_and_what_was_cleared_is_not() {
    on_every_store(async |rig| {
        let store = rig.open();
        put(store.as_ref(), &[(b"a", b"1"), (b"b", b"1")]).await;
        let transaction = store.begin();
        transaction.clear(b"a".to_vec());
        transaction.set(b"c".to_vec(), b"2".to_vec());
        transaction.commit().await.unwrap();
        drop(store);
        let store = rig.open();
        assert_eq!(keys(&content(store.as_ref()).await), ["b", "c"]);
        put(store.as_ref(), &[(b"d", b"3")]).await;
        drop(store);
        assert_eq!(keys(&content(rig.open().as_ref()).await), ["b", "c", "d"]);
    });
}

#[test]
fn sizes_at_the_limit_pass_and_one_byte_more_is_refused_whole() {
    on_every_store(async |rig| {
        let store = rig.open();
        let long_key = vec![b'k'; STORE_KEY_BYTES_MAX];
        let long_value = vec![b'v'; STORE_VALUE_BYTES_MAX];
        put(store.as_ref(), &[(&long_key, &long_value)]).await;
        assert_eq!(value(store.as_ref(), &long_key).await, Some(long_value.clone()));

        let refused = async |pairs: Vec<(Vec<u8>, Vec<u8>)>| {
            let transaction = store.begin();
            transaction.set(b"other".to_vec(), b"1".to_vec());
            pairs.into_iter().for_each(|(key, value)| transaction.set(key, value));
            match transaction.commit().await {
                Err(StoreError::TooLarge { bytes }) => bytes,
                other => panic!("{other:?} instead of a refusal"),
            }
        };
        let bytes = refused(vec![(vec![b'k'; STORE_KEY_BYTES_MAX + 1], Vec::new())]).await;
        assert_eq!(bytes, STORE_KEY_BYTES_MAX + 1);
        let bytes = refused(vec![(b"k".to_vec(), vec![0; STORE_VALUE_BYTES_MAX + 1])]).await;
        assert_eq!(bytes, STORE_VALUE_BYTES_MAX + 1);
        let many = (0..TRANSACTION_BYTES_MAX / STORE_VALUE_BYTES_MAX).map(|n| (vec![n as u8 + 1], long_value.clone()));
        let bytes = refused(many.collect()).await;
        assert!(bytes > TRANSACTION_BYTES_MAX);
        assert_eq!(content(store.as_ref()).await.len(), 1, "nothing of what was refused is there");
    });
}

#[test]
fn a_transaction_older_than_its_life_neither_reads_nor_commits() {
    on_every_store(async |rig| {
        let store = rig.open();
        let young = store.begin();
        let old = store.begin();
        old.get(b"a").await.unwrap();
        old.set(b"a".to_vec(), b"1".to_vec());
        rig.clock.push(Duration::from_millis(TRANSACTION_LIFE_MS - 1000));
        assert_eq!(young.get(b"a").await, Ok(None));
        rig.clock.push(Duration::from_millis(1001));
        assert!(matches!(young.get(b"a").await, Err(StoreError::TooOld { .. })));
        assert!(matches!(old.commit().await, Err(StoreError::TooOld { .. })));
        put(store.as_ref(), &[(b"b", b"1")]).await;
        assert_eq!(content(store.as_ref()).await.len(), 1);
    });
}

#[test]
fn commits_are_counted_and_timed() {
    on_every_store(async |rig| {
        let store = rig.open();
        assert_eq!(store.metrics().commits, 0);
        for n in 0..10 {
            put(store.as_ref(), &[(&[n + 1], b"")]).await;
        }
        store.begin().commit().await.unwrap(); // nothing to commit, so not counted
        let metrics = store.metrics();
        assert_eq!((metrics.commits, metrics.conflicts), (10, 0));
        assert!((1..=10).contains(&metrics.syncs));
        assert!(0 < metrics.commit_p50_us && metrics.commit_p50_us <= metrics.commit_p99_us);
    });
}
