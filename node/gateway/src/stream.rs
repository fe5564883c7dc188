//! The verified bytes of a manifest's range, in order: pages of the read plan, and a window of blocks read ahead as far
//! as the byte budget has room to spare. Dropping it cancels every read behind it.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use shingle_proto::ids::BlockHash;
use shingle_proto::limits::{BLOCK_BYTES_MAX, PLAN_BLOCKS, READ_WINDOW_BLOCKS, SEALED_BYTES_MAX};
use shingle_proto::message::{BlockRow, ErrorCode, Id128, PlanRead, ReadPlan, Request};
use shingle_seam::clock::Monotonic;
use shingle_seam::tasks::LocalFuture;

use crate::budget::{Budget, Charge};
use crate::catalog::{Origin, expect_variant};
use crate::core::Core;
use crate::hedge::{BlockRead, Unread};
use crate::placement::spread::Placed;
use crate::request::GatewayError;

/// Why the bytes ended early.
#[derive(Debug)]
pub enum StreamError {
    /// The manifest is gone or lost rows: the object was replaced or deleted.
    Gone,
    Failed(GatewayError),
}

impl From<GatewayError> for StreamError {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Refused { code: ErrorCode::NoSuchKey | ErrorCode::BlockMissing, .. } => Self::Gone,
            error => Self::Failed(error),
        }
    }
}

/// What `advance` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another block is ready.
    Ready,
    /// Window or budget have room only after a `take`.
    Full,
    /// All blocks of the range were made ready.
    End,
}

/// What is read, and for whom.
#[derive(Clone)]
struct Source {
    manifest: Id128,
    origin: Origin,
}

/// A block of the plan.
#[derive(Clone)]
struct Planned {
    offset_bytes: u64,
    row: Rc<BlockRow>,
    volume: Rc<Placed>,
}

/// Plain bytes and the budget they hold until the last reader has let go of them.
struct Held {
    plain: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.plain
    }
}

/// The bytes `[next, end)` of a manifest.
pub struct BlockStream {
    core: Rc<Core>,
    budget: Rc<Budget>,
    source: Source,
    /// The range asked for.
    first: u64,
    end: u64,
    /// From where on nothing is planned yet.
    unplanned: u64,
    planned: VecDeque<Planned>,
    reading: FuturesOrdered<LocalFuture<'static, Result<Bytes, StreamError>>>,
    ready: VecDeque<Bytes>,
}

impl BlockStream {
    pub fn new(core: Rc<Core>, budget: Rc<Budget>, manifest: Id128, first: u64, length_bytes: u64) -> Self {
        Self {
            source: Source { manifest, origin: core.control.origin() },
            core,
            budget,
            first,
            end: first.saturating_add(length_bytes),
            unplanned: first,
            planned: VecDeque::new(),
            reading: FuturesOrdered::new(),
            ready: VecDeque::new(),
        }
    }

    /// Starts reads as far as window and budget allow, and waits for the first of them; its bytes wait for
    /// [`Self::take`]. Only a hungry client, one that has nothing left, waits for budget; the others read ahead with
    /// what is to spare, so that a client that takes nothing holds one block. Safe to drop and call again.
    pub async fn advance(&mut self, hungry: bool) -> Result<Progress, StreamError> {
        self.fill(hungry).await?;
        match self.reading.next().await {
            Some(piece) => {
                self.ready.push_back(piece?);
                Ok(Progress::Ready)
            }
            None if self.planned.is_empty() && self.unplanned >= self.end => Ok(Progress::End),
            None => Ok(Progress::Full),
        }
    }

    /// Says from time to time that the manifest is being read, as long as it is polled: reclaim leaves it alone then, so
    /// that a slow client gets the object it began with, whatever happened to it since. Ends when that was too late.
    pub fn hold(&self) -> impl Future<Output = ()> + use<> {
        let (core, source) = (self.core.clone(), self.source.clone());
        async move {
            loop {
                core.world.tasks.sleep(core.config.hold_interval).await;
                let renew = PlanRead { manifest: source.manifest.clone(), ..PlanRead::default() };
                let renewed = core.control.call_for(Request::PlanRead(Box::new(renew)), source.origin).await;
                // A control plane that is away gives everybody time once it is back.
                if matches!(renewed, Err(GatewayError::Refused { .. })) {
                    return;
                }
            }
        }
    }

