//! Copies are references, unless a block has to be cut; a completed upload is one object.

use shingle_codec::hash::{EtagHasher, sha256};
use shingle_gateway::request::{ByteRange, Checksum, Claim, CompletedPart, CoreRequest, GatewayError};
use shingle_proto::ids::ManifestId;
use shingle_proto::message::{ChecksumType, ErrorCode, ObjectHeaders, ObjectRow, PartRow};
use tokio::sync::oneshot;

use crate::cell::{BLOCK, Cell, body_with, in_cell, name, noise};

const UPLOAD: ManifestId = ManifestId(99);

#[test]
fn a_copy_moves_no_block() {
    in_cell(
        |_| {},
        async |cell| {
            let bytes = noise(1, 5 * BLOCK + 1);
            let row = cell.put("from", &bytes).await.expect("stored");
            let records = cell.records();
            let copied = copy(&cell, "from", "to", None).await.expect("copied");
            assert_eq!((copied.etag, copied.size_bytes, copied.blocks), (row.etag, row.size_bytes, row.blocks));
            assert_eq!(cell.records(), records);
            assert!(cell.get("to").await.expect("read") == bytes);
        },
    );
}

#[test]
fn a_copy_takes_new_headers_and_pins_its_source() {
    in_cell(
        |_| {},
        async |cell| {
            cell.put("from", b"bytes").await.expect("stored");
            let headers = ObjectHeaders { content_type: Some("text/new".to_owned()), ..ObjectHeaders::default() };
            let copied = copy(&cell, "from", "to", Some(headers)).await.expect("copied");
            assert_eq!(copied.headers.content_type.as_deref(), Some("text/new"));
            let (reply, answer) = oneshot::channel();
            let (source, source_if_match) = (name("from"), Some("stale".to_owned()));
            let name = name("to");
            cell.send(CoreRequest::Copy { source, source_if_match, name, headers: None, precondition: None, reply })
                .await;
            let refused = answer.await.expect("an answer");
            assert!(matches!(refused, Err(GatewayError::Refused { code: ErrorCode::PreconditionFailed, .. })));
        },
    );
}

#[test]
fn a_part_of_whole_blocks_is_copied_by_reference_and_any_other_by_bytes() {
    in_cell(
        |_| {},
        async |cell| {
            let bytes = noise(2, 5 * BLOCK + 9);
            cell.put("from", &bytes).await.expect("stored");
            let records = cell.records();
            let block = BLOCK as u64;
            copy_part(&cell, 1, Some(ByteRange::FromTo { first: block, last: 4 * block - 1 })).await.expect("copied");
            copy_part(&cell, 2, Some(ByteRange::From { first: 5 * block })).await.expect("copied");
            assert_eq!(cell.records(), records, "whole blocks");
            copy_part(&cell, 3, Some(ByteRange::FromTo { first: 7, last: 2 * block })).await.expect("copied");
            assert!(cell.records() > records, "cut blocks are new blocks");
            let row = complete(&cell, &[1, 2, 3]).await.expect("completed");
            let size = BLOCK;
            let expected = [&bytes[size..4 * size], &bytes[5 * size..], &bytes[7..=2 * size]].concat();
            assert_eq!(row.size_bytes, expected.len() as u64);
            assert!(cell.get("whole").await.expect("read") == expected);
        },
    );
}

#[test]
fn a_completed_upload_has_the_etag_of_all_its_blocks() {
    in_cell(
        |_| {},
        async |cell| {
            let parts = [noise(3, 2 * BLOCK), noise(4, 4 * BLOCK + 5), noise(5, 77)];
            for (number, part) in (1..).zip(&parts) {
                put_part(&cell, number, part.clone()).await.expect("stored");
            }
            let row = complete(&cell, &[1, 2, 3]).await.expect("completed");
            let mut etag = EtagHasher::new();
            parts.iter().flat_map(|part| part.chunks(BLOCK)).for_each(|block| etag.push(&sha256(block)));
            assert_eq!(row.etag, etag.finish());
            assert!(cell.get("whole").await.expect("read") == parts.concat());
            let again = complete(&cell, &[1, 2, 3]).await;
            assert_eq!(again, Ok(row), "a client that missed the answer asks again");
        },
    );
}

#[test]
fn a_part_that_was_not_uploaded_is_refused() {
    in_cell(
        |_| {},
        async |cell| {
            put_part(&cell, 1, vec![1; 10]).await.expect("stored");
            let other = CompletedPart { number: 1, etag: "other-1".to_owned(), checksum: None };
            let refused = complete_as(&cell, vec![other], Claim::default()).await;
            assert!(matches!(refused, Err(GatewayError::Refused { code: ErrorCode::InvalidPart, number: 1, .. })));
        },
    );
}

