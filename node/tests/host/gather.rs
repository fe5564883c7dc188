//! Small records that wait together are one append, and each of them is a record like any other.

use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use futures_util::future::join_all;
use shingle_hw::error::DeviceError;
use shingle_hw::faulty::{CommandKind, Fault, Faults, FaultyDevice};
use shingle_node::osd::extent::State;
use shingle_node::osd::policy::IO_COST_BYTES_DEFAULT;
use shingle_node::osd::refusal::Refusal;
use shingle_node::osd::store::AppendKey;
use shingle_proto::frame::Class;
use shingle_proto::ids::{ExtentId, Generation};
use shingle_seam::World;
use shingle_seam::on_glommio::run_shard;
use shingle_seam::tasks::{LocalFuture, spawn_joined};

use crate::rig::{self, Block, Mounted, append_key, assert_stored, block, get, memory, new_extent, put, start};

/// Nothing here takes a moment.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

async fn faulty(world: &World, device: &shingle_hw::backend::memory::MemoryDevice) -> (Mounted, Faults) {
    let tasks = world.tasks.clone();
    let sleep = Rc::new(move |duration: Duration| tasks.sleep(duration));
    let faulty = FaultyDevice::new(Rc::new(device.clone()), sleep, 1);
    let faults = faulty.faults();
    let mounted = start(world, Rc::new(faulty)).await.unwrap();
    mounted.osd.create_extent(new_extent(1)).await.unwrap();
    (mounted, faults)
}

/// Records of one to five sectors.
fn small_blocks(count: u64) -> Vec<Block> {
    (0..count).map(|number| block(number, 100 + (number as u32 % 5) * 4096)).collect()
}

#[test]
fn records_that_wait_together_are_few_appends_and_all_there_after_a_restart() {
    rig::run(async |world| {
        let device = memory();
        let (mounted, faults) = faulty(&world, &device).await;
        let before = faults.seen(CommandKind::Append);
        let blocks = small_blocks(20);
        let answers = join_all(blocks.iter().map(|block| put(&mounted.osd, 1, *block))).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        // 240 KiB, in appends of 64 KiB at most.
        assert_eq!(faults.seen(CommandKind::Append) - before, 4);
        device.power_cycle();
        let mounted = start(&world, Rc::new(device)).await.unwrap();
        assert_eq!(mounted.report.outcomes.whole, 20);
        for block in blocks {
            assert_stored(&mounted.osd, 1, block).await;
        }
    });
}

#[test]
fn records_of_tasks_that_are_ready_together_are_one_append() {
    let (sender, rounds) = mpsc::channel();
    let put_together = |world: World| -> LocalFuture<'static, ()> {
        Box::pin(async move {
            let (mounted, faults) = faulty(&world, &memory()).await;
            for round in 0..3 {
                let before = faults.seen(CommandKind::Append);
                let puts = (0..8).map(|number| {
                    let (osd, block) = (mounted.osd.clone(), block(8 * round + number, 3000));
                    spawn_joined(&world.tasks, "put", async move { put(&osd, 1, block).await.is_ok() })
                });
                let answers = world.tasks.timeout(ANSWERED_WITHIN, join_all(puts.collect::<Vec<_>>())).await;
                let stored = answers.into_iter().flatten().filter(|answer| *answer == Some(true)).count();
                sender.send((stored, faults.seen(CommandKind::Append) - before)).unwrap();
            }
        })
    };
    // On the executor that shards have: a disk as quick as this one answers within the call there, if tasks ran at once.
    run_shard("gather", None, put_together).unwrap().join().unwrap().unwrap();
    assert_eq!(rounds.try_iter().collect::<Vec<_>>(), [(8, 1); 3]);
}

#[test]
fn large_records_are_appended_alone() {
    rig::run(async |world| {
        let device = memory();
        let (mounted, faults) = faulty(&world, &device).await;
        let before = faults.seen(CommandKind::Append);
        let puts = (0..3).map(|number| put(&mounted.osd, 1, block(number, 60_000)));
        assert!(join_all(puts).await.iter().all(Result::is_ok));
        assert_eq!(faults.seen(CommandKind::Append) - before, 3);
    });
}

