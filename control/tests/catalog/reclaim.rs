//! Reclaim: killed between any two transactions it goes on, and so do finishing and completing.

use shingle_proto::limits::{INTENT_LEASE_MS, READ_HOLD_MAX_MS, READ_HOLD_MS, RECLAIM_GRACE_MS, UPLOAD_ABANDONED_MS};
use shingle_proto::message::*;

use std::rc::Rc;

use shingle_control::master::reclaim::{ReclaimConfig, ReclaimJob};
use shingle_control::store::Store;
use shingle_control::tables::keys::Table;
use shingle_control::tables::references::{CountOf, ReferenceCount, ReferenceCountKey};
use shingle_control::tables::row::Row;
use shingle_control::verify::index_scan::{IndexFault, check_tables};
use shingle_proto::ids::BlockHash;

use crate::cell::{Cell, KEY, MIB, TestBlock, blocks, expect_code, expect_done, hash, part_blocks};

/// Something of everything that reclaim has to do; two objects stay.
fn leave_a_mess(cell: &Cell) {
    let shared: Vec<TestBlock> = (0..300).map(|number| TestBlock { number, bytes: 10 }).collect();
    cell.put("kept", &shared[..200]);
    cell.put("deleted", &shared);
    cell.delete("deleted");
    cell.put("replaced", &blocks([1000]));
    cell.put("replaced", &blocks([1001]));
    let aborted = cell.open_intent("aborted");
    cell.commit(&aborted, &blocks(2000..2150), 1);
    let (manifest, put_token) = (aborted.manifest, aborted.put_token);
    expect_done(cell.call(Request::AbortIntent(Box::new(AbortIntent { manifest, put_token }))));
    let expired = cell.open_intent("expired");
    cell.commit(&expired, &[shared[0], blocks([1001])[0], shared[299]], 1);
    let dropped = cell.create_upload("dropped");
    cell.put_part("dropped", &dropped, 1, &blocks([1001, 4000]));
    expect_done(cell.call(Cell::abort_upload_request("dropped", &dropped)));
    let whole = cell.create_upload("whole");
    for number in 1..4 {
        cell.put_part("whole", &whole, number, &part_blocks(5000 + 10 * u64::from(number)));
    }
    cell.complete("whole", &whole, [1, 3]);
    cell.delete("whole");
    cell.wait(INTENT_LEASE_MS + 1);
}

#[test]
fn reclaim_killed_after_any_transaction_goes_on() {
    let cell = Cell::new(1);
    leave_a_mess(&cell);
    let before = cell.store.commits.get();
    cell.sim.run(cell.small_steps_job().drain()).unwrap();
    let transactions = cell.store.commits.get() - before;
    let expected = cell.check_idle().counts;
    assert_eq!((expected.objects, expected.blocks, expected.references), (2, 201, 201));
    assert!(transactions > 15, "{transactions} transactions");
    for killed_after in 1..transactions {
        let cell = Cell::new(killed_after);
        leave_a_mess(&cell);
        cell.store.kill_after(killed_after);
        let job = cell.small_steps_job();
        assert!(cell.sim.run_until_dead(job.drain(), &|| cell.store.dead()).is_none());
        let cell = cell.reopen();
        cell.check();
        cell.drain();
        assert_eq!(cell.check_idle().counts, expected, "killed after {killed_after}");
    }
}

#[test]
fn a_finish_killed_after_any_transaction_is_repeated() {
    let all: Vec<TestBlock> = (0..4500).map(|number| TestBlock { number: number % 100, bytes: 16 }).collect();
    for killed_after in 1..=3 {
        let cell = Cell::new(killed_after);
        let intent = cell.open_intent(KEY);
        let Request::CommitBlocks(every) = Cell::commit_request(&intent, &all, 1) else { unreachable!() };
        for some in every.blocks.chunks(1000) {
            let request = CommitBlocks { blocks: some.to_vec(), ..(*every).clone() };
            assert!(matches!(cell.call(Request::CommitBlocks(Box::new(request))), Response::BlocksCommitted(_)));
        }
        cell.store.kill_after(killed_after);
        let request = Request::FinishObject(Box::new(Cell::finish_request(&intent, KEY, &all, "etag")));
        let died = cell.sim.run_until_dead(cell.catalog.handle(request), &|| cell.store.dead());
        assert!(died.is_none());
        let cell = cell.reopen();
        cell.check();
        if killed_after < 3 {
            expect_code(cell.call(Cell::claim_request(&intent, &all[..1])), ErrorCode::IntentExpired);
        }
        assert_eq!(cell.finish(&intent, KEY, &all).blocks, 4500);
        assert_eq!(cell.check_idle().counts.references, 100);
    }
}

