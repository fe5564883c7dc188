//! Gets: the right bytes or an error, from whichever member has them, and no more work than somebody waits for.

use std::time::{Duration, Instant};

use shingle_gateway::request::{ByteRange, CoreRequest, GatewayError};
use shingle_proto::limits::READ_DEADLINE_MS;
use shingle_proto::message::{ErrorCode, FindingKind};
use tokio::sync::oneshot;

use crate::cell::{BLOCK, Cell, in_cell, name, noise};
use crate::host::Mode;

#[test]
fn ranges_are_cut_to_the_byte() {
    in_cell(
        |_| {},
        async |cell| {
            let bytes = noise(1, 2 * BLOCK + 100);
            cell.put("o", &bytes).await.expect("stored");
            let size = bytes.len();
            for (first, last) in
                [(0, 0), (BLOCK - 1, BLOCK), (5, size - 1), (BLOCK, 2 * BLOCK - 1), (size - 1, size + 9)]
            {
                let range = ByteRange::FromTo { first: first as u64, last: last as u64 };
                let got = cell.get_range("o", Some(range)).await.expect("read");
                assert!(got == bytes[first..(last + 1).min(size)], "{first}-{last}");
            }
            let last = cell.get_range("o", Some(ByteRange::Last { bytes: 200 })).await.expect("read");
            assert!(last == bytes[size - 200..]);
            let beyond = cell.get_range("o", Some(ByteRange::From { first: size as u64 })).await;
            assert_eq!(beyond, Err(GatewayError::RangeNotSatisfiable { size_bytes: size as u64 }));
        },
    );
}

#[test]
fn a_range_reads_only_the_blocks_it_needs() {
    in_cell(
        |_| {},
        async |cell| {
            cell.put("o", &noise(1, 6 * BLOCK)).await.expect("stored");
            let middle = (2 * BLOCK + 7) as u64;
            cell.get_range("o", Some(ByteRange::FromTo { first: middle, last: middle })).await.expect("read");
            assert!(reads(&cell) <= 2, "one block, and a hedge on a busy machine");
        },
    );
}

#[test]
fn a_missing_object_and_another_version_are_refused() {
    in_cell(
        |_| {},
        async |cell| {
            let missing = cell.get("nothing").await;
            assert!(matches!(missing, Err(GatewayError::Refused { code: ErrorCode::NoSuchKey, .. })), "{missing:?}");
            let row = cell.put("o", b"1").await.expect("stored");
            for (if_match, fits) in [(row.etag.clone(), true), ("other".to_owned(), false), ("*".to_owned(), true)] {
                let (reply, answer) = oneshot::channel();
                cell.send(CoreRequest::Get { name: name("o"), range: None, if_match: Some(if_match), reply }).await;
                assert_eq!(answer.await.expect("an answer").is_ok(), fits);
            }
        },
    );
}

#[test]
fn a_corrupted_copy_is_a_finding_and_another_one_is_served() {
    in_cell(
        |_| {},
        async |cell| {
            let bytes = noise(2, 10_000);
            cell.put("o", &bytes).await.expect("stored");
            let holders: Vec<_> = cell.hosts.iter().filter(|host| host.record_count() > 0).collect();
            holders[..3].iter().for_each(|host| host.reads.set(Mode::Corrupts));
            for _ in 0..50 {
                assert!(cell.get("o").await.expect("one good copy is enough") == bytes);
                if !cell.control.tables.borrow().findings.is_empty() {
                    break;
                }
            }
            let tables = cell.control.tables.borrow();
            assert!(!tables.findings.is_empty());
            assert!(tables.findings.iter().all(|finding| finding.kind == FindingKind::RecordDamaged));
        },
    );
}

#[test]
fn a_host_that_lost_the_record_is_a_finding_and_another_one_is_served() {
    in_cell(
        |_| {},
        async |cell| {
            let bytes = noise(2, 10_000);
            cell.put("o", &bytes).await.expect("stored");
            let holders: Vec<_> = cell.hosts.iter().filter(|host| host.record_count() > 0).collect();
            holders[1..]
                .iter()
                .for_each(|host| host.records.borrow_mut().values_mut().for_each(|extent| extent.clear()));
            assert!(cell.get("o").await.expect("one good copy is enough") == bytes);
            for finding in &cell.control.tables.borrow().findings {
                assert_eq!(finding.kind, FindingKind::RecordMissing);
            }
        },
    );
}

