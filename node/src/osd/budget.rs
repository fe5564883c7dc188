//! The byte budget of one shard, and the buffers it pays for.
//!
//! Every payload in memory, received or read, holds a [`Grant`]; when the budget is spent the caller is told to slow
//! down (invariant 9), or waits in a bounded line. Each disk has a part of its own that no other can use, and takes
//! from what is left over beyond it: a disk that stalls with its memory full leaves the others theirs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use shingle_hw::buffer::Buffer;

use super::policy::DiskPolicy;
use crate::extent::record::{RECORD_BYTES_MAX, RECORD_HEADER_BYTES};

/// Bytes a shard may hold, divided among its disks.
struct Budget {
    /// What each disk has for itself.
    reserve_bytes: u64,
    /// What is left for any of them beside that.
    shared_left: Cell<u64>,
    disks: RefCell<Vec<Weak<DiskBudget>>>,
}

/// What one disk of the shard may hold.
pub struct DiskBudget {
    budget: Rc<Budget>,
    limit_bytes: u64,
    used: Cell<u64>,
    line: RefCell<VecDeque<Rc<Waiter>>>,
}

struct Waiter {
    bytes: u64,
    granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A place in a disk's line; given up when dropped.
struct InLine<'a> {
    disk: &'a Rc<DiskBudget>,
    waiter: Option<Rc<Waiter>>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        if waiter.granted.get() {
            drop(Grant { disk: self.disk.clone(), bytes: waiter.bytes });
        } else {
            self.disk.line.borrow_mut().retain(|other| !Rc::ptr_eq(other, &waiter));
            self.disk.serve_line(); // whoever stood behind may be content with what is free
        }
    }
}

impl Budget {
    /// Half of `limit_bytes` divided evenly, but room for a record for each disk if there is so much; the rest shared.
    fn divide(limit_bytes: u64, disks: usize) -> Vec<Rc<DiskBudget>> {
        let even = limit_bytes / (disks.max(1) as u64);
        let reserve_bytes = (even / 2).max(RECORD_BYTES_MAX).min(even);
        let shared = limit_bytes - reserve_bytes * disks as u64;
        let budget = Rc::new(Self { reserve_bytes, shared_left: Cell::new(shared), disks: RefCell::default() });
        let part = || DiskBudget {
            budget: budget.clone(),
            limit_bytes: reserve_bytes + shared,
            used: Cell::new(0),
            line: RefCell::default(),
        };
        let parts: Vec<_> = (0..disks).map(|_| Rc::new(part())).collect();
        budget.disks.borrow_mut().extend(parts.iter().map(Rc::downgrade));
        parts
    }
}

impl DiskBudget {
    /// `bytes` of the budget until the grant is dropped; `None` when so much is not left, or others wait for it.
    pub fn take(self: &Rc<Self>, bytes: u64) -> Option<Grant> {
        if !self.line.borrow().is_empty() || !self.charge(bytes) {
            return None;
        }
        Some(Grant { disk: self.clone(), bytes })
    }

