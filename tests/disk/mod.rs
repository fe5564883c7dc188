//! One OSD on one small disk in memory, in simulated time: what the crash states and the model test drive.

pub mod block;

use std::rc::Rc;

use shingle_hw::device::ZonedDevice;
use shingle_hw::geometry::Geometry;
use shingle_node::osd::budget::Budgets;
use shingle_node::osd::fetch::ReadKey;
use shingle_node::osd::findings::Findings;
use shingle_node::osd::mount::{Disk, MountError, MountReport, mount, read_label, write_label};
use shingle_node::osd::refusal::Refusal;
use shingle_node::osd::store::{AppendKey, NewExtent, Osd};
use shingle_proto::frame::Class;
use shingle_proto::ids::{BucketId, CellId, ExtentId, Generation, VolumeId};
use shingle_proto::message::{Appended, ExtentReport};
use shingle_seam::World;

pub use block::Block;

/// The serial number of every disk here.
pub const SERIAL: &str = "serial-1";
const CELL: CellId = CellId(0xce11);
const BUCKET: BucketId = BucketId(80);
const BUDGET_BYTES: u64 = 64 << 20;

/// 24 zones of 64 KiB, extents of two zones; transfers of 16 KiB, so that larger records take several.
pub fn small() -> Geometry {
    Geometry {
        zones: 24,
        zone_bytes: 64 << 10,
        zone_capacity_bytes: 64 << 10,
        conventional_zones: 1,
        sector_bytes: 4096,
        open_zones_max: 8,
        active_zones_max: 8,
        transfer_bytes_max: 16 << 10,
    }
}

/// A disk in use.
pub struct Mounted {
    pub osd: Rc<Osd>,
    pub report: MountReport,
    pub findings: Rc<Findings>,
}

/// Labels the disk if it is empty, and mounts it.
pub async fn start(world: &World, device: Rc<dyn ZonedDevice>) -> Result<Mounted, MountError> {
    let disk = Disk::from(device);
    let label = match read_label(&disk).await? {
        Some(label) => label,
        None => write_label(world, &disk, CELL).await?,
    };
    let (findings, budgets) = (Rc::new(Findings::default()), Budgets::of(BUDGET_BYTES));
    let (osd, report) = mount(world.clone(), disk, label, findings.clone(), budgets).await?;
    Ok(Mounted { osd, report, findings })
}

/// What the OSD says of every extent.
pub fn extents(osd: &Osd) -> Vec<ExtentReport> {
    osd.report(([127, 0, 0, 1], 1).into()).extents
}

pub async fn create(osd: &Rc<Osd>, extent: u128) -> Result<u64, Refusal> {
    let new = NewExtent { extent: ExtentId(extent), volume: VolumeId(70), bucket: BUCKET, member: 2 };
    osd.create_extent(new).await
}

pub async fn put(osd: &Rc<Osd>, extent: u128, block: Block, generation: Generation) -> Result<Appended, Refusal> {
    let mut buffer = osd.receive_buffer(ExtentId(extent), block.bytes)?;
    buffer.as_mut().copy_from_slice(&block.payload());
    let key = AppendKey {
        extent: ExtentId(extent),
        hash: block.hash(),
        put_id: block.put_id(),
        bucket: BUCKET,
        plain_bytes: block.bytes,
        generation,
        class: Class::Client,
    };
    osd.append(key, buffer).await
}

/// Reads a block: whether its bytes are those that were put.
pub async fn get(osd: &Rc<Osd>, extent: u128, block: Block, generation: Generation) -> Result<bool, Refusal> {
    let (extent, class) = (ExtentId(extent), Class::Client);
    let key = ReadKey { extent, hash: block.hash(), put_id: block.put_id(), generation, class };
    let (record, buffer) = osd.read_block(key).await?;
    Ok(record.plain_bytes == block.bytes && buffer.as_ref() == block.payload())
}
