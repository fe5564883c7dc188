//! Races, interleaved at every read and commit in an order that a seed decides.

use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use shingle_control::store::Store;
use shingle_control::tables::block_index::Block;
use shingle_control::tables::keys::Table;
use shingle_control::tables::references::drop_reference;
use shingle_control::tables::work::Work;
use shingle_control::verify::index_scan::check_tables;
use shingle_proto::ids::{BlockHash, ManifestId};
use shingle_proto::limits::INTENT_LEASE_MS;
use shingle_proto::message::*;
use shingle_seam::tasks::LocalFuture;

use crate::cell::{Cell, KEY, blocks, code, expect_code, hash, part_blocks};
use crate::world::{Sim, turn};

const SEEDS: u64 = 150;
/// A gateway's pause that its transaction survives, but not its lease.
const PAUSE_MS: u64 = 1000;

/// A request whose answer the race gives back.
fn ask<'a>(cell: &'a Cell, request: Request) -> LocalFuture<'a, Option<Response>> {
    Box::pin(async move { Some(cell.catalog.handle(request).await) })
}

/// A request that comes a little later, by as many turns as the seed says.
fn ask_later(cell: &Cell, request: Request, seed: u64) -> LocalFuture<'_, Option<Response>> {
    Box::pin(async move {
        for _ in 0..seed % 40 {
            turn(&cell.sim).await;
        }
        ask(cell, request).await
    })
}

/// Reclaim, looking a few times.
fn reclaim(cell: &Cell) -> LocalFuture<'_, Option<Response>> {
    Box::pin(async {
        let job = cell.reclaim_job();
        for _ in 0..3 {
            job.round().await.unwrap();
            turn(&cell.sim).await;
        }
        None
    })
}

/// Polls a future a number of times, as if its process stood still after that.
fn poll_some<T>(sim: &Sim, future: &mut Pin<Box<dyn Future<Output = T> + '_>>, polls: usize) -> Option<T> {
    let mut left = polls;
    sim.run(async {
        let mut result = None;
        while left > 0 && result.is_none() {
            left -= 1;
            let polled = std::future::poll_fn(|context| match future.as_mut().poll(context) {
                Poll::Ready(value) => Poll::Ready(Some(value)),
                Poll::Pending => Poll::Ready(None),
            });
            result = polled.await;
            turn(sim).await;
        }
        result
    })
}

#[test]
fn a_dedup_hit_and_the_last_delete_never_both_win() {
    let (mut hits, mut misses) = (0, 0);
    for seed in 0..SEEDS {
        let cell = Cell::new(seed);
        let wanted = blocks([1, 2, 3]);
        cell.put("old", &wanted);
        cell.delete("old");
        let intent = cell.open_intent(KEY);
        let claim = ask_later(&cell, Cell::claim_request(&intent, &wanted), seed);
        let answers = cell.sim.race(vec![claim, reclaim(&cell)]);
        let known = match answers[0].as_ref().unwrap() {
            Response::BlocksClaimed(claimed) => claimed.known.clone(),
            other => panic!("{other:?}"),
        };
        cell.check();
        hits += known.iter().filter(|known| **known).count();
        misses += known.iter().filter(|known| !**known).count();
        cell.commit(&intent, &wanted, 5);
        let row = cell.finish(&intent, KEY, &wanted);
        cell.drain();
        assert_eq!(cell.check_idle().counts.blocks, 3, "{seed}");
        assert!(matches!(cell.plan(&row.manifest, 0, u64::MAX, 0), Response::ReadPlan(_)), "{seed}");
    }
    assert!(hits > 0 && misses > 0, "both orders were seen: {hits} hits, {misses} misses");
}

/// Two transactions of reclaim, each dropping one of the last two references to a block.
fn drop_both(cell: &Cell) {
    let hash = BlockHash::from(hash(1));
    let drop_one = |key| -> LocalFuture<'_, ()> {
        let manifest = ManifestId::from(&cell.put(key, &blocks([1])).manifest);
        cell.delete(key);
        Box::pin(async move {
            let last = cell.catalog.tables().run(async |work: &Work| {
                let last = drop_reference(work, hash, manifest).await?;
                if let (true, Some(block)) = (last, work.get::<Block>(&hash).await?) {
                    work.remove(&hash, &block);
                }
                Ok(())
            });
            last.await.unwrap();
        })
    };
    let both = vec![drop_one("one"), drop_one("other")];
    cell.sim.race(both);
}