#[test]
fn what_a_host_has_told_itself_is_not_told_again_in_other_words() {
    for code in [ErrorCode::RecordDamaged, ErrorCode::DeviceFailed] {
        in_cell(
            |_| {},
            async |cell| {
                cell.put("o", &noise(2, 10_000)).await.expect("stored");
                cell.hosts.iter().for_each(|host| host.reads.set(Mode::Refuses(code)));
                let error = cell.get("o").await.expect_err("nobody has it");
                assert!(matches!(error, GatewayError::BlockUnreadable { .. }), "{error}");
                cell.hosts.iter().for_each(|host| host.reads.set(Mode::Corrupts));
                cell.get("o").await.expect_err("nobody has it right");
                let told = || cell.control.tables.borrow().findings.len();
                cell.until("what only the gateway knows is told", || told() >= 4).await;
                assert_eq!(told(), 4, "{code:?}");
            },
        );
    }
}

#[test]
fn a_block_corrupted_everywhere_is_an_error_and_never_wrong_bytes() {
    in_cell(
        |_| {},
        async |cell| {
            cell.put("o", &noise(3, 10_000)).await.expect("stored");
            cell.hosts.iter().for_each(|host| host.reads.set(Mode::Corrupts));
            let error = cell.get("o").await.expect_err("nothing good is left");
            assert!(matches!(error, GatewayError::BlockUnreadable { .. }), "{error}");
            cell.until("every copy is a finding", || cell.control.tables.borrow().findings.len() >= 4).await;
        },
    );
}

#[test]
fn a_block_lost_in_a_cell_of_two_copies_is_an_error_at_once() {
    in_cell(
        |_| {},
        async |cell| {
            cell.put("o", &noise(3, 10_000)).await.expect("stored");
            cell.control.tables.borrow_mut().volumes.iter_mut().for_each(|volume| volume.members.truncate(2));
            cell.hosts.iter().for_each(|host| host.reads.set(Mode::Corrupts));
            let since = Instant::now();
            let error = cell.get("o").await.expect_err("nothing good is left");
            assert!(matches!(error, GatewayError::BlockUnreadable { .. }), "{error}");
            let most = Duration::from_millis(READ_DEADLINE_MS / 2);
            assert!(since.elapsed() < most, "no further member is waited for: {:?}", since.elapsed());
        },
    );
}

#[test]
fn a_late_member_is_hedged_and_the_loser_cancelled() {
    in_cell(
        // Who waits for the stalled member waits for longer than the test may take.
        |config| config.read_deadline = Duration::from_secs(3600),
        async |cell| {
            let bytes = noise(4, 10_000);
            cell.put("o", &bytes).await.expect("stored");
            let late = cell.hosts.iter().find(|host| host.record_count() > 0).expect("a member");
            late.reads.set(Mode::Stalls);
            let mut gets = 0;
            while late.reads_started.get() < 2 {
                assert!(cell.get("o").await.expect("read") == bytes);
                gets += 1;
                assert!(gets < 100, "the stalled member is asked at some time");
            }
            cell.until("the loser is cancelled", || late.cancelled.get() == late.reads_started.get()).await;
            let asked = late.reads_started.get();
            for _ in 0..20 {
                cell.get("o").await.expect("read");
            }
            assert_eq!(late.reads_started.get(), asked, "who keeps losing is asked last");
        },
    );
}

#[test]
fn a_dead_host_does_not_stop_reads() {
    in_cell(
        |_| {},
        async |mut cell: Cell| {
            let bytes = noise(5, 3 * BLOCK);
            cell.put("o", &bytes).await.expect("stored");
            cell.host_tasks[3].abort();
            drop((&mut cell.host_tasks[3]).await);
            for _ in 0..5 {
                assert!(cell.get("o").await.expect("read") == bytes);
            }
        },
    );
}