#[test]
fn a_completion_killed_after_any_transaction_is_repeated_or_aborted() {
    for killed_after in 1..=4 {
        for aborting in [false, true] {
            let cell = Cell::new(killed_after);
            let upload = cell.create_upload(KEY);
            for number in 1..=600 {
                cell.put_part(KEY, &upload, number, &part_blocks(u64::from(number % 3) * 10));
            }
            cell.store.kill_after(killed_after);
            let request = Request::CompleteUpload(Box::new(Cell::complete_request(KEY, &upload, 1..=600)));
            let died = cell.sim.run_until_dead(cell.catalog.handle(request), &|| cell.store.dead());
            assert!(died.is_none(), "it takes more than {killed_after} transactions");
            let cell = cell.reopen();
            cell.check();
            if aborting {
                let answer = cell.call(Cell::abort_upload_request(KEY, &upload));
                if killed_after < 4 {
                    expect_done(answer);
                } else {
                    expect_code(answer, ErrorCode::NoSuchUpload);
                    cell.delete(KEY);
                }
                cell.drain();
                assert_eq!(cell.check_idle().counts, Default::default());
            } else {
                cell.put_part(KEY, &upload_or_other(&cell, &upload, killed_after), 700, &part_blocks(90));
                if killed_after < 4 {
                    assert_eq!(cell.complete(KEY, &upload, 2..=600).parts, 599);
                    cell.drain();
                    assert_eq!(cell.check_idle().counts.references, 599 * 2);
                } else {
                    assert_eq!(cell.complete(KEY, &upload, 1..=600).parts, 600);
                }
            }
        }
    }
}

/// The upload while it lasts, then a new one.
fn upload_or_other(cell: &Cell, upload: &Id128, killed_after: u64) -> Id128 {
    if killed_after < 4 { upload.clone() } else { cell.create_upload(KEY) }
}

#[test]
fn a_deleted_object_stays_readable_for_downloads_under_way_until_the_grace_is_over() {
    let cell = Cell::new(1);
    let row = cell.put(KEY, &blocks([1]));
    cell.delete(KEY);
    let config = ReclaimConfig { restart_ms: 0, ..ReclaimConfig::default() };
    let job = ReclaimJob::new(cell.catalog.tables().clone(), cell.catalog.holds(), config);
    assert!(!cell.sim.run(job.round()).unwrap());
    assert!(matches!(cell.plan(&row.manifest, 0, 1, 0), Response::ReadPlan(_)));
    assert_eq!(job.progress().queue, 1);
    cell.wait(RECLAIM_GRACE_MS);
    assert!(cell.sim.run(job.round()).unwrap());
    expect_code(cell.plan(&row.manifest, 0, 1, 0), ErrorCode::NoSuchKey);
    assert_eq!((job.progress().queue, job.progress().finished), (0, 1));
}

#[test]
fn a_download_under_way_keeps_a_deleted_object_as_long_as_it_says_so() {
    let cell = Cell::new(1);
    let row = cell.put(KEY, &blocks([1, 2, 3]));
    let other = cell.put("other", &blocks([4]));
    let job = cell.reclaim_job();
    let round = || cell.sim.run(job.drain()).unwrap();
    let goes_on = || cell.plan(&row.manifest, 0, 0, 0);
    assert!(matches!(cell.plan(&row.manifest, 0, u64::MAX, 1), Response::ReadPlan(_)), "there is more to plan");
    assert!(matches!(cell.plan(&other.manifest, 0, u64::MAX, 0), Response::ReadPlan(_)), "all of it is planned");
    cell.delete(KEY);
    cell.delete("other");
    for _ in 0..9 {
        cell.wait(READ_HOLD_MS / 2);
        round();
        assert!(matches!(goes_on(), Response::ReadPlan(_)));
    }
    expect_code(cell.plan(&other.manifest, 0, 1, 0), ErrorCode::NoSuchKey);
    match cell.plan(&row.manifest, 2 << 20, 1, 0) {
        Response::ReadPlan(plan) => assert_eq!(plan.blocks.len(), 1, "the rest can still be planned"),
        other => panic!("{other:?}"),
    }
    cell.wait(READ_HOLD_MS + 1);
    round();
    expect_code(goes_on(), ErrorCode::NoSuchKey);
    assert_eq!(cell.check_idle().counts, Default::default());
}

#[test]
fn nobody_keeps_a_deleted_object_for_ever() {
    let cell = Cell::new(1);
    let row = cell.put(KEY, &blocks([1, 2]));
    cell.delete(KEY);
    cell.wait(READ_HOLD_MAX_MS - 1);
    assert!(matches!(cell.plan(&row.manifest, 0, 0, 0), Response::ReadPlan(_)));
    cell.drain();
    assert!(matches!(cell.plan(&row.manifest, 0, 0, 0), Response::ReadPlan(_)));
    cell.wait(1);
    cell.drain();
    expect_code(cell.plan(&row.manifest, 0, 0, 0), ErrorCode::NoSuchKey);
}

