//! Multipart uploads, but for the parts' bodies (`write.rs`) and copied parts (`copy.rs`). An upload's id is the hex of
//! the id that the control plane gave it.

use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};
use shingle_proto::ids::ManifestId;
use shingle_proto::limits::{S3_LIST_MAX, S3_PARTS_MAX};
use shingle_proto::message::{self, ObjectHeaders, PartRow, Request, Response};

use super::buckets::owner;
use super::conditions::precondition;
use super::errors::{RequestId, id_of, refuse, to_s3, unsupported};
use super::frontend::{Frontend, unexpected};
use super::headers::{
    OWNER_ID, checksum, content_headers, count, etag, expect_owner, part_checksum, set_checksum, signed, take_checksum,
    timestamp, type_name, type_named, wishes,
};
use super::listing::{encodes, url_encode};
use super::write::{refuse_client_keys, upload_id};
use crate::checksum::{Algorithm, type_of};
use crate::request::{Claim, CompletedPart, CoreRequest, ObjectName};

pub async fn create(
    frontend: &Frontend,
    mut request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let id = id_of(&request);
    let input = &mut request.input;
    wishes!(input).check()?;
    let (algorithm, kind) = declared_checksum(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
    let headers = ObjectHeaders {
        checksum_algorithm: algorithm.map(|algorithm| algorithm.name().to_owned()),
        ..content_headers!(input).into_row()?
    };
    let created = message::CreateUpload {
        s3_bucket: input.bucket.clone(),
        key: input.key.clone(),
        headers: Box::new(headers),
        checksum_type: kind,
    };
    let answer = frontend.catalog(Request::CreateUpload(Box::new(created))).await;
    let upload = match answer.map_err(|error| to_s3(error, &id))? {
        Response::UploadCreated(created) => ManifestId::from(&created.upload),
        other => return Err(to_s3(unexpected(&other), &id)),
    };
    let input = request.input;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        // Echoed so that SDKs send it with every part, where it is verified.
        checksum_algorithm: input.checksum_algorithm,
        checksum_type: type_name(kind),
        server_side_encryption: input.server_side_encryption,
        upload_id: Some(upload.to_string()),
        ..CreateMultipartUploadOutput::default()
    }))
}

/// What the checksum of the object will be, as far as its client says.
fn declared_checksum(
    algorithm: Option<&ChecksumAlgorithm>,
    kind: Option<&ChecksumType>,
) -> S3Result<(Option<Algorithm>, message::ChecksumType)> {
    let kind = type_named(kind)?;
    let algorithm = algorithm.map(|algorithm| {
        Algorithm::from_name(algorithm.as_str())
            .ok_or_else(|| unsupported(&format!("The checksum algorithm {}", algorithm.as_str())))
    });
    match (algorithm.transpose()?, kind) {
        (None, message::ChecksumType::None) => Ok((None, kind)),
        (None, _) => Err(refuse(
            S3ErrorCode::InvalidRequest,
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
        )),
        (Some(algorithm), message::ChecksumType::None) => Ok((Some(algorithm), algorithm.default_type())),
        (Some(algorithm), kind) if algorithm.allows(kind) => Ok((Some(algorithm), kind)),
        (Some(algorithm), _) => Err(refuse(
            S3ErrorCode::InvalidRequest,
            format!("This checksum type cannot be used with the {} checksum algorithm.", algorithm.name()),
        )),
    }
}

pub async fn complete(
    frontend: &Frontend,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let id = id_of(&request);
    let host =
        request.headers.get(hyper::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let mut input = request.input;
    expect_owner(input.expected_bucket_owner.as_deref())?;
    refuse_client_keys(input.sse_customer_algorithm.is_some() || input.sse_customer_key.is_some())?;
    let claim = Claim { checksum: take_checksum!(input), checksum_type: type_named(input.checksum_type.as_ref())? };
    let upload = upload_id(&input.upload_id)?;
    let name = ObjectName { s3_bucket: input.bucket.clone(), key: input.key.clone() };
    let parts = part_names(input.multipart_upload)?;
    if let Some(size) = input.mpu_object_size {
        expect_size(frontend, &id, &name, upload, &parts, size).await?;
    }
    let condition = precondition(input.if_match.as_ref(), input.if_none_match.as_ref());
    let asked =
        frontend.ask(|reply| CoreRequest::Complete { name, upload, parts, claim, precondition: condition, reply });
    let row = asked.await.map_err(|error| to_s3(error, &id))?;
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("http://{host}/{}/{}", input.bucket, url_encode(&input.key))),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(etag(&row.etag)),
        checksum_type: checksum(&row).and_then(|(_, value)| type_name(type_of(&value))),
        ..CompleteMultipartUploadOutput::default()
    };
    set_checksum!(output, checksum(&row));
    Ok(S3Response::new(output))
}