#[test]
fn an_object_replaced_while_it_is_opened_is_read_in_its_new_version() {
    in_cell(
        |_| {},
        async |cell| {
            cell.put("new", b"new version").await.expect("stored");
            cell.put("o", b"old version").await.expect("stored");
            let new = cell.control.tables.borrow().objects["new"].clone();
            *cell.control.replace_after_head.borrow_mut() = Some(new);
            assert_eq!(cell.get("o").await.expect("read"), b"new version");
        },
    );
}

#[test]
fn a_control_plane_that_has_not_heard_its_hosts_yet_is_asked_again() {
    in_cell(
        |_| {},
        async |cell| {
            let bytes = noise(5, 10_000);
            cell.put("o", &bytes).await.expect("stored");
            cell.control.unheard.set((4, 0));
            assert!(cell.get("o").await.expect("read") == bytes);
            // The only host heard of so far does not answer.
            let bucket = cell.control.tables.borrow().rows.values().next().expect("a block").bucket;
            let volume = cell.control.tables.borrow().volumes.iter().find(|v| v.bucket == bucket).expect("it").clone();
            let failing = &cell.hosts[volume.members[0].host as usize - 1];
            failing.reads.set(Mode::Refuses(ErrorCode::DeviceFailed));
            cell.control.unheard.set((4, 1));
            let before = failing.reads_started.get();
            assert!(cell.get("o").await.expect("read") == bytes);
            let asked = failing.reads_started.get() - before;
            assert!((1..=2).contains(&asked), "once more by the new plan at most, not at every look: {asked}");
        },
    );
    in_cell(
        |config| config.read_deadline = Duration::from_millis(700),
        async |cell| {
            cell.put("o", b"bytes").await.expect("stored");
            cell.control.unheard.set((u32::MAX, 0));
            let error = cell.get("o").await.expect_err("nobody is ever heard of");
            assert!(matches!(error, GatewayError::BlockUnreadable { .. }), "{error}");
        },
    );
}

#[test]
fn a_client_that_leaves_stops_the_reads_behind_it() {
    in_cell(
        |_| {},
        async |cell| {
            cell.put("o", &noise(6, 20 * BLOCK)).await.expect("stored");
            let (reply, answer) = oneshot::channel();
            cell.send(CoreRequest::Get { name: name("o"), range: None, if_match: None, reply }).await;
            let download = answer.await.expect("an answer").expect("opened");
            cell.world.tasks.sleep(Duration::from_millis(300)).await;
            let ahead = reads(&cell);
            // One block in the channel, four ahead; on a busy machine each of them may be hedged.
            assert!(ahead <= 10, "{ahead} blocks read for a client that takes none");
            drop(download);
            cell.world.tasks.sleep(Duration::from_millis(300)).await;
            assert_eq!(reads(&cell), ahead);
        },
    );
}

#[test]
fn a_download_says_that_it_goes_on_until_its_client_leaves() {
    in_cell(
        |config| config.hold_interval = Duration::from_millis(50),
        async |cell| {
            cell.put("o", &noise(6, 3 * BLOCK)).await.expect("stored");
            let (reply, answer) = oneshot::channel();
            cell.send(CoreRequest::Get { name: name("o"), range: None, if_match: None, reply }).await;
            let download = answer.await.expect("an answer").expect("opened");
            let holds = || cell.control.tables.borrow().holds;
            cell.until("it is held while nobody takes a byte", || holds() >= 3).await;
            drop(download);
            cell.world.tasks.sleep(Duration::from_millis(200)).await;
            let before = holds();
            cell.world.tasks.sleep(Duration::from_millis(200)).await;
            assert_eq!(holds(), before);
        },
    );
}

#[test]
fn gets_that_are_not_consumed_leave_the_others_their_share() {
    in_cell(
        |config| config.budget_bytes = 24 << 20,
        async |cell| {
            let bytes = noise(7, 6 * BLOCK);
            cell.put("o", &bytes).await.expect("stored");
            let mut idle = Vec::new();
            for _ in 0..2 {
                let (reply, answer) = oneshot::channel();
                cell.send(CoreRequest::Get { name: name("o"), range: None, if_match: None, reply }).await;
                idle.push(answer.await.expect("an answer").expect("opened"));
            }
            assert!(cell.get("o").await.expect("read") == bytes);
        },
    );
}

fn reads(cell: &Cell) -> u32 {
    cell.hosts.iter().map(|host| host.reads_started.get()).sum()
}
