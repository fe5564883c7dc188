//! Multipart uploads: parts, listings, completion, abort.

use shingle_proto::limits::READ_HOLD_MS;
use shingle_proto::message::*;

use crate::cell::{BUCKET, Cell, KEY, blocks, expect_code, expect_done, part_blocks, size};

fn list_parts(cell: &Cell, upload: &Id128, after_number: u32, limit: u32) -> Parts {
    let (s3_bucket, key, upload) = (BUCKET.into(), KEY.into(), upload.clone());
    match cell.call(Request::ListParts(Box::new(ListParts { s3_bucket, key, upload, after_number, limit }))) {
        Response::Parts(parts) => *parts,
        other => panic!("{other:?}"),
    }
}

#[test]
fn parts_become_one_object_and_the_rest_is_reclaimed() {
    let cell = Cell::new(1);
    let upload = cell.create_upload(KEY);
    cell.put_part(KEY, &upload, 2, &part_blocks(20));
    cell.put_part(KEY, &upload, 1, &part_blocks(10));
    cell.put_part(KEY, &upload, 9, &part_blocks(90));
    cell.put_part(KEY, &upload, 7, &blocks([70]));
    let listed = list_parts(&cell, &upload, 0, 3);
    assert_eq!(listed.parts.iter().map(|part| part.number).collect::<Vec<_>>(), [1, 2, 7]);
    assert!(!listed.end);
    assert_eq!(listed.headers.content_type.as_deref(), Some("text/part"));
    assert!(list_parts(&cell, &upload, 7, 3).end);
    let row = cell.complete(KEY, &upload, [1, 2, 7]);
    assert_eq!((row.size_bytes, row.blocks, row.parts), (11 << 20, 5, 3));
    assert_eq!(row.headers.content_type.as_deref(), Some("text/part"));
    assert_eq!(cell.complete(KEY, &upload, [1, 2, 7]), row, "a repeat gives the same row");
    cell.drain();
    let report = cell.check_idle();
    assert_eq!((report.counts.blocks, report.counts.references), (5, 5), "part 9 was not named");
    match cell.plan(&row.manifest, 0, u64::MAX, 0) {
        Response::ReadPlan(plan) => {
            let offsets: Vec<u64> = plan.blocks.iter().map(|block| block.offset_bytes).collect();
            let half = 5 << 19;
            assert_eq!(offsets, [0, half, 2 * half, 3 * half, 4 * half]);
        }
        other => panic!("{other:?}"),
    }
    cell.delete(KEY);
    cell.drain();
    assert_eq!(cell.check_idle().counts, Default::default());
}

#[test]
fn checksums_of_parts_are_kept_and_parts_are_found_by_number() {
    let cell = Cell::new(1);
    let upload = cell.create_upload(KEY);
    for number in [2, 5, 9] {
        cell.put_part(KEY, &upload, number, &part_blocks(u64::from(number) * 10));
    }
    let listed = list_parts(&cell, &upload, 0, 9);
    assert_eq!(listed.checksum_type, ChecksumType::FullObject);
    let sums: Vec<_> = listed.parts.iter().map(|part| part.checksum_value.as_deref()).collect();
    assert_eq!(sums, [Some("sum-2"), Some("sum-5"), Some("sum-9")]);
    let row = cell.complete(KEY, &upload, [2, 5, 9]);
    assert_eq!(
        (row.headers.checksum_algorithm.as_deref(), row.headers.checksum_value.as_deref()),
        (Some("CRC32"), Some("sum"))
    );
    let head = |key: &str, part_number| {
        let head = HeadObject { s3_bucket: BUCKET.into(), key: key.into(), part_number };
        cell.call(Request::HeadObject(Box::new(head)))
    };
    for (number, offset) in [(1, 0), (2, 5 << 20), (3, 10 << 20)] {
        match head(KEY, number) {
            Response::ObjectHead(head) => assert_eq!((head.part_offset_bytes, head.part_bytes), (offset, 5 << 20)),
            other => panic!("{other:?}"),
        }
    }
    match head(KEY, 4) {
        Response::ErrorReply(error) => assert_eq!((error.code, error.number), (ErrorCode::InvalidPart, 3)),
        other => panic!("{other:?}"),
    }
    cell.put("whole", &blocks([1]));
    match head("whole", 1) {
        Response::ObjectHead(head) => assert_eq!((head.part_offset_bytes, head.part_bytes), (0, 1 << 20)),
        other => panic!("{other:?}"),
    }
    expect_code(head("whole", 2), ErrorCode::InvalidPart);
}

