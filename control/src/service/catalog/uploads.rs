//! Multipart uploads: begun, filled with parts, listed, aborted.

use shingle_proto::ids::{ManifestId, PutToken};
use shingle_proto::limits::{LIST_PAGE_BYTES_MAX, S3_LIST_MAX};
use shingle_proto::message::{
    AbortUpload, CreateUpload, ErrorCode, FinishPart, ListParts, ListUploads, Parts, Response, UploadCreated,
    UploadRow, Uploads,
};

use super::finish::{Promise, Settled, settle};
use super::intents::intent_expired;
use super::s3_buckets::require_s3_bucket;
use super::{Catalog, check, done};
use crate::tables::reclaim_queue::{Reclaim, ReclaimKey, Why};
use crate::tables::row::Row;
use crate::tables::uploads::{Part, PartKey, Upload, UploadKey};
use crate::tables::work::{TableError, Work};

/// An upload's name, checked.
pub(super) fn upload_key(s3_bucket: String, key: String, upload: ManifestId) -> Result<UploadKey, TableError> {
    let name = check::object_name(s3_bucket, key)?;
    Ok(UploadKey { s3_bucket: name.s3_bucket, key: name.key, upload })
}

pub(super) fn no_such_upload(upload: ManifestId) -> TableError {
    TableError::refused(ErrorCode::NoSuchUpload, 0, format!("there is no upload {upload}"))
}

pub(super) async fn require_upload(work: &Work, key: &UploadKey) -> Result<Upload, TableError> {
    work.get::<Upload>(key).await?.ok_or_else(|| no_such_upload(key.upload))
}

/// Clears the upload's row and queues its parts, in one step: from here on it takes no part and cannot be completed.
pub(crate) async fn drop_upload(work: &Work, key: &UploadKey, upload: &Upload, now_ms: u64) -> Result<(), TableError> {
    work.remove(key, upload);
    Reclaim::queue(work, ReclaimKey::Parts(key.upload), now_ms, Why::UploadAborted).await
}

impl Catalog {
    pub(super) async fn create_upload(&self, request: CreateUpload) -> Result<Response, TableError> {
        check::headers(&request.headers)?;
        let upload = ManifestId(self.tables.world().entropy.u128());
        let key = upload_key(request.s3_bucket, request.key, upload)?;
        let checksum_type = check::checksum_type(request.checksum_type)?;
        let row = Upload { created_ms: self.now_ms(), completion: None, checksum_type, headers: *request.headers };
        self.tables
            .run(async |work: &Work| {
                require_s3_bucket(work, &key.s3_bucket).await?;
                work.insert(&key, &row);
                Ok(())
            })
            .await?;
        Ok(Response::UploadCreated(Box::new(UploadCreated { upload: upload.into() })))
    }

    /// Finishes the part's manifest and puts the part into its place; an earlier part of that number is reclaimed.
    pub(super) async fn finish_part(&self, request: FinishPart) -> Result<Response, TableError> {
        let part = *request.part;
        check::part_number(part.number)?;
        check::etag(&part.etag)?;
        check::object_size(part.size_bytes)?;
        check::checksum(part.checksum_algorithm.as_deref(), part.checksum_value.as_deref())?;
        let upload_key = upload_key(request.s3_bucket, request.key, ManifestId::from(&request.upload))?;
        let name = check::object_name(upload_key.s3_bucket.clone(), upload_key.key.clone())?;
        let promise = Promise {
            manifest: ManifestId::from(&part.manifest),
            put_token: PutToken(request.put_token),
            name: &name,
            size_bytes: part.size_bytes,
            blocks: part.blocks,
        };
        let part_key = PartKey { upload: upload_key.upload, number: part.number };
        let row = Part {
            manifest: promise.manifest,
            size_bytes: part.size_bytes,
            blocks: part.blocks,
            modified_ms: self.now_ms(),
            named_by: None,
            etag: part.etag,
            checksum_algorithm: part.checksum_algorithm,
            checksum_value: part.checksum_value,
        };
        loop {
            let step = self.tables.run(async |work: &Work| {
                let upload = require_upload(work, &upload_key).await?;
                let old = work.get::<Part>(&part_key).await?;
                match settle(work, promise, self.now_ms()).await? {
                    Settled::Partly => Ok(false),
                    Settled::NoIntent if old.as_ref().is_some_and(|old| old.manifest == row.manifest) => Ok(true),
                    Settled::NoIntent => Err(intent_expired(row.manifest)),
                    Settled::Finished => {
                        place_part(work, &upload_key, &upload, &part_key, old.as_ref(), &row).await?;
                        Ok(true)
                    }
                }
            });
            if step.await? {
                return Ok(done());
            }
        }
    }

