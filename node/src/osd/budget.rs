//! The byte budget of one shard, and the buffers it pays for.
//!
//! Every payload in memory, received or read, holds a [`Grant`]; when the budget is spent the caller is told to slow
//! down (invariant 9), or waits in the bounded line of its class. Classes come out of their lines as they share the disk
//! (see `lanes`): a disk whose reads wait for memory is divided no otherwise than one whose reads wait for their turn.
//! Each disk has a part of its own that no other can use, and takes from what is left over beyond it: a disk that stalls
//! with its memory full leaves the others theirs.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::Range;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use shingle_hw::buffer::Buffer;
use shingle_proto::frame::Class;
use shingle_seam::rpc::Payload;

use super::lanes::{Lanes, QueueFull, Shares};
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
    line: RefCell<Lanes<Rc<Waiter>>>,
}

struct Waiter {
    bytes: u64,
    granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Why nobody waits for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    #[error("the disk's part of the byte budget is too small for the record")]
    TooLarge,
    #[error("as many of its class wait for memory as may")]
    QueueFull,
}

impl From<QueueFull> for NoRoom {
    fn from(_: QueueFull) -> Self {
        Self::QueueFull
    }
}

/// A place in a disk's line; given up when dropped.
struct InLine<'a> {
    disk: &'a Rc<DiskBudget>,
    class: Class,
    waiter: Option<Rc<Waiter>>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        if waiter.granted.get() {
            drop(Grant { disk: self.disk.clone(), bytes: waiter.bytes });
        } else {
            self.disk.line.borrow_mut().withdraw(self.class, |other| Rc::ptr_eq(other, &waiter));
            self.disk.serve_line(); // whoever stood behind may be content with what is free
        }
    }
}

