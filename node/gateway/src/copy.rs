//! Server-side copies: references to the source's blocks, no block moves. Only a part cut out of the middle of a block
//! is read and stored anew, because blocks are whole.

use std::rc::Rc;

use shingle_codec::hash::EtagHasher;
use shingle_proto::ids::{BlockHash, ManifestId};
use shingle_proto::limits::BLOCKS_PER_REQUEST_MAX;
use shingle_proto::message::{
    BlockList, BlockName, ChecksumType, CopyBlocks, ErrorCode, FinishObject, Id128, ListBlocks, ObjectHeaders,
    ObjectRow, PartRow, Precondition, Request,
};
use tokio::sync::mpsc;

use crate::catalog::expect_variant;
use crate::checksum::type_of;
use crate::core::Core;
use crate::get::{head, resolve};
use crate::intent::Intent;
use crate::put::{PartSummary, finish_part, put_part};
use crate::request::{Body, BodyPiece, ByteRange, Checksum, GatewayError, ObjectName};
use crate::stream::{BlockStream, Progress, StreamError};

/// Versions of the source tried: each was replaced while it was being copied.
const VERSIONS_MAX: usize = 3;

/// Where a copy comes from.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: ObjectName,
    pub if_match: Option<String>,
}

/// Copies a whole object.
pub async fn copy(
    core: &Rc<Core>,
    source: Source,
    name: &ObjectName,
    headers: Option<ObjectHeaders>,
    precondition: Option<Precondition>,
) -> Result<ObjectRow, GatewayError> {
    let mut tries = 0;
    loop {
        let row = head(core, &source.name, source.if_match.as_deref()).await?;
        let manifest = row.manifest.clone();
        let result = copy_version(core, row, name, headers.clone(), precondition.clone()).await;
        tries += 1;
        // The source may have been replaced under the copy: its blocks are gone, those of the new version are there.
        let gone =
            matches!(&result, Err(GatewayError::Refused { code: ErrorCode::NoSuchKey | ErrorCode::BlockMissing, .. }));
        if !gone || tries == VERSIONS_MAX || core.control.head(&source.name).await?.manifest == manifest {
            return result;
        }
    }
}

async fn copy_version(
    core: &Rc<Core>,
    row: ObjectRow,
    name: &ObjectName,
    headers: Option<ObjectHeaders>,
    precondition: Option<Precondition>,
) -> Result<ObjectRow, GatewayError> {
    Intent::hold(core, name, async |intent| {
        reference(core, intent, &row.manifest, 0, row.size_bytes).await?;
        // A copy without new headers keeps the verified checksum; with new ones it still has the same bytes.
        let headers = headers.map_or_else(
            || row.headers.clone(),
            |headers| {
                Box::new(ObjectHeaders {
                    checksum_algorithm: row.headers.checksum_algorithm.clone(),
                    checksum_value: row.headers.checksum_value.clone(),
                    ..headers
                })
            },
        );
        let finish = FinishObject {
            s3_bucket: name.s3_bucket.clone(),
            key: name.key.clone(),
            manifest: intent.manifest.clone(),
            put_token: intent.put_token.0,
            size_bytes: row.size_bytes,
            blocks: row.blocks,
            etag: row.etag.clone(),
            headers,
            precondition: precondition.map(Box::new),
        };
        let finished =
            expect_variant!(intent.call(core, Request::FinishObject(Box::new(finish))).await?, ObjectFinished)?;
        Ok(*finished.row)
    })
    .await
}

/// A part of a multipart upload, copied from an object or a range of it.
pub struct PartCopy {
    pub source: Source,
    pub range: Option<ByteRange>,
    pub name: ObjectName,
    pub upload: ManifestId,
    pub number: u32,
}

impl PartCopy {
    pub async fn run(self, core: &Rc<Core>) -> Result<PartRow, GatewayError> {
        let row = head(core, &self.source.name, self.source.if_match.as_deref()).await?;
        let (first, length) = resolve(self.range, row.size_bytes)?;
        // Of the same bytes, unless it is one over the checksums of parts.
        let whole = (first, length) == (0, row.size_bytes);
        let checksum = checksum_of(&row.headers).filter(|sum| whole && type_of(&sum.value) == ChecksumType::FullObject);
        match aligned(core, &row.manifest, first, length).await? {
            Some(summary) => self.by_reference(core, &row.manifest, first, summary, checksum).await,
            None => self.by_bytes(core, row.manifest, first, length).await,
        }
    }

    async fn by_reference(
        self,
        core: &Rc<Core>,
        manifest: &Id128,
        first: u64,
        whole: WholeBlocks,
        checksum: Option<Checksum>,
    ) -> Result<PartRow, GatewayError> {
        Intent::hold(core, &self.name, async |intent| {
            let WholeBlocks { size_bytes, blocks, etag } = whole;
            reference(core, intent, manifest, first, size_bytes).await?;
            let summary = PartSummary { number: self.number, size_bytes, blocks, etag, checksum };
            finish_part(core, intent, &self.name, self.upload, summary).await
        })
        .await
    }

