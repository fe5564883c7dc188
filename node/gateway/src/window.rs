//! Cuts an upload's body into blocks under the byte budget. Body bytes are read only when a window slot and budget are
//! there, so a client is slowed down instead of memory being filled (invariant 9).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shingle_proto::limits::{
    BLOCK_BYTES_MAX, BODY_IDLE_MS, PUT_WINDOW_BLOCKS, S3_OBJECT_BYTES_MAX, SEAL_OVERHEAD_BYTES,
};
use shingle_proto::message::ErrorCode;
use shingle_seam::World;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::budget::{Budget, Charge};
use crate::request::{Body, BodyPiece, Checksum, GatewayError};

/// A block's place in memory: its budget and its slot in the object's window, both given back on drop.
#[derive(Debug)]
pub struct Room {
    pub charge: Charge,
    _slot: OwnedSemaphorePermit,
}

/// A whole block of the body, not yet named.
#[derive(Debug)]
pub struct PlainBlock {
    /// Where in the object it starts.
    pub offset_bytes: u64,
    pub bytes: Arc<Vec<u8>>,
    pub room: Room,
}

/// What is known of a body when it has ended.
#[derive(Debug, Default)]
pub struct BodyEnd {
    pub size_bytes: u64,
    pub checksum: Option<Checksum>,
}

/// The blocks of one body, in order.
pub struct BodyBlocks<'a> {
    world: &'a World,
    budget: &'a Budget,
    body: Body,
    slots: Arc<Semaphore>,
    /// Received and not yet in a block.
    rest: Bytes,
    /// All bytes of the body that came so far.
    received: u64,
    /// Those of them that went into blocks.
    offset_bytes: u64,
    end: Option<BodyEnd>,
}

impl<'a> BodyBlocks<'a> {
    pub fn new(world: &'a World, budget: &'a Budget, body: Body) -> Self {
        let slots = Arc::new(Semaphore::new(PUT_WINDOW_BLOCKS));
        Self { world, budget, body, slots, rest: Bytes::new(), received: 0, offset_bytes: 0, end: None }
    }

    /// The next block, or nothing when the body has ended as declared.
    pub async fn next(&mut self) -> Result<Option<PlainBlock>, GatewayError> {
        // Nothing is held while the client sends nothing.
        if !self.fetch().await? {
            return Ok(None);
        }
        let room_bytes = self.expected_bytes();
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| GatewayError::BodyAborted)?;
        let charge = self.budget.take(self.world, charge_bytes(room_bytes)).await?;
        let mut block = Vec::with_capacity(room_bytes);
        while block.len() < BLOCK_BYTES_MAX as usize && self.fetch().await? {
            let piece = self.rest.split_to(self.rest.len().min(BLOCK_BYTES_MAX as usize - block.len()));
            block.extend_from_slice(&piece);
        }
        let offset_bytes = self.offset_bytes;
        self.offset_bytes += block.len() as u64;
        Ok(Some(PlainBlock { offset_bytes, bytes: Arc::new(block), room: Room { charge, _slot: slot } }))
    }

    /// The body's end, once `next` has returned nothing.
    pub fn into_end(self) -> BodyEnd {
        self.end.unwrap_or_default()
    }

    /// How large the next block may become: what was declared, or a whole block.
    fn expected_bytes(&self) -> usize {
        let left = self.body.declared_bytes.map_or(u64::MAX, |declared| declared.saturating_sub(self.offset_bytes));
        left.clamp(self.rest.len() as u64, u64::MAX).min(u64::from(BLOCK_BYTES_MAX)) as usize
    }

    /// Makes sure that bytes are at hand; false at the body's end.
    async fn fetch(&mut self) -> Result<bool, GatewayError> {
        while self.rest.is_empty() {
            if self.end.is_some() {
                return Ok(false);
            }
            let idle = Duration::from_millis(BODY_IDLE_MS);
            match self.world.tasks.timeout(idle, self.body.pieces.recv()).await {
                Ok(Some(BodyPiece::Chunk(chunk))) => self.accept(chunk)?,
                Ok(Some(BodyPiece::End { checksum })) => self.finish(checksum)?,
                Ok(None) | Err(_) => return Err(GatewayError::BodyAborted),
            }
        }
        Ok(true)
    }

    fn accept(&mut self, chunk: Bytes) -> Result<(), GatewayError> {
        self.received += chunk.len() as u64;
        if self.body.declared_bytes.is_some_and(|declared| self.received > declared) {
            return Err(GatewayError::BodyAborted);
        }
        if self.received > S3_OBJECT_BYTES_MAX {
            let message = format!("an object has at most {S3_OBJECT_BYTES_MAX} bytes");
            return Err(GatewayError::Refused { code: ErrorCode::Malformed, number: self.received, message });
        }
        self.rest = chunk;
        Ok(())
    }

    fn finish(&mut self, checksum: Option<Checksum>) -> Result<(), GatewayError> {
        if self.body.declared_bytes.is_some_and(|declared| self.received != declared) {
            return Err(GatewayError::BodyAborted);
        }
        self.end = Some(BodyEnd { size_bytes: self.received, checksum });
        Ok(())
    }
}

/// What a block of `plain_bytes` holds at its worst: its plain bytes and as many sealed ones.
fn charge_bytes(plain_bytes: usize) -> u64 {
    2 * plain_bytes as u64 + u64::from(SEAL_OVERHEAD_BYTES)
}