impl Budget {
    /// Half of `limit_bytes` divided evenly, but room for a record for each disk if there is so much; the rest shared.
    fn divide(limit_bytes: u64, disks: usize, shares: Shares) -> Vec<Rc<DiskBudget>> {
        let even = limit_bytes / (disks.max(1) as u64);
        let reserve_bytes = (even / 2).max(RECORD_BYTES_MAX).min(even);
        let shared = limit_bytes - reserve_bytes * disks as u64;
        let budget = Rc::new(Self { reserve_bytes, shared_left: Cell::new(shared), disks: RefCell::default() });
        let part = || DiskBudget {
            budget: budget.clone(),
            limit_bytes: reserve_bytes + shared,
            used: Cell::new(0),
            line: RefCell::new(Lanes::new(shares)),
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

    /// As [`DiskBudget::take`], but waits in the line of a class, in which it counts for `cost`: what the transfer costs
    /// the disk, asked only of who has to wait.
    ///
    /// # Errors
    /// When the disk never gets so much, or too many of the class wait already.
    pub async fn wait(self: &Rc<Self>, class: Class, bytes: u64, cost: impl FnOnce() -> u64) -> Result<Grant, NoRoom> {
        if let Some(grant) = self.take(bytes) {
            return Ok(grant);
        }
        if bytes > self.limit_bytes {
            return Err(NoRoom::TooLarge);
        }
        let waiter = Rc::new(Waiter { bytes, granted: Cell::new(false), waker: RefCell::default() });
        self.line.borrow_mut().join(class, cost(), waiter.clone())?;
        let mut place = InLine { disk: self, class, waiter: Some(waiter.clone()) };
        poll_fn(|context| {
            if waiter.granted.get() {
                return Poll::Ready(());
            }
            waiter.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
        place.waiter = None;
        Ok(Grant { disk: self.clone(), bytes })
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

    /// Grants what the next in line wait for, as far as there is room.
    fn serve_line(&self) {
        loop {
            let mut line = self.line.borrow_mut();
            if !line.next().is_some_and(|waiter| self.charge(waiter.bytes)) {
                return;
            }
            let Some(waiter) = line.serve() else { return };
            drop(line);
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
        let receive = Budget::divide(receive_bytes(bytes), disks, disk.shares);
        let read = Budget::divide(bytes - receive_bytes(bytes), disks, disk.shares);
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

impl Payload for RecordBuffer {
    fn checked(&mut self, crc32c: u32) {
        self.buffer.know_crc32c(self.payload.clone(), crc32c);
    }

    fn crc32c(&self) -> Option<u32> {
        self.buffer.known_crc32c(&self.payload)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;

    use futures_util::FutureExt;
    use shingle_proto::limits::OSD_CLASS_QUEUE_MAX;

    use super::*;

    type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Grant, NoRoom>> + 'a>>;

    fn divide(limit_bytes: u64, disks: usize) -> Vec<Rc<DiskBudget>> {
        Budget::divide(limit_bytes, disks, Shares::default())
    }

    fn wait(disk: &Rc<DiskBudget>, class: Class, bytes: u64) -> Waiting<'_> {
        Box::pin(disk.wait(class, bytes, move || bytes))
    }

    fn waits(disk: &Rc<DiskBudget>, bytes: u64) -> Waiting<'_> {
        wait(disk, Class::Client, bytes)
    }

    #[test]
    fn spent_budget_comes_back_with_the_grants() {
        let disk = &divide(10, 1)[0];
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
            let parts = divide(64 << 20, disks);
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
        let disk = &divide(10, 1)[0];
        let held = disk.take(8).unwrap();
        let (mut large, mut small) = (waits(disk, 9), waits(disk, 2));
        assert!(large.as_mut().now_or_never().is_none() && small.as_mut().now_or_never().is_none());
        assert!(disk.take(1).is_none(), "nobody overtakes the line");
        drop(large);
        let small = small.now_or_never().expect("the one behind fits").unwrap();
        drop((held, small));
        assert_eq!((disk.used_bytes(), disk.line.borrow().waiting()), (0, 0));
        assert_eq!(waits(disk, 11).now_or_never().unwrap().err(), Some(NoRoom::TooLarge));
    }

    #[test]
    fn what_one_disk_gives_back_serves_the_line_of_another() {
        let parts = divide(40 << 20, 2);
        let first: Vec<_> = std::iter::from_fn(|| parts[0].take(1 << 20)).collect();
        let own: Vec<_> = std::iter::from_fn(|| parts[1].take(1 << 20)).collect();
        assert_eq!((first.len(), own.len()), (30, 10));
        let mut waiting = waits(&parts[1], 1 << 20);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waiting.now_or_never().unwrap().is_ok());
    }

    /// Readers of a class that take memory again as soon as they gave it back: the bytes each class was granted.
    fn saturate(shares: Shares, readers: &[(Class, u64)], rounds: usize) -> [u64; 4] {
        const LIMIT_BYTES: u64 = 100;
        let disk = &Budget::divide(LIMIT_BYTES, 1, shares)[0];
        let mut line: Vec<_> =
            readers.iter().map(|(class, bytes)| (*class, *bytes, wait(disk, *class, *bytes))).collect();
        let mut held: VecDeque<(Class, u64, Grant)> = VecDeque::new();
        let mut granted = [0; 4];
        for _ in 0..rounds {
            let mut index = 0;
            while index < line.len() {
                match line[index].2.as_mut().now_or_never() {
                    Some(grant) => {
                        let (class, bytes, _) = line.remove(index);
                        granted[class as usize] += bytes;
                        held.push_back((class, bytes, grant.unwrap()));
                    }
                    None => index += 1,
                }
            }
            let largest = readers.iter().map(|(_, bytes)| *bytes).max().unwrap();
            assert!(LIMIT_BYTES - disk.used_bytes() < largest, "work-conserving: who fits does not wait");
            let (class, bytes, grant) = held.pop_front().unwrap();
            drop(grant);
            line.push((class, bytes, wait(disk, class, bytes)));
        }
        granted
    }

    #[test]
    fn classes_that_wait_for_memory_get_it_by_their_shares() {
        let [client, repair, scrub, compaction] = Class::ALL;
        let shares = Shares { client: 60, repair: 20, scrub: 15, compaction: 5 };
        let many = |class, bytes, count| std::iter::repeat_n((class, bytes), count);
        let all: Vec<_> =
            [client, repair, scrub, compaction].into_iter().flat_map(|class| many(class, 10, 20)).collect();
        let granted = saturate(shares, &all, 20_000);
        let total: u64 = granted.iter().sum();
        let percent = granted.map(|bytes| (bytes * 100 + total / 2) / total);
        assert_eq!(percent, [60, 20, 15, 5]);
        // A few clients among many others: what they ask for is less than their share, so they hardly wait.
        let few: Vec<_> = many(client, 10, 4).chain(many(repair, 10, 48)).collect();
        let granted = saturate(shares, &few, 20_000);
        assert!(granted[0] * 2 > granted[1], "4 of the 10 who have memory are clients: {granted:?}");
        // Sizes that differ do not change whose the memory is, and the large ones are not overtaken for ever.
        let sizes: Vec<_> = many(client, 90, 4).chain(many(repair, 1, 150)).collect();
        let granted = saturate(Shares { client: 1, repair: 1, ..shares }, &sizes, 50_000);
        assert!(granted[0].abs_diff(granted[1]) * 100 < granted[0] * 5, "{granted:?}");
    }

    #[test]
    fn the_cost_is_asked_only_of_who_waits() {
        let disk = &divide(10, 1)[0];
        let held = disk.wait(Class::Scrub, 10, || unreachable!("there is room")).now_or_never().unwrap().unwrap();
        let asked = Cell::new(false);
        let cost = || {
            asked.set(true);
            1
        };
        let mut waiting = Box::pin(disk.wait(Class::Scrub, 1, cost));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        assert!(waiting.now_or_never().unwrap().is_ok() && asked.get());
    }

    #[test]
    fn line_of_a_class_is_bounded_and_leaves_the_others_theirs() {
        let disk = &divide(10, 1)[0];
        let held = disk.take(10).unwrap();
        let mut line: Vec<_> = (0..OSD_CLASS_QUEUE_MAX).map(|_| wait(disk, Class::Repair, 1)).collect();
        assert!(line.iter_mut().all(|waiting| waiting.as_mut().now_or_never().is_none()));
        let refused = wait(disk, Class::Repair, 1).now_or_never().unwrap();
        assert_eq!(refused.err(), Some(NoRoom::QueueFull));
        assert!(waits(disk, 1).now_or_never().is_none(), "it waits, and leaves when it is dropped");
        drop(held);
        let served = line.iter_mut().filter_map(|waiting| waiting.as_mut().now_or_never()).count();
        assert_eq!(served, OSD_CLASS_QUEUE_MAX, "each grant is given back at once");
        assert_eq!((disk.used_bytes(), disk.line.borrow().waiting()), (0, 0));
    }

    #[test]
    fn waiter_that_goes_after_it_was_granted_gives_it_to_the_next() {
        let disk = &divide(10, 1)[0];
        let held = disk.take(10).unwrap();
        let (mut goes, mut stays) = (wait(disk, Class::Scrub, 10), wait(disk, Class::Repair, 10));
        assert!(goes.as_mut().now_or_never().is_none() && stays.as_mut().now_or_never().is_none());
        drop(held);
        assert_eq!((disk.used_bytes(), disk.line.borrow().waiting()), (10, 1));
        drop((goes, stays));
        assert_eq!((disk.used_bytes(), disk.line.borrow().waiting()), (0, 0));
    }
}
