//! Puts: durable on all members, stored once, away from trouble, or not there at all.

use std::time::Duration;

use bytes::Bytes;
use shingle_gateway::request::{Body, BodyPiece, CoreRequest, GatewayError};
use shingle_proto::limits::VOLUMES_STALE_MS;
use shingle_proto::message::{ErrorCode, Lack, ObjectHeaders, SuspectReason};
use tokio::sync::{mpsc, oneshot};

use crate::cell::{BLOCK, Cell, in_cell, listen, name, noise, put};
use crate::host::Mode;

fn quick(config: &mut shingle_gateway::config::CoreConfig) {
    config.put_deadline = Duration::from_secs(2);
}

#[test]
fn objects_of_every_size_come_back_as_they_were() {
    in_cell(
        |_| {},
        async |cell| {
            for size in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 13 << 20] {
                let bytes = noise(size as u64, size);
                let row = cell.put("o", &bytes).await.expect("stored");
                let blocks = size.div_ceil(BLOCK);
                assert_eq!((row.size_bytes, row.blocks), (size as u64, blocks as u64));
                assert!(row.etag.ends_with(&format!("-{blocks}")), "{}", row.etag);
                assert!(cell.get("o").await.expect("read") == bytes, "{size} bytes differ");
            }
        },
    );
}

#[test]
fn every_member_has_every_block_and_none_sees_plain_bytes() {
    in_cell(
        |_| {},
        async |cell| {
            let text = b"the quick brown fox jumps over the lazy dog. ".repeat(100_000);
            cell.put("o", &text).await.expect("stored");
            assert_eq!(cell.records(), 4 * text.len().div_ceil(BLOCK));
            for record in cell.hosts.iter().flat_map(|host| host.sealed_bytes()) {
                assert!(record.len() < BLOCK / 4, "text is compressed");
                assert!(!record.windows(9).any(|window| window == b"quick bro"));
            }
        },
    );
}

#[test]
fn known_blocks_are_referenced_and_not_stored_again() {
    in_cell(
        |_| {},
        async |cell| {
            let bytes = noise(1, 3 * BLOCK);
            cell.put("first", &bytes).await.expect("stored");
            assert_eq!(cell.records(), 12);
            cell.put("second", &bytes).await.expect("stored");
            assert_eq!(cell.records(), 12);
            assert!(cell.get("second").await.expect("read") == bytes);
        },
    );
}

#[test]
fn one_window_stores_the_same_bytes_once() {
    in_cell(
        |_| {},
        async |cell| {
            let bytes = noise(1, BLOCK).repeat(12);
            let row = cell.put("o", &bytes).await.expect("stored");
            assert_eq!((row.blocks, cell.records()), (12, 4));
            assert!(cell.get("o").await.expect("read") == bytes);
        },
    );
}

#[test]
fn racing_puts_of_one_hash_never_mix_keys() {
    in_cell(
        |_| {},
        async |cell| {
            cell.control.claim_delay.set(Duration::from_millis(100));
            let bytes = noise(5, 100_000);
            let puts = ["a", "b", "c", "d"].map(|key| put(&cell.core, key, bytes.clone()));
            for row in futures_util::future::join_all(puts).await {
                row.expect("stored");
            }
            assert_eq!(cell.control.tables.borrow().rows.len(), 1);
            assert_eq!(cell.control.tables.borrow().lost_races, 3, "all four were unknown");
            assert_eq!(cell.records(), 16, "each attempt is a record of its own");
            for key in ["a", "b", "c", "d"] {
                assert!(cell.get(key).await.expect("read") == bytes);
            }
        },
    );
}

#[test]
fn a_silent_member_is_suspect_and_the_put_goes_elsewhere() {
    in_cell(quick, async |cell| {
        cell.hosts[2].appends.set(Mode::Stalls);
        let bytes = noise(3, 6 * BLOCK);
        cell.put("o", &bytes).await.expect("stored");
        {
            let tables = cell.control.tables.borrow();
            assert!(!tables.suspects.is_empty());
            for suspect in &tables.suspects {
                assert_eq!((suspect.osd, suspect.reason), (102, SuspectReason::PutTimeout));
            }
            assert!(tables.rows.values().all(|row| row.bucket == 13), "the volume without host 3");
        }
        assert!(cell.get("o").await.expect("read") == bytes);
    });
}

#[test]
fn a_dead_host_is_suspect_at_once() {
    in_cell(
        |_| {},
        async |mut cell| {
            cell.put("warm", b"connections are open").await.expect("stored");
            cell.host_tasks[0].abort();
            drop((&mut cell.host_tasks[0]).await);
            let bytes = noise(4, 5 * BLOCK);
            cell.put("o", &bytes).await.expect("stored");
            assert!(cell.get("o").await.expect("read") == bytes);
            let tables = cell.control.tables.borrow();
            assert!(tables.suspects.iter().all(|suspect| suspect.osd == 100), "{:?}", tables.suspects);
        },
    );
}

