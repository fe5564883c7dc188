//! What the tests of this package share: a world, small disks, blocks made from numbers, and a disk that loses power.

pub mod power;

use std::rc::Rc;
use std::time::Duration;

use shingle_hw::backend::file;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::buffer::BufferPool;
use shingle_hw::device::ZonedDevice;
use shingle_hw::geometry::Geometry;
use shingle_hw::ring::Ring;
use shingle_node::osd::budget::Budgets;
use shingle_node::osd::fetch::ReadKey;
use shingle_node::osd::findings::Findings;
use shingle_node::osd::mount::{Disk, MountError, MountReport, mount, read_label, write_label};
use shingle_node::osd::refusal::Refusal;
use shingle_node::osd::store::{AppendKey, NewExtent, Osd};
use shingle_proto::frame::Class;
use shingle_proto::ids::{BlockHash, BucketId, CellId, ExtentId, Generation, PutId, VolumeId};
use shingle_proto::message::Appended;
use shingle_seam::World;

pub const CELL: CellId = CellId(0xce11);
pub const BUDGET_BYTES: u64 = 64 << 20;

/// Runs a test's future on one thread, with a world of its own.
pub fn run<T>(test: impl AsyncFnOnce(World) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async { test(shingle_seam::on_tokio::world(1)).await })
}

/// 20 zones of 256 KiB, extents of two zones; transfers of 64 KiB, so that larger records take several.
pub fn geometry() -> Geometry {
    Geometry {
        zones: 20,
        zone_bytes: 256 << 10,
        zone_capacity_bytes: 256 << 10,
        conventional_zones: 1,
        sector_bytes: 4096,
        open_zones_max: 9,
        active_zones_max: 9,
        transfer_bytes_max: 64 << 10,
    }
}

pub fn memory() -> MemoryDevice {
    MemoryDevice::new(geometry(), "serial-1")
}

pub struct Mounted {
    pub osd: Rc<Osd>,
    pub report: MountReport,
    pub findings: Rc<Findings>,
    pub budgets: Budgets,
}

/// Labels the disk if it is empty, and mounts it, as the only one of its shard.
pub async fn start(world: &World, device: Rc<dyn ZonedDevice>) -> Result<Mounted, MountError> {
    start_within(world, device, budgets()).await
}

/// As [`start`], with a part of a shard's budgets.
pub async fn start_within(world: &World, device: Rc<dyn ZonedDevice>, budgets: Budgets) -> Result<Mounted, MountError> {
    let disk = Disk::from(device);
    let label = match read_label(&disk).await? {
        Some(label) => label,
        None => write_label(world, &disk, CELL).await?,
    };
    let findings = Rc::new(Findings::default());
    let (osd, report) = mount(world.clone(), disk, label, findings.clone(), budgets.clone()).await?;
    Ok(Mounted { osd, report, findings, budgets })
}

pub fn budgets() -> Budgets {
    Budgets::of(BUDGET_BYTES)
}

pub fn new_extent(number: u128) -> NewExtent {
    NewExtent { extent: ExtentId(number), volume: VolumeId(70), bucket: BucketId(80), member: 2 }
}

/// A block: its number, and its sealed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    pub number: u64,
    pub bytes: u32,
}

impl Block {
    pub fn payload(self) -> Vec<u8> {
        let mut state = self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        std::iter::repeat_with(next).take(self.bytes as usize).collect()
    }

    pub fn hash(self) -> BlockHash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&self.number.wrapping_mul(0xd134_2543_de82_ef95).to_le_bytes());
        hash[31] = 1;
        BlockHash(hash)
    }

    pub fn put_id(self) -> PutId {
        PutId(self.number ^ 0x5555)
    }
}

pub fn block(number: u64, bytes: u32) -> Block {
    Block { number, bytes }
}

pub fn append_key(extent: u128, block: Block) -> AppendKey {
    AppendKey {
        extent: ExtentId(extent),
        hash: block.hash(),
        put_id: block.put_id(),
        bucket: BucketId(80),
        plain_bytes: block.bytes,
        generation: Generation(0),
        class: Class::Client,
    }
}

pub fn read_key(extent: u128, block: Block) -> ReadKey {
    ReadKey {
        extent: ExtentId(extent),
        hash: block.hash(),
        put_id: block.put_id(),
        generation: Generation(0),
        class: Class::Client,
    }
}

pub async fn put(osd: &Rc<Osd>, extent: u128, block: Block) -> Result<Appended, Refusal> {
    let mut buffer = osd.receive_buffer(ExtentId(extent), block.bytes)?;
    buffer.as_mut().copy_from_slice(&block.payload());
    osd.append(append_key(extent, block), buffer).await
}

pub async fn get(osd: &Rc<Osd>, extent: u128, block: Block) -> Result<Vec<u8>, Refusal> {
    osd.read_block(read_key(extent, block)).await.map(|(record, buffer)| {
        assert_eq!(record.plain_bytes, block.bytes);
        buffer.as_ref().to_vec()
    })
}

/// Reads a block and compares it.
pub async fn assert_stored(osd: &Rc<Osd>, extent: u128, block: Block) {
    let read = get(osd, extent, block).await;
    assert!(read == Ok(block.payload()), "extent {extent} {block:?}: {:?}", read.map(|bytes| bytes.len()));
}

/// Opens an emulated drive in a file, with a ring of its own whose completions a task of this thread reaps.
pub async fn open_file(world: &World, path: &std::path::Path) -> Rc<dyn ZonedDevice> {
    let ring = Ring::new(64).unwrap();
    let mut opened = None;
    // An earlier life holds the lock until the kernel has given back what it had in flight.
    until(world, "the emulated drive's file is free", || {
        match file::open(path, ring.clone(), BufferPool::new(32 << 20).unwrap()) {
            Err(file::OpenError::Locked { .. }) => false,
            found => {
                opened = Some(found.unwrap());
                true
            }
        }
    })
    .await;
    let device = opened.unwrap();
    let ring = Rc::downgrade(&ring);
    drop(tokio::task::spawn_local(async move {
        while let Some(ring) = ring.upgrade() {
            if ring.poll() == 0 {
                drop(ring);
                tokio::task::yield_now().await;
            }
        }
    }));
    Rc::new(device)
}

/// Waits until something holds that happens by itself.
pub async fn until(world: &World, what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        world.tasks.sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}: not within ten seconds");
}
