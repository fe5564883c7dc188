//! GetObject and HeadObject.

use hyper::HeaderMap;
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use shingle_proto::message::{ErrorCode, ObjectHead, ObjectRow};

use super::conditions::Conditions;
use super::download::DownloadBody;
use super::errors::{RequestId, id_of, no_such_part, range_not_satisfiable, refuse, to_s3};
use super::frontend::Frontend;
use super::headers::{checksum, describe, expect_current, expect_owner, set_checksum, signed, type_name};
use super::pieces;
use super::write::refuse_client_keys;
use crate::checksum::type_of;
use crate::request::{ByteRange, CoreRequest, Download, GatewayError, ObjectName};

/// The conditions of an input (both verbs name them alike).
macro_rules! conditions {
    ($input:expr) => {
        Conditions {
            if_match: $input.if_match.take(),
            if_none_match: $input.if_none_match.take(),
            if_modified_since: $input.if_modified_since.take(),
            if_unmodified_since: $input.if_unmodified_since.take(),
        }
    };
}

/// What both verbs refuse.
macro_rules! refuse_wishes {
    ($input:expr) => {
        expect_owner($input.expected_bucket_owner.as_deref())?;
        expect_current($input.version_id.as_deref())?;
        refuse_client_keys($input.sse_customer_algorithm.is_some() || $input.sse_customer_key.is_some())?;
    };
}

/// Versions looked at before the client is told to come again: each was replaced between its row and its first block.
const LOOKS_MAX: usize = 4;

pub async fn get(frontend: &Frontend, mut request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
    let id = id_of(&request);
    let pieces_from = pieces::wanted(&request.headers)?;
    let input = &mut request.input;
    refuse_wishes!(input);
    let conditions = conditions!(input);
    let part_number = part_number(input.part_number, input.range.is_some())?;
    let name = ObjectName { s3_bucket: input.bucket.clone(), key: input.key.clone() };
    let (download, range) = match part_number {
        Some(number) => open_part(frontend, &id, &name, number, &conditions).await?,
        None => {
            if conditions.any() {
                // Most conditional reads end here, before any block is read for them.
                let row = frontend.head(&name).await.map_err(|error| to_s3(error, &id))?;
                conditions.check(&row).map_err(|failed| failed.of_read(&row))?;
            }
            let range = input.range.as_ref().map(byte_range);
            let asked = frontend.ask(|reply| CoreRequest::Get { name, range, if_match: None, reply });
            (asked.await.map_err(|error| to_s3(error, &id))?, range)
        }
    };
    // This row's bytes follow; it may be a newer one than the one above.
    conditions.check(&download.row).map_err(|failed| failed.of_read(&download.row))?;

    let row = &download.row;
    let mut output = GetObjectOutput {
        content_length: Some(signed(download.length_bytes)),
        content_range: range.is_some().then(|| content_range(download.first, download.length_bytes, row)),
        parts_count: part_number.and_then(|_| parts_count(row)),
        ..GetObjectOutput::default()
    };
    describe!(output, row);
    if range.is_none() && asks_checksum(input.checksum_mode.as_ref()) {
        output.checksum_type = checksum(row).and_then(|(_, value)| type_name(type_of(&value)));
        set_checksum!(output, checksum(row));
    }
    let headers = match pieces_from {
        Some(offset_bytes) => pieces::header(frontend, &id, row, offset_bytes).await?,
        None => HeaderMap::new(),
    };
    output.body = Some(StreamingBlob::new(DownloadBody::new(download, id)));
    Ok(S3Response::with_headers(output, headers))
}

/// The download of one part, and its range; none for a part without bytes, which has no range.
async fn open_part(
    frontend: &Frontend,
    id: &RequestId,
    name: &ObjectName,
    number: u32,
    conditions: &Conditions,
) -> S3Result<(Download, Option<ByteRange>)> {
    for _ in 0..LOOKS_MAX {
        let head = head_part(frontend, id, name, number).await?;
        conditions.check(&head.row).map_err(|failed| failed.of_read(&head.row))?;
        let (first, bytes) = (head.part_offset_bytes, head.part_bytes);
        let range = (bytes > 0).then(|| ByteRange::FromTo { first, last: first.saturating_add(bytes - 1) });
        let (name, if_match) = (name.clone(), Some(head.row.etag));
        match frontend.ask(|reply| CoreRequest::Get { name, range, if_match, reply }).await {
            // Replaced meanwhile: its parts may lie elsewhere.
            Err(GatewayError::Refused { code: ErrorCode::PreconditionFailed, .. }) => {}
            opened => return opened.map(|download| (download, range)).map_err(|error| to_s3(error, id)),
        }
    }
    Err(to_s3(GatewayError::SlowDown("the object is being replaced faster than it can be read"), id))
}

