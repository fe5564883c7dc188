//! Every number of the model, each with its source, fixed before the model was first run and not changed since.
//!
//! "Assumed" marks what no public document says; the report shows what the answer does when it changes.

use serde::Serialize;
use shingle_hw::model::profile::{Disk, DriveProfile, Flash, Interface, Media, Shape, WriteCache};

/// "More than 100 such data disks and a single SSD" (dropbox.tech, "Increasing Magic Pocket write throughput by removing
/// our SSD cache disks", 2022-12-08). Here: exactly 100.
const DISKS: usize = 100;
/// A block is up to 4 MiB (same source and this project); all of them are: the largest and, in bytes, most common.
const BLOCK_BYTES: u64 = 4 << 20;
/// "A typical NVMe based SSD can handle up to 15-20 Gbps in write throughput" (same source): its middle, 10^6 bytes/s.
const SSD_WRITE_MB_S: f64 = 17_500.0 / 8.0;
/// Its two ends.
pub const SSD_WRITE_MB_S_LOW: f64 = 15_000.0 / 8.0;
pub const SSD_WRITE_MB_S_HIGH: f64 = 20_000.0 / 8.0;
/// PCIe 3.0 x4: 8 GT/s, 4 lanes, 128b/130b, per direction (PCI Express 3.0). Twice that, because the model has one wire
/// for both directions and a staging SSD is read as fast as it is written.
const SSD_WIRE_MB_S: f64 = 2.0 * 8_000.0 * 4.0 * (128.0 / 130.0) / 8.0;
/// Sequential write latency of an Intel P4500: 13 us (Lenovo product guide for the P4500, table 2). Its volatile part is
/// behind power-loss protection, so a flush costs nothing.
const SSD_OVERHEAD_US: f64 = 13.0;
/// What the protected buffer takes in before a write has to wait for flash: assumed.
const SSD_BUFFER_BYTES: u64 = 8 << 20;
/// 100 Gbit/s Ethernet: assumed, the source names none. Twice 25 would cap both designs at 6.25 GB/s.
const NETWORK_MB_S: f64 = 100_000.0 / 8.0;
/// Open zones per disk that live writes go to: this project's bound of open extents per OSD (OSD_OPEN_EXTENTS_MAX).
const OPEN_ZONES: usize = 8;
/// One destaging run of one disk: a quarter of a zone of 256 MiB, written in one sequence: assumed.
const DESTAGE_BYTES: u64 = 64 << 20;
/// Disks destaged side by side, so that a third of the disks is free for reads: assumed.
const DESTAGE_RUNS: usize = 32;
/// Space for staged blocks. A real one is larger; this one is in its steady state after seconds of simulated time.
const STAGING_BYTES: u64 = 16 << 30;
/// Reads of whole blocks from every disk, per second, in the scenario with reads: assumed. About a third of what a
/// 7200 rpm disk can do with blocks of this size (seek 7.4 ms + half a turn 4.2 ms + transfer 21 ms).
pub const READS_PER_DISK_S: f64 = 10.0;
/// "Average load" as a part of the staged host's peak: assumed, the usual ratio of daily mean to daily peak.
pub const AVERAGE_SHARE: f64 = 0.5;
/// "Peak load": just below what the staged host can take, as an operator would let it run: assumed.
pub const PEAK_SHARE: f64 = 0.95;

/// A host keeps up when so much of what arrived in the measured time was acknowledged in it ...
pub const KEEPS_UP_SHARE: f64 = 0.98;
/// ... and 95 % of it within this time.
pub const KEEPS_UP_P95_MS: f64 = 1_000.0;

/// Simulated seconds before anything is recorded, and while it is.
const WARM_UP_S: f64 = 10.0;
const MEASURED_S: f64 = 30.0;

/// What the published comparison says (same source; the range of its two figures each).
pub const SEED_PEAK_RATIO: (f64, f64) = (2.0, 2.5);
pub const SEED_P95_AT_PEAK_PERCENT: (f64, f64) = (-20.0, -15.0);
pub const SEED_P95_AT_AVERAGE_PERCENT: (f64, f64) = (10.0, 15.0);

/// A host.
#[derive(Clone, Debug, Serialize)]
pub struct Parameters {
    pub disks: usize,
    pub block_bytes: u64,
    pub network_mb_s: f64,
    pub open_zones: usize,
    pub destage_bytes: u64,
    pub destage_runs: usize,
    pub staging_bytes: u64,
    pub reads_per_disk_s: f64,
    /// Writes are acknowledged when a flush has put them on the medium; otherwise when they are in the drive's volatile
    /// cache, which this project never does.
    pub durable: bool,
    pub warm_up_s: f64,
    pub measured_s: f64,
    pub disk: DriveProfile,
    pub ssd: DriveProfile,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            disks: DISKS,
            block_bytes: BLOCK_BYTES,
            network_mb_s: NETWORK_MB_S,
            open_zones: OPEN_ZONES,
            destage_bytes: DESTAGE_BYTES,
            destage_runs: DESTAGE_RUNS,
            staging_bytes: STAGING_BYTES,
            reads_per_disk_s: 0.0,
            durable: true,
            warm_up_s: WARM_UP_S,
            measured_s: MEASURED_S,
            disk: disk(),
            ssd: ssd(SSD_WRITE_MB_S),
        }
    }
}

/// The modelled SMR disk of this program; its fields name their sources (`hw/src/model/profile.rs`). Written out here,
/// so that a change there does not silently change this comparison.
fn disk() -> DriveProfile {
    let platters = Disk {
        rpm: 7_200.0,
        seek_track_us: 230.0,
        seek_average_us: 7_400.0,
        write_settle_us: 800.0,
        head_switch_us: 300.0,
        outer_mb_s: 247.0,
        inner_mb_s: 123.0,
        actuators: 1,
        ..Disk::default()
    };
    DriveProfile {
        cache: WriteCache { enabled: true, bytes: 32 << 20, destage_bytes: 2 << 20, flush_us: 100.0 },
        media: Media::Disk(platters),
        ..DriveProfile::default()
    }
}

/// One SSD with so many 10^6 bytes of sustained writes a second.
pub fn ssd(write_mb_s: f64) -> DriveProfile {
    let flash = Flash { write_mb_s, buffer_bytes: SSD_BUFFER_BYTES, ..Flash::default() };
    DriveProfile {
        name: "modelled staging SSD".to_owned(),
        shape: Shape { conventional_zones: 0, ..Shape::default() },
        interface: Interface { mb_s: SSD_WIRE_MB_S, overhead_us: SSD_OVERHEAD_US },
        media: Media::Flash(flash),
        ..DriveProfile::default()
    }
}
