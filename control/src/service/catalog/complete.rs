//! Completing a multipart upload: its parts become the segments of a manifest, in small transactions, then one row
//! flips.
//!
//! An attempt writes its random name into the upload's row first. Each of its transactions, the flip too, requires
//! that name to be there still: a part that is replaced clears it, another attempt overwrites it, an abort removes the
//! row. So the flip sees exactly the parts that were checked. The manifest's id is the upload's, which makes a repeat
//! recognisable.

use std::collections::BTreeMap;

use shingle_proto::ids::ManifestId;
use shingle_proto::limits::{S3_OBJECT_BYTES_MAX, S3_PART_BYTES_MIN, S3_PARTS_MAX};
use shingle_proto::message::{
    CompleteUpload, ErrorCode, ObjectFinished, ObjectHeaders, PartName, Precondition, Response,
};

use super::finish::flip;
use super::uploads::{no_such_upload, upload_key};
use super::{Catalog, check};
use crate::store::StoreError;
use crate::tables::manifests::{Manifest, ManifestKind, PlaceKey, Segment, of_manifest};
use crate::tables::objects::{Object, ObjectKey};
use crate::tables::reclaim_queue::{Reclaim, ReclaimKey, Why};
use crate::tables::row::Row;
use crate::tables::uploads::{Completion, Part, PartKey, Upload, UploadKey};
use crate::tables::work::{TableError, Work};

/// Parts that one transaction turns into segments: two rows of about 150 bytes each.
const PARTS_PER_TRANSACTION: usize = 500;
/// Attempts before a client that keeps replacing parts is told of the conflict.
const ATTEMPTS_MAX: u32 = 5;

/// One part to become a segment.
struct Piece {
    key: PartKey,
    part: Part,
    offset_bytes: u64,
}

/// What an attempt needs to know.
struct Attempt<'a> {
    key: &'a UploadKey,
    completion: Completion,
    etag: &'a str,
    /// Algorithm and value, for the object's headers.
    checksum: (Option<&'a str>, Option<&'a str>),
    precondition: Option<&'a Precondition>,
}

