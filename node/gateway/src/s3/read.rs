//! GetObject and HeadObject.

use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Response, S3Result};
use shingle_proto::message::ObjectRow;

use super::conditions::Conditions;
use super::download::DownloadBody;
use super::errors::{id_of, range_not_satisfiable, to_s3, unsupported};
use super::frontend::Frontend;
use super::headers::{checksum, describe, expect_current, expect_owner, set_checksum, signed};
use super::write::refuse_client_keys;
use crate::request::{ByteRange, CoreRequest, ObjectName};

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
        if $input.part_number.is_some() {
            return Err(unsupported("Reading by part number"));
        }
    };
}

pub async fn get(frontend: &Frontend, mut request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
    let id = id_of(&request);
    let input = &mut request.input;
    refuse_wishes!(input);
    let conditions = conditions!(input);
    let name = ObjectName { s3_bucket: input.bucket.clone(), key: input.key.clone() };
    if conditions.any() {
        // Most conditional reads end here, before any block is read for them.
        let row = frontend.head(&name).await.map_err(|error| to_s3(error, &id))?;
        conditions.check(&row).map_err(|failed| failed.of_read(&row))?;
    }
    let range = input.range.as_ref().map(byte_range);
    let asked = frontend.ask(|reply| CoreRequest::Get { name, range, if_match: None, reply });
    let download = asked.await.map_err(|error| to_s3(error, &id))?;
    // This row's bytes follow; it may be a newer one than the one above.
    conditions.check(&download.row).map_err(|failed| failed.of_read(&download.row))?;

    let row = &download.row;
    let mut output = GetObjectOutput {
        content_length: Some(signed(download.length_bytes)),
        content_range: range.is_some().then(|| content_range(download.first, download.length_bytes, row)),
        ..GetObjectOutput::default()
    };
    describe!(output, row);
    if range.is_none() && asks_checksum(input.checksum_mode.as_ref()) && checksum(row).is_some() {
        set_checksum!(output, checksum(row));
        output.checksum_type = Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT));
    }
    output.body = Some(StreamingBlob::new(DownloadBody::new(download, id)));
    Ok(S3Response::new(output))
}

pub async fn head(
    frontend: &Frontend,
    mut request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let id = id_of(&request);
    let input = &mut request.input;
    refuse_wishes!(input);
    let conditions = conditions!(input);
    let name = ObjectName { s3_bucket: input.bucket.clone(), key: input.key.clone() };
    let row = frontend.head(&name).await.map_err(|error| to_s3(error, &id))?;
    conditions.check(&row).map_err(|failed| failed.of_read(&row))?;

    let mut output = HeadObjectOutput::default();
    describe!(output, row);
    match input.range.as_ref() {
        None => {
            output.content_length = Some(signed(row.size_bytes));
            if asks_checksum(input.checksum_mode.as_ref()) && checksum(&row).is_some() {
                set_checksum!(output, checksum(&row));
                output.checksum_type = Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT));
            }
        }
        Some(range) => {
            let (first, length_bytes) = resolve(range, row.size_bytes)?;
            output.content_length = Some(signed(length_bytes));
            output.content_range = Some(content_range(first, length_bytes, &row));
        }
    }
    override_headers(input, &mut output);
    Ok(S3Response::new(output))
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
