//! Storing an object: its body cut into blocks, the blocks in a window through hash, claim, seal, append and commit,
//! then one flip. Nothing is visible before the flip; blocks count only once their reference is committed
//! (invariant 12), and one window never stores the same bytes twice.

use std::collections::BTreeMap;
use std::rc::Rc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use shingle_codec::hash::{self, EtagHasher, LANES};
use shingle_proto::ids::{BlockHash, ManifestId};
use shingle_proto::limits::PUT_WINDOW_BLOCKS;
use shingle_proto::message::{
    BlockName, ClaimBlocks, CommitBlocks, FinishObject, FinishPart, NewBlock, ObjectHeaders, ObjectRow, PartRow,
    Precondition, Request, Response,
};
use shingle_seam::tasks::{LocalFuture, on_cpu};
use tokio::sync::mpsc;

use crate::append::{self, StoredBlock};
use crate::catalog::{expect_done, expect_variant, unexpected};
use crate::core::Core;
use crate::intent::Intent;
use crate::request::{Body, Checksum, GatewayError, ObjectName};
use crate::window::{BodyBlocks, BodyEnd, PlainBlock};

/// An upload whose blocks are all committed under its intent.
struct StoredBody {
    size_bytes: u64,
    blocks: u64,
    etag: String,
    checksum: Option<Checksum>,
}

/// Stores an object and makes it visible.
pub async fn put(
    core: &Rc<Core>,
    name: &ObjectName,
    headers: ObjectHeaders,
    precondition: Option<Precondition>,
    body: Body,
) -> Result<ObjectRow, GatewayError> {
    Intent::hold(core, name, async |intent| {
        let stored = store_body(core, intent, body).await?;
        let mut headers = headers;
        if let Some(checksum) = stored.checksum {
            headers.checksum_algorithm = Some(checksum.algorithm);
            headers.checksum_value = Some(checksum.value);
        }
        let finish = FinishObject {
            s3_bucket: name.s3_bucket.clone(),
            key: name.key.clone(),
            manifest: intent.manifest.clone(),
            put_token: intent.put_token.0,
            size_bytes: stored.size_bytes,
            blocks: stored.blocks,
            etag: stored.etag,
            headers: Box::new(headers),
            precondition: precondition.map(Box::new),
        };
        let finished =
            expect_variant!(intent.call(core, Request::FinishObject(Box::new(finish))).await?, ObjectFinished)?;
        Ok(*finished.row)
    })
    .await
}

/// Stores one part of a multipart upload.
pub async fn put_part(
    core: &Rc<Core>,
    name: &ObjectName,
    upload: ManifestId,
    number: u32,
    body: Body,
) -> Result<PartRow, GatewayError> {
    Intent::hold(core, name, async |intent| {
        let StoredBody { size_bytes, blocks, etag, checksum } = store_body(core, intent, body).await?;
        finish_part(core, intent, name, upload, PartSummary { number, size_bytes, blocks, etag, checksum }).await
    })
    .await
}

/// What a part's row says besides its manifest.
pub struct PartSummary {
    pub number: u32,
    pub size_bytes: u64,
    pub blocks: u64,
    pub etag: String,
    pub checksum: Option<Checksum>,
}

/// Makes the intent's blocks a part of the upload.
pub async fn finish_part(
    core: &Core,
    intent: &Intent,
    name: &ObjectName,
    upload: ManifestId,
    summary: PartSummary,
) -> Result<PartRow, GatewayError> {
    let (checksum_algorithm, checksum_value) = summary.checksum.map(|sum| (sum.algorithm, sum.value)).unzip();
    let part = PartRow {
        number: summary.number,
        manifest: intent.manifest.clone(),
        size_bytes: summary.size_bytes,
        blocks: summary.blocks,
        etag: summary.etag,
        modified_ms: core.world.clock.unix_ms(),
        checksum_algorithm,
        checksum_value,
    };
    let finish = FinishPart {
        s3_bucket: name.s3_bucket.clone(),
        key: name.key.clone(),
        upload: upload.into(),
        put_token: intent.put_token.0,
        part: Box::new(part.clone()),
    };
    expect_done(&intent.call(core, Request::FinishPart(Box::new(finish))).await?)?;
    Ok(part)
}

