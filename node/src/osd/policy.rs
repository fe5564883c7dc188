//! How a disk's time is divided, and how often all of it is read back: one policy for all disks of a host.
//!
//! Later a drive's own profile replaces what is assumed of it here.

use std::time::Duration;

use shingle_proto::limits::{KIB, MIB};

use super::schedule::Shares;

/// Commands a SATA disk takes at once (native command queueing: 32 tags).
pub const QUEUE_DEPTH_DEFAULT: u32 = 32;
/// What positioning costs, in bytes not transferred meanwhile: about 7 ms at 150 MB/s, between a short seek with half a
/// turn at 7,200 rpm (4.2 ms) and an average one (12 ms).
pub const IO_COST_BYTES_DEFAULT: u64 = MIB;
/// Bytes a second a disk reads at length. Data sheets of 7,200 rpm SMR disks give 250 to 290 MB/s at the outer edge, the
/// inner one has about half of it: 150 is a little above the slowest place of the disk, and holds anywhere else.
pub const BANDWIDTH_BYTES_DEFAULT: u64 = 150_000_000;
/// Days in which everything is read back once (seed: two weeks).
pub const SWEEP_DAYS_DEFAULT: u32 = 14;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskPolicy {
    pub shares: Shares,
    /// Transfers one disk works on at once.
    pub queue_depth: u32,
    /// Added to every transfer's bytes when shares are accounted.
    pub io_cost_bytes: u64,
    /// Bytes a second a disk is assumed to read.
    pub bandwidth_bytes: u64,
    /// Days of one sweep of the scrub.
    pub sweep_days: u32,
}

impl Default for DiskPolicy {
    fn default() -> Self {
        Self {
            shares: Shares::default(),
            queue_depth: QUEUE_DEPTH_DEFAULT,
            io_cost_bytes: IO_COST_BYTES_DEFAULT,
            bandwidth_bytes: BANDWIDTH_BYTES_DEFAULT,
            sweep_days: SWEEP_DAYS_DEFAULT,
        }
    }
}

impl DiskPolicy {
    /// The time in which everything is read back once.
    pub fn sweep(&self) -> Duration {
        Duration::from_secs(u64::from(self.sweep_days.max(1)) * 24 * 3600)
    }
}

const _: () = assert!(IO_COST_BYTES_DEFAULT.is_multiple_of(KIB));
