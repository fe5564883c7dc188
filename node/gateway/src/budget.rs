//! The process's byte budget for blocks in memory (invariant 9), handed out as charges.
//!
//! Deadlock freedom: a charge is taken in one step for everything one block will need (plain and sealed bytes), a
//! request holds at most one charge that waits for its client, and a charged block never waits for another charge.

use std::sync::Arc;
use std::time::Duration;

use shingle_proto::limits::{BUDGET_WAIT_MS, KIB, SEALED_BYTES_MAX};
use shingle_seam::World;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::request::GatewayError;

/// Smallest sensible budget: one block, plain and sealed.
const BUDGET_BYTES_MIN: u64 = 2 * SEALED_BYTES_MAX as u64;

/// A bounded number of bytes; counted in KiB so that a permit count fits 32 bits.
pub struct Budget {
    permits: Arc<Semaphore>,
    total_kib: u32,
}

/// A share of the budget, given back on drop.
#[derive(Debug)]
pub struct Charge {
    permit: OwnedSemaphorePermit,
}

impl Budget {
    pub fn new(bytes: u64) -> Self {
        let total_kib = u32::try_from(bytes.max(BUDGET_BYTES_MIN) / KIB).unwrap_or(u32::MAX);
        Self { permits: Arc::new(Semaphore::new(total_kib as usize)), total_kib }
    }

    /// Waits for `bytes`, first come, first served; SlowDown after `BUDGET_WAIT_MS`.
    pub async fn take(&self, world: &World, bytes: u64) -> Result<Charge, GatewayError> {
        let wait = self.permits.clone().acquire_many_owned(self.kib(bytes));
        match world.tasks.timeout(Duration::from_millis(BUDGET_WAIT_MS), wait).await {
            Ok(Ok(permit)) => Ok(Charge { permit }),
            Ok(Err(_)) | Err(_) => Err(GatewayError::SlowDown("the gateway's byte budget is spent")),
        }
    }

    /// `bytes` at once, if half of the budget stays free: for work ahead of need, which may not starve anybody.
    pub fn take_spare(&self, bytes: u64) -> Option<Charge> {
        let kib = self.kib(bytes);
        if self.permits.available_permits() < kib as usize + self.total_kib as usize / 2 {
            return None;
        }
        self.permits.clone().try_acquire_many_owned(kib).ok().map(|permit| Charge { permit })
    }

    fn kib(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX).clamp(1, self.total_kib)
    }
}

impl Charge {
    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let keep = usize::try_from(bytes.div_ceil(KIB)).unwrap_or(usize::MAX);
        let surplus = self.permit.num_permits().saturating_sub(keep);
        drop(self.permit.split(surplus));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free_mib(budget: &Budget) -> usize {
        budget.permits.available_permits() >> 10
    }

    #[test]
    fn spare_bytes_are_lent_only_while_half_is_free() {
        let budget = Budget::new(16 << 20);
        let first = budget.take_spare(8 << 20).expect("half stays free");
        assert!(budget.take_spare(1024).is_none());
        drop(first);
        assert!(budget.take_spare(1024).is_some());
        assert_eq!(free_mib(&budget), 16);
    }

    #[test]
    fn a_charge_shrinks_and_is_given_back_once() {
        let budget = Budget::new(16 << 20);
        let mut charge = budget.take_spare(4 << 20).expect("free");
        charge.shrink_to(1 << 20);
        assert_eq!(free_mib(&budget), 15);
        charge.shrink_to(2 << 20);
        assert_eq!(free_mib(&budget), 15);
        drop(charge);
        assert_eq!(free_mib(&budget), 16);
    }
}