#[test]
fn the_checksum_of_an_object_is_made_of_those_of_its_parts() {
    let sum = |value: &str| Checksum { algorithm: "CRC32".to_owned(), value: value.to_owned() };
    // "1234", "56789", and both together.
    let (first, second, both) = (sum("m+Pgow=="), sum("Ex2gcA=="), sum("y/Q5Jg=="));
    in_cell(
        |_| {},
        async |cell| {
            let parts = async || {
                let row = put_part_with(&cell, 1, b"1234".to_vec(), Some(first.clone())).await.expect("stored");
                assert_eq!(row.checksum_value.as_deref(), Some("m+Pgow=="));
                put_part_with(&cell, 2, b"56789".to_vec(), Some(second.clone())).await.expect("stored");
                let etag = |number| cell.control.tables.borrow().parts[&number].etag.clone();
                let part = |number: u32, checksum: &Checksum| CompletedPart {
                    number,
                    etag: etag(number),
                    checksum: Some(checksum.clone()),
                };
                vec![part(1, &first), part(2, &second)]
            };
            let claim = |checksum: &Checksum, checksum_type| Claim { checksum: Some(checksum.clone()), checksum_type };
            let named = parts().await;
            let mut wrong = named.clone();
            wrong[1].checksum = Some(both.clone());
            let refused = complete_as(&cell, wrong, Claim::default()).await;
            assert!(matches!(refused, Err(GatewayError::Refused { code: ErrorCode::InvalidPart, number: 2, .. })));
            let refused = complete_as(&cell, named.clone(), claim(&first, ChecksumType::FullObject)).await;
            assert!(matches!(refused, Err(GatewayError::BadDigest(_))), "{refused:?}");
            let other = Checksum { algorithm: "CRC32C".to_owned(), ..both.clone() };
            let refused = complete_as(&cell, named.clone(), claim(&other, ChecksumType::FullObject)).await;
            assert!(matches!(refused, Err(GatewayError::BadDigest(_))), "{refused:?}");
            cell.control.tables.borrow_mut().checksum_type = ChecksumType::Composite;
            let refused = complete_as(&cell, named.clone(), claim(&both, ChecksumType::FullObject)).await;
            assert!(matches!(refused, Err(GatewayError::BadDigest(_))), "{refused:?}");
            cell.control.tables.borrow_mut().checksum_type = ChecksumType::FullObject;
            let row = complete_as(&cell, named, claim(&both, ChecksumType::FullObject)).await.expect("completed");
            assert_eq!(row.headers.checksum_value.as_deref(), Some("y/Q5Jg=="));
        },
    );
    in_cell(
        |_| {},
        async |cell| {
            put_part_with(&cell, 1, b"1234".to_vec(), Some(first.clone())).await.expect("stored");
            put_part_with(&cell, 2, b"56789".to_vec(), Some(second.clone())).await.expect("stored");
            let row = complete(&cell, &[1, 2]).await.expect("completed");
            let value = row.headers.checksum_value.clone().expect("a composite by default");
            assert!(value.ends_with("-2"), "{value}");
        },
    );
    in_cell(
        |_| {},
        async |cell| {
            put_part_with(&cell, 1, b"1234".to_vec(), Some(first.clone())).await.expect("stored");
            put_part(&cell, 2, b"56789".to_vec()).await.expect("stored");
            let etag = |number| cell.control.tables.borrow().parts[&number].etag.clone();
            let part = |number: u32| CompletedPart { number, etag: etag(number), checksum: None };
            let claim = Claim { checksum: Some(both.clone()), checksum_type: ChecksumType::FullObject };
            let refused = complete_as(&cell, vec![part(1), part(2)], claim).await;
            assert!(matches!(refused, Err(GatewayError::InvalidRequest(_))), "{refused:?}");
            let row = complete(&cell, &[1, 2]).await.expect("completed");
            assert_eq!(row.headers.checksum_value, None, "a part came without one");
        },
    );
}

async fn copy(cell: &Cell, from: &str, to: &str, headers: Option<ObjectHeaders>) -> Result<ObjectRow, GatewayError> {
    let (reply, answer) = oneshot::channel();
    let (source, name) = (name(from), name(to));
    cell.send(CoreRequest::Copy { source, source_if_match: None, name, headers, precondition: None, reply }).await;
    answer.await.expect("an answer")
}

async fn copy_part(cell: &Cell, number: u32, range: Option<ByteRange>) -> Result<PartRow, GatewayError> {
    let (reply, answer) = oneshot::channel();
    let (source, name) = (name("from"), name("whole"));
    let request = CoreRequest::CopyPart { source, source_if_match: None, range, name, upload: UPLOAD, number, reply };
    cell.send(request).await;
    answer.await.expect("an answer")
}

async fn put_part(cell: &Cell, number: u32, bytes: Vec<u8>) -> Result<PartRow, GatewayError> {
    put_part_with(cell, number, bytes, None).await
}

async fn put_part_with(
    cell: &Cell,
    number: u32,
    bytes: Vec<u8>,
    checksum: Option<Checksum>,
) -> Result<PartRow, GatewayError> {
    let (reply, answer) = oneshot::channel();
    let (name, body) = (name("whole"), body_with(bytes, checksum));
    cell.send(CoreRequest::PutPart { name, upload: UPLOAD, number, body, reply }).await;
    answer.await.expect("an answer")
}

async fn complete(cell: &Cell, numbers: &[u32]) -> Result<ObjectRow, GatewayError> {
    let etag = |number| cell.control.tables.borrow().parts[&number].etag.clone();
    let part = |number: &u32| CompletedPart { number: *number, etag: etag(*number), checksum: None };
    complete_as(cell, numbers.iter().map(part).collect(), Claim::default()).await
}

async fn complete_as(cell: &Cell, parts: Vec<CompletedPart>, claim: Claim) -> Result<ObjectRow, GatewayError> {
    let (reply, answer) = oneshot::channel();
    let name = name("whole");
    cell.send(CoreRequest::Complete { name, upload: UPLOAD, parts, claim, precondition: None, reply }).await;
    answer.await.expect("an answer")
}