/// The parts a client names, in ascending order and within the limits.
fn part_names(named: Option<CompletedMultipartUpload>) -> S3Result<Vec<CompletedPart>> {
    let malformed = || {
        refuse(
            S3ErrorCode::MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema",
        )
    };
    let parts = named.and_then(|named| named.parts).unwrap_or_default();
    if parts.is_empty() {
        return Err(malformed());
    }
    if parts.len() > S3_PARTS_MAX as usize {
        return Err(refuse(S3ErrorCode::InvalidArgument, "An upload has at most 10,000 parts."));
    }
    let mut names: Vec<CompletedPart> = Vec::with_capacity(parts.len());
    for mut part in parts {
        let checksum = take_checksum!(part);
        let (Some(number), Some(etag)) = (part.part_number, part.e_tag) else { return Err(malformed()) };
        let number = super::write::part_number(number)?;
        if names.last().is_some_and(|last| last.number >= number) {
            return Err(refuse(
                S3ErrorCode::InvalidPartOrder,
                "The list of parts was not in ascending order. The parts list must be specified in order by part number.",
            ));
        }
        names.push(CompletedPart { number, etag: etag.value().to_owned(), checksum });
    }
    Ok(names)
}

/// x-amz-mp-object-size: the client says how long the object will be.
async fn expect_size(
    frontend: &Frontend,
    id: &RequestId,
    name: &ObjectName,
    upload: ManifestId,
    parts: &[CompletedPart],
    expected: i64,
) -> S3Result<()> {
    let mut size_bytes: u64 = 0;
    let mut after = 0;
    loop {
        let page = fetch_parts(frontend, id, name, upload, after, S3_LIST_MAX).await?;
        for row in &page.parts {
            if parts.binary_search_by_key(&row.number, |part| part.number).is_ok() {
                size_bytes = size_bytes.saturating_add(row.size_bytes);
            }
        }
        match page.parts.last() {
            Some(last) if !page.end => after = last.number,
            _ => break,
        }
    }
    if u64::try_from(expected).ok() == Some(size_bytes) {
        return Ok(());
    }
    Err(refuse(
        S3ErrorCode::InvalidRequest,
        "The provided 'x-amz-mp-object-size' header does not match what was computed.",
    ))
}

pub async fn abort(
    frontend: &Frontend,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let id = id_of(&request);
    let input = request.input;
    expect_owner(input.expected_bucket_owner.as_deref())?;
    if input.if_match_initiated_time.is_some() {
        return Err(unsupported("Aborting by time"));
    }
    let upload = upload_id(&input.upload_id)?;
    let aborted = message::AbortUpload { s3_bucket: input.bucket, key: input.key, upload: upload.into() };
    let answer = frontend.catalog(Request::AbortUpload(Box::new(aborted))).await;
    answer.map_err(|error| to_s3(error, &id))?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

async fn fetch_parts(
    frontend: &Frontend,
    id: &RequestId,
    name: &ObjectName,
    upload: ManifestId,
    after_number: u32,
    limit: u32,
) -> S3Result<message::Parts> {
    let request = message::ListParts {
        s3_bucket: name.s3_bucket.clone(),
        key: name.key.clone(),
        upload: upload.into(),
        after_number,
        limit,
    };
    match frontend.catalog(Request::ListParts(Box::new(request))).await.map_err(|error| to_s3(error, id))? {
        Response::Parts(parts) => Ok(*parts),
        other => Err(to_s3(unexpected(&other), id)),
    }
}

pub async fn list_parts(
    frontend: &Frontend,
    request: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let id = id_of(&request);
    let input = request.input;
    expect_owner(input.expected_bucket_owner.as_deref())?;
    let upload = upload_id(&input.upload_id)?;
    let most = count(input.max_parts, S3_LIST_MAX, "max-parts")?;
    let after = count(Some(input.part_number_marker.unwrap_or(0)), S3_PARTS_MAX, "part-number-marker")?;
    let name = ObjectName { s3_bucket: input.bucket.clone(), key: input.key.clone() };
    // A page of none still says whether the upload is there.
    let mut page = fetch_parts(frontend, &id, &name, upload, after, most.max(1)).await?;
    page.parts.truncate(most as usize);
    let last = page.parts.last().map(|row| row.number);
    let truncated = most > 0 && !page.end;
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        initiator: Some(Initiator { display_name: Some(OWNER_ID.to_owned()), id: Some(OWNER_ID.to_owned()) }),
        owner: Some(owner()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        part_number_marker: i32::try_from(after).ok(),
        next_part_number_marker: last.filter(|_| truncated).and_then(|number| i32::try_from(number).ok()),
        max_parts: i32::try_from(most).ok(),
        is_truncated: Some(truncated),
        parts: Some(page.parts.into_iter().map(part).collect()),
        checksum_algorithm: page.headers.checksum_algorithm.map(ChecksumAlgorithm::from),
        checksum_type: type_name(page.checksum_type),
        ..ListPartsOutput::default()
    }))
}

