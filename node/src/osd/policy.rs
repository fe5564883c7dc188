//! How a disk's time is divided, and how often all of it is read back: what the host is configured with, and for a disk
//! with a profile what was measured on it instead of what is assumed.

use std::fmt;
use std::time::Duration;

use shingle_hw::qualify::profile::MeasuredProfile;
use shingle_proto::frame::Class;
use shingle_proto::limits::{KIB, MIB};

use super::cost::Prices;
use super::depth::Depths;
use super::lanes::Shares;

/// Commands a SATA disk takes at once (native command queueing: 32 tags).
pub const QUEUE_DEPTH_DEFAULT: u32 = 32;
/// What positioning costs, in bytes not transferred meanwhile: about 8 ms at 126 MB/s, between a short seek with half a
/// turn at 7,200 rpm (4.2 ms) and an average one (12 ms).
pub const IO_COST_BYTES_DEFAULT: u64 = MIB;
/// Bytes a second a disk reads at length at its inner edge, where it is slowest. Western Digital gives 265 MB/s at most for
/// the Ultrastar DC HC680, an SMR disk of 28 TB: that is the outer edge. Newer data sheets do not name the inner one; the
/// specification of the Hitachi Deskstar 7K500 does (table 10: 64.8 MB/s sustained in zone 0, 31.0 MB/s in zone 29), and
/// the radii of a 3.5 inch platter are what they were. 265 x 31.0 / 64.8 is 126.
pub const BANDWIDTH_BYTES_DEFAULT: u64 = 126_000_000;
/// Days in which everything is read back once (seed: two weeks).
pub const SWEEP_DAYS_DEFAULT: u32 = 14;

/// What one disk is likely to have in hand under load, in bytes: two thirds of what a shard's default memory receives.
const IN_HAND_BYTES: f64 = (64 * MIB) as f64;
/// What ending a batch early has to gain, as a part of the rate. Where it gains 3 or 4 %, clients were seen to wait 16 to
/// 20 % longer (`shingle-tests profile`).
const BATCH_GAIN_MIN: f64 = 0.1;

/// Above this no share would mean anything: a transfer costs as much as 64 MiB.
pub const IO_COST_BYTES_MAX: u64 = 64 * MIB;

/// A full disk cannot be read back in time. The arithmetic is in bytes and seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a full disk cannot be read back in time: {disk_bytes} bytes in {days} days ({seconds} s) are {needed} bytes/s, but \
     scrub's share of {share} in {shares} of {bandwidth_bytes} bytes/s ({bandwidth_from}) is {had} bytes/s; raise share-scrub \
     or scrub-days, or set disk-bandwidth-mb to what the disk reads at its inner edge"
)]
pub struct CannotSweep {
    pub disk_bytes: u64,
    pub days: u32,
    pub seconds: u64,
    /// Bytes a second.
    pub needed: u64,
    pub share: u32,
    pub shares: u32,
    /// Bytes a second of the disk.
    pub bandwidth_bytes: u64,
    pub bandwidth_from: BandwidthFrom,
    /// Bytes a second that scrub has of them.
    pub had: u64,
}

/// Where it is known from what a disk reads per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BandwidthFrom {
    DataSheets,
    Configuration,
    Profile,
}

impl fmt::Display for BandwidthFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DataSheets => "the inner edge of a 7,200 rpm disk, by data sheets; this disk was not asked",
            Self::Configuration => "as configured",
            Self::Profile => "as its profile says",
        })
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskPolicy {
    pub shares: Shares,
    /// Transfers one disk works on at once, where nothing is known by size.
    pub queue_depth: u32,
    /// The same by size, where that was measured.
    pub depths: Option<Depths>,
    /// Added to every transfer's bytes when shares are accounted, where nothing is known by radius.
    pub io_cost_bytes: u64,
    /// What transfers cost by radius, where that was measured.
    pub prices: Option<Prices>,
    /// Bytes a second a disk is assumed to read.
    pub bandwidth_bytes: u64,
    pub bandwidth_from: BandwidthFrom,
    /// Days of one sweep of the scrub.
    pub sweep_days: u32,
    /// Bytes that are appended before one flush, when so much is in hand; 0: everything that was in hand when the last
    /// flush ended, however much it is.
    pub batch_bytes: u64,
    /// A small read that takes longer is late, in microseconds: the p95 or p90 of an idle disk, where it was measured.
    pub late_us: Option<u32>,
}

