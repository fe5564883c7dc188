//! Start-up of a large disk: what it reads, and what it keeps in memory for every block.
//!
//! The disk holds 10,000 closed extents of 1,000 blocks of 1 MiB. Nobody has 10 TB at hand, so records are not there at
//! all, and footers are made when they are read; label and journal are real.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::buffer::Buffer;
use shingle_hw::device::{Command, Identity, Transfer, ZonedDevice};
use shingle_hw::error::DeviceError;
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::{Zone, ZoneCondition, ZoneId};
use shingle_node::extent::footer::{Footer, TocEntry, closing_bytes, footer_bytes};
use shingle_node::extent::journal::log::{begin, journal_zones};
use shingle_node::extent::journal::{Chain, FooterPlace, SlotEntry, SlotState};
use shingle_node::extent::label::Label;
use shingle_node::extent::layout::Layout;
use shingle_node::extent::placement::{Placement, Spot};
use shingle_node::extent::record::{RECORD_HEADER_BYTES, Record, RecordKind};
use shingle_node::osd::extent::Extent;
use shingle_node::osd::findings::Findings;
use shingle_node::osd::mount::{Disk, mount, write_label};
use shingle_proto::ids::{BlockHash, BucketId, ExtentId, OsdId, PutId, VolumeId};

use crate::rig;

const EXTENTS: u32 = 10_000;
const BLOCKS: u32 = 1_000;
/// With header and padding, a record of 1 MiB.
const PAYLOAD_BYTES: u32 = (1 << 20) - RECORD_HEADER_BYTES as u32;

fn geometry() -> Geometry {
    Geometry { zones: 4 * EXTENTS + 4, conventional_zones: 1, ..Geometry::smr(1 << 40) }
}

fn extent(slot: u32) -> ExtentId {
    ExtentId(u128::from(slot) + 1)
}

fn record(slot: u32, number: u32) -> Record {
    let mut hash = [slot as u8; 32];
    // Uniform enough, and ascending: sorting them is not what is measured.
    hash[..4].copy_from_slice(&(number * 4_294_967).to_be_bytes());
    hash[4..8].copy_from_slice(&slot.to_be_bytes());
    Record {
        kind: RecordKind::Block,
        member: 1,
        fragment: 0,
        fragments: 1,
        hash: BlockHash(hash),
        put_id: PutId(u64::from(number)),
        extent: extent(slot),
        bucket: BucketId(1),
        volume: VolumeId(u64::from(slot)),
        sequence: u64::from(number) + 1,
        life_sequence: 1,
        durable_sequence: 0,
        plain_bytes: 1 << 20,
        payload_bytes: PAYLOAD_BYTES,
        payload_crc: 0,
    }
}

/// The closing record of a slot, and where it is.
fn closing(osd: OsdId, layout: &Layout, slot: u32) -> (FooterPlace, Vec<u8>) {
    let mut placement = Placement::new(*layout, Spot { zone: 0, offset_bytes: 4096 }, 0);
    let entry = |number| {
        let record = record(slot, number);
        TocEntry::of(&record, placement.take(record.bytes()).unwrap().offset_in_extent(layout))
    };
    let entries: Vec<TocEntry> = (0..BLOCKS).map(entry).collect();
    let offset_in_extent = placement.take_reserved(closing_bytes(BLOCKS)).unwrap().offset_in_extent(layout);
    let mut footer = Footer {
        extent: extent(slot),
        osd,
        slot,
        created_ms: 1,
        closed_ms: 2,
        records: BLOCKS,
        record_bytes: u64::from(BLOCKS) << 20,
        entries,
    };
    let mut whole = vec![0; closing_bytes(BLOCKS) as usize];
    let digest = footer.encode(&mut whole[RECORD_HEADER_BYTES..]);
    let payload_bytes = footer_bytes(BLOCKS) as u32;
    let sequence = u64::from(BLOCKS) + 1;
    Record { kind: RecordKind::Close, sequence, payload_bytes, ..record(slot, 0) }.seal(&mut whole, None);
    (FooterPlace { offset_in_extent, bytes: whole.len() as u64, digest }, whole)
}

/// Label and journal in memory, extents made up.
struct Large {
    inner: MemoryDevice,
    layout: Layout,
    osd: Cell<OsdId>,
    read_bytes: Cell<u64>,
}

