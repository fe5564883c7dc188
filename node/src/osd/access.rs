//! The way to the device: every transfer takes its turn first, and is seen through once it has begun.

use std::time::Duration;

use shingle_hw::buffer::Buffer;
use shingle_hw::device::Part;
use shingle_hw::error::DeviceError;
use shingle_hw::zone::ZoneId;
use shingle_proto::frame::Class;

use super::budget::NoRoom;
use super::lanes::QueueFull;
use super::refusal::Refusal;
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

impl From<NoRoom> for Refusal {
    fn from(none: NoRoom) -> Self {
        Self::Busy(match none {
            NoRoom::TooLarge => "the disk's part of the byte budget is too small for the record",
            NoRoom::QueueFull => "too many reads wait for memory",
        })
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
        let device = self.device.clone();
        let reading = async move { (reader::read(&*device, zone, offset_bytes, bytes).await, held) };
        let abandoned = (&self.world.tasks, "abandoned read");
        let done = self.turns.run(abandoned, (class, zone, bytes as u64), reading).await?;
        // Whoever else has an answer gives a turn back first: checksums of several in a row would leave the device idle.
        self.world.tasks.yield_now().await;
        Ok(done)
    }

    /// Appends one part in as many pieces as the device needs, or several in one, to a zone whose write pointer is at
    /// `expected_bytes`. Only tasks of the OSD do this, which nobody abandons. What was accepted is never turned away.
    pub(super) async fn append_device(
        &self,
        class: Class,
        zone: ZoneId,
        expected_bytes: u64,
        mut parts: Vec<Part>,
    ) -> Result<(), WriteError> {
        let bytes = parts.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let _turn = loop {
            match self.turns.take(class, zone, bytes).await {
                Ok(turn) => break turn,
                Err(QueueFull) => self.world.tasks.sleep(RETRY).await,
            }
        };
        match parts.pop() {
            Some((buffer, bytes)) if parts.is_empty() => {
                writer::append(&*self.device, zone, expected_bytes, buffer, bytes.len()).await
            }
            last => {
                parts.extend(last);
                writer::append_parts(&*self.device, zone, expected_bytes, parts).await
            }
        }
    }
}