impl Default for DiskPolicy {
    fn default() -> Self {
        Self {
            shares: Shares::default(),
            queue_depth: QUEUE_DEPTH_DEFAULT,
            depths: None,
            io_cost_bytes: IO_COST_BYTES_DEFAULT,
            prices: None,
            bandwidth_bytes: BANDWIDTH_BYTES_DEFAULT,
            bandwidth_from: BandwidthFrom::DataSheets,
            sweep_days: SWEEP_DAYS_DEFAULT,
            batch_bytes: 0,
            late_us: None,
        }
    }
}

impl DiskPolicy {
    /// What was measured on a drive instead of what is assumed of it. What the profile lacks stays. One depth for all sizes
    /// can only lower what is configured: it is that of the size that needs most, and the others gain nothing by it.
    pub fn measured(self, profile: &MeasuredProfile) -> Self {
        let bandwidth_bytes = profile.slowest_read_mb_s().map(|rate| (rate * 1e6) as u64).filter(|bytes| *bytes > 0);
        let bandwidth_from = bandwidth_bytes.map_or(self.bandwidth_from, |_| BandwidthFrom::Profile);
        let bandwidth_bytes = bandwidth_bytes.unwrap_or(self.bandwidth_bytes);
        let io_cost_bytes = profile.access_ms.map(|ms| (ms / 1e3 * bandwidth_bytes as f64) as u64);
        let late_us = profile.hedge_ms.map(|ms| (ms * 1e3) as u32);
        Self {
            queue_depth: profile.queue_depth.map_or(self.queue_depth, |depth| depth.min(self.queue_depth)),
            depths: Depths::measured(profile).or(self.depths),
            io_cost_bytes: io_cost_bytes.map_or(self.io_cost_bytes, |bytes| bytes.min(IO_COST_BYTES_MAX)),
            prices: Prices::measured(profile, bandwidth_bytes).or(self.prices),
            bandwidth_bytes,
            bandwidth_from,
            batch_bytes: batch_worth(profile).unwrap_or(self.batch_bytes),
            late_us: late_us.or(self.late_us),
            ..self
        }
    }

    /// How full transfers make the disk's queue.
    pub fn depths(&self) -> Depths {
        self.depths.unwrap_or(Depths::assumed(self.queue_depth))
    }

    /// Whether scrub's share suffices to read a disk of so many bytes once in a sweep.
    pub fn check_sweep(&self, disk_bytes: u64) -> Result<(), CannotSweep> {
        let seconds = self.sweep().as_secs().max(1);
        let needed = disk_bytes.div_ceil(seconds);
        let had = self.shares.part_of(Class::Scrub, self.bandwidth_bytes);
        if needed <= had {
            return Ok(());
        }
        Err(CannotSweep {
            disk_bytes,
            days: self.sweep_days,
            seconds,
            needed,
            share: self.shares.scrub,
            shares: self.shares.total(),
            bandwidth_bytes: self.bandwidth_bytes,
            bandwidth_from: self.bandwidth_from,
            had,
        })
    }

    /// The time in which everything is read back once.
    pub fn sweep(&self) -> Duration {
        Duration::from_secs(u64::from(self.sweep_days.max(1)) * 24 * 3600)
    }
}

/// The batch of a profile, if ending one there gains enough. A flush of everything in hand has nothing appended beside it;
/// after a batch the rest goes on meanwhile, which saves the flush's time, and who was appended first waits for less. But
/// who comes late to a long queue waits for more flushes.
fn batch_worth(profile: &MeasuredProfile) -> Option<u64> {
    let flush_s = profile.flush_cost_ms? / 1e3;
    let fastest_mb_s = profile.envelope.iter().filter_map(|at| at.write_mb_s).reduce(f64::max)?;
    let gain = flush_s / (flush_s + IN_HAND_BYTES / (fastest_mb_s * 1e6));
    profile.batch_bytes.filter(|_| gain >= BATCH_GAIN_MIN)
}

