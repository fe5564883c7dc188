//! A core in memory: answers every [`CoreRequest`] from maps, with the semantics of DESIGN section 4 and none of its
//! work. Keys under `fault/` fail in the way their name says; of those under `discard/` no byte is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256, digest};
use bytes::{Bytes, BytesMut};
use shingle_gateway::request::{
    Body, BodyPiece, ByteRange, Checksum, Claim, CompletedPart, CoreRequest, CoreSender, Download, GatewayError,
    ObjectName,
};
use shingle_proto::ids::ManifestId;
use shingle_proto::limits::{BLOCK_BYTES_MAX, CORE_QUEUE_MAX, S3_PART_BYTES_MIN};
use shingle_proto::message::*;
use tokio::sync::mpsc;

#[derive(Default)]
struct State {
    buckets: BTreeMap<String, (u64, BTreeMap<String, Object>)>,
    uploads: BTreeMap<ManifestId, Upload>,
    next_id: u128,
}

#[derive(Clone)]
struct Object {
    row: ObjectRow,
    bytes: Bytes,
    part_bytes: Vec<u64>,
}

struct Upload {
    name: ObjectName,
    headers: ObjectHeaders,
    checksum_type: ChecksumType,
    created_ms: u64,
    parts: BTreeMap<u32, (PartRow, Bytes)>,
}

type Shared = Arc<Mutex<State>>;
type Answer<T> = Result<T, GatewayError>;

/// Starts a fake core inside the current runtime.
pub fn start() -> CoreSender {
    let (sender, mut requests) = mpsc::channel(CORE_QUEUE_MAX);
    let state = Shared::default();
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            tokio::spawn(answer(Arc::clone(&state), request));
        }
    });
    sender
}

async fn answer(state: Shared, request: CoreRequest) {
    match request {
        CoreRequest::Put { name, headers, precondition, body, reply } => {
            drop(reply.send(put(&state, name, headers, precondition, body).await));
        }
        CoreRequest::PutPart { name, upload, number, body, reply } => {
            drop(reply.send(put_part(&state, name, upload, number, body).await));
        }
        CoreRequest::Get { name, range, if_match, reply } => {
            drop(reply.send(get(&state, &name, range, if_match)));
        }
        CoreRequest::Copy { source, source_if_match, name, headers, precondition, reply } => {
            drop(reply.send(copy(&state, &source, source_if_match, name, headers, precondition)));
        }
        CoreRequest::CopyPart { source, source_if_match, range, name, upload, number, reply } => {
            let copied = source_bytes(&state, &source, source_if_match, range)
                .and_then(|bytes| store_part(&state, &name, upload, number, bytes, None));
            drop(reply.send(copied));
        }
        CoreRequest::Complete { name, upload, parts, claim, precondition, reply } => {
            drop(reply.send(complete(&state, name, upload, &parts, claim, precondition)));
        }
        CoreRequest::Catalog { request, reply } => drop(reply.send(catalog(&state, *request))),
    }
}

