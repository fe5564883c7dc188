//! How much moves at once. A small file costs round trips and commits, so many together are fast; a large one costs
//! bandwidth and memory, so few together are enough.

use tokio::sync::{Semaphore, SemaphorePermit};

/// A transfer above this many bytes is a large one.
const SMALL_BYTES_MAX: u64 = 1 << 20;
/// What a large one takes.
const LARGE_SLOTS: u16 = 8;

/// A budget of slots, shared by all transfers of a command.
pub struct Slots {
    free: Semaphore,
    all: u16,
}

impl Slots {
    /// `all` is raised to 1.
    pub fn new(all: u16) -> Self {
        let all = all.max(1);
        Self { free: Semaphore::new(usize::from(all)), all }
    }

    /// Waits for the slots a transfer of so many bytes takes; they are free again when the permit is dropped.
    pub async fn take(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let wanted = if bytes > SMALL_BYTES_MAX { LARGE_SLOTS.min(self.all) } else { 1 };
        // Only a closed semaphore refuses, and this one is never closed.
        self.free.acquire_many(u32::from(wanted)).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn large_transfers_take_more_slots_but_never_more_than_there_are() {
        let slots = Slots::new(9);
        let large = slots.take(SMALL_BYTES_MAX + 1).now_or_never().flatten();
        let small = slots.take(SMALL_BYTES_MAX).now_or_never().flatten();
        assert!(large.is_some() && small.is_some());
        assert!(slots.take(0).now_or_never().is_none(), "all slots are taken");
        drop(large);
        assert!(slots.take(0).now_or_never().is_some());
        let few = Slots::new(2);
        assert!(few.take(u64::MAX).now_or_never().flatten().is_some());
    }
}