const _: () = assert!(IO_COST_BYTES_DEFAULT.is_multiple_of(KIB));

#[cfg(test)]
mod tests {
    use shingle_hw::geometry::Geometry;
    use shingle_hw::qualify::profile::{AtRadius, AtSize};

    use super::*;

    fn profile() -> MeasuredProfile {
        MeasuredProfile::unmeasured("M", &Geometry::smr(1 << 40))
    }

    #[test]
    fn one_depth_for_all_sizes_lowers_what_is_configured_and_never_raises_it() {
        let depth = |configured, measured| {
            let policy = DiskPolicy { queue_depth: configured, ..DiskPolicy::default() };
            let policy = policy.measured(&MeasuredProfile { queue_depth: measured, ..profile() });
            assert_eq!(policy.depths(), Depths::assumed(policy.queue_depth));
            policy.queue_depth
        };
        assert_eq!([depth(32, Some(256)), depth(32, Some(8)), depth(256, Some(128))], [32, 8, 128]);
        assert_eq!(depth(64, None), 64, "nothing measured, nothing changed");
    }

    #[test]
    fn depths_by_size_are_taken_as_they_were_measured() {
        let depths = vec![AtSize { bytes: 4096, in_flight: 128 }, AtSize { bytes: 1 << 20, in_flight: 4 }];
        let policy = DiskPolicy::default().measured(&MeasuredProfile { depths, ..profile() });
        assert_eq!([4096, 1 << 20].map(|bytes| policy.depths().in_flight(bytes)), [128, 4], "deeper where it gains");
        assert_eq!(DiskPolicy::default().depths(), Depths::assumed(QUEUE_DEPTH_DEFAULT));
    }

    #[test]
    fn a_batch_ends_early_only_where_that_gains_a_tenth() {
        let batch = |flush_cost_ms, write_mb_s: Option<f64>| {
            let place = AtRadius { radius: 0.0, read_mb_s: 250.0, write_mb_s, access_ms: None };
            let measured =
                MeasuredProfile { flush_cost_ms, batch_bytes: Some(MIB), envelope: vec![place], ..profile() };
            DiskPolicy::default().measured(&measured).batch_bytes
        };
        // 64 MiB take 268 ms at 250 MB/s: a tenth of the time is the flush's from 30 ms on.
        assert_eq!([batch(Some(16.0), Some(250.0)), batch(Some(29.0), Some(250.0))], [0, 0]);
        assert_eq!([batch(Some(30.0), Some(250.0)), batch(Some(100.0), Some(250.0))], [MIB, MIB]);
        assert_eq!(
            [batch(Some(0.02), Some(2500.0)), batch(Some(3.0), Some(2500.0))],
            [0, MIB],
            "and of 27 ms from 3 on"
        );
        assert_eq!([batch(None, Some(250.0)), batch(Some(100.0), None)], [0, 0], "nobody measured what it gains");
    }

    const TB: u64 = 1_000_000_000_000;

    #[test]
    fn disk_that_cannot_be_swept_in_time_is_refused_with_the_arithmetic() {
        let policy = DiskPolicy::default();
        assert_eq!(policy.check_sweep(22 * TB), Ok(()));
        let refused = policy.check_sweep(28 * TB).unwrap_err();
        assert_eq!((refused.seconds, refused.needed, refused.had), (1_209_600, 23_148_149, 18_900_000));
        let text = refused.to_string();
        let sum = ["28000000000000 bytes in 14 days (1209600 s)", "23148149", "15 in 100", "126000000", "18900000"];
        for part in sum.into_iter().chain(["by data sheets", "disk-bandwidth-mb"]) {
            assert!(text.contains(part), "{text}");
        }
        let configured = DiskPolicy { bandwidth_from: BandwidthFrom::Configuration, ..policy };
        assert!(configured.check_sweep(28 * TB).unwrap_err().to_string().contains("as configured"));
        assert_eq!(DiskPolicy { sweep_days: 18, ..policy }.check_sweep(28 * TB), Ok(()));
        assert_eq!(DiskPolicy { bandwidth_bytes: 160_000_000, ..policy }.check_sweep(28 * TB), Ok(()));
    }
}
