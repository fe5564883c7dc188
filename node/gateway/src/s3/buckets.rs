//! S3 buckets: created, listed, asked about, deleted. All rows are the control plane's.

use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};
use shingle_proto::limits::S3_BUCKETS_MAX;
use shingle_proto::message::{CreateS3Bucket, DeleteS3Bucket, HeadS3Bucket, ListS3Buckets, Request, Response};

use super::errors::{RequestId, id_of, refuse, to_s3, unsupported};
use super::frontend::{Frontend, unexpected};
use super::headers::{OWNER_ID, count, expect_owner, timestamp};
use super::listing::{decode_token, encode_token};

/// The owner of everything.
pub fn owner() -> Owner {
    Owner { display_name: Some(OWNER_ID.to_owned()), id: Some(OWNER_ID.to_owned()) }
}

pub async fn create(
    frontend: &Frontend,
    request: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let id = id_of(&request);
    let input = request.input;
    let grants = input.grant_full_control.is_some()
        || input.grant_read.is_some()
        || input.grant_read_acp.is_some()
        || input.grant_write.is_some()
        || input.grant_write_acp.is_some();
    if grants || input.acl.is_some_and(|acl| acl.as_str() != "private") {
        return Err(refuse(S3ErrorCode::AccessControlListNotSupported, "The bucket does not allow ACLs"));
    }
    if input.object_lock_enabled_for_bucket == Some(true) {
        return Err(unsupported("Object Lock"));
    }
    // Any location constraint is taken: a cell has one place, and clients send the region they are configured for.
    let created = Request::CreateS3Bucket(Box::new(CreateS3Bucket { name: input.bucket.clone() }));
    frontend.catalog(created).await.map_err(|error| to_s3(error, &id))?;
    Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{}", input.bucket)) }))
}

pub async fn list(
    frontend: &Frontend,
    request: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let id = id_of(&request);
    let input = request.input;
    let most = count(input.max_buckets, S3_BUCKETS_MAX as u32, "max-buckets")? as usize;
    let after = input.continuation_token.as_deref().map(decode_token).transpose()?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let response = frontend.catalog(Request::ListS3Buckets(Box::new(ListS3Buckets {}))).await;
    let rows = match response.map_err(|error| to_s3(error, &id))? {
        Response::S3Buckets(rows) => rows.buckets,
        other => return Err(to_s3(unexpected(&other), &id)),
    };
    let elsewhere = input.bucket_region.as_deref().is_some_and(|region| region != frontend.region());
    let mut names: Vec<_> = rows
        .into_iter()
        .filter(|row| {
            !elsewhere && row.name.starts_with(&prefix) && after.as_ref().is_none_or(|after| row.name > *after)
        })
        .collect();
    names.sort_by(|a, b| a.name.cmp(&b.name));
    let more = names.len() > most;
    names.truncate(most);
    let continuation_token = names.last().filter(|_| more).map(|last| encode_token(&last.name));
    let buckets = names.into_iter().map(|row| Bucket {
        bucket_region: Some(frontend.region().to_owned()),
        creation_date: Some(timestamp(row.created_ms)),
        name: Some(row.name),
    });
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(buckets.collect()),
        continuation_token,
        owner: Some(owner()),
        prefix: input.prefix,
    }))
}

/// NoSuchBucket unless the bucket is there.
pub async fn must_exist(frontend: &Frontend, name: &str, id: &RequestId) -> S3Result<()> {
    let request = Request::HeadS3Bucket(Box::new(HeadS3Bucket { name: name.to_owned() }));
    frontend.catalog(request).await.map(drop).map_err(|error| to_s3(error, id))
}

pub async fn head(frontend: &Frontend, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
    let id = id_of(&request);
    expect_owner(request.input.expected_bucket_owner.as_deref())?;
    must_exist(frontend, &request.input.bucket, &id).await?;
    Ok(S3Response::new(HeadBucketOutput {
        bucket_region: Some(frontend.region().to_owned()),
        ..HeadBucketOutput::default()
    }))
}

pub async fn delete(
    frontend: &Frontend,
    request: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let id = id_of(&request);
    expect_owner(request.input.expected_bucket_owner.as_deref())?;
    let deleted = Request::DeleteS3Bucket(Box::new(DeleteS3Bucket { name: request.input.bucket }));
    frontend.catalog(deleted).await.map_err(|error| to_s3(error, &id))?;
    Ok(S3Response::new(DeleteBucketOutput {}))
}

pub async fn location(
    frontend: &Frontend,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    let id = id_of(&request);
    expect_owner(request.input.expected_bucket_owner.as_deref())?;
    must_exist(frontend, &request.input.bucket, &id).await?;
    // S3 says nothing for its first region.
    let named =
        (frontend.region() != "us-east-1").then(|| BucketLocationConstraint::from(frontend.region().to_owned()));
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint: named }))
}

pub async fn versioning(
    frontend: &Frontend,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let id = id_of(&request);
    expect_owner(request.input.expected_bucket_owner.as_deref())?;
    must_exist(frontend, &request.input.bucket, &id).await?;
    Ok(S3Response::new(GetBucketVersioningOutput::default()))
}