#[test]
fn of_two_drops_of_the_last_references_one_clears_the_row() {
    for seed in 0..SEEDS {
        let cell = Cell::new(seed);
        drop_both(&cell);
        assert_eq!(cell.check().counts.blocks, 0, "{seed}");
        cell.drain();
        assert_eq!(cell.check_idle().counts, Default::default(), "{seed}");
    }
}

/// Faults in the tables after races that leave `tables` out of the conflict check.
fn faults_without(tables: &'static [Table], race: impl Fn(&Cell, u64)) -> usize {
    let faults = |seed| {
        let cell = Cell::new(seed);
        cell.store.leave_out_of_conflict_check(tables);
        race(&cell, seed);
        let store: Rc<dyn Store> = cell.store.clone();
        cell.sim.run(check_tables(&store)).unwrap().faults.len()
    };
    (0..SEEDS).map(faults).sum()
}

#[test]
fn these_races_are_lost_without_the_conflict_check() {
    let lost = faults_without(&[Table::Reference, Table::ReferenceCount], |cell, seed| {
        cell.put("old", &blocks([1, 2, 3]));
        cell.delete("old");
        let intent = cell.open_intent(KEY);
        let claim = ask_later(cell, Cell::claim_request(&intent, &blocks([1, 2, 3])), seed);
        cell.sim.race(vec![claim, reclaim(cell)]);
    });
    assert!(lost > 0, "a dedup hit against the last delete rests on references");
    let lost = faults_without(&[Table::ReferenceCount], |cell, _| drop_both(cell));
    assert!(lost > 0, "the last two drops against each other rest on the count of drops");
    let lost = faults_without(&[Table::Intent], |cell, polls| {
        let intent = cell.open_intent(KEY);
        let request = Cell::commit_request(&intent, &blocks([1, 2]), 1);
        cell.wait(INTENT_LEASE_MS - PAUSE_MS / 2);
        let mut gateway: Pin<Box<dyn Future<Output = Response> + '_>> = Box::pin(cell.catalog.handle(request));
        if poll_some(&cell.sim, &mut gateway, polls as usize % 40).is_none() {
            cell.wait(PAUSE_MS);
            cell.drain();
            cell.sim.run(gateway);
        }
    });
    assert!(lost > 0, "a paused gateway rests on its intent");
    let lost = faults_without(&[Table::Upload], |cell, _| {
        let upload = cell.create_upload(KEY);
        cell.put_part(KEY, &upload, 1, &part_blocks(10));
        let complete = Request::CompleteUpload(Box::new(Cell::complete_request(KEY, &upload, [1])));
        cell.sim.race(vec![ask(cell, complete), ask(cell, Cell::abort_upload_request(KEY, &upload)), reclaim(cell)]);
        cell.drain();
    });
    assert!(lost > 0, "completing against aborting rests on the upload");
}

#[test]
fn of_many_puts_of_one_block_one_wins_and_all_reference_its_row() {
    for seed in 0..SEEDS {
        let cell = Cell::new(seed);
        let wanted = blocks([1, 2]);
        let intents: Vec<_> = (0..4).map(|number| cell.open_intent(&format!("{number}"))).collect();
        let commit = |at: usize| ask(&cell, Cell::commit_request(&intents[at], &wanted, 100 + at as u64));
        let answers = cell.sim.race((0..4).map(commit).collect());
        let mut winners = [None, None];
        for (at, answer) in answers.into_iter().enumerate() {
            let Some(Response::BlocksCommitted(committed)) = answer else { panic!("{answer:?}") };
            for (block, inserted) in committed.inserted.iter().enumerate().filter(|(_, inserted)| **inserted) {
                assert!(*inserted && winners[block].is_none(), "one winner for each block");
                winners[block] = Some(100 + at as u64);
            }
        }
        for (at, intent) in intents.iter().enumerate() {
            let row = cell.finish(intent, &format!("{at}"), &wanted);
            let Response::ReadPlan(plan) = cell.plan(&row.manifest, 0, u64::MAX, 0) else { panic!() };
            let put_ids: Vec<_> = plan.blocks.iter().map(|block| Some(block.row.put_id)).collect();
            assert_eq!(put_ids, winners, "{seed}");
        }
        let report = cell.check_idle();
        assert_eq!((report.counts.blocks, report.counts.references), (2, 8));
    }
}