impl Catalog {
    pub(super) async fn complete_upload(&self, request: CompleteUpload) -> Result<Response, TableError> {
        require_part_list(&request.parts)?;
        check::etag(&request.etag)?;
        let checksum = (request.checksum_algorithm.as_deref(), request.checksum_value.as_deref());
        check::checksum(checksum.0, checksum.1)?;
        let key = upload_key(request.s3_bucket, request.key, ManifestId::from(&request.upload))?;
        for _ in 0..ATTEMPTS_MAX {
            let completion = Completion(self.tables.world().entropy.u64());
            let precondition = request.precondition.as_deref();
            let attempt = Attempt { key: &key, completion, etag: &request.etag, checksum, precondition };
            if let Some(object) = self.try_complete(attempt, &request.parts).await? {
                let row = Box::new(object.into_message(key.key));
                return Ok(Response::ObjectFinished(Box::new(ObjectFinished { row })));
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// `None` when another request changed the upload meanwhile.
    async fn try_complete(&self, attempt: Attempt<'_>, names: &[PartName]) -> Result<Option<Object>, TableError> {
        let key = attempt.key;
        if self.tables.look().get::<Upload>(key).await?.is_none() {
            return self.completed_before(key).await.map(Some);
        }
        let pieces = self.choose_parts(key.upload, names).await?;
        let begun = self.tables.run(async |work: &Work| {
            let Some(upload) = work.get::<Upload>(key).await? else { return Ok(false) };
            work.replace(key, &upload, &Upload { completion: Some(attempt.completion), ..upload.clone() });
            Ok(true)
        });
        if !begun.await? {
            return self.completed_before(key).await.map(Some);
        }
        while let Some(more) = self.tables.run(async |work: &Work| drop_segments(work, &attempt).await).await? {
            if !more {
                break;
            }
        }
        for batch in pieces.chunks(PARTS_PER_TRANSACTION) {
            if !self.tables.run(async |work: &Work| add_segments(work, &attempt, batch).await).await? {
                return Ok(None);
            }
        }
        let now_ms = self.now_ms();
        self.tables.run(async |work: &Work| flip_upload(work, &attempt, &pieces, now_ms).await).await
    }

    /// The parts that were named, if they are there and fit.
    async fn choose_parts(&self, upload: ManifestId, names: &[PartName]) -> Result<Vec<Piece>, TableError> {
        let mut parts = self.all_parts(upload).await?;
        let mut pieces = Vec::with_capacity(names.len());
        let mut offset_bytes = 0_u64;
        for name in names {
            let number = u64::from(name.number);
            let bare = name.etag.trim_matches('"');
            let part = match parts.remove(&name.number) {
                Some(part) if part.etag == bare => part,
                _ => {
                    let message = format!("there is no part {number} with this ETag");
                    return Err(TableError::refused(ErrorCode::InvalidPart, number, message));
                }
            };
            let end = offset_bytes.saturating_add(part.size_bytes);
            if end > S3_OBJECT_BYTES_MAX {
                return Err(check::malformed(end, format!("an object has at most {S3_OBJECT_BYTES_MAX} bytes")));
            }
            pieces.push(Piece { key: PartKey { upload, number: name.number }, part, offset_bytes });
            offset_bytes = end;
        }
        let all_but_last = pieces.len().saturating_sub(1);
        match pieces.iter().take(all_but_last).find(|piece| piece.part.size_bytes < S3_PART_BYTES_MIN) {
            Some(Piece { key: PartKey { number, .. }, part, .. }) => {
                let message = format!("part {number} has {} bytes, less than the minimum", part.size_bytes);
                Err(TableError::refused(ErrorCode::PartTooSmall, u64::from(*number), message))
            }
            None => Ok(pieces),
        }
    }

    async fn all_parts(&self, upload: ManifestId) -> Result<BTreeMap<u32, Part>, TableError> {
        let mut parts = BTreeMap::new();
        let mut range = Part::of_upload(upload);
        loop {
            let rows = self.tables.look().scan::<Part>(range.clone(), PARTS_PER_TRANSACTION).await?;
            let read = rows.len();
            for (key, part) in rows {
                range = range.after(&Part::encode_key(&key));
                parts.insert(key.number, part);
            }
            if read < PARTS_PER_TRANSACTION {
                return Ok(parts);
            }
        }
    }

    /// The upload is gone: completed before, which makes this a repeat, or aborted.
    async fn completed_before(&self, key: &UploadKey) -> Result<Object, TableError> {
        let name = ObjectKey { s3_bucket: key.s3_bucket.clone(), key: key.key.clone() };
        match self.tables.look().get::<Object>(&name).await? {
            Some(object) if object.manifest == key.upload => Ok(object),
            _ => Err(no_such_upload(key.upload)),
        }
    }
}

fn require_part_list(parts: &[PartName]) -> Result<(), TableError> {
    if parts.is_empty() {
        return Err(check::malformed(0, "an upload is completed with one part at least"));
    }
    if parts.len() > S3_PARTS_MAX as usize {
        let message = format!("an upload has at most {S3_PARTS_MAX} parts");
        return Err(TableError::refused(ErrorCode::TooManyParts, parts.len() as u64, message));
    }
    for pair in parts.windows(2) {
        if let [earlier, later] = pair
            && earlier.number >= later.number
        {
            let message = "part numbers must go up".to_owned();
            return Err(TableError::refused(ErrorCode::InvalidPartOrder, u64::from(later.number), message));
        }
    }
    Ok(())
}

/// The upload's row, if this attempt is still the one under way.
async fn mine(work: &Work, attempt: &Attempt<'_>) -> Result<Option<Upload>, TableError> {
    let upload = work.get::<Upload>(attempt.key).await?;
    Ok(upload.filter(|upload| upload.completion == Some(attempt.completion)))
}

/// Clears some segments that an earlier attempt left behind; true if there may be more, `None` if the attempt is over.
async fn drop_segments(work: &Work, attempt: &Attempt<'_>) -> Result<Option<bool>, TableError> {
    if mine(work, attempt).await?.is_none() {
        return Ok(None);
    }
    let rows = work.scan::<Segment>(of_manifest::<Segment>(attempt.key.upload), PARTS_PER_TRANSACTION).await?;
    rows.iter().for_each(|(key, segment)| work.remove(key, segment));
    Ok(Some(rows.len() == PARTS_PER_TRANSACTION))
}

/// Makes segments of some parts and marks the parts; false if the attempt is over.
async fn add_segments(work: &Work, attempt: &Attempt<'_>, pieces: &[Piece]) -> Result<bool, TableError> {
    if mine(work, attempt).await?.is_none() {
        return Ok(false);
    }
    for piece in pieces {
        let current = work.get::<Part>(&piece.key).await?;
        let Some(part) = current.filter(|part| part.manifest == piece.part.manifest) else { return Ok(false) };
        let place = PlaceKey { manifest: attempt.key.upload, offset_bytes: piece.offset_bytes };
        let segment = Segment { leaf: part.manifest, size_bytes: part.size_bytes, blocks: part.blocks };
        let old = work.get::<Segment>(&place).await?;
        work.put(&place, old.as_ref(), &segment);
        work.replace(&piece.key, &part, &Part { named_by: Some(attempt.completion), ..part.clone() });
    }
    Ok(true)
}

/// The flip: object, manifest and the end of the upload in one transaction. `None` if the attempt is over.
async fn flip_upload(
    work: &Work,
    attempt: &Attempt<'_>,
    pieces: &[Piece],
    now_ms: u64,
) -> Result<Option<Object>, TableError> {
    let Some(upload) = mine(work, attempt).await? else { return Ok(None) };
    let UploadKey { s3_bucket, key, upload: manifest } = attempt.key.clone();
    let size_bytes = pieces.iter().map(|piece| piece.part.size_bytes).sum();
    let blocks = pieces.iter().map(|piece| piece.part.blocks).sum();
    let object = Object {
        manifest,
        size_bytes,
        modified_ms: now_ms,
        blocks,
        parts: pieces.len() as u32,
        etag: attempt.etag.to_owned(),
        headers: ObjectHeaders {
            checksum_algorithm: attempt.checksum.0.map(str::to_owned),
            checksum_value: attempt.checksum.1.map(str::to_owned),
            ..upload.headers.clone()
        },
    };
    // The first row written is the witness of an unknown commit: it names this attempt, which no other row does.
    let why = Why::Completed { completion: attempt.completion };
    Reclaim::queue(work, ReclaimKey::Parts(manifest), now_ms, why).await?;
    flip(work, &ObjectKey { s3_bucket, key }, &object, attempt.precondition).await?;
    work.insert(&manifest, &Manifest { kind: ManifestKind::Segments, size_bytes, blocks });
    work.remove(attempt.key, &upload);
    Ok(Some(object))
}
