//! What one caller does to the store must not keep the thread that serves the others. That dropping a reference scans no
//! others is held in the catalog's suite (`dropping_one_of_many_references_scans_none_of_them`).

use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::join_all;
use shingle_control::store::embedded::EmbeddedStore;
use shingle_control::store::{RangeRead, Store};
use shingle_proto::limits::{STORE_READERS, STORE_READS_MAX};
use shingle_seam::clock::SystemClock;

use crate::rig::run;

const ROWS: usize = 20_000;

fn everything() -> RangeRead {
    RangeRead { begin: vec![0], end: vec![u8::MAX], limit: ROWS, reverse: false, snapshot: true }
}

#[test]
fn ranges_are_read_on_other_threads_and_nobody_who_gets_a_key_waits_for_them() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), Rc::new(SystemClock::new())).unwrap();
        let transaction = store.begin();
        (0..ROWS as u32).for_each(|row| transaction.set(row.to_be_bytes().to_vec(), vec![1; 10]));
        transaction.commit().await.unwrap();
        // As many ranges as may wait, far more than there are threads to read them.
        let transactions: Vec<_> = (0..STORE_READS_MAX).map(|_| store.begin()).collect();
        let (mut waiting, mut read) = (Vec::new(), 0);
        for transaction in &transactions {
            // Asked for, not read: this thread is free again at once.
            let mut range = transaction.range(everything());
            match range.as_mut().now_or_never() {
                Some(_) => read += 1,
                None => waiting.push(range),
            }
            let got = store.begin().get(&[0, 0, 0, 7]).now_or_never();
            assert_eq!(got, Some(Ok(Some(vec![1; 10]))), "a get is answered at its first poll, whatever is being read");
        }
        assert!(read < STORE_READS_MAX / 2, "{read} of {STORE_READS_MAX} ranges were read before anybody waited");
        const { assert!(STORE_READS_MAX > 8 * STORE_READERS) };
        let pairs = join_all(waiting.into_iter().take(8)).await;
        assert!(pairs.into_iter().all(|pairs| pairs.is_ok_and(|pairs| pairs.len() == ROWS)));
    });
}
