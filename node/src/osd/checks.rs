//! Checksums over what reads brought.
//!
//! Invariant: a long one is cut into slices, and everybody else has their turn in between. Of several long ones the first
//! is finished first: in slices of each in turn, all of them would be late.

use futures_util::lock::Mutex;
use shingle_proto::limits::KIB;
use shingle_seam::tasks::Tasks;

use crate::extent::record::Record;

/// A few hundredths of a millisecond; so much does a connection take from its socket at once, too.
const SLICE_BYTES: usize = 256 * KIB as usize;

/// The checks of one OSD.
#[derive(Default)]
pub(super) struct Checks {
    /// Held by the long check that is going on.
    turn: Mutex<()>,
}

impl Checks {
    /// Whether `whole`, the record's bytes on disk, carries the payload that its header promises.
    pub(super) async fn payload_is_whole(&self, tasks: &dyn Tasks, record: &Record, whole: &[u8]) -> bool {
        let Some(mut check) = record.payload_check(whole) else { return false };
        if check.left_bytes() > SLICE_BYTES {
            let _turn = self.turn.lock().await;
            while check.left_bytes() > SLICE_BYTES {
                check.go_on(SLICE_BYTES);
                tasks.yield_now().await;
            }
        }
        check.go_on(SLICE_BYTES);
        check.holds()
    }
}