#[test]
fn a_gateway_paused_beyond_its_lease_commits_nothing_afterwards() {
    for finishing in [false, true] {
        let mut refused = 0;
        for polls in 0..60 {
            let cell = Cell::new(polls as u64);
            let intent = cell.open_intent(KEY);
            let wanted = blocks([1, 2]);
            let request = if finishing {
                cell.commit(&intent, &wanted, 1);
                Request::FinishObject(Box::new(Cell::finish_request(&intent, KEY, &wanted, "etag")))
            } else {
                Cell::commit_request(&intent, &wanted, 1)
            };
            cell.wait(INTENT_LEASE_MS - PAUSE_MS / 2);
            let mut gateway: Pin<Box<dyn Future<Output = Response> + '_>> = Box::pin(cell.catalog.handle(request));
            let early = poll_some(&cell.sim, &mut gateway, polls);
            cell.wait(PAUSE_MS);
            cell.drain();
            let answer = match early {
                Some(answer) => answer,
                None => cell.sim.run(gateway),
            };
            if let Some(code) = code(&answer) {
                assert_eq!(code, ErrorCode::IntentExpired);
                refused += 1;
            }
            cell.drain();
            let report = cell.check_idle();
            let survived = finishing && code(&answer).is_none();
            assert_eq!(report.counts.blocks, if survived { 2 } else { 0 }, "after {polls} polls");
            assert_eq!(report.counts.objects, i64::from(survived));
        }
        assert!(refused > 3 && refused < 60, "both orders were seen: {refused} refused");
    }
}

#[test]
fn overwrites_and_deletes_of_one_object_leave_one_version_or_none() {
    for seed in 0..SEEDS {
        let cell = Cell::new(seed);
        cell.put(KEY, &blocks([1, 9]));
        let (second, third) = (cell.open_intent(KEY), cell.open_intent(KEY));
        cell.commit(&second, &blocks([2, 9]), 1);
        cell.commit(&third, &blocks([3, 9]), 1);
        let finish = |intent, numbers| {
            let request = Cell::finish_request(intent, KEY, &blocks(numbers), "etag");
            ask(&cell, Request::FinishObject(Box::new(request)))
        };
        let answers = cell.sim.race(vec![
            finish(&second, [2, 9]),
            ask(&cell, Cell::delete_request(KEY)),
            finish(&third, [3, 9]),
            reclaim(&cell),
        ]);
        assert!(answers.iter().flatten().all(|answer| code(answer).is_none()), "{answers:?}");
        cell.check();
        cell.drain();
        let counts = cell.check_idle().counts;
        assert!((counts.objects, counts.blocks) == (1, 2) || (counts.objects, counts.blocks) == (0, 0), "{counts:?}");
    }
}

#[test]
fn only_one_of_two_puts_that_want_no_object_there_succeeds() {
    for seed in 0..SEEDS {
        let cell = Cell::new(seed);
        let intents = [cell.open_intent(KEY), cell.open_intent(KEY)];
        let finish = |intent| {
            let mut request = Cell::finish_request(intent, KEY, &[], "etag");
            let none = Precondition { if_match: None, if_none_match: Some("*".into()) };
            request.precondition = Some(Box::new(none));
            ask(&cell, Request::FinishObject(Box::new(request)))
        };
        let answers = cell.sim.race(intents.iter().map(finish).collect());
        let mut codes: Vec<_> = answers.iter().flatten().map(code).collect();
        codes.sort_by_key(|code| code.map(|code| code.0));
        assert_eq!(codes, [None, Some(ErrorCode::PreconditionFailed)]);
    }
}

