//! Disks and processes that fail under the put path: the put goes elsewhere, the read takes another copy.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use shingle_hw::error::DeviceError;
use shingle_hw::faulty::{CommandKind, Fault};
use shingle_hw::zone::ZoneId;
use shingle_proto::message::{CellStatus, Finding, FindingKind, OsdState};
use shingle_tests::sim::cell::{CellShape, SimCell};
use shingle_tests::sim::workload::{Content, create_bucket, get, put};

const LIMIT: Duration = Duration::from_secs(3600);

#[test]
fn a_stalled_disk_delays_one_put_and_closes_its_volumes() {
    let cell = SimCell::new(3, CellShape::default());
    let inside = cell.clone();
    cell.executor.run(LIMIT, async move {
        inside.start().await;
        create_bucket(&inside.core(0)).await.unwrap();
        put(&inside.core(0), "before", Content(2).bytes()).await.unwrap();
        (1..=2).for_each(|disk| inside.faults(2, disk).set_stalled(true));
        let start = inside.executor.now();
        for number in 0..6 {
            put(&inside.core(0), &format!("during-{number}"), Content(10 + number).bytes()).await.unwrap();
        }
        let took = inside.executor.now() - start;
        assert!(took < Duration::from_secs(30), "only the first put waits for the deadline: {took:?}");
        for number in 0..6 {
            let found = get(&inside.core(1), &format!("during-{number}")).await.unwrap();
            assert_eq!(found, Content(10 + number).bytes());
        }
    });
}

#[test]
fn a_read_that_is_wrong_is_a_finding_and_another_copy_is_served() {
    let cell = SimCell::new(4, CellShape::default());
    let inside = cell.clone();
    cell.executor.run(LIMIT, async move {
        inside.start().await;
        create_bucket(&inside.core(0)).await.unwrap();
        let bytes = Content(2).bytes();
        put(&inside.core(0), "rots", bytes.clone()).await.unwrap();
        for host in 1..=5 {
            for disk in 1..=2 {
                let faults = inside.faults(host, disk);
                faults.arm(1, Fault::FlippedRead);
            }
        }
        let found = get(&inside.core(0), "rots").await;
        inside.inject_store_faults(200, 200);
        // With every first read damaged, the gateway may run out of members, but never serves wrong bytes.
        if let Ok(found) = found {
            assert_eq!(found, bytes);
        }
        assert_eq!(get(&inside.core(0), "rots").await.unwrap(), bytes);
        inside.executor.sleep(Duration::from_secs(5)).await;
        inside.inject_store_faults(0, 0);
        let told = inside.status().await.unwrap();
        assert!(told.findings > 0 && told.findings == told.findings_open, "damage is a finding");
        // Told once, it outlives the control process.
        inside.kill_control();
        inside.restart_dead();
        inside.wait_ready().await;
        let after = inside.status().await.unwrap();
        assert_eq!((after.findings, after.findings_open), (told.findings, told.findings_open));
        let lasting = |status: &CellStatus| -> Vec<_> {
            status.recent_findings.iter().map(|record| (record.id, record.finding.clone())).collect()
        };
        assert_eq!(lasting(&after), lasting(&told));
    });
}