async fn store_body(core: &Core, intent: &Intent, body: Body) -> Result<StoredBody, GatewayError> {
    let (filled, to_name) = mpsc::channel(LANES);
    let (named, to_store) = mpsc::channel(PUT_WINDOW_BLOCKS);
    let store = Pipeline { core, intent, in_flight: BTreeMap::new(), unclaimed: Vec::new(), uncommitted: Vec::new() };
    let (end, (etag, blocks), ()) =
        tokio::try_join!(cut(core, body, filled), name_blocks(core, to_name, named), store.run(to_store))?;
    Ok(StoredBody { size_bytes: end.size_bytes, blocks, etag, checksum: end.checksum })
}

async fn cut(core: &Core, body: Body, filled: mpsc::Sender<PlainBlock>) -> Result<BodyEnd, GatewayError> {
    let mut blocks = BodyBlocks::new(&core.world, &core.budget, body);
    while let Some(block) = blocks.next().await? {
        // The receiver is gone only when a later step failed, and its error ends the upload.
        filled.send(block).await.map_err(|_| GatewayError::BodyAborted)?;
    }
    Ok(blocks.into_end())
}

/// A block and its name.
struct NamedBlock {
    hash: BlockHash,
    block: PlainBlock,
}

/// Hashes what is there, up to four blocks side by side: while one batch is hashed the next one gathers.
async fn name_blocks(
    core: &Core,
    mut filled: mpsc::Receiver<PlainBlock>,
    named: mpsc::Sender<NamedBlock>,
) -> Result<(String, u64), GatewayError> {
    let mut etag = EtagHasher::new();
    let mut count = 0;
    let mut batch = Vec::with_capacity(LANES);
    while filled.recv_many(&mut batch, LANES).await > 0 {
        let plains: Vec<_> = batch.iter().map(|block| block.bytes.clone()).collect();
        let hashes = on_cpu(&core.world.tasks, move || {
            let views: Vec<&[u8]> = plains.iter().map(|plain| plain.as_slice()).collect();
            hash::sha256_many(&views)
        })
        .await;
        for (block, hash) in batch.drain(..).zip(hashes) {
            etag.push(&hash);
            count += 1;
            named.send(NamedBlock { hash, block }).await.map_err(|_| GatewayError::BodyAborted)?;
        }
    }
    Ok((etag.finish(), count))
}

/// Named blocks on their way to being referenced by the intent's manifest.
struct Pipeline<'a> {
    core: &'a Core,
    intent: &'a Intent,
    /// Hashes being claimed, stored or committed, each with the later blocks of the same bytes that wait for it.
    in_flight: BTreeMap<BlockHash, Vec<NamedBlock>>,
    unclaimed: Vec<NamedBlock>,
    uncommitted: Vec<StoredBlock>,
}

/// A finished step of some blocks.
enum Step {
    Claimed { blocks: Vec<NamedBlock>, known: Vec<bool> },
    Stored(Box<StoredBlock>),
    Committed(Vec<BlockHash>),
}

type Steps<'a> = FuturesUnordered<LocalFuture<'a, Result<Step, GatewayError>>>;

