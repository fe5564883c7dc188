//! S3 buckets, intents, blocks, objects and reads: the good and the bad path of each request.

use shingle_proto::limits::{INTENT_LEASE_MS, S3_BUCKETS_MAX, S3_METADATA_BYTES_MAX};
use shingle_proto::message::*;

use crate::cell::{BUCKET, Cell, KEY, MIB, TestBlock, blocks, code, expect_code, expect_done, hash, size};

fn create(cell: &Cell, name: &str) -> Response {
    cell.call(Request::CreateS3Bucket(Box::new(CreateS3Bucket { name: name.into() })))
}

fn delete_bucket(cell: &Cell, name: &str) -> Response {
    cell.call(Request::DeleteS3Bucket(Box::new(DeleteS3Bucket { name: name.into() })))
}

#[test]
fn buckets_are_made_found_listed_and_deleted_once() {
    let cell = Cell::new(1);
    expect_code(create(&cell, BUCKET), ErrorCode::BucketExists);
    expect_code(create(&cell, "Not Valid"), ErrorCode::Malformed);
    expect_done(create(&cell, "another"));
    match cell.call(Request::ListS3Buckets(Box::default())) {
        Response::S3Buckets(list) => {
            let names: Vec<&str> = list.buckets.iter().map(|bucket| bucket.name.as_str()).collect();
            assert_eq!(names, ["another", BUCKET]);
        }
        other => panic!("{other:?}"),
    }
    let head = |name: &str| cell.call(Request::HeadS3Bucket(Box::new(HeadS3Bucket { name: name.into() })));
    assert!(matches!(head("another"), Response::S3Bucket(_)));
    expect_done(delete_bucket(&cell, "another"));
    expect_code(delete_bucket(&cell, "another"), ErrorCode::NoSuchBucket);
    expect_code(head("another"), ErrorCode::NoSuchBucket);
}

#[test]
fn the_number_of_buckets_is_bounded() {
    let cell = Cell::new(1);
    for number in 1..S3_BUCKETS_MAX {
        expect_done(create(&cell, &format!("bucket-{number}")));
    }
    expect_code(create(&cell, "one-too-many"), ErrorCode::TooManyBuckets);
}

#[test]
fn a_bucket_goes_when_its_last_object_has_gone_and_takes_its_uploads_along() {
    let cell = Cell::new(1);
    cell.put(KEY, &blocks([1]));
    for number in 0..130 {
        cell.create_upload(&format!("upload-{number}"));
    }
    expect_code(delete_bucket(&cell, BUCKET), ErrorCode::BucketNotEmpty);
    cell.delete(KEY);
    expect_done(delete_bucket(&cell, BUCKET));
    cell.drain();
    let report = cell.check_idle();
    assert_eq!((report.counts.blocks, report.counts.references), (0, 0));
}

#[test]
fn an_object_comes_back_as_it_was_put() {
    let cell = Cell::new(1);
    let stored = blocks(0..5);
    let row = cell.put(KEY, &stored);
    assert_eq!((row.size_bytes, row.blocks, row.etag.as_str()), (size(&stored), 5, "etag"));
    match cell.head(KEY) {
        Response::ObjectHead(head) => assert_eq!(*head.row, row),
        other => panic!("{other:?}"),
    }
    match cell.plan(&row.manifest, 0, u64::MAX, 0) {
        Response::ReadPlan(plan) => {
            let numbers: Vec<Hash256> = plan.blocks.iter().map(|block| block.row.hash.clone()).collect();
            assert_eq!(numbers, (0..5).map(hash).collect::<Vec<_>>());
            assert_eq!(plan.volumes.len(), 3);
            for block in &plan.blocks {
                assert_eq!(plan.volumes[block.volume as usize].bucket, block.row.bucket);
            }
            assert_eq!(plan.next_offset_bytes, size(&stored));
        }
        other => panic!("{other:?}"),
    }
    let report = cell.check_idle();
    assert_eq!((report.counts.objects, report.counts.logical_bytes), (1, 5 * i64::from(MIB)));
}