fn part(row: PartRow) -> Part {
    let mut part = Part {
        e_tag: Some(etag(&row.etag)),
        last_modified: Some(timestamp(row.modified_ms)),
        part_number: i32::try_from(row.number).ok(),
        size: Some(signed(row.size_bytes)),
        ..Part::default()
    };
    set_checksum!(part, part_checksum(&row));
    part
}

pub async fn list_uploads(
    frontend: &Frontend,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let id = id_of(&request);
    let input = request.input;
    expect_owner(input.expected_bucket_owner.as_deref())?;
    if input.delimiter.as_deref().is_some_and(|delimiter| !delimiter.is_empty()) {
        return Err(unsupported("Listing uploads by delimiter"));
    }
    let encode = encodes(input.encoding_type.as_ref())?;
    let most = count(input.max_uploads, S3_LIST_MAX, "max-uploads")?;
    let key_marker = input.key_marker.clone().unwrap_or_default();
    // Without a key an upload's id marks nothing, says S3.
    let upload_marker = input.upload_id_marker.clone().filter(|_| !key_marker.is_empty()).unwrap_or_default();
    let wanted = message::ListUploads {
        s3_bucket: input.bucket.clone(),
        prefix: input.prefix.clone().unwrap_or_default(),
        key_marker,
        upload_marker,
        limit: most.max(1),
    };
    let answer = frontend.catalog(Request::ListUploads(Box::new(wanted))).await;
    let mut page = match answer.map_err(|error| to_s3(error, &id))? {
        Response::Uploads(page) => page,
        other => return Err(to_s3(unexpected(&other), &id)),
    };
    page.uploads.truncate(most as usize);
    let truncated = most > 0 && !page.end;
    let encoded = |text: String| if encode { url_encode(&text) } else { text };
    let last = page.uploads.last().filter(|_| truncated);
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: input.prefix.map(encoded),
        key_marker: Some(encoded(input.key_marker.unwrap_or_default())),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        next_key_marker: last.map(|row| encoded(row.key.clone())),
        next_upload_id_marker: last.map(|row| ManifestId::from(&row.upload).to_string()),
        max_uploads: i32::try_from(most).ok(),
        is_truncated: Some(truncated),
        encoding_type: input.encoding_type,
        uploads: Some(
            page.uploads
                .into_iter()
                .map(|row| MultipartUpload {
                    initiated: Some(timestamp(row.created_ms)),
                    initiator: Some(Initiator {
                        display_name: Some(OWNER_ID.to_owned()),
                        id: Some(OWNER_ID.to_owned()),
                    }),
                    key: Some(encoded(row.key)),
                    owner: Some(owner()),
                    storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
                    upload_id: Some(ManifestId::from(&row.upload).to_string()),
                    ..MultipartUpload::default()
                })
                .collect(),
        ),
        ..ListMultipartUploadsOutput::default()
    }))
}