    /// Reads the range and stores it as an upload of its own. The reading side has a budget of its own: a put that
    /// waits for budget while its own source holds some of it would wait forever.
    async fn by_bytes(
        self,
        core: &Rc<Core>,
        manifest: Id128,
        first: u64,
        length: u64,
    ) -> Result<PartRow, GatewayError> {
        let mut stream = BlockStream::new(core.clone(), core.copy_budget.clone(), manifest, first, length);
        let hold = stream.hold();
        let (sender, pieces) = mpsc::channel(1);
        let source = async {
            // A receiver that is gone belongs to a put that has failed, and its error is the answer.
            loop {
                if let Some(piece) = stream.take() {
                    if sender.send(BodyPiece::Chunk(piece)).await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
                match stream.advance(true).await {
                    Ok(Progress::Ready | Progress::Full) => {}
                    Ok(Progress::End) => break,
                    Err(StreamError::Failed(error)) => return Err(error),
                    Err(StreamError::Gone) => return Err(GatewayError::SlowDown("the source was replaced meanwhile")),
                }
            }
            drop(sender.send(BodyPiece::End { checksum: None }).await);
            Ok(())
        };
        let body = Body { pieces, declared_bytes: Some(length) };
        let copying = async { tokio::try_join!(put_part(core, &self.name, self.upload, self.number, body), source) };
        let held = async {
            hold.await;
            std::future::pending().await
        };
        tokio::select! {
            copied = copying => copied.map(|(row, ())| row),
            never = held => never,
        }
    }
}

fn checksum_of(headers: &ObjectHeaders) -> Option<Checksum> {
    Some(Checksum { algorithm: headers.checksum_algorithm.clone()?, value: headers.checksum_value.clone()? })
}

/// Gives the intent's manifest references to `length` bytes of whole blocks of `source`, from `first` on.
async fn reference(core: &Core, intent: &Intent, source: &Id128, first: u64, length: u64) -> Result<(), GatewayError> {
    let mut copied = 0;
    while copied < length {
        let request = CopyBlocks {
            source: source.clone(),
            manifest: intent.manifest.clone(),
            put_token: intent.put_token.0,
            source_offset_bytes: first + copied,
            length_bytes: length - copied,
            offset_bytes: copied,
        };
        let answer = expect_variant!(intent.call(core, Request::CopyBlocks(Box::new(request))).await?, BlocksCopied)?;
        if answer.copied_bytes == 0 || answer.copied_bytes > length - copied {
            tracing::error!(copied = answer.copied_bytes, left = length - copied, "the control plane copied nonsense");
            return Err(GatewayError::ControlUnavailable);
        }
        copied += answer.copied_bytes;
    }
    Ok(())
}

/// A range that is made of whole blocks.
struct WholeBlocks {
    size_bytes: u64,
    blocks: u64,
    etag: String,
}

/// What the range's blocks are, if it begins and ends at block boundaries.
async fn aligned(core: &Core, manifest: &Id128, first: u64, length: u64) -> Result<Option<WholeBlocks>, GatewayError> {
    let end = first + length;
    let (mut at, mut blocks, mut etag) = (first, 0, EtagHasher::new());
    while at < end {
        let page = list_blocks(core, manifest, at).await?;
        for BlockName { offset_bytes, hash, plain_bytes } in page.blocks {
            if at == end {
                break;
            }
            if offset_bytes != at || u64::from(plain_bytes) > end - at || plain_bytes == 0 {
                return Ok(None);
            }
            etag.push(&BlockHash::from(&hash));
            blocks += 1;
            at += u64::from(plain_bytes);
        }
        if page.end && at < end {
            return Ok(None);
        }
    }
    Ok(Some(WholeBlocks { size_bytes: length, blocks, etag: etag.finish() }))
}

/// One page of a manifest's blocks, from the block at `offset_bytes` on.
pub async fn list_blocks(core: &Core, manifest: &Id128, offset_bytes: u64) -> Result<BlockList, GatewayError> {
    let list = ListBlocks { manifest: manifest.clone(), offset_bytes, max_blocks: BLOCKS_PER_REQUEST_MAX as u32 };
    let page = expect_variant!(core.control.call(Request::ListBlocks(Box::new(list))).await?, BlockList)?;
    if page.blocks.is_empty() && !page.end {
        tracing::error!(?manifest, offset_bytes, "an empty page of blocks that is not the last");
        return Err(GatewayError::ControlUnavailable);
    }
    Ok(page)
}