#[test]
fn torn_append_of_several_records_promises_none_of_them_and_invents_none() {
    rig::run(async |world| {
        let device = memory();
        let (mounted, faults) = faulty(&world, &device).await;
        faults.arm(2, Fault::TornAppend);
        let blocks = small_blocks(12);
        let answers = join_all(blocks.iter().map(|block| put(&mounted.osd, 1, *block))).await;
        let refused = answers.iter().filter(|answer| matches!(answer, Err(Refusal::DeviceFailed(_)))).count();
        let stored = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!(stored >= 1 && refused >= 2 && stored + refused == 12, "{answers:?}");
        assert_eq!(mounted.budgets.receive.used_bytes(), 0, "failed puts give their memory back");
        device.power_cycle();
        let mounted = start(&world, Rc::new(device)).await.unwrap();
        for (block, answer) in blocks.iter().zip(answers) {
            match get(&mounted.osd, 1, *block).await {
                Ok(payload) => assert_eq!(payload, block.payload(), "exact or not there"),
                Err(refusal) => {
                    assert!(answer.is_err(), "{block:?}: {refusal}");
                    assert_eq!(refusal, Refusal::BlockNotFound);
                }
            }
        }
        let closed = mounted.osd.close_extent(ExtentId(1), Generation(0)).await.unwrap();
        assert!(closed.records >= stored as u32);
    });
}

#[test]
fn failed_flush_under_an_append_of_several_records_ends_the_extent_for_all_of_them() {
    rig::run(async |world| {
        let device = memory();
        let (mounted, faults) = faulty(&world, &device).await;
        let error = DeviceError::Failed { reason: "a failed flush", errno: 5 };
        faults.arm(1, Fault::Error { command: CommandKind::Flush, error });
        let blocks = small_blocks(8);
        let answers = join_all(blocks.iter().map(|block| put(&mounted.osd, 1, *block))).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(Refusal::DeviceFailed(_)))), "{answers:?}");
        assert_eq!(mounted.osd.extent(ExtentId(1)).unwrap().state.get(), State::Failed);
        assert_eq!(mounted.budgets.receive.used_bytes(), 0);
    });
}

#[test]
fn records_of_different_classes_are_not_one_append_and_each_is_accounted_as_its_own() {
    rig::run(async |world| {
        let device = memory();
        let (mounted, faults) = faulty(&world, &device).await;
        let before = faults.seen(CommandKind::Append);
        let cost = |class| mounted.osd.turns.served_cost(class);
        let costs_before = Class::ALL.map(cost);
        let classes =
            [Class::Client, Class::Client, Class::Client, Class::Repair, Class::Repair, Class::Client, Class::Client];
        let puts = classes.into_iter().zip(0..).map(|(class, number)| {
            let osd = mounted.osd.clone();
            async move {
                let block = block(number, 3000);
                let mut buffer = osd.receive_buffer(ExtentId(1), block.bytes).unwrap();
                buffer.as_mut().copy_from_slice(&block.payload());
                osd.append(AppendKey { class, ..append_key(1, block) }, buffer).await
            }
        });
        assert!(join_all(puts).await.iter().all(Result::is_ok));
        let appends = faults.seen(CommandKind::Append) - before;
        assert_eq!(appends, 3);
        let repair = cost(Class::Repair) - costs_before[Class::Repair as usize];
        let client = cost(Class::Client) - costs_before[Class::Client as usize];
        assert_eq!(repair, 2 * 4096 + IO_COST_BYTES_DEFAULT, "two records, one command");
        assert_eq!(client, 5 * 4096 + (appends - 1) * IO_COST_BYTES_DEFAULT);
        for number in 0..classes.len() as u64 {
            assert_stored(&mounted.osd, 1, block(number, 3000)).await;
        }
    });
}

#[test]
fn records_on_both_sides_of_a_zones_end_are_two_appends() {
    rig::run(async |world| {
        let device = memory();
        let (mounted, _) = faulty(&world, &device).await;
        // 256 KiB a zone: the extent's header and four records of 60 KiB, 12 KiB are left.
        for number in 0..4 {
            put(&mounted.osd, 1, block(number, 60_000)).await.unwrap();
        }
        // Three fit exactly, the others go to the next zone.
        let answers = join_all((4..12).map(|number| put(&mounted.osd, 1, block(number, 3000)))).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        device.power_cycle();
        let mounted = start(&world, Rc::new(device)).await.unwrap();
        assert_eq!(mounted.report.outcomes.whole, 12);
        for number in 4..12 {
            assert_stored(&mounted.osd, 1, block(number, 3000)).await;
        }
    });
}

#[test]
fn close_behind_small_records_covers_all_of_them() {
    rig::run(async |world| {
        let device = memory();
        let (mounted, _) = faulty(&world, &device).await;
        let blocks = small_blocks(9);
        let puts = join_all(blocks.iter().map(|block| put(&mounted.osd, 1, *block)));
        let closing = mounted.osd.close_extent(ExtentId(1), Generation(0));
        let (answers, closed) = futures_util::future::join(puts, closing).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(closed.unwrap().records, 9);
        device.power_cycle();
        let mounted = start(&world, Rc::new(device)).await.unwrap();
        for block in blocks {
            assert_stored(&mounted.osd, 1, block).await;
        }
    });
}
