//! Blocks of an upload: claimed when the Block Index knows them, committed when they were stored.
//!
//! A block joins a manifest as a reference and an entry, both in the transaction that read or inserted its row. So
//! against the transaction that clears a row because no reference is left, one of the two conflicts.

use shingle_proto::ids::{BlockHash, BucketId, ManifestId, PutId, PutToken};
use shingle_proto::limits::BLOCKS_PER_TRANSACTION_MAX;
use shingle_proto::message::{BlocksClaimed, BlocksCommitted, ClaimBlocks, CommitBlocks, NewBlock, Response};

use super::intents::require_open_intent;
use super::{Catalog, check};
use crate::tables::block_index::Block;
use crate::tables::manifests::{Entry, PlaceKey};
use crate::tables::references::add_reference;
use crate::tables::work::{TableError, Work};

/// Adds a block, whose row this transaction has read or inserted, to a manifest. Doing it twice is doing it once.
pub(super) async fn attach(
    work: &Work,
    manifest: ManifestId,
    offset_bytes: u64,
    entry: &Entry,
) -> Result<(), TableError> {
    let place = PlaceKey { manifest, offset_bytes };
    match work.get::<Entry>(&place).await? {
        Some(earlier) if earlier == *entry => return Ok(()),
        Some(_) => return Err(check::malformed(offset_bytes, "another block of the upload begins at this offset")),
        None => work.insert(&place, entry),
    }
    add_reference(work, entry.hash, manifest).await
}

/// The same name with another length: one of the two was not made by hashing the block.
fn require_length(entry: &Entry, row: &Block) -> Result<(), TableError> {
    if entry.plain_bytes == row.plain_bytes {
        return Ok(());
    }
    let message = format!("block {} has {} plain bytes", entry.hash, row.plain_bytes);
    Err(check::malformed(u64::from(entry.plain_bytes), message))
}

impl Catalog {
    pub(super) async fn claim_blocks(&self, request: ClaimBlocks) -> Result<Response, TableError> {
        check::blocks_in_request(request.blocks.len())?;
        let blocks = request.blocks.iter().map(check::block_name).collect::<Result<Vec<_>, _>>()?;
        let (manifest, token) = (ManifestId::from(&request.manifest), PutToken(request.put_token));
        let mut known = Vec::with_capacity(blocks.len());
        for batch in blocks.chunks(BLOCKS_PER_TRANSACTION_MAX) {
            let claim = self.tables.run(async |work: &Work| {
                require_open_intent(work, manifest, token, self.now_ms()).await?;
                let mut known = Vec::with_capacity(batch.len());
                for (offset_bytes, entry) in batch {
                    let row = work.get::<Block>(&entry.hash).await?;
                    if let Some(row) = &row {
                        require_length(entry, row)?;
                        attach(work, manifest, *offset_bytes, entry).await?;
                    }
                    known.push(row.is_some());
                }
                Ok(known)
            });
            known.extend(claim.await?);
        }
        if known.is_empty() {
            require_open_intent(&self.tables.look(), manifest, token, self.now_ms()).await?;
        }
        Ok(Response::BlocksClaimed(Box::new(BlocksClaimed { known })))
    }

    pub(super) async fn commit_blocks(&self, request: CommitBlocks) -> Result<Response, TableError> {
        check::blocks_in_request(request.blocks.len())?;
        for block in &request.blocks {
            check::new_block(block.offset_bytes, &block.row)?;
            if self.locate.locate(BucketId(block.row.bucket)).is_none() {
                return Err(check::malformed(block.row.bucket, "no volume of this cell holds the block's bucket"));
            }
        }
        let (manifest, token) = (ManifestId::from(&request.manifest), PutToken(request.put_token));
        let mut inserted = Vec::with_capacity(request.blocks.len());
        for batch in request.blocks.chunks(BLOCKS_PER_TRANSACTION_MAX) {
            let commit = self.tables.run(async |work: &Work| {
                require_open_intent(work, manifest, token, self.now_ms()).await?;
                let mut inserted = Vec::with_capacity(batch.len());
                for block in batch {
                    inserted.push(self.commit_block(work, manifest, block).await?);
                }
                Ok(inserted)
            });
            inserted.extend(commit.await?);
        }
        if inserted.is_empty() {
            require_open_intent(&self.tables.look(), manifest, token, self.now_ms()).await?;
        }
        Ok(Response::BlocksCommitted(Box::new(BlocksCommitted { inserted })))
    }

    /// True when the block's row is this attempt's: the first one's put id decides which copy counts.
    async fn commit_block(&self, work: &Work, manifest: ManifestId, block: &NewBlock) -> Result<bool, TableError> {
        let (offset_bytes, entry) = check::new_block(block.offset_bytes, &block.row)?;
        let hash = BlockHash::from(&block.row.hash);
        let inserted = match work.get::<Block>(&hash).await? {
            Some(winner) => {
                require_length(&entry, &winner)?;
                winner.put_id == PutId(block.row.put_id)
            }
            None => {
                work.insert(&hash, &Block::stored(&block.row, self.locate.cell()));
                true
            }
        };
        attach(work, manifest, offset_bytes, &entry).await?;
        Ok(inserted)
    }
}
