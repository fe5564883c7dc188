//! How many manifests reclaim takes apart at once on a real store; it prints how fast, and what clients feel of it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shingle_control::master::reclaim::{ReclaimConfig, ReclaimJob};
use shingle_control::service::catalog::Catalog;
use shingle_control::store::embedded::EmbeddedStore;
use shingle_proto::message::*;
use shingle_seam::on_tokio;

use crate::cell::{BUCKET, Cell, FixedPlaces, Intent, TestBlock, blocks, expect_done};

const OBJECTS: u64 = 2_000;

async fn put(catalog: &Catalog, key: &str, blocks: &[TestBlock]) {
    let open = OpenIntent { s3_bucket: BUCKET.into(), key: key.into() };
    let Response::IntentOpened(opened) = catalog.handle(Request::OpenIntent(Box::new(open))).await else { panic!() };
    let intent = Intent { manifest: opened.manifest, put_token: opened.put_token };
    let committed = catalog.handle(Cell::commit_request(&intent, blocks, intent.put_token)).await;
    assert!(matches!(committed, Response::BlocksCommitted(_)), "{committed:?}");
    let finish = Cell::finish_request(&intent, key, blocks, "etag");
    let finished = catalog.handle(Request::FinishObject(Box::new(finish))).await;
    assert!(matches!(finished, Response::ObjectFinished(_)), "{finished:?}");
}

/// Every object has a block of its own and one that all share.
async fn put_and_delete_all(catalog: &Catalog) {
    for some in (0..OBJECTS).collect::<Vec<_>>().chunks(100) {
        join_all(some.iter().map(async |number| {
            let key = format!("{number}");
            put(catalog, &key, &blocks([1_000_000, *number])).await;
            expect_done(catalog.handle(Cell::delete_request(&key)).await);
        }))
        .await;
    }
}

#[test]
fn small_objects_are_reclaimed_by_the_hundred_while_clients_go_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let dir = tempfile::tempdir().unwrap();
        let world = on_tokio::world(1);
        let store = Rc::new(EmbeddedStore::open(dir.path(), world.clock.clone()).unwrap());
        let catalog = Catalog::new(world, store, Rc::new(FixedPlaces::default()));
        let bucket = CreateS3Bucket { name: BUCKET.into() };
        expect_done(catalog.handle(Request::CreateS3Bucket(Box::new(bucket))).await);
        put_and_delete_all(&catalog).await;
        let config = ReclaimConfig { grace_ms: 0, restart_ms: 0, ..ReclaimConfig::default() };
        let job = ReclaimJob::new(catalog.tables().clone(), catalog.holds(), config);
        let start = Instant::now();
        let mut slowest = Duration::ZERO;
        let clients = async {
            for number in 0.. {
                let asked = Instant::now();
                put(&catalog, &format!("beside-{number}"), &blocks([2_000_000 + number])).await;
                slowest = slowest.max(asked.elapsed());
            }
        };
        tokio::select! {
            drained = job.drain() => drained.unwrap(),
            () = clients => {}
        }
        let rate = job.progress().finished as f64 / start.elapsed().as_secs_f64();
        println!("{rate:.0} manifests a second; the slowest put of four transactions beside it took {slowest:?}");
        assert!(job.progress().finished >= OBJECTS);
        let transactions = job.progress().transactions;
        assert!(transactions * 10 <= OBJECTS, "{transactions} transactions, each with a sync to wait for");
    });
}
