//! Checksums over what reads brought.
//!
//! Invariant: a long one is cut into slices, as that of a payload that arrives is, and everybody else has their turn in
//! between. Of several long ones the first is finished first: in slices of each in turn, all of them would be late.

use futures_util::lock::Mutex;
use shingle_proto::frame::Checksum;
use shingle_seam::rpc::PIECE_BYTES;
use shingle_seam::tasks::Tasks;

use crate::extent::record::Record;

/// The checks of one OSD.
#[derive(Default)]
pub(super) struct Checks {
    /// Held by the long check that is going on.
    turn: Mutex<()>,
}

impl Checks {
    /// Whether `whole`, the record's bytes on disk, carries the payload that its header promises.
    pub(super) async fn payload_is_whole(&self, tasks: &dyn Tasks, record: &Record, whole: &[u8]) -> bool {
        let Some(covered) = record.covered(whole) else { return false };
        if covered.len() <= PIECE_BYTES {
            return record.payload_is_whole(whole);
        }
        let _turn = self.turn.lock().await;
        let mut checksum = Checksum::default();
        for (number, slice) in covered.chunks(PIECE_BYTES).enumerate() {
            if number > 0 {
                tasks.yield_now().await;
            }
            checksum.update(slice);
        }
        checksum.value() == record.payload_crc
    }
}
