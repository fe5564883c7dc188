//! The whole cell with everything that can go wrong, from a few seeds.

use std::time::Duration;

use shingle_tests::sim::cell::{CellShape, SimCell};
use shingle_tests::sim::workload::{Client, Content, create_bucket, delete, get, put};
use shingle_tests::soak::{Soak, run};

#[test]
fn objects_come_back_and_every_copy_is_there() {
    let cell = SimCell::new(1, CellShape::default());
    let inside = cell.clone();
    let seen = cell.executor.run(Duration::from_secs(600), async move {
        inside.start().await;
        create_bucket(&inside.core(0)).await.unwrap();
        for number in 0..10 {
            let content = Content(number).bytes();
            put(&inside.core(0), &format!("key-{number}"), content.clone()).await.unwrap();
            assert_eq!(get(&inside.core(1), &format!("key-{number}")).await.unwrap(), content);
        }
        delete(&inside.core(1), "key-3").await.unwrap();
        assert!(get(&inside.core(0), "key-3").await.is_err());
        inside.wait_reclaimed().await;
        inside.check_tables().await;
        inside.check_copies().await
    });
    assert_eq!(seen.objects, 9);
    assert_eq!(seen.copies, 4 * seen.blocks);
}

#[test]
fn the_same_seed_gives_the_same_trace_twice() {
    let soak = Soak { seed: 7, clients: 3, operations: 24, rounds: 2, small_extents: false };
    let first = run(soak);
    assert_eq!(first, run(soak));
    assert!(first.acknowledged > 0);
    assert_ne!(first.trace_hash, run(Soak { seed: 8, ..soak }).trace_hash);
}

#[test]
fn promises_hold_through_random_trouble() {
    for seed in 100..112 {
        // Every third seed with volumes that fill up.
        let small_extents = seed % 3 == 0;
        let report = run(Soak { seed, clients: 4, operations: 40, rounds: 3, small_extents });
        assert!(report.acknowledged > 20, "seed {seed}: {report:?}");
    }
}

#[test]
fn power_loss_everywhere_loses_nothing_acknowledged() {
    for seed in 0..6 {
        let cell = SimCell::new(seed, CellShape::default());
        let inside = cell.clone();
        cell.executor.run(Duration::from_secs(3600), async move {
            inside.start().await;
            create_bucket(&inside.core(0)).await.unwrap();
            let mut client = Client::new(0, inside.core(0), seed);
            for _ in 0..4 {
                let steps = 3 + inside.executor.below(10);
                for _ in 0..steps {
                    client.step().await;
                }
                inside.kill_all();
                inside.restart_dead();
                inside.wait_ready().await;
                client.reconnect(inside.core(0));
                client.read_all().await;
            }
            inside.check_copies().await;
        });
    }
}