#[test]
fn after_a_start_readers_have_time_to_say_that_they_go_on() {
    let cell = Cell::new(1);
    let row = cell.put(KEY, &blocks([1, 2]));
    cell.delete(KEY);
    cell.wait(RECLAIM_GRACE_MS);
    let cell = cell.reopen();
    let job = ReclaimJob::new(cell.catalog.tables().clone(), cell.catalog.holds(), ReclaimConfig::default());
    cell.wait(READ_HOLD_MS - 1);
    assert!(!cell.sim.run(job.round()).unwrap());
    assert!(matches!(cell.plan(&row.manifest, 0, 0, 0), Response::ReadPlan(_)));
    cell.wait(READ_HOLD_MS);
    assert!(cell.sim.run(job.round()).unwrap());
}

#[test]
fn a_paused_job_does_nothing_until_it_goes_on() {
    let cell = Cell::new(1);
    cell.put(KEY, &blocks([1]));
    cell.delete(KEY);
    cell.open_intent(KEY);
    cell.wait(INTENT_LEASE_MS + 1);
    let job = cell.reclaim_job();
    job.pause(true);
    assert!(!cell.sim.run(job.round()).unwrap());
    assert!(job.progress().paused);
    assert_eq!(cell.check().counts.reclaim_queue, 1);
    job.pause(false);
    cell.sim.run(job.drain()).unwrap();
    assert_eq!(cell.check_idle().counts, Default::default());
    assert_eq!(job.progress().intents_expired, 1);
}

#[test]
fn an_upload_abandoned_for_long_is_aborted() {
    let cell = Cell::new(1);
    let upload = cell.create_upload(KEY);
    cell.put_part(KEY, &upload, 1, &blocks([1]));
    cell.wait(UPLOAD_ABANDONED_MS - 1000);
    cell.drain();
    assert_eq!(cell.check().counts.blocks, 1);
    cell.wait(1000);
    cell.drain();
    assert_eq!(cell.check_idle().counts, Default::default());
}

#[test]
fn dropping_one_of_many_references_scans_none_of_them() {
    let cell = Cell::new(1);
    let rows = 300;
    for number in 0..rows {
        cell.put(&format!("{number}"), &blocks([1, 2]));
    }
    for number in 1..rows {
        cell.delete(&format!("{number}"));
    }
    let before = cell.store.ranges_of(Table::Reference);
    cell.drain();
    assert_eq!(cell.store.ranges_of(Table::Reference), before, "another reference is left each time");
    cell.delete("0");
    cell.drain();
    assert_eq!(
        cell.store.ranges_of(Table::Reference),
        before + 2,
        "nothing goes unless the references were read to be gone"
    );
    assert_eq!(cell.check_idle().counts, Default::default());
}

#[test]
fn a_block_whose_references_are_counted_too_low_stays_and_the_scan_says_so() {
    let cell = Cell::new(1);
    cell.put("kept", &blocks([1]));
    cell.put("deleted", &blocks([1]));
    let key = ReferenceCountKey { hash: BlockHash::from(hash(1)), of: CountOf::Added };
    let transaction = cell.store.begin();
    transaction.set(ReferenceCount::encode_key(&key), ReferenceCount(1).encode());
    cell.sim.run(transaction.commit()).unwrap();
    cell.delete("deleted");
    cell.drain();
    let store: Rc<dyn Store> = cell.store.clone();
    let report = cell.sim.run(check_tables(&store)).unwrap();
    assert!(
        matches!(report.faults.as_slice(), [IndexFault::WrongCount { counted: 0, references: 1, .. }]),
        "{report:?}"
    );
    assert_eq!(report.counts.blocks, 1);
}

#[test]
fn the_bytes_that_manifests_name_are_never_less_than_those_of_unique_blocks() {
    let cell = Cell::new(1);
    let dedup = || {
        let counts = cell.check().counts;
        (counts.manifest_bytes / i64::from(MIB), counts.block_plain_bytes / i64::from(MIB))
    };
    let upload = cell.open_intent("under way");
    cell.commit(&upload, &blocks(0..10), 1);
    assert_eq!(dedup(), (10, 10), "no object has these blocks yet, and the ratio is 1");
    cell.finish(&upload, "under way", &blocks(0..10));
    cell.put("twice", &blocks((0..10).chain(0..5)));
    assert_eq!(dedup(), (25, 10));
    cell.delete("twice");
    cell.delete("under way");
    assert_eq!(dedup(), (25, 10), "reclaim has taken nothing apart yet");
    let job = cell.small_steps_job();
    cell.store.kill_after(1);
    assert!(cell.sim.run_until_dead(job.drain(), &|| cell.store.dead()).is_none());
    let cell = cell.reopen();
    cell.drain();
    assert_eq!(cell.check_idle().counts, Default::default());
}
