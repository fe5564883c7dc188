//! Objects one at a time: looked up and deleted, under the conditions a client may set.

use shingle_proto::message::{DeleteObject, ErrorCode, HeadObject, ObjectHead, Precondition, Response};

use super::s3_buckets::require_s3_bucket;
use super::{Catalog, check, done};
use crate::tables::manifests::{Segment, of_manifest};
use crate::tables::objects::Object;
use crate::tables::reclaim_queue::{Reclaim, ReclaimKey, Why};
use crate::tables::row::Row;
use crate::tables::work::{TableError, Work};

/// Segments read at once on the way to a part.
const SEGMENTS_AHEAD: usize = 500;

/// If-Match and If-None-Match against the current version; `absent` is the answer to If-Match on no object. Called
/// in the transaction that changes the object.
pub(super) fn require_precondition(
    precondition: &Precondition,
    current: Option<&Object>,
    absent: ErrorCode,
) -> Result<(), TableError> {
    let matches = |condition: &str, object: &Object| {
        let bare = condition.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(condition);
        condition == "*" || bare == object.etag
    };
    let failed = |code, message: &str| Err(TableError::refused(code, 0, message));
    match (&precondition.if_match, current) {
        (Some(_), None) => return failed(absent, "there is no object to match"),
        (Some(condition), Some(object)) if !matches(condition, object) => {
            return failed(ErrorCode::PreconditionFailed, "the object has another ETag");
        }
        _ => {}
    }
    match (&precondition.if_none_match, current) {
        (Some(condition), Some(object)) if matches(condition, object) => {
            failed(ErrorCode::PreconditionFailed, "the object exists")
        }
        _ => Ok(()),
    }
}

/// Where the n-th part of an object lies, and its length.
async fn find_part(work: &Work, object: &Object, number: u32) -> Result<(u64, u64), TableError> {
    let parts = object.parts.max(1);
    if number > parts {
        let message = format!("the object has {parts} parts, part {number} was asked for");
        return Err(TableError::refused(ErrorCode::InvalidPart, u64::from(parts), message));
    }
    if object.parts == 0 {
        return Ok((0, object.size_bytes));
    }
    let mut range = of_manifest::<Segment>(object.manifest);
    let mut before = number - 1;
    loop {
        let rows = work.scan::<Segment>(range.clone(), SEGMENTS_AHEAD).await?;
        match (rows.get(before as usize), rows.last()) {
            (Some((place, segment)), _) => return Ok((place.offset_bytes, segment.size_bytes)),
            (None, Some((last, _))) => range = range.after(&Segment::encode_key(last)),
            (None, None) => {
                let message = format!("manifest {} has fewer segments than its object parts", object.manifest);
                return Err(TableError::refused(ErrorCode::BlockMissing, u64::from(number), message));
            }
        }
        before -= rows.len() as u32;
    }
}

impl Catalog {
    pub(super) async fn head_object(&self, request: HeadObject) -> Result<Response, TableError> {
        let name = check::object_name(request.s3_bucket, request.key)?;
        let work = self.tables.look();
        match work.get::<Object>(&name).await? {
            Some(object) => {
                let (part_offset_bytes, part_bytes) = match request.part_number {
                    0 => (0, 0),
                    number => find_part(&work, &object, number).await?,
                };
                let row = Box::new(object.into_message(name.key));
                Ok(Response::ObjectHead(Box::new(ObjectHead { row, part_offset_bytes, part_bytes })))
            }
            None => {
                require_s3_bucket(&work, &name.s3_bucket).await?;
                Err(check::no_such_key(&name.key))
            }
        }
    }

    /// Clears the object's row and queues its manifest, in one transaction.
    pub(super) async fn delete_object(&self, request: DeleteObject) -> Result<Response, TableError> {
        let name = check::object_name(request.s3_bucket, request.key)?;
        let now_ms = self.now_ms();
        self.tables
            .run(async |work: &Work| {
                require_s3_bucket(work, &name.s3_bucket).await?;
                let object = work.get::<Object>(&name).await?;
                if let Some(precondition) = &request.precondition {
                    require_precondition(precondition, object.as_ref(), ErrorCode::PreconditionFailed)?;
                }
                if let Some(object) = object {
                    let key = ReclaimKey::Manifest(object.manifest);
                    Reclaim::queue(work, key, now_ms, Why::Deleted).await?;
                    work.remove(&name, &object);
                }
                Ok(())
            })
            .await?;
        Ok(done())
    }
}
