//! Completing a multipart upload: the object's ETag is made over all blocks of all named parts, exactly as if they had
//! come in one upload, so the blocks' names are listed once before the control plane flips the row. Its checksum is made
//! of the verified checksums of its parts.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use shingle_codec::hash::EtagHasher;
use shingle_proto::ids::{BlockHash, ManifestId};
use shingle_proto::limits::{COMPLETE_LISTS_MAX, S3_LIST_MAX, S3_PARTS_MAX};
use shingle_proto::message::{
    BlockList, ChecksumType, CompleteUpload, ErrorCode, ListParts, ObjectHeaders, ObjectRow, PartName, PartRow,
    Precondition, Request,
};

use crate::catalog::expect_variant;
use crate::checksum::{self, Algorithm};
use crate::copy::list_blocks;
use crate::core::Core;
use crate::request::{Checksum, Claim, CompletedPart, GatewayError, ObjectName};

/// What a client completes an upload with.
pub struct Completion {
    pub name: ObjectName,
    pub upload: ManifestId,
    pub parts: Vec<CompletedPart>,
    pub claim: Claim,
    pub precondition: Option<Precondition>,
}

/// An upload as the control plane has it.
#[derive(Default)]
struct Stored {
    parts: BTreeMap<u32, PartRow>,
    headers: ObjectHeaders,
    checksum_type: ChecksumType,
}

impl Completion {
    /// Makes an object of the named parts.
    pub async fn run(self, core: &Core) -> Result<ObjectRow, GatewayError> {
        let stored = match list_parts(core, &self.name, self.upload).await {
            Ok(stored) => stored,
            Err(error) => return completed_before(core, &self.name, self.upload, error).await,
        };
        let chosen = self.parts.iter().map(|part| choose(&stored.parts, part)).collect::<Result<Vec<_>, _>>()?;
        let (checksum_algorithm, checksum_value) =
            object_checksum(&stored, &chosen, &self.claim)?.map(|sum| (sum.algorithm, sum.value)).unzip();
        let etag = etag_over(core, &chosen).await?;
        let parts = self.parts.into_iter().map(|part| PartName { number: part.number, etag: part.etag });
        let complete = CompleteUpload {
            s3_bucket: self.name.s3_bucket,
            key: self.name.key,
            upload: self.upload.into(),
            parts: parts.collect(),
            etag,
            precondition: self.precondition.map(Box::new),
            checksum_algorithm,
            checksum_value,
        };
        let finished =
            expect_variant!(core.control.call(Request::CompleteUpload(Box::new(complete))).await?, ObjectFinished)?;
        Ok(*finished.row)
    }
}

/// The object's checksum as its parts give it, which is what the client claims it to be, if it does. None when a part
/// came without one, as parts that were copied do.
fn object_checksum(stored: &Stored, parts: &[&PartRow], claim: &Claim) -> Result<Option<Checksum>, GatewayError> {
    let bad = |message: &str| Err(GatewayError::BadDigest(message.to_owned()));
    let declared = stored.headers.checksum_algorithm.as_deref();
    let first = parts.first().and_then(|part| part.checksum_algorithm.as_deref());
    let algorithm = declared.or(first).and_then(Algorithm::from_name);
    let kind = match (algorithm, stored.checksum_type, claim.checksum_type) {
        (_, ChecksumType::None, claimed) if claimed != ChecksumType::None => claimed,
        (Some(algorithm), ChecksumType::None, _) => algorithm.default_type(),
        (_, declared, claimed) if claimed != ChecksumType::None && claimed != declared => {
            return bad("The upload was started with a checksum of another type.");
        }
        (_, declared, _) => declared,
    };
    let computed = algorithm.filter(|algorithm| algorithm.allows(kind)).and_then(|algorithm| {
        let has = |part: &&PartRow| part.checksum_algorithm.as_deref() == Some(algorithm.name());
        let values = parts.iter().map(|part| (part.checksum_value.as_deref().unwrap_or_default(), part.size_bytes));
        let value = parts.iter().all(has).then(|| checksum::of_parts(algorithm, kind, values)).flatten()?;
        Some(Checksum { algorithm: algorithm.name().to_owned(), value })
    });
    match (&claim.checksum, &computed) {
        (None, _) => Ok(computed),
        (Some(_), None) => Err(GatewayError::InvalidRequest(
            "The checksum of the object cannot be made from its parts: each must have come with one of that algorithm."
                .to_owned(),
        )),
        (Some(claimed), Some(computed)) if claimed.algorithm != computed.algorithm => {
            bad("The upload was started with another checksum algorithm.")
        }
        // Clients may leave the number of parts out.
        (Some(claimed), Some(Checksum { value, .. }))
            if claimed.value == *value
                || value.strip_prefix(&claimed.value).is_some_and(|rest| rest.starts_with('-')) =>
        {
            Ok(computed)
        }
        _ => bad("The checksum you specified did not match the one made from the parts."),
    }
}

