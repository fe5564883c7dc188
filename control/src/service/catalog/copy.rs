//! Server-side copy: references to the blocks of another manifest. No block moves, and no block is trusted to be
//! there: each one's row is read in the transaction that references it.

use shingle_proto::ids::{ManifestId, PutToken};
use shingle_proto::limits::{BLOCKS_PER_REQUEST_MAX, BLOCKS_PER_TRANSACTION_MAX};
use shingle_proto::message::{BlocksCopied, CopyBlocks, Response};

use super::blocks::attach;
use super::intents::require_open_intent;
use super::read::{Placed, Span, require_manifest};
use super::{Catalog, check};
use crate::tables::block_index::Block;
use crate::tables::work::{TableError, Work};

impl Catalog {
    /// Copies whole blocks, from one that begins at the given offset on. The caller goes on behind what was copied.
    pub(super) async fn copy_blocks(&self, request: CopyBlocks) -> Result<Response, TableError> {
        let end = request.offset_bytes.checked_add(request.length_bytes);
        check::object_size(end.unwrap_or(u64::MAX))?;
        check::object_size(request.source_offset_bytes.saturating_add(request.length_bytes))?;
        let mut copied_bytes = 0;
        for _ in 0..BLOCKS_PER_REQUEST_MAX / BLOCKS_PER_TRANSACTION_MAX {
            let from = copied_bytes;
            copied_bytes += self.tables.run(async |work: &Work| self.copy_some(work, &request, from).await).await?;
            if copied_bytes == request.length_bytes {
                break;
            }
        }
        Ok(Response::BlocksCopied(Box::new(BlocksCopied { copied_bytes })))
    }

    /// One transaction's share, behind the `copied_bytes` that are copied already; gives the bytes it adds.
    async fn copy_some(&self, work: &Work, request: &CopyBlocks, copied_bytes: u64) -> Result<u64, TableError> {
        let (manifest, source) = (ManifestId::from(&request.manifest), ManifestId::from(&request.source));
        require_open_intent(work, manifest, PutToken(request.put_token), self.now_ms()).await?;
        let row = require_manifest(work, source).await?;
        let begin = request.source_offset_bytes + copied_bytes;
        let end = request.source_offset_bytes + request.length_bytes;
        if end > row.size_bytes {
            let message = format!("the source has {} bytes", row.size_bytes);
            return Err(check::malformed(end, message));
        }
        if begin == end {
            return Ok(0);
        }
        let span = Span { begin, end, max: BLOCKS_PER_TRANSACTION_MAX };
        let blocks = self.cover(work, source, row.kind, span).await?;
        let whole = |block: &&Placed| block.offset_bytes >= begin && block.end_bytes() <= end;
        let mut next = begin;
        for block in blocks.iter().filter(whole) {
            if work.get::<Block>(&block.entry.hash).await?.is_none() {
                let detail = format!("manifest {source} names block {}, no row does", block.entry.hash);
                return Err(self.missing(work, source, block.leaf, Some(block.entry.hash), detail).await);
            }
            let offset_bytes = request.offset_bytes + (block.offset_bytes - request.source_offset_bytes);
            attach(work, manifest, offset_bytes, &block.entry).await?;
            next = block.end_bytes();
        }
        let at_boundaries = blocks.first().is_some_and(|first| first.offset_bytes == begin)
            && blocks.last().is_some_and(|last| last.end_bytes() <= end);
        if at_boundaries {
            return Ok(next - begin);
        }
        Err(check::malformed(begin, "a copied range begins and ends where blocks of its source do"))
    }
}
