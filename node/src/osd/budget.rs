//! The byte budget of one shard, and the buffers it pays for.
//!
//! Every payload in memory, received or read, holds a [`Grant`]; when the budget is spent the caller is told to slow
//! down (invariant 9), or waits in a bounded line.

use std::ops::Range;
use std::rc::Rc;

use futures_util::FutureExt;
use shingle_hw::buffer::Buffer;
use shingle_seam::gate::Gate;

use crate::extent::record::RECORD_HEADER_BYTES;

/// Bytes a shard may hold.
pub struct Budget {
    limit_bytes: u64,
    left: Gate,
}

impl Budget {
    pub fn new(limit_bytes: u64) -> Rc<Self> {
        Rc::new(Self { limit_bytes, left: Gate::new(limit_bytes) })
    }

    /// `bytes` of the budget until the grant is dropped; `None` when so much is not left, or others wait for it.
    pub fn take(self: &Rc<Self>, bytes: u64) -> Option<Grant> {
        self.wait(bytes).now_or_never().flatten()
    }

    /// As [`Budget::take`], but waits in line; `None` when the whole budget is less. The caller bounds the line.
    pub async fn wait(self: &Rc<Self>, bytes: u64) -> Option<Grant> {
        if bytes > self.limit_bytes || self.left.acquire(bytes).await.is_err() {
            return None;
        }
        Some(Grant { budget: self.clone(), bytes })
    }

    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    pub fn used_bytes(&self) -> u64 {
        self.limit_bytes - self.left.free()
    }
}

/// A part of the budget, given back when dropped.
pub struct Grant {
    budget: Rc<Budget>,
    bytes: u64,
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.budget.left.release(self.bytes);
    }
}

/// The two budgets of a shard: reads cannot starve puts, nor puts reads.
#[derive(Clone)]
pub struct Budgets {
    /// Payloads received and not yet durable.
    pub receive: Rc<Budget>,
    /// Records read and not yet sent.
    pub read: Rc<Budget>,
}

impl Budgets {
    /// Three quarters for what is received, the rest for what is read.
    pub fn of(bytes: u64) -> Self {
        Self { receive: Budget::new(bytes - bytes / 4), read: Budget::new(bytes / 4) }
    }

    /// What may be promised to connections as credit: a little less than what can be received, since a record is a
    /// little larger than its payload.
    pub fn credit_bytes(&self) -> u64 {
        self.receive.limit_bytes() / 16 * 15
    }
}

/// A record's memory as the wire sees it: only its payload. Room for the header lies before it, padding behind it, so
/// the same memory goes between socket and disk without a copy.
pub struct RecordBuffer {
    buffer: Buffer,
    payload: Range<usize>,
    grant: Grant,
}

impl RecordBuffer {
    /// `buffer` holds a whole record with `payload_bytes` of payload.
    pub fn new(buffer: Buffer, payload_bytes: u32, grant: Grant) -> Self {
        let payload = RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + payload_bytes as usize;
        assert!(payload.end <= buffer.len(), "a record's buffer has room for all of it");
        Self { buffer, payload, grant }
    }

    pub fn payload_bytes(&self) -> u32 {
        self.payload.len() as u32
    }

    /// The whole record's memory, and what pays for it.
    pub fn into_parts(self) -> (Buffer, Grant) {
        (self.buffer, self.grant)
    }
}

impl AsRef<[u8]> for RecordBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[self.payload.clone()]
    }
}

impl AsMut<[u8]> for RecordBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.payload.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spent_budget_comes_back_with_the_grants() {
        let budget = Budget::new(10);
        let first = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        let second = budget.take(4).unwrap();
        assert_eq!(budget.used_bytes(), 10);
        drop((first, second));
        assert_eq!(budget.used_bytes(), 0);
        assert!(budget.take(u64::MAX).is_none());
    }
}