/// A client that missed the answer asks again. The upload is gone then, and the object it became bears its id.
async fn completed_before(
    core: &Core,
    name: &ObjectName,
    upload: ManifestId,
    error: GatewayError,
) -> Result<ObjectRow, GatewayError> {
    if !matches!(error, GatewayError::Refused { code: ErrorCode::NoSuchUpload, .. }) {
        return Err(error);
    }
    match core.control.head(name).await {
        Ok(row) if ManifestId::from(&row.manifest) == upload => Ok(row),
        _ => Err(error),
    }
}

/// The stored part a client means.
fn choose<'a>(stored: &'a BTreeMap<u32, PartRow>, part: &CompletedPart) -> Result<&'a PartRow, GatewayError> {
    let same_bytes = |row: &&PartRow| match &part.checksum {
        Some(named) => {
            row.checksum_algorithm.as_ref() == Some(&named.algorithm)
                && row.checksum_value.as_ref() == Some(&named.value)
        }
        None => true,
    };
    let same = |row: &&PartRow| row.etag == part.etag.trim_matches('"') && same_bytes(row);
    stored.get(&part.number).filter(same).ok_or_else(|| {
        let message = format!("part {} was not uploaded, or with another ETag or checksum", part.number);
        GatewayError::Refused { code: ErrorCode::InvalidPart, number: u64::from(part.number), message }
    })
}

async fn list_parts(core: &Core, name: &ObjectName, upload: ManifestId) -> Result<Stored, GatewayError> {
    let mut stored = Stored::default();
    loop {
        let after_number = stored.parts.last_key_value().map_or(0, |(number, _)| *number);
        let list = ListParts {
            s3_bucket: name.s3_bucket.clone(),
            key: name.key.clone(),
            upload: upload.into(),
            after_number,
            limit: S3_LIST_MAX,
        };
        let page = expect_variant!(core.control.call(Request::ListParts(Box::new(list))).await?, Parts)?;
        let before = stored.parts.len();
        let rows = page.parts.into_iter().filter(|part| part.number <= S3_PARTS_MAX);
        stored.parts.extend(rows.map(|part| (part.number, part)));
        (stored.headers, stored.checksum_type) = (*page.headers, page.checksum_type);
        if page.end || stored.parts.len() == before {
            return Ok(stored);
        }
    }
}

/// Parts are listed side by side, and hashed in order.
async fn etag_over(core: &Core, parts: &[&PartRow]) -> Result<String, GatewayError> {
    let first_pages = stream::iter(parts)
        .map(|part| async move { Ok::<_, GatewayError>((&part.manifest, first_page(core, part).await?)) })
        .buffered(COMPLETE_LISTS_MAX);
    let etag = first_pages.try_fold(EtagHasher::new(), async |mut etag, (manifest, mut page)| {
        push_all(&mut etag, &page);
        while !page.end {
            page = list_blocks(core, manifest, page.next_offset_bytes).await?;
            push_all(&mut etag, &page);
        }
        Ok(etag)
    });
    Ok(etag.await?.finish())
}

async fn first_page(core: &Core, part: &PartRow) -> Result<BlockList, GatewayError> {
    list_blocks(core, &part.manifest, 0).await
}

fn push_all(etag: &mut EtagHasher, page: &BlockList) {
    page.blocks.iter().for_each(|block| etag.push(&BlockHash::from(&block.hash)));
}
