//! Completing a multipart upload: the object's ETag is made over all blocks of all named parts, exactly as if they had
//! come in one upload, so the blocks' names are listed once before the control plane flips the row.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use shingle_codec::hash::EtagHasher;
use shingle_proto::ids::{BlockHash, ManifestId};
use shingle_proto::limits::{COMPLETE_LISTS_MAX, S3_LIST_MAX, S3_PARTS_MAX};
use shingle_proto::message::{
    BlockList, CompleteUpload, ErrorCode, ListParts, ObjectRow, PartName, PartRow, Precondition, Request,
};

use crate::catalog::expect_variant;
use crate::copy::list_blocks;
use crate::core::Core;
use crate::request::{GatewayError, ObjectName};

/// Makes an object of the named parts.
pub async fn complete(
    core: &Core,
    name: &ObjectName,
    upload: ManifestId,
    parts: Vec<PartName>,
    precondition: Option<Precondition>,
) -> Result<ObjectRow, GatewayError> {
    let stored = match list_parts(core, name, upload).await {
        Ok(stored) => stored,
        Err(error) => return completed_before(core, name, upload, error).await,
    };
    let chosen = parts.iter().map(|part| choose(&stored, part)).collect::<Result<Vec<_>, _>>()?;
    let etag = etag_over(core, &chosen).await?;
    let complete = CompleteUpload {
        s3_bucket: name.s3_bucket.clone(),
        key: name.key.clone(),
        upload: upload.into(),
        parts,
        etag,
        precondition: precondition.map(Box::new),
        checksum_algorithm: None,
        checksum_value: None,
    };
    let finished =
        expect_variant!(core.control.call(Request::CompleteUpload(Box::new(complete))).await?, ObjectFinished)?;
    Ok(*finished.row)
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
fn choose<'a>(stored: &'a BTreeMap<u32, PartRow>, part: &PartName) -> Result<&'a PartRow, GatewayError> {
    stored.get(&part.number).filter(|row| row.etag == part.etag.trim_matches('"')).ok_or_else(|| {
        let message = format!("part {} was not uploaded, or with another ETag", part.number);
        GatewayError::Refused { code: ErrorCode::InvalidPart, number: u64::from(part.number), message }
    })
}

async fn list_parts(
    core: &Core,
    name: &ObjectName,
    upload: ManifestId,
) -> Result<BTreeMap<u32, PartRow>, GatewayError> {
    let mut parts = BTreeMap::new();
    loop {
        let after_number = parts.last_key_value().map_or(0, |(number, _)| *number);
        let list = ListParts {
            s3_bucket: name.s3_bucket.clone(),
            key: name.key.clone(),
            upload: upload.into(),
            after_number,
            limit: S3_LIST_MAX,
        };
        let page = expect_variant!(core.control.call(Request::ListParts(Box::new(list))).await?, Parts)?;
        let before = parts.len();
        parts.extend(page.parts.into_iter().filter(|part| part.number <= S3_PARTS_MAX).map(|part| (part.number, part)));
        if page.end || parts.len() == before {
            return Ok(parts);
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
