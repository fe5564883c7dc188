//! A cell that lacks hosts, room or the space of a file system: it says what is lacking and keeps what it acknowledged.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use shingle_gateway::request::GatewayError;
use shingle_hw::error::DeviceError;
use shingle_hw::faulty::{CommandKind, Fault};
use shingle_hw::zone::ZoneId;
use shingle_proto::message::{Lack, ProblemKind};
use shingle_tests::sim::cell::{CellShape, SimCell};
use shingle_tests::sim::workload::{create_bucket, get, put};

const LIMIT: Duration = Duration::from_secs(3600);

/// What a scenario panics with.
fn complaint<F: Future<Output = ()> + 'static>(shape: CellShape, scenario: impl FnOnce(Rc<SimCell>) -> F) -> String {
    let cell = SimCell::new(9, shape);
    let scenario = scenario(cell.clone());
    let outcome = catch_unwind(AssertUnwindSafe(|| cell.executor.run(LIMIT, scenario)));
    let panic = outcome.expect_err("a cell that lacks something is not ready");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

/// A block that shares nothing with another.
fn block(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4 << 20];
    StdRng::seed_from_u64(number).fill_bytes(&mut bytes);
    bytes
}

#[test]
fn waiting_for_hosts_that_never_come_ends_and_names_them() {
    let said = complaint(CellShape::default(), |cell| async move {
        cell.start_control();
        [1, 2, 4].into_iter().for_each(|host| cell.start_host(host));
        cell.wait_ready().await;
    });
    assert!(said.contains("hosts [3, 5] of 5 are silent") && said.contains("lacking Hosts"), "{said}");
}

#[test]
fn a_full_cell_says_so_and_everything_acknowledged_stays() {
    let said = complaint(CellShape::of_small_extents(1), |cell| async move {
        cell.start().await;
        create_bucket(&cell.core(0)).await.unwrap();
        let mut stored = 0;
        let refused = loop {
            match put(&cell.core(0), &format!("key-{stored}"), block(stored)).await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
            assert!(stored < 100, "40 extents of 16 MiB take no more");
        };
        assert!(matches!(refused, GatewayError::Full), "{refused:?}");
        assert!(stored >= 8, "the volumes took {stored} blocks");
        assert_eq!(cell.status().await.unwrap().lack, Lack::Room);
        // Not even after every process has started again.
        cell.kill_all();
        cell.restart_dead();
        cell.executor.sleep(Duration::from_secs(30)).await;
        for number in 0..stored {
            assert_eq!(get(&cell.core(1), &format!("key-{number}")).await.unwrap(), block(number));
        }
        assert_eq!(cell.check_copies().await.objects, stored);
        cell.wait_ready().await;
    });
    assert!(said.contains("not ready") && said.contains("lacking Room") && said.contains("0 of 8"), "{said}");
}

#[test]
fn a_disk_without_space_is_named_and_goes_on_after_a_restart() {
    let cell = SimCell::new(11, CellShape::default());
    let inside = cell.clone();
    cell.executor.run(LIMIT, async move {
        inside.start().await;
        create_bucket(&inside.core(0)).await.unwrap();
        for disk in 1..=2 {
            let error = DeviceError::NoSpace { zone: ZoneId(3), length_bytes: 4096 };
            inside.faults(3, disk).arm(1, Fault::Error { command: CommandKind::Append, error });
        }
        for number in 0..12 {
            put(&inside.core(0), &format!("key-{number}"), block(number)).await.unwrap();
        }
        inside.executor.sleep(Duration::from_secs(1)).await;
        let status = inside.status().await.unwrap();
        let named = |kind| status.problems.iter().filter(|problem| problem.kind == kind && problem.host == 3).count();
        assert!(named(ProblemKind::OsdNoSpace) > 0, "{:?}", status.problems);
        assert_eq!(status.lack, Lack::Nothing, "four other hosts have room");
        (1..=2).for_each(|disk| inside.faults(3, disk).clear());
        inside.kill_host(3, false);
        inside.restart_dead();
        inside.wait_ready().await;
        inside.executor.sleep(Duration::from_secs(60)).await;
        assert!(inside.status().await.unwrap().problems.is_empty(), "{:?}", inside.status().await.unwrap().problems);
        assert_eq!(inside.check_copies().await.objects, 12);
    });
}