fn refused<T>(code: ErrorCode) -> Answer<T> {
    Err(GatewayError::Refused { code, number: 0, message: format!("{code:?}") })
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Of an object's parts; one that came whole is its own part.
fn lengths(bytes: &[u8], part_bytes: &[u64]) -> Vec<u64> {
    if part_bytes.is_empty() { vec![bytes.len() as u64] } else { part_bytes.to_vec() }
}

/// Over the blocks of the parts, each cut by itself.
fn etag_of_parts(bytes: &[u8], part_bytes: &[u64]) -> (String, u64) {
    let mut context = Context::new(&SHA256);
    let (mut rest, mut count) = (bytes, 0);
    for bytes in part_bytes {
        let (part, behind) = rest.split_at(*bytes as usize);
        rest = behind;
        for block in part.chunks(BLOCK_BYTES_MAX as usize) {
            context.update(digest(&SHA256, block).as_ref());
            count += 1;
        }
    }
    let hex: String = context.finish().as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    (format!("{hex}-{count}"), count)
}

async fn receive(mut body: Body, keep: bool) -> Answer<(Bytes, Option<Checksum>)> {
    let mut bytes = BytesMut::new();
    let mut received_bytes = 0;
    loop {
        match body.pieces.recv().await {
            None => return Err(GatewayError::BodyAborted),
            Some(BodyPiece::Chunk(piece)) => {
                received_bytes += piece.len() as u64;
                if keep {
                    bytes.extend_from_slice(&piece);
                }
            }
            Some(BodyPiece::End { checksum }) => {
                assert_eq!(body.declared_bytes, Some(received_bytes), "the server checks lengths");
                return Ok((bytes.freeze(), checksum));
            }
        }
    }
}

async fn put(
    state: &Shared,
    name: ObjectName,
    mut headers: ObjectHeaders,
    precondition: Option<Precondition>,
    body: Body,
) -> Answer<ObjectRow> {
    if !state.lock().unwrap().buckets.contains_key(&name.s3_bucket) {
        return refused(ErrorCode::NoSuchBucket);
    }
    if name.key == "fault/slow-down" {
        return Err(GatewayError::SlowDown("a test says so"));
    }
    let (bytes, checksum) = receive(body, !name.key.starts_with("discard/")).await?;
    if let Some(checksum) = checksum {
        headers.checksum_algorithm = Some(checksum.algorithm);
        headers.checksum_value = Some(checksum.value);
    }
    flip(state, name, headers, precondition, bytes, Vec::new())
}

fn flip(
    state: &Shared,
    name: ObjectName,
    headers: ObjectHeaders,
    precondition: Option<Precondition>,
    bytes: Bytes,
    part_bytes: Vec<u64>,
) -> Answer<ObjectRow> {
    let mut state = state.lock().unwrap();
    state.next_id += 1;
    let next_id = state.next_id;
    let Some((_, objects)) = state.buckets.get_mut(&name.s3_bucket) else { return refused(ErrorCode::NoSuchBucket) };
    check(objects.get(&name.key), precondition.as_ref())?;
    let (etag, blocks) = etag_of_parts(&bytes, &lengths(&bytes, &part_bytes));
    let row = ObjectRow {
        manifest: ManifestId(next_id).into(),
        key: name.key.clone(),
        size_bytes: bytes.len() as u64,
        etag,
        modified_ms: now_ms(),
        blocks,
        headers: Box::new(headers),
        parts: part_bytes.len() as u32,
    };
    objects.insert(name.key, Object { row: row.clone(), bytes, part_bytes });
    Ok(row)
}

fn check(object: Option<&Object>, precondition: Option<&Precondition>) -> Answer<()> {
    let Some(precondition) = precondition else { return Ok(()) };
    let holds = |wanted: &String| object.is_some_and(|object| wanted == "*" || *wanted == object.row.etag);
    if precondition.if_match.is_some() && object.is_none() {
        return refused(ErrorCode::NoSuchKey);
    }
    let met = precondition.if_match.as_ref().is_none_or(holds);
    let free = !precondition.if_none_match.as_ref().is_some_and(holds);
    if met && free { Ok(()) } else { refused(ErrorCode::PreconditionFailed) }
}

fn find(state: &Shared, name: &ObjectName) -> Answer<Object> {
    let state = state.lock().unwrap();
    let Some((_, objects)) = state.buckets.get(&name.s3_bucket) else { return refused(ErrorCode::NoSuchBucket) };
    objects.get(&name.key).cloned().map_or_else(|| refused(ErrorCode::NoSuchKey), Ok)
}

fn resolve(range: Option<ByteRange>, size_bytes: u64) -> Answer<(u64, u64)> {
    let (first, end) = match range {
        None => return Ok((0, size_bytes)),
        Some(ByteRange::FromTo { first, last }) => (first, (last + 1).min(size_bytes)),
        Some(ByteRange::From { first }) => (first, size_bytes),
        Some(ByteRange::Last { bytes }) => (size_bytes.saturating_sub(bytes), size_bytes),
    };
    if first >= end { Err(GatewayError::RangeNotSatisfiable { size_bytes }) } else { Ok((first, end - first)) }
}

fn get(state: &Shared, name: &ObjectName, range: Option<ByteRange>, if_match: Option<String>) -> Answer<Download> {
    let object = find(state, name)?;
    check(Some(&object), Some(&Precondition { if_match, if_none_match: None }))?;
    let (first, length_bytes) = resolve(range, object.row.size_bytes)?;
    let bytes = object.bytes.slice(first as usize..(first + length_bytes) as usize);
    let (sender, pieces) = mpsc::channel(2);
    let fails = name.key == "fault/half";
    tokio::spawn(async move {
        let pieces: Vec<Bytes> = bytes.chunks(1 << 20).map(|piece| bytes.slice_ref(piece)).collect();
        let most = if fails { pieces.len() / 2 } else { pieces.len() };
        for piece in pieces.into_iter().take(most) {
            if sender.send(Ok(piece)).await.is_err() {
                return;
            }
        }
        if fails {
            drop(sender.send(Err(GatewayError::BlockUnreadable { hash: "a test's".into() })).await);
        }
    });
    Ok(Download { row: object.row, first, length_bytes, pieces })
}

fn source_bytes(
    state: &Shared,
    source: &ObjectName,
    if_match: Option<String>,
    range: Option<ByteRange>,
) -> Answer<Bytes> {
    let object = find(state, source)?;
    check(Some(&object), Some(&Precondition { if_match, if_none_match: None }))?;
    let (first, length) = resolve(range, object.row.size_bytes)?;
    Ok(object.bytes.slice(first as usize..(first + length) as usize))
}

fn copy(
    state: &Shared,
    source: &ObjectName,
    source_if_match: Option<String>,
    name: ObjectName,
    headers: Option<ObjectHeaders>,
    precondition: Option<Precondition>,
) -> Answer<ObjectRow> {
    let bytes = source_bytes(state, source, source_if_match, None)?;
    let headers = headers.map_or_else(|| find(state, source).map(|object| *object.row.headers), Ok)?;
    flip(state, name, headers, precondition, bytes, Vec::new())
}

async fn put_part(state: &Shared, name: ObjectName, upload: ManifestId, number: u32, body: Body) -> Answer<PartRow> {
    let (bytes, checksum) = receive(body, true).await?;
    store_part(state, &name, upload, number, bytes, checksum)
}

fn store_part(
    state: &Shared,
    name: &ObjectName,
    upload: ManifestId,
    number: u32,
    bytes: Bytes,
    checksum: Option<Checksum>,
) -> Answer<PartRow> {
    let mut state = state.lock().unwrap();
    let Some(upload) = state.uploads.get_mut(&upload).filter(|upload| upload.name == *name) else {
        return refused(ErrorCode::NoSuchUpload);
    };
    let (etag, blocks) = etag_of_parts(&bytes, &[bytes.len() as u64]);
    let size_bytes = bytes.len() as u64;
    let (checksum_algorithm, checksum_value) = checksum.map(|sum| (sum.algorithm, sum.value)).unzip();
    let row = PartRow {
        number,
        size_bytes,
        blocks,
        etag,
        modified_ms: now_ms(),
        checksum_algorithm,
        checksum_value,
        ..PartRow::default()
    };
    upload.parts.insert(number, (row.clone(), bytes));
    Ok(row)
}

fn complete(
    state: &Shared,
    name: ObjectName,
    upload: ManifestId,
    parts: &[CompletedPart],
    claim: Claim,
    precondition: Option<Precondition>,
) -> Answer<ObjectRow> {
    let mut part_bytes = Vec::new();
    let (bytes, mut headers) = {
        let state = state.lock().unwrap();
        let Some(upload) = state.uploads.get(&upload).filter(|upload| upload.name == name) else {
            return refused(ErrorCode::NoSuchUpload);
        };
        let mut bytes = BytesMut::new();
        for (index, part) in parts.iter().enumerate() {
            let Some((row, stored)) = upload.parts.get(&part.number).filter(|(row, _)| row.etag == part.etag) else {
                return refused(ErrorCode::InvalidPart);
            };
            if index + 1 < parts.len() && row.size_bytes < S3_PART_BYTES_MIN {
                return refused(ErrorCode::PartTooSmall);
            }
            if part.checksum.as_ref().is_some_and(|named| row.checksum_value.as_ref() != Some(&named.value)) {
                return refused(ErrorCode::InvalidPart);
            }
            part_bytes.push(row.size_bytes);
            bytes.extend_from_slice(stored);
        }
        (bytes.freeze(), upload.headers.clone())
    };
    if let Some(checksum) = claim.checksum {
        (headers.checksum_algorithm, headers.checksum_value) = (Some(checksum.algorithm), Some(checksum.value));
    }
    let row = flip(state, name, headers, precondition, bytes, part_bytes)?;
    state.lock().unwrap().uploads.remove(&upload);
    Ok(row)
}

fn catalog(state: &Shared, request: Request) -> Answer<Response> {
    match request {
        Request::HeadObject(head) => {
            let object = find(state, &ObjectName { s3_bucket: head.s3_bucket, key: head.key })?;
            return head_part(object, head.part_number);
        }
        Request::ListObjects(list) => return list_objects(state, &list),
        Request::ListBlocks(list) => return list_blocks(state, &list),
        _ => {}
    }
    let mut state = state.lock().unwrap();
    let done = Ok(Response::Done(Box::new(Done {})));
    match request {
        Request::CreateS3Bucket(create) => {
            if state.buckets.contains_key(&create.name) {
                return refused(ErrorCode::BucketExists);
            }
            state.buckets.insert(create.name, (now_ms(), BTreeMap::new()));
            done
        }
        Request::HeadS3Bucket(head) => match state.buckets.get(&head.name) {
            Some((created_ms, _)) => {
                Ok(Response::S3Bucket(Box::new(S3Bucket { name: head.name, created_ms: *created_ms })))
            }
            None => refused(ErrorCode::NoSuchBucket),
        },
        Request::DeleteS3Bucket(delete) => match state.buckets.get(&delete.name) {
            None => refused(ErrorCode::NoSuchBucket),
            Some((_, objects)) if !objects.is_empty() => refused(ErrorCode::BucketNotEmpty),
            Some(_) => {
                state.buckets.remove(&delete.name);
                done
            }
        },
        Request::ListS3Buckets(_) => {
            let row = |(name, (created_ms, _)): (&String, &(u64, _))| S3Bucket {
                name: name.clone(),
                created_ms: *created_ms,
            };
            Ok(Response::S3Buckets(Box::new(S3Buckets { buckets: state.buckets.iter().map(row).collect() })))
        }
        Request::DeleteObject(delete) => {
            let Some((_, objects)) = state.buckets.get_mut(&delete.s3_bucket) else {
                return refused(ErrorCode::NoSuchBucket);
            };
            check(objects.get(&delete.key), delete.precondition.as_deref())?;
            objects.remove(&delete.key);
            done
        }
        other => uploads(&mut state, other),
    }
}

fn head_part(object: Object, number: u32) -> Answer<Response> {
    let parts = lengths(&object.bytes, &object.part_bytes);
    let (part_offset_bytes, part_bytes) = match (number, parts.get(number.wrapping_sub(1) as usize)) {
        (0, _) => (0, 0),
        (_, Some(bytes)) => (parts.iter().take(number as usize - 1).sum(), *bytes),
        (_, None) => return refused(ErrorCode::InvalidPart),
    };
    Ok(Response::ObjectHead(Box::new(ObjectHead { row: Box::new(object.row), part_offset_bytes, part_bytes })))
}

fn list_blocks(state: &Shared, list: &ListBlocks) -> Answer<Response> {
    let state = state.lock().unwrap();
    let mut objects = state.buckets.values().flat_map(|(_, objects)| objects.values());
    let Some(object) = objects.find(|object| object.row.manifest == list.manifest) else {
        return refused(ErrorCode::NoSuchKey);
    };
    let parts = lengths(&object.bytes, &object.part_bytes);
    let mut blocks = Vec::new();
    let mut offset_bytes = 0;
    for part in parts {
        let end = offset_bytes + part;
        while offset_bytes < end {
            let plain_bytes = (end - offset_bytes).min(u64::from(BLOCK_BYTES_MAX)) as u32;
            blocks.push(BlockName { offset_bytes, plain_bytes, ..BlockName::default() });
            offset_bytes += u64::from(plain_bytes);
        }
    }
    blocks.retain(|block| block.offset_bytes >= list.offset_bytes);
    let end = blocks.len() <= 2;
    blocks.truncate(2);
    Ok(Response::BlockList(Box::new(BlockList { blocks, next_offset_bytes: 0, end })))
}

fn list_objects(state: &Shared, list: &ListObjects) -> Answer<Response> {
    let state = state.lock().unwrap();
    let Some((_, objects)) = state.buckets.get(&list.s3_bucket) else { return refused(ErrorCode::NoSuchBucket) };
    let mut page = ObjectList::default();
    let mut last: Option<String> = None;
    for (key, object) in objects.iter().filter(|(key, _)| key.starts_with(&list.prefix)) {
        let rest = &key[list.prefix.len()..];
        let folded = (!list.delimiter.is_empty()).then(|| rest.find(&list.delimiter)).flatten();
        let place = match folded {
            Some(at) => key[..list.prefix.len() + at + list.delimiter.len()].to_owned(),
            None => key.clone(),
        };
        if place <= list.start_after || last.as_ref() == Some(&place) {
            continue;
        }
        if page.objects.len() + page.common_prefixes.len() == list.limit as usize {
            page.next_start_after = last;
            break;
        }
        match folded {
            Some(_) => page.common_prefixes.push(place.clone()),
            None => page.objects.push(object.row.clone()),
        }
        last = Some(place);
    }
    Ok(Response::ObjectList(Box::new(page)))
}

fn uploads(state: &mut State, request: Request) -> Answer<Response> {
    match request {
        Request::CreateUpload(create) => {
            if !state.buckets.contains_key(&create.s3_bucket) {
                return refused(ErrorCode::NoSuchBucket);
            }
            state.next_id += 1;
            let id = ManifestId(state.next_id);
            let name = ObjectName { s3_bucket: create.s3_bucket, key: create.key };
            let (headers, checksum_type) = (*create.headers, create.checksum_type);
            let upload = Upload { name, headers, checksum_type, created_ms: now_ms(), parts: BTreeMap::new() };
            state.uploads.insert(id, upload);
            Ok(Response::UploadCreated(Box::new(UploadCreated { upload: id.into() })))
        }
        Request::ListParts(list) => {
            let Some(upload) = state.uploads.get(&ManifestId::from(&list.upload)) else {
                return refused(ErrorCode::NoSuchUpload);
            };
            let rows = upload.parts.range(list.after_number + 1..).map(|(_, (row, _))| row.clone());
            let mut parts: Vec<PartRow> = rows.take(list.limit as usize + 1).collect();
            let end = parts.len() <= list.limit as usize;
            parts.truncate(list.limit as usize);
            Ok(Response::Parts(Box::new(Parts {
                parts,
                end,
                headers: Box::new(upload.headers.clone()),
                checksum_type: upload.checksum_type,
            })))
        }
        Request::ListUploads(list) => {
            let after = (list.key_marker.clone(), list.upload_marker.parse::<ManifestId>().ok());
            let mut rows: Vec<UploadRow> = state
                .uploads
                .iter()
                .filter(|(_, upload)| {
                    upload.name.s3_bucket == list.s3_bucket && upload.name.key.starts_with(&list.prefix)
                })
                .map(|(id, upload)| UploadRow {
                    key: upload.name.key.clone(),
                    upload: (*id).into(),
                    created_ms: upload.created_ms,
                })
                .filter(|row| match &after {
                    (key, _) if key.is_empty() => true,
                    (key, None) => row.key > *key,
                    (key, Some(id)) => (&row.key, ManifestId::from(&row.upload)) > (key, *id),
                })
                .collect();
            rows.sort_by(|a, b| (&a.key, ManifestId::from(&a.upload)).cmp(&(&b.key, ManifestId::from(&b.upload))));
            let end = rows.len() <= list.limit as usize;
            rows.truncate(list.limit as usize);
            Ok(Response::Uploads(Box::new(Uploads { uploads: rows, end })))
        }
        Request::AbortUpload(abort) => match state.uploads.remove(&ManifestId::from(&abort.upload)) {
            Some(_) => Ok(Response::Done(Box::new(Done {}))),
            None => refused(ErrorCode::NoSuchUpload),
        },
        other => panic!("the S3 server does not ask for {other:?}"),
    }
}