impl Large {
    fn fill(&self, zone: ZoneId, offset_bytes: u64, buffer: &mut [u8]) {
        let Some((slot, zone_in_extent)) = self.layout.slot_of(zone) else { panic!("zone {} is read", zone.0) };
        let (place, whole) = closing(self.osd.get(), &self.layout, slot);
        let at = Spot { zone: zone_in_extent, offset_bytes }.offset_in_extent(&self.layout);
        let from = at.checked_sub(place.offset_in_extent).expect("only the footer is read") as usize;
        buffer.copy_from_slice(&whole[from..from + buffer.len()]);
    }
}

impl ZonedDevice for Large {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }

    fn geometry(&self) -> &Geometry {
        self.inner.geometry()
    }

    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>> {
        let (report, layout) = (self.inner.report(first, count), self.layout);
        Box::pin(async move {
            let mut zones = report.await?;
            for zone in zones.iter_mut().filter(|zone| layout.slot_of(zone.id).is_some()) {
                zone.condition = ZoneCondition::Full;
            }
            Ok(zones)
        })
    }

    fn append(&self, zone: ZoneId, buffer: Buffer, bytes: Range<usize>) -> Transfer<u64> {
        self.inner.append(zone, buffer, bytes)
    }

    fn write(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        self.inner.write(zone, offset_bytes, buffer, bytes)
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, mut buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        self.read_bytes.set(self.read_bytes.get() + bytes.len() as u64);
        if self.layout.slot_of(zone).is_none() {
            return self.inner.read(zone, offset_bytes, buffer, bytes);
        }
        self.fill(zone, offset_bytes, &mut buffer[bytes]);
        Box::pin(async { (Ok(()), buffer) })
    }

    fn flush(&self) -> Command<Result<(), DeviceError>> {
        self.inner.flush()
    }

    fn open(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.inner.open(zone)
    }

    fn close(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.inner.close(zone)
    }

    fn finish(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.inner.finish(zone)
    }

    fn reset(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.inner.reset(zone)
    }

    fn alloc_buffer(&self, bytes: usize) -> Buffer {
        self.inner.alloc_buffer(bytes)
    }
}

async fn write_journal(device: &Large, label: &Label) {
    let entries: Vec<SlotEntry> = (0..EXTENTS)
        .map(|slot| SlotEntry {
            slot,
            state: SlotState::Closed,
            extent: extent(slot),
            footer: Some(closing(label.osd, &label.layout, slot).0),
            records: BLOCKS,
            ..SlotEntry::default()
        })
        .collect();
    let chain = Chain { osd: label.osd, disk: label.disk, chain: 1, epoch: 1, snapshot_batches: 0 };
    begin(device, journal_zones().next().unwrap(), chain, &entries).await.unwrap();
    device.flush().await.unwrap();
}

#[test]
fn ten_million_blocks_start_from_footers_in_sixteen_bytes_each() {
    rig::run(async |world| {
        let inner = MemoryDevice::new(geometry(), "large");
        let layout = Layout::of(&geometry()).unwrap();
        let large = Rc::new(Large { inner, layout, osd: Cell::default(), read_bytes: Cell::default() });
        let disk = Disk::from(large.clone() as Rc<dyn ZonedDevice>);
        assert!(layout.extents >= EXTENTS);
        let label = write_label(&world, &disk, rig::CELL).await.unwrap();
        large.osd.set(label.osd);
        write_journal(&large, &label).await;

        large.read_bytes.set(0);
        let findings = Rc::new(Findings::default());
        let (osd, report) = mount(world.clone(), disk, label, findings.clone(), rig::budgets()).await.unwrap();
        assert_eq!((report.by_footer, report.outcomes.whole), (u64::from(EXTENTS), u64::from(EXTENTS * BLOCKS)));
        assert!(findings.is_empty());
        let stored_bytes = (u64::from(EXTENTS) * u64::from(BLOCKS)) << 20;
        let read_bytes = large.read_bytes.get();
        assert!(read_bytes * 1000 <= stored_bytes, "{read_bytes} of {stored_bytes} bytes were read");

        let mut memory = 0;
        for slot in 0..EXTENTS {
            let extent = osd.extent(extent(slot)).expect("it is there");
            assert_eq!(extent.toc.borrow().len(), BLOCKS as usize);
            assert_eq!(extent.entries.borrow().capacity(), 0);
            memory += extent.toc.borrow().closed_bytes();
        }
        assert!(memory <= 16 * (EXTENTS * BLOCKS) as usize, "{memory} bytes");
        assert!(size_of::<Extent>() <= 1024, "what an extent costs beside its blocks: {}", size_of::<Extent>());
        let record = record(77, 500);
        let found = osd.extent(extent(77)).unwrap().toc.borrow().candidates(&record.hash, record.put_id);
        assert_eq!(found.len(), 1);
    });
}
