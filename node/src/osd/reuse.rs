//! Slots of extents that were closed without ever holding a record: volumes that were opened and not needed.
//!
//! Invariant 6 protects what an extent holds. One that holds nothing is given back without trash and delay, when its
//! slot is needed; until then it stays, so that closing it again is answered alike.

use std::rc::Rc;

use shingle_hw::error::DeviceError;

use super::extent::{Extent, State};
use super::refusal::Refusal;
use super::store::Osd;

fn is_unused(extent: &Extent) -> bool {
    extent.state.get() == State::Closed && extent.records.get() == 0
}

impl Osd {
    /// Slots that a new extent can have, now or after a reset.
    pub(super) fn slots_left(&self) -> usize {
        let unused = self.extents.borrow().values().filter(|extent| is_unused(extent)).count();
        self.free_slots.borrow().len() + unused
    }

    /// Makes sure that a slot is free if any can be: resets the zones of the first unused extent.
    pub(super) async fn make_slot(&self) -> Result<(), Refusal> {
        if !self.free_slots.borrow().is_empty() {
            return Ok(());
        }
        let unused = self.extents.borrow().values().find(|extent| is_unused(extent)).cloned();
        let Some(extent) = unused else { return Ok(()) };
        // Out of the table first: nobody else resets it, and nobody finds it half reset.
        self.extents.borrow_mut().remove(&extent.header.extent);
        match self.reset(&extent).await {
            Ok(()) => {
                tracing::debug!(osd = %self.id(), extent = %extent.header.extent, "an unused extent's slot is free again");
                self.free_slots.borrow_mut().insert(extent.header.slot);
                Ok(())
            }
            Err(cause) => {
                // The slot is lost until the next start looks at it again.
                tracing::error!(osd = %self.id(), slot = extent.header.slot, %cause, "an unused extent cannot be reset");
                Err(Refusal::DeviceFailed(format!("slot {} cannot be reset: {cause}", extent.header.slot)))
            }
        }
    }

    /// Last zone first: while the header is there, a restart finds the extent, open and empty or closed.
    async fn reset(&self, extent: &Rc<Extent>) -> Result<(), DeviceError> {
        for zone in (0..self.layout().zones_per_extent).rev() {
            self.device.reset(self.layout().zone(extent.header.slot, zone)).await?;
        }
        Ok(())
    }
}