    /// Whether [`Self::take`] has something to give.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next bytes in order, once they are ready.
    pub fn take(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    async fn fill(&mut self, hungry: bool) -> Result<(), StreamError> {
        while self.reading.len() + self.ready.len() < READ_WINDOW_BLOCKS {
            if self.planned.is_empty() {
                if self.unplanned >= self.end {
                    return Ok(());
                }
                self.plan().await?;
            }
            let Some(next) = self.planned.front() else { return Ok(()) };
            let bytes = u64::from(next.row.plain_bytes) + u64::from(next.row.sealed_bytes);
            let charge = if hungry && self.reading.is_empty() && self.ready.is_empty() {
                self.budget.take(&self.core.world, bytes).await?
            } else {
                match self.budget.take_spare(bytes) {
                    Some(charge) => charge,
                    None => return Ok(()),
                }
            };
            if let Some(next) = self.planned.pop_front() {
                let read = read_piece(self.core.clone(), self.source.clone(), next, charge, self.first, self.end);
                self.reading.push_back(Box::pin(read));
            }
        }
        Ok(())
    }

    async fn plan(&mut self) -> Result<(), StreamError> {
        let length = self.end - self.unplanned;
        let (blocks, next) = plan(&self.core, &self.source, self.unplanned, length, PLAN_BLOCKS).await?;
        self.planned.extend(blocks);
        self.unplanned = next;
        Ok(())
    }
}

/// Blocks that hold `[offset, offset + length)`, up to `max_blocks`, and where the last of them ends.
async fn plan(
    core: &Core,
    source: &Source,
    offset_bytes: u64,
    length_bytes: u64,
    max_blocks: u32,
) -> Result<(Vec<Planned>, u64), StreamError> {
    let request = PlanRead { manifest: source.manifest.clone(), offset_bytes, length_bytes, max_blocks };
    let plan: ReadPlan =
        expect_variant!(core.control.call_for(Request::PlanRead(Box::new(request)), source.origin).await?, ReadPlan)?;
    let volumes: Vec<Rc<Placed>> = plan.volumes.iter().map(|volume| Rc::new(Placed::for_reads(volume))).collect();
    let mut at = offset_bytes;
    let mut blocks = Vec::with_capacity(plan.blocks.len());
    for block in plan.blocks {
        let end = block.offset_bytes.saturating_add(u64::from(block.row.plain_bytes));
        let sane = block.row.plain_bytes <= BLOCK_BYTES_MAX && block.row.sealed_bytes <= SEALED_BYTES_MAX;
        // Blocks follow each other without a gap; the first one may begin before the range.
        let follows = if blocks.is_empty() { block.offset_bytes <= at } else { block.offset_bytes == at };
        let volume = volumes.get(block.volume as usize).cloned();
        let Some(volume) = volume.filter(|_| sane && follows && end > at) else {
            tracing::error!(offset = block.offset_bytes, at, "the read plan contradicts itself");
            return Err(GatewayError::ControlUnavailable.into());
        };
        at = end;
        blocks.push(Planned { offset_bytes: block.offset_bytes, row: block.row.into(), volume });
    }
    // A manifest that ends before its object does has been reclaimed meanwhile.
    if blocks.is_empty() { Err(StreamError::Gone) } else { Ok((blocks, at)) }
}

/// One block, trimmed to the range.
async fn read_piece(
    core: Rc<Core>,
    source: Source,
    planned: Planned,
    mut charge: Charge,
    first: u64,
    end: u64,
) -> Result<Bytes, StreamError> {
    let plain = read_block(&core, &source, &planned).await?;
    charge.shrink_to(plain.capacity() as u64);
    let from = first.saturating_sub(planned.offset_bytes).min(plain.len() as u64) as usize;
    let to = end.saturating_sub(planned.offset_bytes).min(plain.len() as u64) as usize;
    Ok(Bytes::from_owner(Held { plain, _charge: charge }).slice(from..to.max(from)))
}

/// Pause before a plan that leads nowhere yet is made again.
const PLAN_AGAIN_MS: u64 = 200;

/// The block from any member, with a new plan when the first one leads nowhere. A plan may name members that the
/// control plane, having just started, has not heard of yet: it is made again until the read's deadline.
async fn read_block(core: &Core, source: &Source, planned: &Planned) -> Result<Vec<u8>, StreamError> {
    let unreadable = || {
        let hash = BlockHash::from(&planned.row.hash);
        tracing::error!(%hash, volume = %planned.volume.id, "block unreadable");
        StreamError::Failed(GatewayError::BlockUnreadable { hash: hash.to_string() })
    };
    let give_up = core.world.clock.now() + core.config.read_deadline;
    let mut place = planned.clone();
    loop {
        match BlockRead::new(core, &place.row, &place.volume, source.origin.trace).run().await {
            Ok(plain) => return Ok(plain),
            Err(Unread::Fatal(error)) => return Err(error.into()),
            Err(Unread::Stale | Unread::Nowhere) => {}
        }
        match elsewhere(core, source, &place, give_up).await? {
            Some(other) => place = other,
            None => return Err(unreadable()),
        }
    }
}

/// Another place to read the block from, if one turns up in time.
async fn elsewhere(
    core: &Core,
    source: &Source,
    tried: &Planned,
    give_up: Monotonic,
) -> Result<Option<Planned>, StreamError> {
    let length = u64::from(tried.row.plain_bytes);
    loop {
        let (again, _) = plan(core, source, tried.offset_bytes, length, 1).await?;
        let Some(again) = again.into_iter().next() else { return Err(StreamError::Gone) };
        // Another hash at this offset cannot be.
        if again.row.hash != tried.row.hash {
            return Ok(None);
        }
        let late = core.world.clock.now() >= give_up;
        if again.row.put_id != tried.row.put_id || again.volume != tried.volume {
            return Ok((!late).then_some(again));
        }
        if late || again.volume.unheard == 0 {
            return Ok(None);
        }
        core.world.tasks.sleep(Duration::from_millis(PLAN_AGAIN_MS)).await;
    }
}