#[test]
fn a_part_that_is_uploaded_again_replaces_the_earlier_one() {
    let cell = Cell::new(1);
    let upload = cell.create_upload(KEY);
    cell.put_part(KEY, &upload, 1, &part_blocks(10));
    let second = cell.put_part(KEY, &upload, 1, &part_blocks(20));
    expect_done(cell.call(Cell::part_request(&second, KEY, &upload, 1, &part_blocks(20))));
    cell.drain();
    assert_eq!(cell.check().counts.blocks, 2);
    let row = cell.complete(KEY, &upload, [1]);
    cell.drain();
    assert_eq!(cell.check_idle().counts.blocks, 2);
    assert!(
        matches!(cell.plan(&row.manifest, 0, 1, 0), Response::ReadPlan(plan) if plan.blocks[0].row.hash.bytes[7] == 20)
    );
}

#[test]
fn a_completion_that_does_not_fit_changes_nothing() {
    let cell = Cell::new(1);
    let upload = cell.create_upload(KEY);
    cell.put_part(KEY, &upload, 1, &blocks([1]));
    cell.put_part(KEY, &upload, 2, &part_blocks(20));
    let complete = |change: &dyn Fn(&mut CompleteUpload)| {
        let mut request = Cell::complete_request(KEY, &upload, [1, 2]);
        change(&mut request);
        cell.call(Request::CompleteUpload(Box::new(request)))
    };
    expect_code(complete(&|_| ()), ErrorCode::PartTooSmall);
    expect_code(complete(&|request| request.parts.clear()), ErrorCode::Malformed);
    expect_code(complete(&|request| request.parts.reverse()), ErrorCode::InvalidPartOrder);
    expect_code(complete(&|request| request.parts[1].number = 1), ErrorCode::InvalidPartOrder);
    expect_code(complete(&|request| request.parts[1].number = 3), ErrorCode::InvalidPart);
    expect_code(complete(&|request| request.parts[0].etag = "other".into()), ErrorCode::InvalidPart);
    expect_code(complete(&|request| request.upload = Id128 { hi: 1, lo: 1 }), ErrorCode::NoSuchUpload);
    expect_code(complete(&|request| request.key = "other".into()), ErrorCode::NoSuchUpload);
    let many = |number| PartName { number, etag: "e".into() };
    expect_code(complete(&|request| request.parts = (1..=10_001).map(many).collect()), ErrorCode::TooManyParts);
    let exists = Precondition { if_match: Some("*".into()), if_none_match: None };
    expect_code(
        complete(&|request| {
            request.parts.remove(0);
            request.precondition = Some(Box::new(exists.clone()));
        }),
        ErrorCode::NoSuchKey,
    );
    expect_code(cell.head(KEY), ErrorCode::NoSuchKey);
    cell.check();
    assert_eq!(cell.complete(KEY, &upload, [2]).parts, 1);
    cell.drain();
    assert_eq!(cell.check_idle().counts.blocks, 2);
}

#[test]
fn parts_that_break_a_limit_are_refused() {
    let cell = Cell::new(1);
    let upload = cell.create_upload(KEY);
    let intent = cell.open_intent(KEY);
    let part = |number, upload: &Id128| cell.call(Cell::part_request(&intent, KEY, upload, number, &[]));
    expect_code(part(0, &upload), ErrorCode::TooManyParts);
    expect_code(part(10_001, &upload), ErrorCode::TooManyParts);
    expect_code(part(1, &Id128 { hi: 0, lo: 1 }), ErrorCode::NoSuchUpload);
    expect_code(cell.call(Cell::part_request(&intent, KEY, &upload, 1, &blocks([1]))), ErrorCode::Malformed);
    expect_done(part(1, &upload));
    assert_eq!(cell.complete(KEY, &upload, [1]).size_bytes, 0);
}

