//! Slots of extents that were closed without ever holding a record: volumes that were opened and not needed.
//!
//! Invariant 6 protects what an extent holds. One that holds nothing is given back without trash and delay, when its
//! slot is needed; until then it stays, so that closing it again is answered alike.

use std::rc::Rc;

use local_sync::oneshot;
use shingle_hw::error::DeviceError;

use super::extent::{Extent, State};
use super::refusal::Refusal;
use super::store::Osd;
use crate::extent::journal::{SlotHealth, SlotState};

impl Osd {
    /// Whether an extent's slot can be had: nothing is in it, nothing is done to it, and none of its zones is bad.
    pub(super) fn is_unused(&self, extent: &Extent) -> bool {
        extent.state.get() == State::Closed
            && extent.records.get() == 0
            && !extent.holds_zone.get()
            && self.ledger.slot(extent.header.slot).health == SlotHealth::Sound
    }

    /// Makes sure that a slot is free if any can be: resets the zones of the first unused extent. The caller may be
    /// dropped; the reset goes on.
    pub(super) async fn make_slot(self: &Rc<Self>) -> Result<(), Refusal> {
        if !self.free_slots.borrow().is_empty() {
            return Ok(());
        }
        let unused = self.extents.borrow().values().find(|extent| self.is_unused(extent)).cloned();
        let Some(extent) = unused else { return Ok(()) };
        // Out of the table first: nobody else resets it, and nobody finds it half reset.
        self.extents.borrow_mut().remove(&extent.header.extent);
        let (waiter, done) = oneshot::channel();
        let osd = self.clone();
        let freeing = async move {
            // Nobody waits any more when the request was cancelled.
            drop(waiter.send(osd.free_slot(&extent).await));
        };
        self.world.tasks.spawn("reset", Box::pin(freeing));
        done.await.unwrap_or_else(|_| Err(Refusal::DeviceFailed("the shard stops".to_owned())))
    }

    async fn free_slot(self: &Rc<Self>, extent: &Extent) -> Result<(), Refusal> {
        let slot = extent.header.slot;
        let outcome = self.reset(extent).await;
        match &outcome {
            Ok(()) => {
                tracing::debug!(osd = %self.id(), extent = %extent.header.extent, "an unused extent's slot is free again");
                self.note_free(slot);
                // A zone may have been lost during the reset of another one.
                if self.ledger.slot(slot).health == SlotHealth::Sound {
                    self.free_slots.borrow_mut().insert(slot);
                }
            }
            Err(cause) => {
                tracing::error!(osd = %self.id(), slot, %cause, "an unused extent cannot be reset");
                self.note_health(slot, SlotHealth::Unusable);
                self.write_journal_soon();
                self.zone_failed(cause);
            }
        }
        outcome.map_err(|cause| Refusal::DeviceFailed(format!("slot {slot} cannot be reset: {cause}")))
    }

    /// Last zone first: while the header is there, a restart knows which extent it is, and completes what the journal
    /// says has begun.
    async fn reset(self: &Rc<Self>, extent: &Extent) -> Result<(), DeviceError> {
        self.note_state(extent, SlotState::Resetting);
        self.journal_durable().await;
        for zone in (0..self.layout().zones_per_extent).rev() {
            self.device.reset(self.layout().zone(extent.header.slot, zone)).await?;
        }
        Ok(())
    }
}
