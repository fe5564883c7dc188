//! The races that the put path was designed around.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use shingle_tests::sim::cell::{CellShape, SimCell};
use shingle_tests::sim::workload::{Content, create_bucket, delete, get, put};

const LIMIT: Duration = Duration::from_secs(3600);

/// Runs one scenario over several seeds, then checks tables and copies.
fn over_seeds<F: Future<Output = ()> + 'static>(count: u64, scenario: impl Fn(Rc<SimCell>) -> F) {
    for seed in 0..count {
        let cell = SimCell::new(seed, CellShape::default());
        let inside = cell.clone();
        let run = scenario(cell.clone());
        cell.executor.run(LIMIT, async move {
            inside.start().await;
            create_bucket(&inside.core(0)).await.unwrap();
            run.await;
            inside.wait_reclaimed().await;
            inside.check_tables().await;
            inside.check_copies().await;
        });
    }
}

#[test]
fn two_puts_of_one_block_never_mix_their_keys() {
    over_seeds(8, |cell| async move {
        let bytes = Content(2).bytes();
        let puts = (0..4u32).map(|number| {
            let (cell, bytes) = (cell.clone(), bytes.clone());
            async move { put(&cell.core(number % 2), &format!("same-{number}"), bytes).await.unwrap() }
        });
        let rows = join_all(puts).await;
        assert!(rows.iter().all(|row| row.etag == rows[0].etag), "one content has one ETag");
        for number in 0..4 {
            assert_eq!(get(&cell.core(1), &format!("same-{number}")).await.unwrap(), bytes);
        }
        assert_eq!(cell.status().await.unwrap().blocks, 1, "one block, whoever won");
    });
}

#[test]
fn a_hit_on_a_block_whose_last_reference_goes_keeps_it_readable() {
    over_seeds(12, |cell| async move {
        let bytes = Content(4).bytes();
        for round in 0..6 {
            put(&cell.core(0), "goes", bytes.clone()).await.unwrap();
            // Delete and put meet at every distance, from before the delete to well inside reclaim.
            let pause = Duration::from_millis(cell.executor.below(1500));
            let (gone, stays) = join(delete(&cell.core(0), "goes"), async {
                cell.executor.sleep(pause).await;
                put(&cell.core(1), &format!("stays-{round}"), bytes.clone()).await
            })
            .await;
            gone.unwrap();
            stays.unwrap();
            cell.executor.sleep(Duration::from_secs(5)).await;
            assert_eq!(get(&cell.core(1), &format!("stays-{round}")).await.unwrap(), bytes);
            delete(&cell.core(1), &format!("stays-{round}")).await.unwrap();
        }
    });
}

#[test]
fn a_paused_gateway_with_an_expired_token_commits_nothing() {
    over_seeds(6, |cell| async move {
        let bytes = Content(10).bytes();
        let (gateway, control) = (cell.gateway_process(0), cell.control_process());
        let pausing = async {
            // Anywhere in the put, from its intent to its flip; then longer than any lease.
            cell.executor.sleep(Duration::from_micros(cell.executor.below(60_000))).await;
            cell.network.partition(gateway, control);
            cell.executor.sleep(Duration::from_secs(200)).await;
            cell.network.heal(gateway, control);
        };
        let (outcome, ()) = join(put(&cell.core(0), "paused", bytes.clone()), pausing).await;
        cell.executor.sleep(Duration::from_secs(120)).await;
        match get(&cell.core(1), "paused").await {
            Ok(found) => assert_eq!(found, bytes, "whole if it is there"),
            Err(_) => assert!(outcome.is_err(), "an acknowledged put is there"),
        }
    });
}

#[test]
fn overwrites_and_deletes_of_one_key_leave_one_of_the_contents() {
    over_seeds(6, |cell| async move {
        let work = (0..6u64).map(|number| {
            let cell = cell.clone();
            async move {
                cell.executor.sleep(Duration::from_millis(cell.executor.below(40))).await;
                let core = cell.core((number % 2) as u32);
                if number == 5 {
                    delete(&core, "contested").await.map(drop).unwrap();
                } else {
                    put(&core, "contested", Content(number).bytes()).await.map(drop).unwrap();
                }
            }
        });
        join_all(work).await;
        if let Ok(found) = get(&cell.core(0), "contested").await {
            assert!((0..5).any(|number| Content(number).bytes() == found), "one of the contents, whole");
        }
    });
}