/// What reads of an object met are told as, by blocks and by the rest, when each disk's next read meets this.
fn told_of_reads(error: fn(ZoneId) -> DeviceError) -> (Vec<FindingKind>, Vec<FindingKind>) {
    let cell = SimCell::new(12, CellShape::default());
    let inside = cell.clone();
    let told = Rc::new(RefCell::new((Vec::new(), Vec::new())));
    let filled = told.clone();
    cell.executor.run(LIMIT, async move {
        inside.start().await;
        create_bucket(&inside.core(0)).await.unwrap();
        put(&inside.core(0), "key", Content(2).bytes()).await.unwrap();
        for (host, disk) in (1..=5).flat_map(|host| [(host, 1), (host, 2)]) {
            // The first zone of each disk's first extent, behind one conventional zone and two of the journal.
            let fault = Fault::Error { command: CommandKind::Read, error: error(ZoneId(3)) };
            inside.faults(host, disk).arm(1, fault);
        }
        let met = || {
            let disks = (1..=5).flat_map(|host| [(host, 1), (host, 2)]);
            disks.filter(|(host, disk)| inside.faults(*host, *disk).armed() == 0).count()
        };
        get(&inside.core(0), "key").await.unwrap_err();
        assert_eq!(met(), 4, "every copy was asked for");
        inside.executor.sleep(Duration::from_secs(5)).await;
        assert_eq!(get(&inside.core(0), "key").await.unwrap(), Content(2).bytes());
        let status = inside.status().await.unwrap();
        let findings = status.recent_findings.iter().map(|record| &record.finding);
        let (blocks, rest): (Vec<_>, Vec<_>) = findings.partition(|finding| finding.hash.is_some());
        let kinds = |of: Vec<&Box<Finding>>| of.into_iter().map(|finding| finding.kind).collect();
        filled.replace((kinds(blocks), kinds(rest)));
    });
    told.take()
}

#[test]
fn what_cannot_be_read_is_told_once_and_as_what_it_is() {
    let sector = told_of_reads(|zone| DeviceError::Unreadable { zone, offset_bytes: 8192 });
    assert_eq!(sector, (vec![FindingKind::UnreadableSector; 4], vec![]));
    // The disk itself is well: then it is these bytes.
    let command = told_of_reads(|_| DeviceError::Failed { reason: "injected", errno: 5 });
    assert_eq!(command, (vec![FindingKind::UnreadableSector; 4], vec![]));
    let (blocks, zones) = told_of_reads(|zone| DeviceError::Offline { zone });
    assert!(blocks.iter().all(|kind| *kind == FindingKind::ZoneOffline), "{blocks:?}");
    assert_eq!(zones, [FindingKind::ZoneOffline; 4]);
}

#[test]
fn a_zone_that_fails_is_told_though_nobody_uses_it() {
    let cell = SimCell::new(8, CellShape::default());
    let inside = cell.clone();
    cell.executor.run(LIMIT, async move {
        inside.start().await;
        create_bucket(&inside.core(0)).await.unwrap();
        for number in 0..12 {
            put(&inside.core(0), &format!("key-{number}"), Content(number).bytes()).await.unwrap();
        }
        // The first zone of each disk's first extent, behind one conventional zone and two of the journal.
        (1..=2).for_each(|disk| inside.faults(2, disk).set_read_only(ZoneId(3)));
        inside.executor.sleep(Duration::from_secs(660)).await;
        let status = inside.status().await.unwrap();
        let found: Vec<_> = status.finding_counts.iter().map(|count| count.kind).collect();
        assert_eq!(found, [FindingKind::ZoneReadOnly]);
        let told = |named: bool| status.recent_findings.iter().any(|record| record.finding.hash.is_some() == named);
        assert!(told(false) && told(true), "the zones and what is in them: {:?}", status.recent_findings);
    });
}

#[test]
fn zones_that_cannot_be_looked_at_cost_a_disk_nothing_until_it_fails_in_a_row() {
    let cases: [(Vec<u64>, _); 3] =
        [((1..=4).collect(), 0), ((1..=5).collect(), 1), ((1..=4).chain(6..=9).collect(), 0)];
    for (failures, failed) in cases {
        let cell = SimCell::new(9, CellShape::default());
        let inside = cell.clone();
        cell.executor.run(LIMIT, async move {
            inside.start().await;
            inside.wait_ready().await;
            let faults = inside.faults(2, 1);
            for nth in &failures {
                let error = DeviceError::Failed { reason: "injected", errno: 5 };
                faults.arm(*nth, Fault::Error { command: CommandKind::Report, error });
            }
            inside.executor.sleep(Duration::from_secs(1320)).await;
            assert_eq!(faults.armed(), 0, "every look failed that was to fail");
            let status = inside.status().await.unwrap();
            let osds = status.hosts.iter().flat_map(|host| &host.osds);
            let disks = osds.filter(|osd| osd.state == OsdState::Failed).count();
            assert_eq!(disks, failed, "after {failures:?}");
        });
    }
}

