//! PutObject and UploadPart: the two verbs with a body.

use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};
use shingle_proto::ids::ManifestId;
use shingle_proto::limits::S3_PARTS_MAX;

use super::checksum::{Algorithm, BodyVerifier};
use super::conditions::precondition;
use super::errors::{id_of, refuse, unsupported};
use super::frontend::Frontend;
use super::headers::{content_headers, etag, expect_owner, set_checksum, signed, wishes};
use super::upload::Upload;
use crate::request::{Checksum, CoreRequest, ObjectName};

pub async fn put(frontend: &Frontend, mut request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
    let id = id_of(&request);
    let verifier = BodyVerifier::from_headers(&request.headers)?;
    let input = &mut request.input;
    wishes!(input).check()?;
    if input.write_offset_bytes.is_some() {
        return Err(unsupported("Appending to objects"));
    }
    let encryption = input.server_side_encryption.take();
    let headers = content_headers!(input).into_row()?;
    let condition = precondition(input.if_match.as_ref(), input.if_none_match.as_ref());
    let name = ObjectName { s3_bucket: input.bucket.clone(), key: input.key.clone() };
    let upload = Upload {
        body: input.body.take(),
        declared_bytes: input.content_length,
        verifier,
        trailers: request.trailing_headers.take(),
        s3_bucket: name.s3_bucket.clone(),
    };
    let sent = upload.send(frontend, &id, |body, reply| CoreRequest::Put {
        name,
        headers,
        precondition: condition,
        body,
        reply,
    });
    let (row, checksum) = sent.await?;
    let mut output = PutObjectOutput {
        e_tag: Some(etag(&row.etag)),
        server_side_encryption: encryption,
        size: Some(signed(row.size_bytes)),
        ..PutObjectOutput::default()
    };
    if checksum.is_some() {
        output.checksum_type = Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT));
    }
    set_checksum!(output, checksum.and_then(named));
    Ok(S3Response::new(output))
}

pub async fn part(
    frontend: &Frontend,
    mut request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let id = id_of(&request);
    let verifier = BodyVerifier::from_headers(&request.headers)?;
    let input = &mut request.input;
    expect_owner(input.expected_bucket_owner.as_deref())?;
    refuse_client_keys(input.sse_customer_algorithm.is_some() || input.sse_customer_key.is_some())?;
    let number = part_number(input.part_number)?;
    let upload_id = upload_id(&input.upload_id)?;
    let name = ObjectName { s3_bucket: input.bucket.clone(), key: input.key.clone() };
    let upload = Upload {
        body: input.body.take(),
        declared_bytes: input.content_length,
        verifier,
        trailers: request.trailing_headers.take(),
        s3_bucket: name.s3_bucket.clone(),
    };
    let sent =
        upload.send(frontend, &id, |body, reply| CoreRequest::PutPart { name, upload: upload_id, number, body, reply });
    let (row, checksum) = sent.await?;
    let mut output = UploadPartOutput { e_tag: Some(etag(&row.etag)), ..UploadPartOutput::default() };
    set_checksum!(output, checksum.and_then(named));
    Ok(S3Response::new(output))
}

/// Upload ids are the hex of an [`ManifestId`]; anything else names no upload.
pub fn upload_id(text: &str) -> S3Result<ManifestId> {
    text.parse().map_err(|_| {
        refuse(
            S3ErrorCode::NoSuchUpload,
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
        )
    })
}

pub fn part_number(number: i32) -> S3Result<u32> {
    let number = u32::try_from(number).ok().filter(|number| (1..=S3_PARTS_MAX).contains(number));
    number.ok_or_else(|| {
        refuse(S3ErrorCode::InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive")
    })
}

pub fn refuse_client_keys(given: bool) -> S3Result<()> {
    if given { Err(unsupported("Encryption with keys of the customer (SSE-C)")) } else { Ok(()) }
}

fn named(checksum: Checksum) -> Option<(Algorithm, String)> {
    Some((Algorithm::from_name(&checksum.algorithm)?, checksum.value))
}