#[test]
fn a_plan_covers_just_the_range_and_goes_on_where_it_was_cut() {
    let cell = Cell::new(1);
    let stored: Vec<TestBlock> = (0..1500).map(|number| TestBlock { number, bytes: 1000 }).collect();
    let intent = cell.open_intent(KEY);
    cell.commit(&intent, &stored[..1000], 1);
    let rest: Vec<NewBlock> = match Cell::commit_request(&intent, &stored, 1) {
        Request::CommitBlocks(request) => request.blocks[1000..].to_vec(),
        _ => unreachable!(),
    };
    let request = CommitBlocks { manifest: intent.manifest.clone(), put_token: intent.put_token, blocks: rest };
    assert!(matches!(cell.call(Request::CommitBlocks(Box::new(request))), Response::BlocksCommitted(_)));
    let row = cell.finish(&intent, KEY, &stored);
    let plan = |offset, length, max| match cell.plan(&row.manifest, offset, length, max) {
        Response::ReadPlan(plan) => plan,
        other => panic!("{other:?}"),
    };
    let middle = plan(511_999, 2, 0);
    assert_eq!(middle.blocks.iter().map(|block| block.offset_bytes).collect::<Vec<_>>(), [511_000, 512_000]);
    assert_eq!(middle.next_offset_bytes, 513_000);
    let mut offset = 0;
    let mut seen = 0;
    while offset < row.size_bytes {
        let part = plan(offset, row.size_bytes - offset, 700);
        assert!(part.blocks.len() <= 700 && part.next_offset_bytes > offset);
        seen += part.blocks.len();
        offset = part.next_offset_bytes;
    }
    assert_eq!(seen, 1500);
    assert!(plan(row.size_bytes, 10, 0).blocks.is_empty());
    let list = |offset_bytes, max_blocks| {
        let request = ListBlocks { manifest: row.manifest.clone(), offset_bytes, max_blocks };
        match cell.call(Request::ListBlocks(Box::new(request))) {
            Response::BlockList(list) => list,
            other => panic!("{other:?}"),
        }
    };
    let first = list(0, 0);
    assert_eq!((first.blocks.len(), first.end), (1024, false));
    let second = list(first.next_offset_bytes, 0);
    assert_eq!((second.blocks.len(), second.end), (476, true));
    assert_eq!(second.blocks[0].hash, hash(1024));
    cell.check_idle();
}

#[test]
fn an_empty_object_has_no_blocks() {
    let cell = Cell::new(1);
    let row = cell.put(KEY, &[]);
    assert_eq!((row.size_bytes, row.blocks), (0, 0));
    match cell.plan(&row.manifest, 0, 100, 0) {
        Response::ReadPlan(plan) => assert!(plan.blocks.is_empty()),
        other => panic!("{other:?}"),
    }
    cell.delete(KEY);
    cell.drain();
    assert_eq!(cell.check_idle().counts, Default::default());
}

#[test]
fn a_known_block_is_claimed_and_a_new_one_is_not() {
    let cell = Cell::new(1);
    cell.put("first", &blocks([1, 2]));
    let intent = cell.open_intent(KEY);
    let wanted = blocks([1, 3, 2]);
    assert_eq!(cell.claim(&intent, &wanted), [true, false, true]);
    assert_eq!(cell.claim(&intent, &wanted), [true, false, true], "a repeat changes nothing");
    assert_eq!(cell.commit(&intent, &wanted, 77), [false, true, false]);
    assert_eq!(cell.commit(&intent, &wanted, 77), [false, true, false], "nor here");
    cell.finish(&intent, KEY, &wanted);
    let report = cell.check_idle();
    assert_eq!((report.counts.blocks, report.counts.references), (3, 5));
}

#[test]
fn the_same_block_many_times_in_one_object_is_one_reference() {
    let cell = Cell::new(1);
    let row = cell.put(KEY, &blocks([5, 5, 5, 6, 5]));
    let report = cell.check_idle();
    assert_eq!((report.counts.blocks, report.counts.references), (2, 2));
    assert!(matches!(cell.plan(&row.manifest, 0, u64::MAX, 0), Response::ReadPlan(plan) if plan.blocks.len() == 5));
    cell.delete(KEY);
    cell.drain();
    assert_eq!(cell.check_idle().counts, Default::default());
}