#[test]
fn a_failed_flush_is_not_acknowledged_and_ends_its_extent() {
    let cell = SimCell::new(5, CellShape::default());
    let inside = cell.clone();
    cell.executor.run(LIMIT, async move {
        inside.start().await;
        create_bucket(&inside.core(0)).await.unwrap();
        for disk in 1..=2 {
            let faults = inside.faults(3, disk);
            let error = DeviceError::Failed { reason: "injected", errno: 5 };
            faults.arm(1, Fault::Error { command: CommandKind::Flush, error });
        }
        for number in 0..20 {
            put(&inside.core(0), &format!("key-{number}"), Content(number).bytes()).await.unwrap();
        }
        inside.kill_host(3, true);
        inside.restart_dead();
        inside.wait_ready().await;
        let seen = inside.check_copies().await;
        assert_eq!(seen.objects, 20);
    });
}

#[test]
fn a_disk_that_loses_flushes_is_what_the_checker_finds() {
    // The checker itself: with a lying disk and a power loss, copies must be missing, and it must see that.
    let outcome = std::panic::catch_unwind(|| {
        let cell = SimCell::new(6, CellShape::default());
        let inside = cell.clone();
        cell.executor.run(LIMIT, async move {
            inside.start().await;
            create_bucket(&inside.core(0)).await.unwrap();
            (1..=5).for_each(|host| (1..=2).for_each(|disk| inside.faults(host, disk).set_lose_flushes(true)));
            for number in 0..12 {
                put(&inside.core(0), &format!("key-{number}"), Content(number).bytes()).await.unwrap();
            }
            inside.kill_all();
            inside.restart_dead();
            inside.wait_ready().await;
            inside.check_copies().await;
        });
    });
    assert!(outcome.is_err(), "lost flushes and a power loss lose copies: the checker is blind");
}

#[test]
fn a_host_without_power_comes_back_with_what_it_acknowledged() {
    for seed in 20..26 {
        let cell = SimCell::new(seed, CellShape::default());
        let inside = cell.clone();
        cell.executor.run(LIMIT, async move {
            inside.start().await;
            create_bucket(&inside.core(0)).await.unwrap();
            for number in 0..12u64 {
                if number == 4 {
                    inside.kill_host(1 + (seed % 5) as u32, true);
                }
                put(&inside.core(0), &format!("key-{number}"), Content(number).bytes()).await.unwrap();
            }
            inside.restart_dead();
            inside.wait_ready().await;
            assert_eq!(inside.check_copies().await.objects, 12);
        });
    }
}

#[test]
fn a_host_that_is_back_at_once_keeps_its_volumes() {
    for seed in 30..36 {
        let cell = SimCell::new(seed, CellShape::default());
        let inside = cell.clone();
        cell.executor.run(LIMIT, async move {
            inside.start().await;
            create_bucket(&inside.core(0)).await.unwrap();
            for number in 0..18u64 {
                if number == 6 {
                    // With and without power; a put runs into it before it is back.
                    inside.kill_host(2, seed % 2 == 0);
                }
                if number == 9 {
                    inside.restart_dead();
                    inside.wait_ready().await;
                    inside.executor.sleep(Duration::from_secs(3)).await;
                }
                put(&inside.core(number as u32 % 2), &format!("key-{number}"), Content(2 * number).bytes())
                    .await
                    .unwrap();
            }
            let status = inside.status().await.unwrap();
            assert_eq!(status.volumes_closed, 0, "seed {seed}: the rest of their extents would be wasted");
            assert_eq!(inside.check_copies().await.objects, 18);
        });
    }
}