#[test]
fn an_aborted_upload_leaves_nothing() {
    let cell = Cell::new(1);
    let upload = cell.create_upload(KEY);
    for number in 1..=300 {
        cell.put_part(KEY, &upload, number, &blocks([u64::from(number)]));
    }
    let open = cell.open_intent(KEY);
    cell.commit(&open, &blocks([1]), 1);
    expect_done(cell.call(Cell::abort_upload_request(KEY, &upload)));
    expect_code(cell.call(Cell::abort_upload_request(KEY, &upload)), ErrorCode::NoSuchUpload);
    let late = Cell::part_request(&open, KEY, &upload, 1, &blocks([1]));
    expect_code(cell.call(late), ErrorCode::NoSuchUpload);
    cell.wait(100_000);
    cell.drain();
    assert_eq!(cell.check_idle().counts, Default::default());
}

#[test]
fn uploads_are_listed_in_order_and_by_pages() {
    let cell = Cell::new(1);
    let mut all: Vec<(String, u128)> = Vec::new();
    for key in ["a", "b", "b", "b", "ba", "c"] {
        let id = cell.create_upload(key);
        all.push((key.to_owned(), (u128::from(id.hi) << 64) | u128::from(id.lo)));
    }
    all.sort();
    let page = |prefix: &str, key_marker: &str, upload_marker: &str, limit| {
        let request = ListUploads {
            s3_bucket: BUCKET.into(),
            prefix: prefix.into(),
            key_marker: key_marker.into(),
            upload_marker: upload_marker.into(),
            limit,
        };
        match cell.call(Request::ListUploads(Box::new(request))) {
            Response::Uploads(uploads) => {
                let id = |id: &Id128| (u128::from(id.hi) << 64) | u128::from(id.lo);
                let rows: Vec<_> = uploads.uploads.iter().map(|row| (row.key.clone(), id(&row.upload))).collect();
                (rows, uploads.end)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(page("", "", "", 1000), (all.clone(), true));
    assert_eq!(page("b", "", "", 1000), (all[1..5].to_vec(), true));
    assert_eq!(page("", "b", "", 1000), (all[4..].to_vec(), true));
    let (mut seen, mut markers) = (Vec::new(), (String::new(), String::new()));
    loop {
        let (rows, end) = page("", &markers.0, &markers.1, 2);
        let (key, id) = rows.last().unwrap().clone();
        markers = (key, format!("{id:032x}"));
        seen.extend(rows);
        if end {
            break;
        }
    }
    assert_eq!(seen, all);
    let bad = ListUploads {
        s3_bucket: BUCKET.into(),
        key_marker: "b".into(),
        upload_marker: "x".into(),
        ..Default::default()
    };
    expect_code(cell.call(Request::ListUploads(Box::new(bad))), ErrorCode::Malformed);
}

#[test]
fn ten_thousand_parts_become_one_object() {
    let cell = Cell::new(1);
    let upload = cell.create_upload(KEY);
    for number in 1..=10_000 {
        cell.put_part(KEY, &upload, number, &part_blocks(2 * u64::from(number % 50)));
    }
    let before = cell.store.commits.get();
    let row = cell.complete(KEY, &upload, 1..=10_000);
    assert!(cell.store.commits.get() - before < 100, "a few transactions of many parts each");
    assert_eq!((row.parts, row.blocks, row.size_bytes), (10_000, 20_000, 10_000 * size(&part_blocks(0))));
    cell.drain();
    let report = cell.check_idle();
    assert_eq!((report.counts.blocks, report.counts.references), (100, 20_000));
    let last = row.size_bytes - 1;
    assert!(matches!(cell.plan(&row.manifest, last, 1, 0), Response::ReadPlan(plan) if plan.blocks.len() == 1));
    assert!(matches!(cell.plan(&row.manifest, 0, u64::MAX, 0), Response::ReadPlan(plan) if plan.blocks.len() == 1024));
    cell.delete(KEY);
    cell.wait(READ_HOLD_MS);
    cell.drain();
    assert_eq!(cell.check_idle().counts, Default::default());
}
