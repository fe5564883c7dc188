//! CopyObject and UploadPartCopy: references only, no block moves. The version of the source that the conditions were
//! checked on is the one that is copied.

use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};
use shingle_proto::message::{ErrorCode, ObjectHeaders, ObjectRow};

use super::conditions::{Conditions, precondition_failed};
use super::errors::{RequestId, id_of, refuse, to_s3, unsupported};
use super::frontend::Frontend;
use super::headers::{
    checksum, content_headers, etag, expect_current, expect_owner, part_checksum, set_checksum, timestamp, type_name,
    wishes,
};
use super::write::{part_number, refuse_client_keys, upload_id};
use crate::checksum::type_of;
use crate::request::{ByteRange, CoreRequest, GatewayError, ObjectName};

/// A source replaced between two looks at it is looked at again, this often.
const SOURCE_LOOKS_MAX: usize = 4;

/// The conditions on the source (both verbs name them alike).
macro_rules! source_conditions {
    ($input:expr) => {
        Conditions {
            if_match: $input.copy_source_if_match.take(),
            if_none_match: $input.copy_source_if_none_match.take(),
            if_modified_since: $input.copy_source_if_modified_since.take(),
            if_unmodified_since: $input.copy_source_if_unmodified_since.take(),
        }
    };
}

pub async fn object(
    frontend: &Frontend,
    mut request: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let id = id_of(&request);
    let (if_match, if_none_match) = destination_conditions(&request)?;
    let input = &mut request.input;
    wishes!(input).check()?;
    expect_owner(input.expected_source_bucket_owner.as_deref())?;
    refuse_client_keys(
        input.copy_source_sse_customer_algorithm.is_some() || input.copy_source_sse_customer_key.is_some(),
    )?;
    if input.tagging_directive.as_ref().is_some_and(|directive| directive.as_str() == TaggingDirective::REPLACE) {
        return Err(unsupported("Tagging"));
    }
    let source = source_name(&input.copy_source)?;
    let name = ObjectName { s3_bucket: input.bucket.clone(), key: input.key.clone() };
    let replaced = match input.metadata_directive.as_ref().map(MetadataDirective::as_str) {
        None | Some(MetadataDirective::COPY) => None,
        Some(MetadataDirective::REPLACE) => Some(content_headers!(input).into_row()?),
        Some(_) => return Err(refuse(S3ErrorCode::InvalidArgument, "Unknown metadata directive.")),
    };
    if source == name && replaced.is_none() {
        return Err(refuse(
            S3ErrorCode::InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    let conditions = source_conditions!(input);
    let precondition = super::conditions::precondition(if_match.as_ref(), if_none_match.as_ref());
    let new_checksum = input.checksum_algorithm.take();
    let copy = |headers: Option<ObjectHeaders>, pinned: Option<String>| {
        frontend.ask(|reply| CoreRequest::Copy {
            source: source.clone(),
            source_if_match: pinned,
            name: name.clone(),
            headers,
            precondition: precondition.clone(),
            reply,
        })
    };
    let mut looks = 0;
    let row = loop {
        // Replaced headers keep the source's checksum: the bytes stay the same.
        let looked = conditions.any() || replaced.is_some() || new_checksum.is_some();
        let seen = if looked { Some(look(frontend, &source, &conditions, &id).await?) } else { None };
        refuse_other_checksum(new_checksum.as_ref(), seen.as_ref())?;
        let headers = replaced.clone().map(|headers| with_checksum_of(headers, seen.as_ref()));
        looks += 1;
        match copy(headers, seen.map(|row| row.etag)).await {
            Err(GatewayError::Refused { code: ErrorCode::PreconditionFailed, .. })
                if looked && precondition.is_none() && looks < SOURCE_LOOKS_MAX => {}
            answer => break answer.map_err(|error| to_s3(error, &id))?,
        }
    };
    let mut result = CopyObjectResult {
        e_tag: Some(etag(&row.etag)),
        last_modified: Some(timestamp(row.modified_ms)),
        ..CopyObjectResult::default()
    };
    result.checksum_type = checksum(&row).and_then(|(_, value)| type_name(type_of(&value)));
    set_checksum!(result, checksum(&row));
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result),
        server_side_encryption: request.input.server_side_encryption,
        ..CopyObjectOutput::default()
    }))
}