#[test]
fn one_deadline_at_a_hanging_host_is_enough_for_all_puts() {
    in_cell(
        |config| config.put_deadline = Duration::from_secs(6),
        async |cell| {
            cell.hosts[2].appends.set(Mode::Stalls);
            let early = put(&cell.core, "early", noise(3, 6 * BLOCK));
            let late = async {
                cell.world.tasks.sleep(Duration::from_secs(5)).await;
                let start = cell.world.clock.now();
                put(&cell.core, "late", noise(4, 6 * BLOCK)).await.expect("stored");
                cell.world.clock.now() - start
            };
            let (early, late) = futures_util::future::join(early, late).await;
            early.expect("stored");
            // The first put's deadline came a second later; its own would have been six seconds away.
            assert!(late < Duration::from_secs(6), "it waited for a deadline of its own: {late:?}");
        },
    );
}

#[test]
fn a_stalled_disk_holds_up_its_own_blocks_and_no_others_of_its_host() {
    in_cell(
        |config| config.put_deadline = Duration::from_secs(50),
        async |cell| {
            // Two volumes on the same four hosts, on different disks of them. One disk of the first volume stalls.
            let stalled = {
                let mut tables = cell.control.tables.borrow_mut();
                tables.volumes.truncate(1);
                let mut other = tables.volumes[0].clone();
                (other.id, other.bucket, other.load_bytes) = (77, 88, 1 << 40);
                for member in &mut other.members {
                    (member.osd, member.extent.hi) = (member.osd + 100, 77);
                }
                tables.volumes.push(other);
                tables.volumes[0].members[0].extent.hi
            };
            let (host, mate) = (&cell.hosts[1], &cell.hosts[2]);
            host.stalled_volume.set(Some(stalled));
            let early = put(&cell.core, "early", noise(3, 8 * BLOCK));
            let late = async {
                let sent = || mate.record_count() == 8 && host.appends_started.get() >= 4;
                cell.until("more is on its way to the disk than it may hold up", sent).await;
                // Until the gateway's view is stale: then it learns that the first volume takes no more.
                cell.control.tables.borrow_mut().volumes[0].free_bytes = 0;
                cell.world.tasks.sleep(Duration::from_millis(VOLUMES_STALE_MS)).await;
                assert_eq!(host.appends_started.get(), 4, "the others wait in the gateway");
                put(&cell.core, "late", noise(4, 6 * BLOCK)).await.expect("stored");
            };
            tokio::select! {
                row = early => panic!("nothing of it can be stored before the deadline: {row:?}"),
                () = late => {}
            }
            let tables = cell.control.tables.borrow();
            assert!(tables.suspects.is_empty(), "nobody had to wait for the deadline: {:?}", tables.suspects);
            assert!(tables.rows.values().all(|row| row.bucket == 88), "the other volume has the later blocks");
        },
    );
}

#[test]
fn a_full_volume_is_left_and_nobody_is_blamed() {
    in_cell(
        |_| {},
        async |cell| {
            cell.hosts[1].appends.set(Mode::Refuses(ErrorCode::ExtentFull));
            let bytes = noise(6, 4 * BLOCK);
            cell.put("o", &bytes).await.expect("stored");
            let tables = cell.control.tables.borrow();
            assert!(tables.suspects.iter().all(|suspect| suspect.reason == SuspectReason::ExtentFull));
            assert!(tables.rows.values().all(|row| row.bucket == 12));
        },
    );
}

#[test]
fn a_busy_host_is_asked_again() {
    in_cell(
        |_| {},
        async |cell| {
            cell.hosts.iter().for_each(|host| host.appends.set(Mode::Busy(3)));
            cell.put("o", &noise(7, 1000)).await.expect("stored");
            assert!(cell.control.tables.borrow().suspects.is_empty());
        },
    );
}

#[test]
fn a_cell_without_a_working_volume_says_slow_down() {
    in_cell(
        |_| {},
        async |cell| {
            cell.hosts.iter().for_each(|host| host.appends.set(Mode::Refuses(ErrorCode::DeviceFailed)));
            let error = cell.put("o", &noise(8, 1000)).await.expect_err("nowhere to go");
            assert!(matches!(error, GatewayError::SlowDown(_)), "{error}");
            cell.until("intent aborted", || cell.control.tables.borrow().aborted == 1).await;
            assert!(cell.control.tables.borrow().objects.is_empty());
        },
    );
}

#[test]
fn a_full_cell_says_that_it_is_full() {
    in_cell(
        |_| {},
        async |cell| {
            cell.control.tables.borrow_mut().volumes.clear();
            cell.control.tables.borrow_mut().lack = Lack::Room;
            assert_eq!(cell.put("o", b"bytes").await, Err(GatewayError::Full));
        },
    );
}

