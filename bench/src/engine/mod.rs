//! `shingle bench engine`: one OSD on an emulated drive, without network, against fio on the same file system.
//!
//! Both sides write over space that was written right before, with direct I/O, huge pages and the same bytes and flushes;
//! they take turns in one run.

mod host;
mod load;
mod memory;
mod metered;
mod profile;
mod report;
mod rounds;
mod sizes;
mod space;

use std::path::Path;
use std::time::Duration;

use shingle_node::osd::policy::QUEUE_DEPTH_DEFAULT;
use shingle_proto::limits::{BLOCK_BYTES_MAX, KIB, OSD_OPEN_EXTENTS_MAX, SEAL_OVERHEAD_BYTES};

pub use report::EngineReport;

use self::load::Load;
use self::rounds::{AppendRounds, Bench, Flushes, Peer};
use crate::error::BenchError;
use crate::fio::{Engine, Sync};

/// Blocks of 4 MiB as sealed, over as many open extents as an OSD has at most: a zone takes one append at a time, so this
/// is what is in flight at the drive. As many writers again wait for the running flush, and the records of as many arrive:
/// a virtual disk tends to complete all it has at once, and has nothing to do until the next ones come.
const LARGE: Load = Load {
    number: 0,
    payload_bytes: BLOCK_BYTES_MAX + SEAL_OVERHEAD_BYTES,
    extents: OSD_OPEN_EXTENTS_MAX,
    writers: 3 * OSD_OPEN_EXTENTS_MAX,
    readers: 40,
    records_to_read: 1024,
    zones_per_extent: 4,
    peers: &[LARGE_PEER],
};
/// The same in extents of its own, so that a run is long enough: what happens at its start and end is a tenth of 80
/// appends.
const LARGE_AGAIN: Load = Load { number: 3, peers: &[LARGE_PEER_WITHOUT_FLUSH], ..LARGE };
/// Appends of 64 KiB in flight, ours and fio's.
const MEDIUM_WRITERS: usize = 32;
/// Blocks of 64 KiB as sealed, over as many open extents.
const MEDIUM: Load = Load {
    number: 1,
    payload_bytes: 64 * KIB as u32 + SEAL_OVERHEAD_BYTES,
    extents: OSD_OPEN_EXTENTS_MAX,
    writers: MEDIUM_WRITERS,
    readers: 64,
    records_to_read: 24 * 1024,
    zones_per_extent: 2,
    peers: &MEDIUM_PEERS,
};
/// The largest payload whose record is one unit of 4 KiB.
const SMALL: Load = Load {
    number: 2,
    payload_bytes: 4 * KIB as u32 - 128,
    extents: 1,
    writers: 256,
    readers: 64,
    records_to_read: 32 * 1024,
    zones_per_extent: 1,
    peers: &[],
};
/// Reads of fio's in flight at the drive: what an OSD gives a drive at most, of small ones. Its readers beyond that wait
/// for their turn, so that the drive always has as many. Of large ones it gives it no more than keep it busy.
const READ_DEPTH: u32 = QUEUE_DEPTH_DEFAULT;

/// Appends of one run, at most.
const LARGE_RUN_RECORDS: u64 = 256;
const MEDIUM_RUN_RECORDS: u64 = 4096;

/// Targets: ratios to fio, and bytes written for bytes accepted.
const APPEND_TARGET: f64 = 0.95;
const GROUP_COMMIT_TARGET: f64 = 3.0;
const READ_TARGET: f64 = 0.95;
const LARGE_WRITTEN_TARGET: f64 = 1.01;
const MEDIUM_WRITTEN_TARGET: f64 = 1.10;

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measurement {
    LargeAppends,
    MediumAppends,
    SmallReads,
    MediumReads,
    LargeReads,
}

