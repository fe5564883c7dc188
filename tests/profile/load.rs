//! The loads: durable appends by many writers, and clients' reads beside everything else a disk does.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use shingle_hw::model::profile::DriveProfile;
use shingle_node::osd::fetch::ReadKey;
use shingle_node::osd::policy::DiskPolicy;
use shingle_node::osd::store::{AppendKey, NewExtent, Osd};
use shingle_proto::frame::Class;
use shingle_proto::ids::{BlockHash, BucketId, ExtentId, Generation, PutId, VolumeId};
use shingle_seam::World;

use super::outcome::Outcome;
use super::stage::start;
use crate::sim::executor::Executor;

/// Extents that are open at once, as a few volumes of a cell would have them on one disk.
const EXTENTS: u64 = 4;
const LIMIT: Duration = Duration::from_secs(30 * 24 * 3600);

/// How a load is shaped.
#[derive(Clone, Copy)]
pub struct Load {
    pub record_bytes: u32,
    /// Requests of clients in flight.
    pub clients: u64,
    /// Requests of clients in all.
    pub requests: u64,
    /// What the shard may hold, in bytes.
    pub budget_bytes: u64,
}

/// The record of a number, in one of the extents from `first` on.
fn key(number: u64, first: u64) -> AppendKey {
    let extent = first + number % EXTENTS;
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    AppendKey {
        extent: ExtentId(u128::from(extent) + 1),
        hash: BlockHash(hash),
        put_id: PutId(number + 1),
        bucket: BucketId(extent + 1),
        plain_bytes: 1,
        generation: Generation(0),
        class: Class::Client,
    }
}

/// Extents lie on the disk in the order in which they are created, the first at the outer edge.
async fn create_extents(osd: &Rc<Osd>, numbers: Range<u64>) {
    for number in numbers {
        let extent = ExtentId(u128::from(number) + 1);
        let new = NewExtent { extent, volume: VolumeId(number + 1), bucket: BucketId(number + 1), member: 0 };
        osd.create_extent(new).await.expect("a fresh disk has room");
    }
}

async fn append(osd: &Rc<Osd>, key: AppendKey, bytes: u32) {
    let key = AppendKey { plain_bytes: bytes, ..key };
    let buffer = osd.receive_buffer(key.extent, bytes).expect("the budget holds what is in flight");
    osd.append(key, buffer).await.expect("a sound drive takes it");
}

/// Durable appends, as many in flight as there are clients.
pub fn appends(drive: &DriveProfile, seed: u64, policy: DiskPolicy, load: Load) -> Outcome {
    let (executor, drive) = (Executor::new(seed), drive.clone());
    executor.clone().run(LIMIT, async move {
        let (world, osd) = start(&executor, &drive, seed, policy, load.budget_bytes).await;
        create_extents(&osd, 0..EXTENTS).await;
        let began = world.clock.now();
        let (next, latencies) = (Cell::new(0), RefCell::new(Vec::new()));
        let client = async || {
            while next.get() < load.requests {
                let number = next.replace(next.get() + 1);
                let began = world.clock.now();
                append(&osd, key(number, 0), load.record_bytes).await;
                latencies.borrow_mut().push(world.clock.now() - began);
            }
        };
        join_all((0..load.clients).map(|_| client())).await;
        let bytes = load.requests * u64::from(load.record_bytes);
        Outcome::of(Some((bytes, world.clock.now() - began)), latencies.take())
    })
}

/// Records that are there to be read.
const RECORDS: u64 = 512;
/// Reads of repair, scrub and compaction in flight, each.
const BACKGROUND: u64 = 16;

async fn read(executor: &Executor, osd: &Rc<Osd>, class: Class, first: u64) {
    let AppendKey { extent, hash, put_id, generation, .. } = key(executor.below(RECORDS), first);
    osd.read_block(ReadKey { extent, hash, put_id, generation, class }).await.expect("a sound drive has it");
}

/// Reads of clients, as many in flight as there are clients, while repair, scrub and compaction read the same records as
/// much as they get. The rate is that of all of them.
pub fn reads(drive: &DriveProfile, seed: u64, policy: DiskPolicy, load: Load) -> Outcome {
    read_beside(drive, seed, policy, load, async |osd| {
        create_extents(&osd, 0..EXTENTS).await;
        0
    })
}

/// As `reads`, but what the others read lies at the inner edge: old data, as repair and scrub mostly meet it, beside new.
pub fn reads_apart(drive: &DriveProfile, seed: u64, policy: DiskPolicy, load: Load) -> Outcome {
    read_beside(drive, seed, policy, load, async |osd| {
        create_extents(&osd, 0..EXTENTS).await;
        let inner = u64::from(osd.label.layout.extents) - EXTENTS;
        for number in EXTENTS..inner {
            create_extents(&osd, number..number + 1).await;
            let closed = osd.close_extent(ExtentId(u128::from(number) + 1), Generation(0)).await;
            closed.expect("an empty extent can be closed");
        }
        create_extents(&osd, inner..inner + EXTENTS).await;
        inner
    })
}

/// `prepare` makes the extents; clients read from the first ones, the others from those it answers.
fn read_beside(
    drive: &DriveProfile,
    seed: u64,
    policy: DiskPolicy,
    load: Load,
    prepare: impl AsyncFn(Rc<Osd>) -> u64 + 'static,
) -> Outcome {
    let (executor, drive) = (Executor::new(seed), drive.clone());
    executor.clone().run(LIMIT, async move {
        let (world, osd): (World, _) = start(&executor, &drive, seed, policy, load.budget_bytes).await;
        let others_first = prepare(osd.clone()).await;
        for first in BTreeSet::from([0, others_first]) {
            for number in 0..RECORDS {
                append(&osd, key(number, first), load.record_bytes).await;
            }
        }
        let began = world.clock.now();
        let (left, all, latencies) = (Cell::new(load.requests), Cell::new(0), RefCell::new(Vec::new()));
        let reader = async |class: Class| {
            while left.get() > 0 {
                let client = class == Class::Client;
                if client {
                    left.set(left.get() - 1);
                }
                let began = world.clock.now();
                read(&executor, &osd, class, if client { 0 } else { others_first }).await;
                all.set(all.get() + 1);
                if client {
                    latencies.borrow_mut().push(world.clock.now() - began);
                }
            }
        };
        let clients = (0..load.clients).map(|_| Class::Client);
        let others = [Class::Repair, Class::Scrub, Class::Compaction];
        let background = (0..BACKGROUND).flat_map(|_| others);
        join_all(clients.chain(background).map(reader)).await;
        let bytes = all.get() * u64::from(load.record_bytes);
        Outcome::of(Some((bytes, world.clock.now() - began)), latencies.take())
    })
}
