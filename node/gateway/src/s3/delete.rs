//! DeleteObject and DeleteObjects.

use futures_util::{StreamExt as _, stream};
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use shingle_proto::limits::{S3_DELETE_OBJECTS_MAX, S3_DELETES_AT_ONCE, S3_KEY_BYTES_MAX};
use shingle_proto::message::{self, Precondition, Request};

use super::conditions::precondition;
use super::errors::{RequestId, id_of, refuse, to_s3, unsupported};
use super::frontend::Frontend;
use super::headers::{expect_current, expect_owner};

pub async fn one(
    frontend: &Frontend,
    request: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let id = id_of(&request);
    let input = request.input;
    expect_owner(input.expected_bucket_owner.as_deref())?;
    expect_current(input.version_id.as_deref())?;
    if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
        return Err(unsupported("Deleting by time or size"));
    }
    let condition = precondition(input.if_match.as_ref(), None);
    delete(frontend, &id, &input.bucket, input.key, condition).await?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub async fn many(
    frontend: &Frontend,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let id = id_of(&request);
    let input = request.input;
    expect_owner(input.expected_bucket_owner.as_deref())?;
    if input.delete.objects.is_empty() || input.delete.objects.len() > S3_DELETE_OBJECTS_MAX {
        return Err(refuse(
            S3ErrorCode::MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema: 1 to 1000 objects",
        ));
    }
    super::buckets::must_exist(frontend, &input.bucket, &id).await?;
    let bucket = input.bucket.as_str();
    let id = &id;
    let deletions = input.delete.objects.into_iter().map(|object| async move {
        let key = object.key.clone();
        (key, delete_listed(frontend, id, bucket, object).await)
    });
    // As many at a time as the control plane likes to put into one commit; answers in the order of the request.
    let results: Vec<(String, S3Result<()>)> = stream::iter(deletions).buffered(S3_DELETES_AT_ONCE).collect().await;

    let quiet = input.delete.quiet == Some(true);
    let mut output = DeleteObjectsOutput::default();
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (key, result) in results {
        match result {
            Ok(()) if quiet => {}
            Ok(()) => deleted.push(DeletedObject { key: Some(key), ..DeletedObject::default() }),
            Err(error) => errors.push(Error {
                code: Some(error.code().as_str().to_owned()),
                key: Some(key),
                message: error.message().map(str::to_owned),
                version_id: None,
            }),
        }
    }
    output.deleted = Some(deleted);
    output.errors = Some(errors);
    Ok(S3Response::new(output))
}

async fn delete_listed(
    frontend: &Frontend,
    id: &RequestId,
    bucket: &str,
    object: ObjectIdentifier,
) -> Result<(), S3Error> {
    expect_current(object.version_id.as_deref())?;
    if object.last_modified_time.is_some() || object.size.is_some() {
        return Err(unsupported("Deleting by time or size"));
    }
    if object.key.is_empty() {
        return Err(refuse(S3ErrorCode::UserKeyMustBeSpecified, "The object's key must be given"));
    }
    if object.key.len() > S3_KEY_BYTES_MAX {
        return Err(refuse(S3ErrorCode::KeyTooLongError, "Your key is too long"));
    }
    let condition =
        object.e_tag.map(|etag| Precondition { if_match: Some(etag.value().to_owned()), if_none_match: None });
    delete(frontend, id, bucket, object.key, condition).await
}

async fn delete(
    frontend: &Frontend,
    id: &RequestId,
    bucket: &str,
    key: String,
    condition: Option<Precondition>,
) -> Result<(), S3Error> {
    let request = message::DeleteObject { s3_bucket: bucket.to_owned(), key, precondition: condition.map(Box::new) };
    let answer = frontend.catalog(Request::DeleteObject(Box::new(request))).await;
    answer.map(drop).map_err(|error| to_s3(error, id))
}