#[test]
fn an_upload_is_completed_or_aborted_whatever_comes_between() {
    let mut seen = [0; 2];
    for seed in 0..SEEDS {
        let cell = Cell::new(seed);
        let upload = cell.create_upload(KEY);
        cell.put_part(KEY, &upload, 1, &part_blocks(10));
        cell.put_part(KEY, &upload, 2, &part_blocks(20));
        let complete = || ask(&cell, Request::CompleteUpload(Box::new(Cell::complete_request(KEY, &upload, [1, 2]))));
        let abort = ask(&cell, Cell::abort_upload_request(KEY, &upload));
        let answers = cell.sim.race(vec![complete(), abort, complete(), reclaim(&cell)]);
        let codes: Vec<_> = answers.iter().flatten().map(code).collect();
        let completed = codes[1] == Some(ErrorCode::NoSuchUpload);
        let expected = if completed { None } else { Some(ErrorCode::NoSuchUpload) };
        assert_eq!((codes[0], codes[2]), (expected, expected), "{seed}: {codes:?}");
        seen[usize::from(completed)] += 1;
        cell.check();
        cell.drain();
        let counts = cell.check_idle().counts;
        assert_eq!((counts.objects, counts.blocks), if completed { (1, 4) } else { (0, 0) }, "{seed}");
    }
    assert!(seen[0] > 0 && seen[1] > 0, "both orders were seen: {seen:?}");
}

#[test]
fn a_part_replaced_during_completion_is_in_the_object_or_gone() {
    for seed in 0..SEEDS {
        let cell = Cell::new(seed);
        let upload = cell.create_upload(KEY);
        cell.put_part(KEY, &upload, 1, &part_blocks(10));
        cell.put_part(KEY, &upload, 2, &part_blocks(20));
        let again = cell.open_intent(KEY);
        cell.commit(&again, &part_blocks(30), 3);
        let complete = Cell::complete_request(KEY, &upload, [1, 2]);
        let answers = cell.sim.race(vec![
            ask(&cell, Request::CompleteUpload(Box::new(complete))),
            ask(&cell, Cell::part_request(&again, KEY, &upload, 1, &part_blocks(30))),
            reclaim(&cell),
        ]);
        let Some(Response::ObjectFinished(finished)) = &answers[0] else { panic!("{answers:?}") };
        cell.check();
        let Response::ReadPlan(plan) = cell.plan(&finished.row.manifest, 0, u64::MAX, 0) else { panic!() };
        let first = plan.blocks[0].row.hash.bytes[7];
        match &answers[1] {
            Some(Response::Done(_)) => assert_eq!(first, 30, "{seed}"),
            Some(other) => {
                expect_code(other.clone(), ErrorCode::NoSuchUpload);
                assert_eq!(first, 10, "{seed}");
            }
            None => unreachable!(),
        }
        cell.wait(INTENT_LEASE_MS + 1);
        cell.drain();
        assert_eq!(cell.check_idle().counts.blocks, 4, "{seed}");
    }
}

#[test]
fn a_bucket_deleted_during_a_put_never_holds_an_object() {
    for seed in 0..SEEDS {
        let cell = Cell::new(seed);
        let intent = cell.open_intent(KEY);
        cell.commit(&intent, &blocks([1]), 1);
        let finish = Cell::finish_request(&intent, KEY, &blocks([1]), "etag");
        let upload = CreateUpload {
            s3_bucket: crate::cell::BUCKET.into(),
            key: KEY.into(),
            headers: Box::default(),
            checksum_type: ChecksumType::None,
        };
        let answers = cell.sim.race(vec![
            ask(&cell, Request::FinishObject(Box::new(finish))),
            ask(&cell, Request::DeleteS3Bucket(Box::new(DeleteS3Bucket { name: crate::cell::BUCKET.into() }))),
            ask(&cell, Request::CreateUpload(Box::new(upload))),
        ]);
        let codes: Vec<_> = answers.iter().flatten().map(code).collect();
        assert!(
            (codes[0], codes[1]) == (None, Some(ErrorCode::BucketNotEmpty))
                || (codes[0], codes[1]) == (Some(ErrorCode::NoSuchBucket), None),
            "{seed}: {codes:?}"
        );
        cell.check();
    }
}
