//! What one caller does to the store must not keep the thread that serves the others.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use shingle_control::store::Store;
use shingle_control::store::embedded::EmbeddedStore;
use shingle_control::tables::Tables;
use shingle_control::tables::block_index::Block;
use shingle_control::tables::references::{add_reference, drop_reference};
use shingle_control::tables::work::Work;
use shingle_proto::ids::{BlockHash, CellId, ManifestId};
use shingle_proto::message::{BlockRow, Compression};
use shingle_seam::clock::SystemClock;
use shingle_seam::on_tokio;

use crate::rig::{content, run};

const HASH: BlockHash = BlockHash([7; 32]);
/// References dropped by one transaction.
const BATCH: u128 = 100;
/// An idle machine needs less than 20 ms; other tests may have the processor meanwhile. Scanning the dropped references
/// on this thread took seconds.
const STALL_MAX: Duration = Duration::from_millis(500);
/// As above: an idle machine needs a second, a scan for each reference takes minutes.
const DROPS_MAX: Duration = Duration::from_secs(20);

fn block() -> Block {
    let row = BlockRow { plain_bytes: 1, sealed_bytes: 1, wrapped_key: vec![1], bucket: 1, ..BlockRow::default() };
    Block::stored(&BlockRow { compression: Compression::None, ..row }, CellId(1))
}

async fn add_all(tables: &Tables, references: u128) {
    let insert = tables.run(async |work: &Work| {
        work.insert(&HASH, &block());
        Ok(())
    });
    insert.await.unwrap();
    for first in (0..references).step_by(BATCH as usize) {
        let add = tables.run(async |work: &Work| {
            for manifest in first..first + BATCH {
                add_reference(work, HASH, ManifestId(manifest)).await?;
            }
            Ok(())
        });
        add.await.unwrap();
    }
}

/// Drops all references, the first ones first: every scan from the beginning would pass over all that went before.
async fn drop_all(tables: &Tables, references: u128) {
    for first in (0..references).step_by(BATCH as usize) {
        let drop_some = tables.run(async |work: &Work| {
            for manifest in first..first + BATCH {
                if drop_reference(work, HASH, ManifestId(manifest)).await? {
                    let block = work.get::<Block>(&HASH).await?.expect("it had references");
                    work.remove(&HASH, &block);
                }
            }
            Ok(())
        });
        drop_some.await.unwrap();
    }
}

/// Runs `work` beside a task that reads one key over and over. Gives how long the work took, and the longest time that
/// the reader had to wait for its turn and its value.
async fn beside_a_reader(store: &EmbeddedStore, work: impl Future<Output = ()>) -> (Duration, Duration) {
    let start = Instant::now();
    let longest = Cell::new(Duration::ZERO);
    let reading = async {
        loop {
            let pause = Duration::from_millis(1);
            let asked = Instant::now();
            tokio::time::sleep(pause).await;
            store.begin().get(b"key").await.unwrap();
            longest.set(longest.get().max(asked.elapsed() - pause));
        }
    };
    tokio::select! {
        () = work => {}
        () = reading => {}
    }
    (start.elapsed(), longest.get())
}

#[test]
fn dropping_ten_thousand_references_to_one_block_takes_no_scan_each_and_stalls_nobody() {
    run(async {
        const REFERENCES: u128 = 10_000;
        let dir = tempfile::tempdir().unwrap();
        let world = on_tokio::world(1);
        let store = Rc::new(EmbeddedStore::open(dir.path(), world.clock.clone()).unwrap());
        let tables = Tables::new(world, store.clone());
        add_all(&tables, REFERENCES).await;
        let (time, longest) = beside_a_reader(&store, drop_all(&tables, REFERENCES)).await;
        println!("{REFERENCES} references dropped in {time:?}, the longest get took {longest:?}");
        assert!(longest < STALL_MAX, "a get waited {longest:?}");
        assert!(time < DROPS_MAX, "{time:?}");
        assert_eq!(tables.look().get::<Block>(&HASH).await.unwrap(), None);
    });
}

#[test]
fn a_long_scan_stalls_nobody() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), Rc::new(SystemClock::new())).unwrap();
        for batch in 0..100_u32 {
            let transaction = store.begin();
            for number in 0..1000_u32 {
                transaction.set([batch.to_be_bytes(), number.to_be_bytes()].concat(), vec![0; 100]);
            }
            transaction.commit().await.unwrap();
        }
        let scan = async { assert_eq!(content(&store).await.len(), 100_000) };
        let (time, longest) = beside_a_reader(&store, scan).await;
        println!("100,000 pairs read in {time:?}, the longest get took {longest:?}");
        assert!(longest < STALL_MAX, "a get waited {longest:?} while all was read in {time:?}");
    });
}