impl<'a> Pipeline<'a> {
    async fn run(mut self, mut named: mpsc::Receiver<NamedBlock>) -> Result<(), GatewayError> {
        let mut steps: Steps<'a> = FuturesUnordered::new();
        let (mut claiming, mut committing, mut ended) = (false, false, false);
        loop {
            // One claim and one commit at a time: whatever becomes ready meanwhile goes into the next one.
            if !claiming && !self.unclaimed.is_empty() {
                claiming = true;
                steps.push(Box::pin(claim(self.core, self.intent, std::mem::take(&mut self.unclaimed))));
            }
            if !committing && !self.uncommitted.is_empty() {
                committing = true;
                steps.push(Box::pin(commit(self.core, self.intent, std::mem::take(&mut self.uncommitted))));
            }
            if ended && steps.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some(step) = steps.next(), if !steps.is_empty() => match step? {
                    Step::Claimed { blocks, known } => {
                        claiming = false;
                        self.claimed(blocks, known, &steps);
                    }
                    Step::Stored(block) => self.uncommitted.push(*block),
                    Step::Committed(hashes) => {
                        committing = false;
                        hashes.iter().for_each(|hash| self.done(hash));
                    }
                },
                block = named.recv(), if !ended => match block {
                    Some(block) => self.admit(block),
                    None => ended = true,
                },
            }
        }
    }

    /// Takes a block in, unless the same bytes are under way: then it waits until those are stored.
    fn admit(&mut self, block: NamedBlock) {
        match self.in_flight.get_mut(&block.hash) {
            Some(waiting) => waiting.push(block),
            None => {
                self.in_flight.insert(block.hash, Vec::new());
                self.unclaimed.push(block);
            }
        }
    }

    /// Known blocks have their reference; the others are stored.
    fn claimed(&mut self, blocks: Vec<NamedBlock>, known: Vec<bool>, steps: &Steps<'a>) {
        for (NamedBlock { hash, block }, known) in blocks.into_iter().zip(known) {
            if known {
                self.done(&hash);
                continue;
            }
            let (core, origin) = (self.core, self.intent.origin());
            steps.push(Box::pin(async move {
                let stored = append::store(core, origin, hash, block).await?;
                Ok(Step::Stored(Box::new(stored)))
            }));
        }
    }

    /// The manifest references these bytes; the blocks that waited for them are claimed together, and found known.
    fn done(&mut self, hash: &BlockHash) {
        let waiting = self.in_flight.remove(hash).unwrap_or_default();
        if !waiting.is_empty() {
            self.in_flight.insert(*hash, Vec::new());
            self.unclaimed.extend(waiting);
        }
    }
}

async fn claim(core: &Core, intent: &Intent, blocks: Vec<NamedBlock>) -> Result<Step, GatewayError> {
    let names = blocks.iter().map(|NamedBlock { hash, block }| BlockName {
        offset_bytes: block.offset_bytes,
        hash: (*hash).into(),
        plain_bytes: block.bytes.len() as u32,
    });
    let claim =
        ClaimBlocks { manifest: intent.manifest.clone(), put_token: intent.put_token.0, blocks: names.collect() };
    let response = intent.call(core, Request::ClaimBlocks(Box::new(claim))).await?;
    let claimed = expect_variant!(response, BlocksClaimed)?;
    if claimed.known.len() != blocks.len() {
        return Err(unexpected("one answer per claimed block", &Response::BlocksClaimed(Box::new(claimed))));
    }
    Ok(Step::Claimed { blocks, known: claimed.known })
}

async fn commit(core: &Core, intent: &Intent, stored: Vec<StoredBlock>) -> Result<Step, GatewayError> {
    let (mut hashes, mut rooms, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
    for StoredBlock { offset_bytes, row, room } in stored {
        hashes.push(BlockHash::from(&row.hash));
        rooms.push(room);
        blocks.push(NewBlock { offset_bytes, row: Box::new(row) });
    }
    let commit = CommitBlocks { manifest: intent.manifest.clone(), put_token: intent.put_token.0, blocks };
    expect_variant!(intent.call(core, Request::CommitBlocks(Box::new(commit))).await?, BlocksCommitted)?;
    // The window moves on: memory and slots of these blocks are given back here, not earlier.
    drop(rooms);
    Ok(Step::Committed(hashes))
}