    /// As [`DiskBudget::take`], but waits in line; `None` when the disk never gets so much. The caller bounds the line.
    pub async fn wait(self: &Rc<Self>, bytes: u64) -> Option<Grant> {
        if let Some(grant) = self.take(bytes) {
            return Some(grant);
        }
        if bytes > self.limit_bytes {
            return None;
        }
        let waiter = Rc::new(Waiter { bytes, granted: Cell::new(false), waker: RefCell::default() });
        self.line.borrow_mut().push_back(waiter.clone());
        let mut place = InLine { disk: self, waiter: Some(waiter.clone()) };
        poll_fn(|context| {
            if waiter.granted.get() {
                return Poll::Ready(());
            }
            waiter.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
        place.waiter = None;
        Some(Grant { disk: self.clone(), bytes })
    }

    /// All that this disk can ever hold.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    pub fn used_bytes(&self) -> u64 {
        self.used.get()
    }

    /// What the disk has of the shared part when it holds `used_bytes`.
    fn shared(&self, used_bytes: u64) -> u64 {
        used_bytes.saturating_sub(self.budget.reserve_bytes)
    }

    /// Counts `bytes` as held, if there is room for them.
    fn charge(&self, bytes: u64) -> bool {
        let Some(used) = self.used.get().checked_add(bytes) else { return false };
        let more = self.shared(used) - self.shared(self.used.get());
        let left = self.budget.shared_left.get();
        if more > left {
            return false;
        }
        self.budget.shared_left.set(left - more);
        self.used.set(used);
        true
    }

    fn release(&self, bytes: u64) {
        let used = self.used.get() - bytes;
        let less = self.shared(self.used.get()) - self.shared(used);
        self.used.set(used);
        self.budget.shared_left.set(self.budget.shared_left.get() + less);
        self.serve_line();
        if less > 0 {
            let others: Vec<_> = self.budget.disks.borrow().iter().filter_map(Weak::upgrade).collect();
            others.iter().for_each(|disk| disk.serve_line());
        }
    }

    /// Grants what the first in line wait for, as far as there is room.
    fn serve_line(&self) {
        loop {
            let next = self.line.borrow().front().cloned();
            let Some(waiter) = next.filter(|waiter| self.charge(waiter.bytes)) else { return };
            self.line.borrow_mut().pop_front();
            waiter.granted.set(true);
            let waker = waiter.waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// A part of the budget, given back when dropped.
pub struct Grant {
    disk: Rc<DiskBudget>,
    bytes: u64,
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.disk.release(self.bytes);
    }
}

/// What one disk of a shard may use: memory, and of the device's time. Reads cannot starve puts of memory, nor puts
/// reads.
#[derive(Clone)]
pub struct Budgets {
    /// Payloads received and not yet durable.
    pub receive: Rc<DiskBudget>,
    /// Records read and not yet sent.
    pub read: Rc<DiskBudget>,
    pub disk: DiskPolicy,
}

impl Budgets {
    /// Of a shard with one disk.
    pub fn of(bytes: u64) -> Self {
        Self::shared(bytes, 1, DiskPolicy::default()).remove(0)
    }

    /// Of a shard's disks: three quarters for what is received, the rest for what is read.
    pub fn shared(bytes: u64, disks: usize, disk: DiskPolicy) -> Vec<Self> {
        let receive = Budget::divide(receive_bytes(bytes), disks);
        let read = Budget::divide(bytes - receive_bytes(bytes), disks);
        receive.into_iter().zip(read).map(|(receive, read)| Self { receive, read, disk }).collect()
    }

    /// What a shard may promise to connections as credit: a little less than what can be received, since a record is a
    /// little larger than its payload.
    pub fn credit_bytes(bytes: u64) -> u64 {
        receive_bytes(bytes) / 16 * 15
    }
}

fn receive_bytes(bytes: u64) -> u64 {
    bytes - bytes / 4
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
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn spent_budget_comes_back_with_the_grants() {
        let disk = &Budget::divide(10, 1)[0];
        let first = disk.take(6).unwrap();
        assert!(disk.take(5).is_none());
        let second = disk.take(4).unwrap();
        assert_eq!(disk.used_bytes(), 10);
        drop((first, second));
        assert_eq!(disk.used_bytes(), 0);
        assert!(disk.take(u64::MAX).is_none());
    }

    #[test]
    fn disk_that_takes_all_it_can_leaves_every_other_its_part() {
        let record = RECORD_BYTES_MAX;
        for disks in 1..12 {
            let parts = Budget::divide(64 << 20, disks);
            let greedy: Vec<_> = std::iter::from_fn(|| parts[0].take(record)).collect();
            assert!(!greedy.is_empty());
            for other in &parts[1..] {
                assert!(other.take(record).is_some(), "{disks} disks");
            }
            let all: Vec<_> = parts.iter().flat_map(|part| std::iter::from_fn(|| part.take(4096))).collect();
            let used: u64 = parts.iter().map(|part| part.used_bytes()).sum();
            assert!(used <= 64 << 20 && used + 4096 * disks as u64 > 64 << 20, "{used} bytes of {disks} disks");
            drop((greedy, all));
            assert_eq!(parts[0].budget.shared_left.get() + parts[0].budget.reserve_bytes * disks as u64, 64 << 20);
        }
    }

    #[test]
    fn line_is_served_first_come_first_served_and_forgets_who_leaves() {
        let disk = &Budget::divide(10, 1)[0];
        let held = disk.take(8).unwrap();
        let (mut large, mut small) = (Box::pin(disk.wait(9)), Box::pin(disk.wait(2)));
        assert!(large.as_mut().now_or_never().is_none() && small.as_mut().now_or_never().is_none());
        assert!(disk.take(1).is_none(), "nobody overtakes the line");
        drop(large);
        let small = small.now_or_never().flatten().expect("the one behind fits");
        drop((held, small));
        assert_eq!((disk.used_bytes(), disk.line.borrow().len()), (0, 0));
        assert!(disk.wait(11).now_or_never().unwrap().is_none(), "never so much");
    }

    #[test]
    fn what_one_disk_gives_back_serves_the_line_of_another() {
        let parts = Budget::divide(40 << 20, 2);
        let first: Vec<_> = std::iter::from_fn(|| parts[0].take(1 << 20)).collect();
        let own: Vec<_> = std::iter::from_fn(|| parts[1].take(1 << 20)).collect();
        assert_eq!((first.len(), own.len()), (30, 10));
        let mut waits = Box::pin(parts[1].wait(1 << 20));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waits.now_or_never().flatten().is_some());
    }
}
