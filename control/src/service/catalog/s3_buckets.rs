//! S3 buckets: made, looked up, listed, and deleted when they are empty.

use shingle_proto::limits::S3_BUCKETS_MAX;
use shingle_proto::message::{
    CreateS3Bucket, DeleteS3Bucket, ErrorCode, HeadS3Bucket, Response, S3Bucket as S3BucketMessage, S3Buckets,
};

use super::check;
use super::uploads::drop_upload;
use super::{Catalog, done};
use crate::tables::keys::KeyRange;
use crate::tables::objects::{Object, S3Bucket};
use crate::tables::row::Row;
use crate::tables::uploads::Upload;
use crate::tables::work::{TableError, Work};

/// Uploads that one transaction of a bucket's deletion aborts.
const UPLOADS_PER_TRANSACTION: usize = 100;

/// The S3 bucket's row, in the conflict check: whoever puts something into it conflicts with its deletion.
pub(super) async fn require_s3_bucket(work: &Work, name: &str) -> Result<S3Bucket, TableError> {
    let row = work.get::<S3Bucket>(&name.to_owned()).await?;
    row.ok_or_else(|| check::no_such_bucket(name))
}

impl Catalog {
    pub(super) async fn create_s3_bucket(&self, request: CreateS3Bucket) -> Result<Response, TableError> {
        check::new_s3_bucket(&request.name)?;
        let row = S3Bucket { created_ms: self.now_ms() };
        self.tables
            .run(async |work: &Work| {
                if work.get::<S3Bucket>(&request.name).await?.is_some() {
                    let message = format!("the S3 bucket {:?} exists", request.name);
                    return Err(TableError::refused(ErrorCode::BucketExists, 0, message));
                }
                let all = work.scan::<S3Bucket>(KeyRange::table(S3Bucket::TABLE), S3_BUCKETS_MAX).await?;
                if all.len() >= S3_BUCKETS_MAX {
                    let message = format!("a cell has at most {S3_BUCKETS_MAX} S3 buckets");
                    return Err(TableError::refused(ErrorCode::TooManyBuckets, all.len() as u64, message));
                }
                work.insert(&request.name, &row);
                Ok(())
            })
            .await?;
        Ok(done())
    }

    pub(super) async fn head_s3_bucket(&self, request: HeadS3Bucket) -> Result<Response, TableError> {
        check::s3_bucket(&request.name)?;
        let row = require_s3_bucket(&self.tables.look(), &request.name).await?;
        Ok(Response::S3Bucket(Box::new(S3BucketMessage { name: request.name, created_ms: row.created_ms })))
    }

    pub(super) async fn list_s3_buckets(&self) -> Result<Response, TableError> {
        let rows = self.tables.look().scan::<S3Bucket>(KeyRange::table(S3Bucket::TABLE), S3_BUCKETS_MAX).await?;
        let message = |(name, row): (String, S3Bucket)| S3BucketMessage { name, created_ms: row.created_ms };
        Ok(Response::S3Buckets(Box::new(S3Buckets { buckets: rows.into_iter().map(message).collect() })))
    }

    /// Only when no object is left. Uploads still under way are aborted, as S3 does.
    pub(super) async fn delete_s3_bucket(&self, request: DeleteS3Bucket) -> Result<Response, TableError> {
        check::s3_bucket(&request.name)?;
        let name = request.name;
        let now_ms = self.now_ms();
        loop {
            let gone = self.tables.run(async |work: &Work| {
                let row = require_s3_bucket(work, &name).await?;
                if !work.scan::<Object>(Object::with_prefix(&name, ""), 1).await?.is_empty() {
                    let message = format!("the S3 bucket {name:?} is not empty");
                    return Err(TableError::refused(ErrorCode::BucketNotEmpty, 0, message));
                }
                let uploads = work.scan::<Upload>(Upload::with_prefix(&name, ""), UPLOADS_PER_TRANSACTION).await?;
                for (key, upload) in &uploads {
                    drop_upload(work, key, upload, now_ms).await?;
                }
                let last = uploads.len() < UPLOADS_PER_TRANSACTION;
                if last {
                    work.remove(&name, &row);
                }
                Ok(last)
            });
            if gone.await? {
                return Ok(done());
            }
        }
    }
}