    pub(super) async fn list_parts(&self, request: ListParts) -> Result<Response, TableError> {
        let key = upload_key(request.s3_bucket, request.key, ManifestId::from(&request.upload))?;
        let work = self.tables.look();
        let upload = require_upload(&work, &key).await?;
        let limit = request.limit.min(S3_LIST_MAX) as usize;
        let after = PartKey { upload: key.upload, number: request.after_number };
        let mut rows =
            work.scan::<Part>(Part::of_upload(key.upload).after(&Part::encode_key(&after)), limit + 1).await?;
        let end = rows.len() <= limit;
        rows.truncate(limit);
        Ok(Response::Parts(Box::new(Parts {
            parts: rows.into_iter().map(|(key, part)| part.into_message(key.number)).collect(),
            end,
            headers: Box::new(upload.headers),
            checksum_type: upload.checksum_type,
        })))
    }

    /// Uploads in the order of their keys and ids, behind the marker: of one key, of the upload given or all.
    pub(super) async fn list_uploads(&self, request: ListUploads) -> Result<Response, TableError> {
        check::s3_bucket(&request.s3_bucket)?;
        check::listing_text(&request.prefix)?;
        check::listing_text(&request.key_marker)?;
        let mut range = Upload::with_prefix(&request.s3_bucket, &request.prefix);
        if !request.key_marker.is_empty() {
            let begin = match request.upload_marker.as_str() {
                "" => Upload::to_key(&request.s3_bucket, &request.key_marker).end,
                text => {
                    let malformed = |_| check::malformed(text.len() as u64, "the upload marker is not an upload's id");
                    let upload = text.parse::<ManifestId>().map_err(malformed)?;
                    let (s3_bucket, key) = (request.s3_bucket.clone(), request.key_marker);
                    Upload::with_prefix(&s3_bucket, "")
                        .after(&Upload::encode_key(&UploadKey { s3_bucket, key, upload }))
                        .begin
                }
            };
            range.begin = range.begin.max(begin);
        }
        let work = self.tables.look();
        require_s3_bucket(&work, &request.s3_bucket).await?;
        let limit = request.limit.min(S3_LIST_MAX) as usize;
        let mut rows = work.scan::<Upload>(range, limit + 1).await?;
        let end = rows.len() <= limit;
        rows.truncate(limit);
        let message = |(key, upload): (UploadKey, Upload)| UploadRow {
            key: key.key,
            upload: key.upload.into(),
            created_ms: upload.created_ms,
        };
        Ok(Response::Uploads(Box::new(Uploads { uploads: rows.into_iter().map(message).collect(), end })))
    }

    pub(super) async fn abort_upload(&self, request: AbortUpload) -> Result<Response, TableError> {
        let key = upload_key(request.s3_bucket, request.key, ManifestId::from(&request.upload))?;
        let now_ms = self.now_ms();
        self.tables
            .run(async |work: &Work| {
                let upload = require_upload(work, &key).await?;
                drop_upload(work, &key, &upload, now_ms).await
            })
            .await?;
        Ok(done())
    }
}

/// Writes the part's row. An attempt to complete the upload that is under way ends: it may have seen the part before.
async fn place_part(
    work: &Work,
    upload_key: &UploadKey,
    upload: &Upload,
    part_key: &PartKey,
    old: Option<&Part>,
    new: &Part,
) -> Result<(), TableError> {
    if let Some(old) = old {
        Reclaim::queue(work, ReclaimKey::Manifest(old.manifest), new.modified_ms, Why::PartDropped).await?;
    }
    work.put(part_key, old, new);
    if upload.completion.is_some() {
        work.replace(upload_key, upload, &Upload { completion: None, ..upload.clone() });
    }
    Ok(())
}

// A page of the longest uploads fits into half a frame.
const _: () = assert!(S3_LIST_MAX as usize * (1024 + 128) < LIST_PAGE_BYTES_MAX);
