//! The S3 library's trait, verb by verb: each is one line that leads to the file of its kind. Verbs that are not here
//! get the library's NotImplemented: tags, ACLs, versions, policies, locks, lifecycle and the rest.

use async_trait::async_trait;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};
use shingle_proto::message::{ErrorCode, HeadObject, ObjectHead, ObjectRow, Request, Response};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::{buckets, copy, delete, listing, multipart, read, write};
use crate::request::{CoreRequest, CoreSender, GatewayError, ObjectName, ReplyTo};

/// S3 in front of one gateway core.
#[derive(Clone)]
pub struct Frontend {
    core: CoreSender,
    region: String,
}

impl Frontend {
    pub fn new(core: CoreSender, region: String) -> Self {
        Self { core, region }
    }

    /// The region every bucket says it is in.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Hands a request to the core, or tells the client to slow down when its queue is full.
    pub fn send(&self, request: CoreRequest) -> Result<(), GatewayError> {
        self.core.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => GatewayError::SlowDown("the gateway's queue is full"),
            TrySendError::Closed(_) => GatewayError::SlowDown("the gateway is stopping"),
        })
    }

    /// Sends the request that `make` builds around a reply, and waits for the reply.
    pub async fn ask<T>(&self, make: impl FnOnce(ReplyTo<T>) -> CoreRequest) -> Result<T, GatewayError> {
        let (reply, answer) = oneshot::channel();
        self.send(make(reply))?;
        answer.await.unwrap_or(Err(GatewayError::SlowDown("the gateway is stopping")))
    }

    /// Asks the control plane.
    pub async fn catalog(&self, request: Request) -> Result<Response, GatewayError> {
        self.ask(|reply| CoreRequest::Catalog { request: Box::new(request), reply }).await
    }

    /// The row of an object.
    pub async fn head(&self, name: &ObjectName) -> Result<ObjectRow, GatewayError> {
        Ok(*self.head_part(name, 0).await?.row)
    }

    /// The row of an object and where one of its parts lies; number 0 asks for no part.
    pub async fn head_part(&self, name: &ObjectName, part_number: u32) -> Result<ObjectHead, GatewayError> {
        let request = HeadObject { s3_bucket: name.s3_bucket.clone(), key: name.key.clone(), part_number };
        match self.catalog(Request::HeadObject(Box::new(request))).await? {
            Response::ObjectHead(head) => Ok(*head),
            other => Err(unexpected(&other)),
        }
    }
}

/// The control plane answered, but something else than what was asked.
pub fn unexpected(response: &Response) -> GatewayError {
    let message = format!("unexpected answer of type {:?}", response.response_body_type());
    GatewayError::Refused { code: ErrorCode::Unknown, number: 0, message }
}

#[async_trait]
impl S3 for Frontend {
    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        buckets::create(self, request).await
    }

    async fn list_buckets(&self, request: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        buckets::list(self, request).await
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        buckets::head(self, request).await
    }

    async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        buckets::delete(self, request).await
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        buckets::location(self, request).await
    }

    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        buckets::versioning(self, request).await
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        write::put(self, request).await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        read::get(self, request).await
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        read::head(self, request).await
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        delete::one(self, request).await
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        delete::many(self, request).await
    }

    async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        listing::version_1(self, request).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        listing::version_2(self, request).await
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        copy::object(self, request).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        multipart::create(self, request).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        write::part(self, request).await
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        copy::part(self, request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        multipart::complete(self, request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        multipart::abort(self, request).await
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        multipart::list_parts(self, request).await
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        multipart::list_uploads(self, request).await
    }
}