#[test]
fn blocks_that_break_a_limit_are_refused() {
    let cell = Cell::new(1);
    let intent = cell.open_intent(KEY);
    let claim = |blocks: &[TestBlock]| cell.call(Cell::claim_request(&intent, blocks));
    expect_code(claim(&[TestBlock { number: 1, bytes: 4 * MIB + 1 }]), ErrorCode::Malformed);
    expect_code(claim(&[TestBlock { number: 1, bytes: 0 }]), ErrorCode::Malformed);
    expect_code(claim(&blocks(0..1025)), ErrorCode::Malformed);
    let spoiled = |spoil: &dyn Fn(&mut BlockRow)| match Cell::commit_request(&intent, &blocks([1]), 1) {
        Request::CommitBlocks(mut request) => {
            spoil(&mut request.blocks[0].row);
            cell.call(Request::CommitBlocks(request))
        }
        _ => unreachable!(),
    };
    expect_code(spoiled(&|row| row.sealed_bytes = 4 * MIB + 17), ErrorCode::Malformed);
    expect_code(spoiled(&|row| row.wrapped_key = vec![0; 257]), ErrorCode::Malformed);
    expect_code(spoiled(&|row| row.bucket = 5000), ErrorCode::Malformed);
    assert_eq!(cell.commit(&intent, &blocks([1]), 1), [true]);
    expect_code(claim(&[TestBlock { number: 1, bytes: 500 }]), ErrorCode::Malformed);
}

#[test]
fn another_block_at_an_offset_that_is_taken_is_refused() {
    let cell = Cell::new(1);
    cell.put("first", &blocks([1, 2]));
    let intent = cell.open_intent(KEY);
    cell.claim(&intent, &blocks([1]));
    expect_code(cell.call(Cell::claim_request(&intent, &blocks([2]))), ErrorCode::Malformed);
    cell.check();
}

#[test]
fn a_finish_must_keep_its_promise() {
    let cell = Cell::new(1);
    let stored = blocks([1, 2, 3]);
    let intent = cell.open_intent(KEY);
    cell.commit(&intent, &stored, 1);
    let finish = |change: &dyn Fn(&mut FinishObject)| {
        let mut request = Cell::finish_request(&intent, KEY, &stored, "etag");
        change(&mut request);
        cell.call(Request::FinishObject(Box::new(request)))
    };
    expect_code(finish(&|request| request.size_bytes += 1), ErrorCode::Malformed);
    expect_code(finish(&|request| request.blocks -= 1), ErrorCode::Malformed);
    expect_code(finish(&|request| request.put_token += 1), ErrorCode::IntentExpired);
    expect_code(finish(&|request| request.key = "other".into()), ErrorCode::Malformed);
    expect_code(finish(&|request| request.s3_bucket = "other".into()), ErrorCode::Malformed);
    expect_code(finish(&|request| request.key = "k".repeat(1025)), ErrorCode::KeyTooLong);
    expect_code(finish(&|request| request.etag = "e".repeat(200)), ErrorCode::Malformed);
    let pair = UserMetadata { name: "n".into(), value: "v".repeat(S3_METADATA_BYTES_MAX) };
    expect_code(finish(&|request| request.headers.user = vec![pair.clone()]), ErrorCode::Malformed);
    expect_code(cell.head(KEY), ErrorCode::NoSuchKey);
    assert!(matches!(finish(&|_| ()), Response::ObjectFinished(_)));
    cell.check_idle();
}

#[test]
fn a_gap_between_blocks_is_refused() {
    let cell = Cell::new(1);
    let intent = cell.open_intent(KEY);
    let all = blocks([1, 2, 3]);
    match Cell::commit_request(&intent, &all, 1) {
        Request::CommitBlocks(mut request) => {
            request.blocks.remove(1);
            assert!(matches!(cell.call(Request::CommitBlocks(request)), Response::BlocksCommitted(_)));
        }
        _ => unreachable!(),
    }
    let request = Cell::finish_request(&intent, KEY, &all, "etag");
    expect_code(cell.call(Request::FinishObject(Box::new(request))), ErrorCode::Malformed);
}

#[test]
fn a_repeated_finish_gives_the_same_row_even_after_the_object_was_replaced() {
    let cell = Cell::new(1);
    let stored = blocks([1]);
    let intent = cell.open_intent(KEY);
    cell.commit(&intent, &stored, 1);
    let first = cell.finish(&intent, KEY, &stored);
    cell.wait(50);
    assert_eq!(cell.finish(&intent, KEY, &stored), first);
    cell.put(KEY, &blocks([2]));
    assert_eq!(cell.finish(&intent, KEY, &stored).manifest, first.manifest);
    cell.drain();
    let request = Cell::finish_request(&intent, KEY, &stored, "etag");
    expect_code(cell.call(Request::FinishObject(Box::new(request))), ErrorCode::IntentExpired);
    assert_eq!(cell.check_idle().counts.objects, 1);
}