/// An object's row, and where one of its parts lies.
async fn head_part(frontend: &Frontend, id: &RequestId, name: &ObjectName, number: u32) -> S3Result<ObjectHead> {
    match frontend.head_part(name, number).await {
        Err(GatewayError::Refused { code: ErrorCode::InvalidPart, number: parts, .. }) => Err(no_such_part(parts)),
        answer => answer.map_err(|error| to_s3(error, id)),
    }
}

pub async fn head(
    frontend: &Frontend,
    mut request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let id = id_of(&request);
    let pieces_from = pieces::wanted(&request.headers)?;
    let input = &mut request.input;
    refuse_wishes!(input);
    let conditions = conditions!(input);
    let part_number = part_number(input.part_number, input.range.is_some())?;
    let name = ObjectName { s3_bucket: input.bucket.clone(), key: input.key.clone() };
    let ObjectHead { row, part_offset_bytes, part_bytes } =
        head_part(frontend, &id, &name, part_number.unwrap_or(0)).await?;
    conditions.check(&row).map_err(|failed| failed.of_read(&row))?;

    let mut output = HeadObjectOutput::default();
    describe!(output, row);
    let span = match (&input.range, part_number) {
        (Some(range), _) => Some(resolve(range, row.size_bytes)?),
        (None, Some(_)) => Some((part_offset_bytes, part_bytes)).filter(|_| part_bytes > 0),
        (None, None) => None,
    };
    output.parts_count = part_number.and_then(|_| parts_count(&row));
    output.content_length = Some(signed(span.map_or(row.size_bytes, |(_, length_bytes)| length_bytes)));
    output.content_range = span.map(|(first, length_bytes)| content_range(first, length_bytes, &row));
    if span.is_none() && asks_checksum(input.checksum_mode.as_ref()) {
        output.checksum_type = checksum(&row).and_then(|(_, value)| type_name(type_of(&value)));
        set_checksum!(output, checksum(&row));
    }
    override_headers(input, &mut output);
    let headers = match pieces_from {
        Some(offset_bytes) => pieces::header(frontend, &id, &row, offset_bytes).await?,
        None => HeaderMap::new(),
    };
    Ok(S3Response::with_headers(output, headers))
}

/// The part a client asks for; not together with a range, says S3.
fn part_number(number: Option<i32>, ranged: bool) -> S3Result<Option<u32>> {
    let Some(number) = number else { return Ok(None) };
    if ranged {
        return Err(refuse(
            S3ErrorCode::InvalidRequest,
            "Cannot specify both Range header and partNumber query parameter",
        ));
    }
    super::write::part_number(number).map(Some)
}

/// Said of objects that came in parts only.
fn parts_count(row: &ObjectRow) -> Option<i32> {
    i32::try_from(row.parts).ok().filter(|parts| *parts > 0)
}

/// The library does this for GetObject only.
fn override_headers(input: &mut HeadObjectInput, output: &mut HeadObjectOutput) {
    let replace = |value: Option<String>, field: &mut Option<String>| {
        if value.is_some() {
            *field = value;
        }
    };
    replace(input.response_cache_control.take(), &mut output.cache_control);
    replace(input.response_content_disposition.take(), &mut output.content_disposition);
    replace(input.response_content_encoding.take(), &mut output.content_encoding);
    replace(input.response_content_language.take(), &mut output.content_language);
    replace(input.response_content_type.take(), &mut output.content_type);
    if let Some(expires) = input.response_expires.take() {
        output.expires = Some(expires);
    }
}

fn asks_checksum(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

fn byte_range(range: &Range) -> ByteRange {
    match *range {
        Range::Int { first, last: Some(last) } => ByteRange::FromTo { first, last },
        Range::Int { first, last: None } => ByteRange::From { first },
        Range::Suffix { length } => ByteRange::Last { bytes: length },
    }
}

/// First byte and length of a range of an object that is not read.
fn resolve(range: &Range, size_bytes: u64) -> Result<(u64, u64), S3Error> {
    match range.check(size_bytes) {
        Ok(bytes) if bytes.end > bytes.start => Ok((bytes.start, bytes.end - bytes.start)),
        _ => Err(range_not_satisfiable(size_bytes)),
    }
}

fn content_range(first: u64, length_bytes: u64, row: &ObjectRow) -> String {
    let last = (first + length_bytes).saturating_sub(1);
    format!("bytes {first}-{last}/{}", row.size_bytes)
}