#[test]
fn a_client_that_leaves_half_way_leaves_nothing() {
    in_cell(
        |_| {},
        async |cell| {
            let (sender, pieces) = mpsc::channel(4);
            let (reply, answer) = oneshot::channel();
            let body = Body { pieces, declared_bytes: Some(10 * BLOCK as u64) };
            let headers = ObjectHeaders::default();
            cell.send(CoreRequest::Put { name: name("o"), headers, precondition: None, body, reply }).await;
            sender.send(BodyPiece::Chunk(Bytes::from(noise(9, 6 * BLOCK)))).await.expect("taken");
            cell.until("blocks are stored", || cell.records() >= 4).await;
            drop(sender);
            assert_eq!(answer.await.expect("an answer"), Err(GatewayError::BodyAborted));
            cell.until("intent aborted", || cell.control.tables.borrow().aborted == 1).await;
            assert!(cell.control.tables.borrow().objects.is_empty());
        },
    );
}

#[test]
fn a_body_of_another_length_than_declared_is_refused() {
    in_cell(
        |_| {},
        async |cell| {
            for (declared, sent) in [(5, 4), (5, 6)] {
                let (sender, pieces) = mpsc::channel(4);
                let (reply, answer) = oneshot::channel();
                let body = Body { pieces, declared_bytes: Some(declared) };
                let headers = ObjectHeaders::default();
                cell.send(CoreRequest::Put { name: name("o"), headers, precondition: None, body, reply }).await;
                sender.send(BodyPiece::Chunk(Bytes::from(vec![1; sent]))).await.expect("taken");
                drop(sender.send(BodyPiece::End { checksum: None }).await);
                assert_eq!(answer.await.expect("an answer"), Err(GatewayError::BodyAborted));
            }
        },
    );
}

#[test]
fn a_lost_lease_ends_the_upload() {
    in_cell(
        |_| {},
        async |cell| {
            cell.control.lease.set(Duration::from_millis(300));
            cell.control.expired.set(true);
            let (_sender, pieces) = mpsc::channel(4);
            let (reply, answer) = oneshot::channel();
            let body = Body { pieces, declared_bytes: None };
            let headers = ObjectHeaders::default();
            cell.send(CoreRequest::Put { name: name("o"), headers, precondition: None, body, reply }).await;
            assert!(matches!(answer.await.expect("an answer"), Err(GatewayError::SlowDown(_))));
        },
    );
}

#[test]
fn a_slow_upload_keeps_its_lease() {
    in_cell(
        |_| {},
        async |cell| {
            cell.control.lease.set(Duration::from_millis(300));
            let (sender, pieces) = mpsc::channel(4);
            let (reply, answer) = oneshot::channel();
            let body = Body { pieces, declared_bytes: None };
            let headers = ObjectHeaders::default();
            cell.send(CoreRequest::Put { name: name("o"), headers, precondition: None, body, reply }).await;
            cell.until("renewed", || cell.control.tables.borrow().renewed >= 3).await;
            sender.send(BodyPiece::Chunk(Bytes::from_static(b"late"))).await.expect("taken");
            sender.send(BodyPiece::End { checksum: None }).await.expect("taken");
            assert_eq!(answer.await.expect("an answer").expect("stored").size_bytes, 4);
        },
    );
}

#[test]
fn twenty_puts_share_a_tiny_budget() {
    in_cell(
        |config| config.budget_bytes = 1,
        async |cell| {
            let puts = (0..20).map(|i| put(&cell.core, ["a", "b", "c", "d"][i % 4], noise(i as u64, BLOCK + 5000)));
            for row in futures_util::future::join_all(puts).await {
                row.expect("stored");
            }
            assert_eq!(cell.records(), 20 * 2 * 4);
        },
    );
}

#[test]
fn a_restart_of_the_control_plane_goes_unnoticed() {
    in_cell(
        |_| {},
        async |mut cell: Cell| {
            cell.put("before", b"1").await.expect("stored");
            cell.control_task.abort();
            drop((&mut cell.control_task).await);
            let (core, bytes) = (cell.core.clone(), noise(10, 2 * BLOCK));
            let expected = bytes.clone();
            let running = tokio::task::spawn_local(async move { put(&core, "o", bytes).await });
            cell.world.tasks.sleep(Duration::from_millis(700)).await;
            (_, cell.control_task) = listen(&cell.world, cell.control_address, cell.control.clone());
            running.await.expect("no panic").expect("stored");
            assert!(cell.get("o").await.expect("read") == expected);
        },
    );
}

#[test]
fn blocks_spread_over_the_open_volumes() {
    in_cell(
        |_| {},
        async |cell| {
            cell.put("o", &noise(11, 24 * BLOCK)).await.expect("stored");
            let tables = cell.control.tables.borrow();
            let mut per_bucket = std::collections::BTreeMap::new();
            tables.rows.values().for_each(|row| *per_bucket.entry(row.bucket).or_insert(0) += 1);
            assert_eq!(per_bucket.len(), 5, "{per_bucket:?}");
            assert!(per_bucket.values().all(|blocks| *blocks <= 10), "{per_bucket:?}");
        },
    );
}