impl Measurement {
    /// All of them, by the names people give.
    pub const ALL: [(&'static str, Self); 5] = [
        ("append-4m", Self::LargeAppends),
        ("append-64k", Self::MediumAppends),
        ("read-4k", Self::SmallReads),
        ("read-64k", Self::MediumReads),
        ("read-4m", Self::LargeReads),
    ];

    /// What it stores and reads.
    fn loads(self) -> &'static [Load] {
        match self {
            Self::LargeAppends => &[LARGE, LARGE_AGAIN],
            Self::LargeReads => &[LARGE],
            Self::MediumAppends | Self::MediumReads => &[MEDIUM],
            Self::SmallReads => &[SMALL],
        }
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct EnginePlan {
    pub rounds: usize,
    /// `None`: everything.
    pub only: Option<Measurement>,
    /// Appends of one round at most, and space for as many only: for disks whose flushes take long, or that are small.
    pub records_max: Option<u64>,
    /// How long a round waits for others on this computer to be done, at most.
    pub patience: Duration,
}

/// A host makes a record durable before it answers, for many writers at once. No mode of fio does. The first four peers ask
/// for a sync per write at depth 32. In two of them each sync is waited for, so that there is one for every write: the
/// target is to them. In the others nobody waits for the sync of his write, and the kernel makes one of many, a group
/// commit of its own: of half of the depth at best, where it has workers for as many syncs. In the next two each of 32
/// writers waits for his sync, and the kernel merges too. The last one says what the disk takes when nothing is flushed,
/// which bounds every ratio.
const MEDIUM_PEERS: [Peer; 7] = [
    medium_peer("fio libaio, fsync per write, depth 32", Engine::Libaio, EACH_FULL, Some(GROUP_COMMIT_TARGET)),
    medium_peer("fio libaio, fdatasync per write, depth 32", Engine::Libaio, EACH_DATA, Some(GROUP_COMMIT_TARGET)),
    medium_peer("fio io_uring, merged fsyncs, depth 32", Engine::IoUring, EACH_FULL, None),
    medium_peer("fio io_uring, merged fdatasyncs, depth 32", Engine::IoUring, EACH_DATA, None),
    medium_peer("fio, write + fsync, 32 threads", Engine::Psync, EACH_FULL, None),
    medium_peer("fio, write + fdatasync, 32 threads", Engine::Psync, EACH_DATA, None),
    medium_peer("fio, no flush at all, depth 32", Engine::IoUring, Sync::Never, None),
];

const LARGE_PEER: Peer = large_peer("fio, same bytes, flushes and depth", Flushes::AsOurs, Some(APPEND_TARGET));
const LARGE_PEER_WITHOUT_FLUSH: Peer = large_peer("fio, no flush at all, same depth", Flushes::Each(Sync::Never), None);

const EACH_FULL: Sync = Sync::Full { writes: 1 };
const EACH_DATA: Sync = Sync::Data { writes: 1 };

const fn medium_peer(name: &'static str, engine: Engine, sync: Sync, target: Option<f64>) -> Peer {
    let writers = MEDIUM_WRITERS as u32;
    let (depth, threads) = match engine {
        Engine::IoUring | Engine::Libaio => (writers, 1),
        Engine::Psync => (1, writers),
    };
    Peer { name, engine, flushes: Flushes::Each(sync), depth, threads, target }
}

const fn large_peer(name: &'static str, flushes: Flushes, target: Option<f64>) -> Peer {
    Peer { name, engine: Engine::IoUring, flushes, depth: OSD_OPEN_EXTENTS_MAX as u32, threads: 1, target }
}

/// Measures below `parent`, and removes everything again.
pub fn run(parent: &Path, plan: EnginePlan) -> Result<EngineReport, BenchError> {
    let folder = tempfile::tempdir_in(parent).map_err(BenchError::io(format!("folder in {}", parent.display())))?;
    let wanted = |measurement| plan.only.is_none_or(|only| only == measurement);
    let loads: &[Load] = match plan.only {
        Some(only) => only.loads(),
        None => &[LARGE, LARGE_AGAIN, MEDIUM, SMALL],
    };
    let mut bench = Bench::prepare(folder.path(), plan, loads)?;
    let appends = [
        (Measurement::LargeAppends, "durable 4 MiB appends", LARGE_RUN_RECORDS, LARGE_WRITTEN_TARGET),
        (Measurement::MediumAppends, "durable 64 KiB appends, 32 writers", MEDIUM_RUN_RECORDS, MEDIUM_WRITTEN_TARGET),
    ];
    for (measurement, name, records, written_target) in appends {
        if wanted(measurement) {
            bench.append(&AppendRounds { loads: measurement.loads(), name, records, written_target })?;
        }
    }
    for (measurement, load, name) in [
        (Measurement::SmallReads, SMALL, "random reads of 4 KiB records"),
        (Measurement::MediumReads, MEDIUM, "random reads of 64 KiB blocks"),
        (Measurement::LargeReads, LARGE, "random reads of 4 MiB blocks"),
    ] {
        if wanted(measurement) {
            bench.read(load, name, READ_TARGET)?;
        }
    }
    Ok(bench.finish())
}
