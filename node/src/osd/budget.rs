//! The byte budget of one shard, and the buffers it pays for.
//!
//! Every payload in memory, received or read, holds a [`Grant`]; when the budget is spent the caller is told to slow
//! down (invariant 9).

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use shingle_hw::buffer::Buffer;

use crate::extent::record::RECORD_HEADER_BYTES;

/// Bytes a shard may hold.
pub struct Budget {
    limit_bytes: u64,
    used_bytes: Cell<u64>,
}

impl Budget {
    pub fn new(limit_bytes: u64) -> Rc<Self> {
        Rc::new(Self { limit_bytes, used_bytes: Cell::new(0) })
    }

    /// `bytes` of the budget until the grant is dropped; `None` when so much is not left.
    pub fn take(self: &Rc<Self>, bytes: u64) -> Option<Grant> {
        let used_bytes = self.used_bytes.get().checked_add(bytes)?;
        if used_bytes > self.limit_bytes {
            return None;
        }
        self.used_bytes.set(used_bytes);
        Some(Grant { budget: self.clone(), bytes })
    }

    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.get()
    }
}

/// A part of the budget, given back when dropped.
pub struct Grant {
    budget: Rc<Budget>,
    bytes: u64,
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.budget.used_bytes.set(self.budget.used_bytes.get() - self.bytes);
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