pub async fn part(
    frontend: &Frontend,
    mut request: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let id = id_of(&request);
    let input = &mut request.input;
    expect_owner(input.expected_bucket_owner.as_deref())?;
    expect_owner(input.expected_source_bucket_owner.as_deref())?;
    refuse_client_keys(
        input.copy_source_sse_customer_algorithm.is_some()
            || input.copy_source_sse_customer_key.is_some()
            || input.sse_customer_algorithm.is_some()
            || input.sse_customer_key.is_some(),
    )?;
    let number = part_number(input.part_number)?;
    let upload = upload_id(&input.upload_id)?;
    let source = source_name(&input.copy_source)?;
    let range = input.copy_source_range.as_deref().map(source_range).transpose()?;
    let conditions = source_conditions!(input);
    let seen = if conditions.any() { Some(look(frontend, &source, &conditions, &id).await?) } else { None };
    let name = ObjectName { s3_bucket: input.bucket.clone(), key: input.key.clone() };
    let asked = frontend.ask(|reply| CoreRequest::CopyPart {
        source,
        source_if_match: seen.map(|row| row.etag),
        range,
        name,
        upload,
        number,
        reply,
    });
    let row = asked.await.map_err(|error| to_s3(error, &id))?;
    let mut result = CopyPartResult {
        e_tag: Some(etag(&row.etag)),
        last_modified: Some(timestamp(row.modified_ms)),
        ..CopyPartResult::default()
    };
    set_checksum!(result, part_checksum(&row));
    Ok(S3Response::new(UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() }))
}

/// The library's CopyObjectInput does not have these two yet.
fn destination_conditions<T>(request: &S3Request<T>) -> S3Result<(Option<ETagCondition>, Option<ETagCondition>)> {
    let read = |name: &str| {
        let value = request.headers.get(name).map(|value| ETagCondition::parse_http_header(value.as_bytes()));
        value.transpose().map_err(|_| refuse(S3ErrorCode::InvalidArgument, format!("invalid header: {name}")))
    };
    Ok((read("if-match")?, read("if-none-match")?))
}

/// The source's row, if the conditions hold on it.
async fn look(
    frontend: &Frontend,
    source: &ObjectName,
    conditions: &Conditions,
    id: &RequestId,
) -> S3Result<ObjectRow> {
    let row = frontend.head(source).await.map_err(|error| to_s3(error, id))?;
    conditions.check(&row).map_err(|_| precondition_failed())?;
    Ok(row)
}

fn source_name(source: &CopySource) -> S3Result<ObjectName> {
    let CopySource::Bucket { bucket, key, version_id } = source else {
        return Err(unsupported("Copying from access points"));
    };
    expect_current(version_id.as_deref())?;
    Ok(ObjectName { s3_bucket: bucket.to_string(), key: key.to_string() })
}

/// `bytes=first-last`: S3 allows no other form here.
fn source_range(text: &str) -> S3Result<ByteRange> {
    match Range::parse(text) {
        Ok(Range::Int { first, last: Some(last) }) => Ok(ByteRange::FromTo { first, last }),
        _ => Err(refuse(
            S3ErrorCode::InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy",
        )),
    }
}

/// A copy reads no bytes, so it can keep the checksum there is and make no other.
fn refuse_other_checksum(wanted: Option<&ChecksumAlgorithm>, source: Option<&ObjectRow>) -> S3Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let has = source.and_then(checksum).is_some_and(|(algorithm, _)| algorithm.name() == wanted.as_str());
    if has { Ok(()) } else { Err(unsupported("Computing another checksum in a copy")) }
}

fn with_checksum_of(mut headers: ObjectHeaders, source: Option<&ObjectRow>) -> ObjectHeaders {
    if let Some(source) = source {
        headers.checksum_algorithm = source.headers.checksum_algorithm.clone();
        headers.checksum_value = source.headers.checksum_value.clone();
    }
    headers
}