#[test]
fn a_large_object_is_folded_in_many_transactions() {
    let cell = Cell::new(1);
    let all: Vec<TestBlock> = (0..5000).map(|number| TestBlock { number: number % 700, bytes: 16 }).collect();
    let intent = cell.open_intent(KEY);
    let request = |range: std::ops::Range<usize>| match Cell::commit_request(&intent, &all, 1) {
        Request::CommitBlocks(request) => Request::CommitBlocks(Box::new(CommitBlocks {
            blocks: request.blocks[range].to_vec(),
            ..(*request).clone()
        })),
        _ => unreachable!(),
    };
    for first in (0..5000).step_by(1000) {
        assert!(matches!(cell.call(request(first..first + 1000)), Response::BlocksCommitted(_)));
    }
    let row = cell.finish(&intent, KEY, &all);
    assert_eq!(row.blocks, 5000);
    let report = cell.check_idle();
    assert_eq!((report.counts.blocks, report.counts.references), (700, 700));
    cell.delete(KEY);
    cell.drain();
    assert_eq!(cell.check_idle().counts, Default::default());
}

#[test]
fn an_intent_lives_as_long_as_it_is_renewed() {
    let cell = Cell::new(1);
    let intent = cell.open_intent(KEY);
    let renew = || {
        let (manifest, put_token) = (intent.manifest.clone(), intent.put_token);
        cell.call(Request::RenewIntent(Box::new(RenewIntent { manifest, put_token })))
    };
    for _ in 0..3 {
        cell.wait(INTENT_LEASE_MS);
        expect_done(renew());
    }
    cell.wait(INTENT_LEASE_MS + 1);
    expect_code(renew(), ErrorCode::IntentExpired);
    expect_code(cell.call(Cell::claim_request(&intent, &blocks([1]))), ErrorCode::IntentExpired);
    expect_code(cell.call(Cell::claim_request(&intent, &[])), ErrorCode::IntentExpired);
    expect_code(cell.call(Cell::commit_request(&intent, &blocks([1]), 1)), ErrorCode::IntentExpired);
    let request = Cell::finish_request(&intent, KEY, &[], "etag");
    expect_code(cell.call(Request::FinishObject(Box::new(request))), ErrorCode::IntentExpired);
    cell.drain();
    assert_eq!(cell.check_idle().counts, Default::default());
}

#[test]
fn an_aborted_intent_leaves_nothing() {
    let cell = Cell::new(1);
    let intent = cell.open_intent(KEY);
    cell.commit(&intent, &blocks(0..300), 1);
    let abort = |put_token| {
        let manifest = intent.manifest.clone();
        cell.call(Request::AbortIntent(Box::new(AbortIntent { manifest, put_token })))
    };
    expect_code(abort(intent.put_token ^ 1), ErrorCode::IntentExpired);
    expect_done(abort(intent.put_token));
    expect_done(abort(intent.put_token));
    expect_code(cell.call(Cell::commit_request(&intent, &blocks([1]), 1)), ErrorCode::IntentExpired);
    cell.drain();
    assert_eq!(cell.check_idle().counts, Default::default());
}

#[test]
fn names_that_are_not_there_say_so() {
    let cell = Cell::new(1);
    expect_code(cell.head("nothing"), ErrorCode::NoSuchKey);
    let elsewhere = |key: &str| HeadObject { s3_bucket: "nowhere".into(), key: key.into(), part_number: 0 };
    expect_code(cell.call(Request::HeadObject(Box::new(elsewhere("key")))), ErrorCode::NoSuchBucket);
    let open = OpenIntent { s3_bucket: "nowhere".into(), key: KEY.into() };
    expect_code(cell.call(Request::OpenIntent(Box::new(open))), ErrorCode::NoSuchBucket);
    let open = OpenIntent { s3_bucket: BUCKET.into(), key: "k".repeat(1025) };
    match cell.call(Request::OpenIntent(Box::new(open))) {
        Response::ErrorReply(error) => assert_eq!((error.code, error.number), (ErrorCode::KeyTooLong, 1025)),
        other => panic!("{other:?}"),
    }
    expect_code(cell.plan(&Id128 { hi: 1, lo: 2 }, 0, 1, 0), ErrorCode::NoSuchKey);
    cell.delete("nothing");
    expect_code(cell.call(Request::GetStatus(Box::default())), ErrorCode::Unsupported);
}

