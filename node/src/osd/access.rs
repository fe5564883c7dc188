//! The way to the device: every transfer takes its turn first, and is seen through once it has begun.

use std::time::Duration;

use shingle_hw::buffer::Buffer;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::ZoneId;
use shingle_proto::frame::Class;
use shingle_seam::tasks::see_through;

use super::refusal::Refusal;
use super::schedule::QueueFull;
use super::store::Osd;
use crate::extent::reader;
use crate::extent::writer::{self, WriteError};

/// How soon an accepted append that found its queue full tries again.
const RETRY: Duration = Duration::from_millis(1);

impl From<QueueFull> for Refusal {
    fn from(_: QueueFull) -> Self {
        Self::Busy("the disk's queue is full")
    }
}

impl Osd {
    /// Fills the first `bytes` of a new buffer from a zone. `held` pays for the buffer: it is given up only when the
    /// device has let go of it, also when nobody waits for the read any more.
    ///
    /// # Errors
    /// When too many transfers of the class wait already.
    pub(super) async fn read_device<H: 'static>(
        &self,
        class: Class,
        zone: ZoneId,
        offset_bytes: u64,
        bytes: usize,
        held: H,
    ) -> Result<(Result<Buffer, DeviceError>, H), QueueFull> {
        let turn = self.turns.take(class, bytes as u64).await?;
        let device = self.device.clone();
        let reading = async move {
            let outcome = reader::read(&*device, zone, offset_bytes, bytes).await;
            drop(turn);
            (outcome, held)
        };
        Ok(see_through(&self.world.tasks, "abandoned read", reading).await)
    }

    /// Appends the first `bytes` of a buffer to a zone whose write pointer is at `expected_bytes`. Only tasks of the OSD
    /// do this, which nobody abandons. What was accepted is never turned away.
    pub(super) async fn append_device(
        &self,
        class: Class,
        zone: ZoneId,
        expected_bytes: u64,
        buffer: Buffer,
        bytes: usize,
    ) -> Result<(), WriteError> {
        let _turn = loop {
            match self.turns.take(class, bytes as u64).await {
                Ok(turn) => break turn,
                Err(QueueFull) => self.world.tasks.sleep(RETRY).await,
            }
        };
        writer::append(&*self.device, zone, expected_bytes, buffer, bytes).await
    }
}
