//! What sharing a disk and a shard promises: classes get their shares, a disk that stalls affects nobody else.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::rig;
use crate::rig::{append_key, assert_stored, block, get, memory, new_extent, put, read_key};
use futures_util::FutureExt;
use futures_util::future::join_all;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::faulty::{CommandKind, Faults, FaultyDevice};
use shingle_node::osd::budget::Budgets;
use shingle_node::osd::fetch::ReadKey;
use shingle_node::osd::lanes::Shares;
use shingle_node::osd::policy::DiskPolicy;
use shingle_node::osd::refusal::Refusal;
use shingle_node::osd::store::AppendKey;
use shingle_proto::frame::Class;
use shingle_proto::ids::ExtentId;
use shingle_seam::World;

fn faulty(world: &World, serial: &str) -> (Rc<FaultyDevice>, Faults) {
    let tasks = world.tasks.clone();
    let sleep = Rc::new(move |duration: Duration| tasks.sleep(duration));
    let faulty = Rc::new(FaultyDevice::new(Rc::new(MemoryDevice::new(rig::geometry(), serial)), sleep, 1));
    let faults = faulty.faults();
    (faulty, faults)
}

fn policy(queue_depth: u32) -> DiskPolicy {
    DiskPolicy { queue_depth, ..DiskPolicy::default() }
}

fn millis(ms: u64) -> Option<std::ops::RangeInclusive<Duration>> {
    Some(Duration::from_millis(ms)..=Duration::from_millis(ms))
}

#[test]
fn stalled_disk_is_told_apart_and_the_other_one_answers() {
    rig::run(async |world| {
        let (stalls, faults) = faulty(&world, "stalls");
        let [first, second] = <[Budgets; 2]>::try_from(Budgets::shared(24 << 20, 2, policy(4))).ok().unwrap();
        let limit = first.receive.limit_bytes();
        let (slow, well) = (
            rig::start_within(&world, stalls, first).await.unwrap(),
            rig::start_within(&world, Rc::new(memory()), second).await.unwrap(),
        );
        for osd in [&slow.osd, &well.osd] {
            osd.create_extent(new_extent(1)).await.unwrap();
            put(osd, 1, block(1, 100_000)).await.unwrap();
        }
        faults.set_stalled(true);
        // Puts until the stalled disk's part of the memory is spent: then it is a refusal, not a silence.
        let mut stuck = Vec::new();
        let refused = loop {
            match slow.osd.receive_buffer(ExtentId(1), 200_000) {
                Ok(buffer) => stuck.push(buffer),
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, Refusal::Busy(_)), "{refused}");
        assert!(stuck.len() as u64 * 200_000 < limit);
        let mut writing = Box::pin(put(&slow.osd, 1, block(2, 200_000)));
        assert!(matches!(writing.as_mut().now_or_never(), Some(Err(Refusal::Busy(_)))));
        // Reads until as many wait as may.
        let mut reading: Vec<_> = (0..200).map(|_| Box::pin(get(&slow.osd, 1, block(1, 100_000)))).collect();
        let answers: Vec<_> = reading.iter_mut().filter_map(|read| read.as_mut().now_or_never()).collect();
        assert!(answers.len() == 72 && answers.iter().all(|answer| matches!(answer, Err(Refusal::Busy(_)))));
        assert_eq!(slow.osd.turns.in_flight(), 4, "the device has as many as its depth");
        // The other disk does not notice: the stalled one never answers, so nothing here has waited for it.
        let puts = join_all((10..14).map(|number| put(&well.osd, 1, block(number, 60_000)))).await;
        assert!(puts.iter().all(Result::is_ok), "{puts:?}");
        for number in 10..14 {
            assert_stored(&well.osd, 1, block(number, 60_000)).await;
        }
    });
}

#[test]
fn abandoned_reads_keep_their_turn_until_the_device_answers() {
    rig::run(async |world| {
        let (device, faults) = faulty(&world, "slow");
        let budgets = Budgets::shared(32 << 20, 1, policy(2)).remove(0);
        let mounted = rig::start_within(&world, device, budgets.clone()).await.unwrap();
        mounted.osd.create_extent(new_extent(1)).await.unwrap();
        put(&mounted.osd, 1, block(1, 100_000)).await.unwrap();
        faults.set_delay(CommandKind::Read, millis(50));
        let before = faults.seen(CommandKind::Read);
        for _ in 0..10 {
            let mut read = Box::pin(get(&mounted.osd, 1, block(1, 100_000)));
            assert!(read.as_mut().now_or_never().is_none());
        }
        assert_eq!(faults.seen(CommandKind::Read) - before, 2, "two reads began, the others never");
        assert_eq!((mounted.osd.turns.in_flight(), mounted.osd.turns.waiting()), (2, 0));
        assert!(budgets.read.used_bytes() >= 200_000, "the device still writes to that memory");
        let given_back = || (mounted.osd.turns.in_flight(), budgets.read.used_bytes()) == (0, 0);
        rig::until(&world, "what the abandoned reads held is given back", given_back).await;
        faults.clear();
        assert_stored(&mounted.osd, 1, block(1, 100_000)).await;
    });
}

#[test]
fn classes_that_all_want_a_disk_get_their_shares_of_it() {
    rig::run(async |world| {
        let (device, faults) = faulty(&world, "shared");
        let shares = Shares { client: 60, repair: 20, scrub: 10, compaction: 10 };
        let disk = DiskPolicy { shares, ..policy(2) };
        let mounted = rig::start_within(&world, device, Budgets::shared(64 << 20, 1, disk).remove(0)).await.unwrap();
        mounted.osd.create_extent(new_extent(1)).await.unwrap();
        put(&mounted.osd, 1, block(1, 4000)).await.unwrap();
        faults.set_delay(CommandKind::Read, millis(1));
        let left = Rc::new(Cell::new(1000));
        let readers = Class::ALL.into_iter().flat_map(|class| std::iter::repeat_n(class, 8)).map(|class| {
            let (osd, left) = (mounted.osd.clone(), left.clone());
            async move {
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    let key = ReadKey { class, ..read_key(1, block(1, 4000)) };
                    osd.read_block(key).await.map(drop).unwrap();
                }
            }
        });
        join_all(readers).await;
        let served = Class::ALL.map(|class| mounted.osd.turns.served_cost(class));
        let total: u64 = served.iter().sum();
        for class in Class::ALL {
            let percent = served[class as usize] * 100 / total;
            assert!(percent.abs_diff(u64::from(shares.of(class))) <= 3, "{class:?} got {percent} %: {served:?}");
        }
    });
}

#[test]
fn appends_of_other_classes_count_as_theirs() {
    rig::run(async |world| {
        let mounted = rig::start(&world, Rc::new(memory())).await.unwrap();
        mounted.osd.create_extent(new_extent(1)).await.unwrap();
        let before = mounted.osd.turns.served_cost(Class::Client);
        let buffer = mounted.osd.receive_buffer(ExtentId(1), 50_000).unwrap();
        let key = AppendKey { class: Class::Repair, ..append_key(1, block(1, 50_000)) };
        mounted.osd.append(key, buffer).await.unwrap();
        assert!(mounted.osd.turns.served_cost(Class::Repair) > 50_000);
        assert_eq!(mounted.osd.turns.served_cost(Class::Client), before);
    });
}