#[test]
fn conditions_are_decided_with_the_flip() {
    let cell = Cell::new(1);
    let put = |if_match: Option<&str>, if_none_match: Option<&str>, etag: &str| {
        let intent = cell.open_intent(KEY);
        let mut request = Cell::finish_request(&intent, KEY, &[], etag);
        let text = |condition: Option<&str>| condition.map(str::to_owned);
        let condition = Precondition { if_match: text(if_match), if_none_match: text(if_none_match) };
        request.precondition = Some(Box::new(condition));
        code(&cell.call(Request::FinishObject(Box::new(request))))
    };
    assert_eq!(put(Some("*"), None, "a"), Some(ErrorCode::NoSuchKey));
    assert_eq!(put(None, Some("*"), "a"), None);
    assert_eq!(put(None, Some("*"), "b"), Some(ErrorCode::PreconditionFailed));
    assert_eq!(put(None, Some("a"), "b"), Some(ErrorCode::PreconditionFailed));
    assert_eq!(put(Some("b"), None, "c"), Some(ErrorCode::PreconditionFailed));
    assert_eq!(put(Some("\"a\""), None, "c"), None);
    assert_eq!(put(Some("*"), Some("a"), "d"), None);
    let delete = |etag: &str| {
        let precondition = Some(Box::new(Precondition { if_match: Some(etag.into()), if_none_match: None }));
        let request = DeleteObject { s3_bucket: BUCKET.into(), key: KEY.into(), precondition };
        cell.call(Request::DeleteObject(Box::new(request)))
    };
    expect_code(delete("c"), ErrorCode::PreconditionFailed);
    expect_done(delete("d"));
    expect_code(delete("d"), ErrorCode::PreconditionFailed);
    cell.wait(INTENT_LEASE_MS + 1);
    cell.drain();
    assert_eq!(cell.check_idle().counts, Default::default());
}

#[test]
fn a_copy_is_references_only() {
    let cell = Cell::new(1);
    let stored: Vec<TestBlock> = (0..600).map(|number| TestBlock { number, bytes: 100 }).collect();
    let source = cell.put("source", &stored);
    let intent = cell.open_intent(KEY);
    let copy = |source_offset_bytes, length_bytes, offset_bytes| {
        cell.call(Request::CopyBlocks(Box::new(CopyBlocks {
            source: source.manifest.clone(),
            manifest: intent.manifest.clone(),
            put_token: intent.put_token,
            source_offset_bytes,
            length_bytes,
            offset_bytes,
        })))
    };
    expect_code(copy(0, 60_001, 0), ErrorCode::Malformed);
    expect_code(copy(50, 1000, 0), ErrorCode::Malformed);
    expect_code(copy(0, 1050, 0), ErrorCode::Malformed);
    for _ in 0..2 {
        match copy(1000, 59_000, 0) {
            Response::BlocksCopied(copied) => assert_eq!(copied.copied_bytes, 59_000),
            other => panic!("{other:?}"),
        }
    }
    cell.finish(&intent, KEY, &stored[10..]);
    let report = cell.check_idle();
    assert_eq!((report.counts.blocks, report.counts.references), (600, 1190));
    cell.delete("source");
    cell.drain();
    let report = cell.check_idle();
    assert_eq!((report.counts.blocks, report.counts.references), (590, 590));
}

#[test]
fn a_copy_of_what_is_being_reclaimed_finds_no_source() {
    let cell = Cell::new(1);
    let source = cell.put("source", &blocks([1]));
    cell.delete("source");
    cell.drain();
    let intent = cell.open_intent(KEY);
    let request = CopyBlocks {
        source: source.manifest,
        manifest: intent.manifest.clone(),
        put_token: intent.put_token,
        source_offset_bytes: 0,
        length_bytes: u64::from(MIB),
        offset_bytes: 0,
    };
    expect_code(cell.call(Request::CopyBlocks(Box::new(request))), ErrorCode::NoSuchKey);
}
