//! Listings against a model: pages, prefixes and delimiters of every kind, on many random name spaces.

use std::collections::BTreeSet;

use shingle_proto::message::*;

use crate::cell::{BUCKET, Cell, expect_code};

fn list(cell: &Cell, request: ListObjects) -> ObjectList {
    match cell.call(Request::ListObjects(Box::new(request))) {
        Response::ObjectList(list) => *list,
        other => panic!("{other:?}"),
    }
}

fn request(prefix: &str, delimiter: &str, start_after: &str, limit: u32) -> ListObjects {
    ListObjects {
        s3_bucket: BUCKET.into(),
        prefix: prefix.into(),
        delimiter: delimiter.into(),
        start_after: start_after.into(),
        limit,
    }
}

/// Keys and common prefixes of a listing, in order.
fn model(keys: &BTreeSet<String>, prefix: &str, delimiter: &str, start_after: &str) -> Vec<(String, bool)> {
    let mut elements: BTreeSet<(String, bool)> = BTreeSet::new();
    for key in keys.iter().filter(|key| key.starts_with(prefix)) {
        let at = if delimiter.is_empty() { None } else { key[prefix.len()..].find(delimiter) };
        match at {
            Some(at) => elements.insert((key[..prefix.len() + at + delimiter.len()].to_owned(), true)),
            None => elements.insert((key.clone(), false)),
        };
    }
    elements.into_iter().filter(|(element, _)| element.as_str() > start_after).collect()
}

/// All pages, and each page no longer than its limit.
fn all_pages(cell: &Cell, prefix: &str, delimiter: &str, start_after: &str, limit: u32) -> Vec<(String, bool)> {
    let mut elements = Vec::new();
    let mut start_after = start_after.to_owned();
    loop {
        let page = list(cell, request(prefix, delimiter, &start_after, limit));
        let mut found: Vec<(String, bool)> = page.objects.into_iter().map(|row| (row.key, false)).collect();
        found.extend(page.common_prefixes.into_iter().map(|prefix| (prefix, true)));
        found.sort();
        assert!(found.len() <= limit as usize);
        elements.extend(found);
        match page.next_start_after {
            Some(next) => start_after = next,
            None => return elements,
        }
    }
}

#[test]
fn listings_agree_with_a_model() {
    for seed in 0..40 {
        let cell = Cell::new(seed);
        let pick = |texts: &[&str]| texts[cell.sim.roll(texts.len())].to_owned();
        let letters = ["a", "b", "/", "//", "a/", "-", "\u{0}", "\u{10ffff}", "é"];
        let mut keys = BTreeSet::new();
        for _ in 0..cell.sim.roll(60) + 1 {
            let key: String = (0..cell.sim.roll(6) + 1).map(|_| pick(&letters)).collect();
            cell.put(&key, &[]);
            keys.insert(key);
        }
        for _ in 0..30 {
            let prefix: String = (0..cell.sim.roll(3)).map(|_| pick(&letters)).collect();
            let start_after: String = (0..cell.sim.roll(4)).map(|_| pick(&letters)).collect();
            let delimiter = pick(&["", "/", "a", "//", "/a"]);
            let limit = [1, 2, 3, 7, 1000][cell.sim.roll(5)];
            let expected = model(&keys, &prefix, &delimiter, &start_after);
            let found = all_pages(&cell, &prefix, &delimiter, &start_after, limit);
            assert_eq!(found, expected, "{seed}: {prefix:?} {delimiter:?} {start_after:?} {limit} in {keys:?}");
        }
    }
}

#[test]
fn a_common_prefix_of_thousands_of_keys_costs_a_few_reads() {
    let cell = Cell::new(1);
    for number in 0..2000 {
        cell.put(&format!("many/{number}"), &[]);
    }
    cell.put("one", &[]);
    let page = list(&cell, request("", "/", "", 10));
    assert_eq!(page.common_prefixes, ["many/"]);
    assert_eq!(page.objects[0].key, "one");
    assert_eq!(page.next_start_after, None);
    let full = list(&cell, request("many/", "", "", 5000));
    assert_eq!(full.objects.len(), 1000, "a page has at most 1000 elements");
    assert!(full.next_start_after.is_some());
}

#[test]
fn nothing_is_listed_where_nothing_is() {
    let cell = Cell::new(1);
    assert_eq!(list(&cell, request("", "", "", 1000)), ObjectList::default());
    cell.put("key", &[]);
    assert_eq!(list(&cell, request("", "", "", 0)), ObjectList::default());
    let nowhere = ListObjects { s3_bucket: "nowhere".into(), ..request("", "", "", 1) };
    expect_code(cell.call(Request::ListObjects(Box::new(nowhere))), ErrorCode::NoSuchBucket);
    let long = request(&"p".repeat(1025), "", "", 1);
    expect_code(cell.call(Request::ListObjects(Box::new(long))), ErrorCode::Malformed);
}

#[test]
fn pages_of_heavy_rows_stay_within_a_frame() {
    let cell = Cell::new(1);
    let intent_headers = ObjectHeaders { content_type: Some("t".repeat(8000)), ..ObjectHeaders::default() };
    for number in 0..400 {
        let key = format!("{number:04}");
        let intent = cell.open_intent(&key);
        let mut finish = Cell::finish_request(&intent, &key, &[], "etag");
        finish.headers = Box::new(intent_headers.clone());
        assert!(matches!(cell.call(Request::FinishObject(Box::new(finish))), Response::ObjectFinished(_)));
    }
    let first = list(&cell, request("", "", "", 1000));
    assert!(first.objects.len() < 400);
    let next = first.next_start_after.clone().unwrap();
    let body = encode_response(Response::ObjectList(Box::new(first.clone())));
    assert!(body.len() < 4 * 1024 * 1024);
    let second = list(&cell, request("", "", &next, 1000));
    assert_eq!(first.objects.len() + second.objects.len(), 400);
}
