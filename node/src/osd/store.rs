//! One OSD: its extents and what may be asked of them. Decides and queues; `commit` writes, `fetch` reads.
//!
//! Every decision is made before anything is written: a full or closed extent refuses, it does not fail (invariant 6).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use local_sync::oneshot;
use local_sync::semaphore::Semaphore;
use shingle_hw::device::ZonedDevice;
use shingle_hw::zone::{ZoneCondition, ZoneId};
use shingle_proto::frame::Class;
use shingle_proto::ids::{BlockHash, BucketId, ExtentId, Generation, OsdId, PutId, VolumeId};
use shingle_proto::limits::{BLOCK_BYTES_MAX, OSD_QUEUE_RECORDS_MAX, SEALED_BYTES_MAX};
use shingle_proto::message::{Appended, OsdState};
use shingle_seam::World;

use super::budget::{Budgets, RecordBuffer};
use super::checks::Checks;
use super::commit::Commit;
use super::extent::{Extent, Item, State, Work};
use super::fetch::ReadsInFlight;
use super::findings::Findings;
use super::ledger::Ledger;
use super::refusal::Refusal;
use super::room::Room;
use super::scrub::Scrub;
use super::turns::Turns;
use crate::extent::format::SECTOR_BYTES;
use crate::extent::header::ExtentHeader;
use crate::extent::label::Label;
use crate::extent::layout::Layout;
use crate::extent::placement::Spot;
use crate::extent::record::{RECORD_HEADER_BYTES, Record, RecordKind, record_bytes};
use crate::extent::toc::Place;
use crate::metrics::OsdMetrics;

/// What a put names beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct AppendKey {
    pub extent: ExtentId,
    pub hash: BlockHash,
    pub put_id: PutId,
    pub bucket: BucketId,
    pub plain_bytes: u32,
    pub generation: Generation,
    pub class: Class,
}

/// What a new extent is for.
#[derive(Clone, Copy, Debug)]
pub struct NewExtent {
    pub extent: ExtentId,
    pub volume: VolumeId,
    pub bucket: BucketId,
    pub member: u8,
}

/// One disk as a storage target, owned by one shard.
pub struct Osd {
    pub(super) world: World,
    pub(super) device: Rc<dyn ZonedDevice>,
    /// How people call the disk.
    pub path: String,
    pub label: Label,
    pub(super) state: Cell<OsdState>,
    pub(super) extents: RefCell<BTreeMap<ExtentId, Rc<Extent>>>,
    pub(super) free_slots: RefCell<BTreeSet<u32>>,
    /// What is known of every slot, and the journal that remembers it.
    pub(super) ledger: Ledger,
    /// Zones that no extent has and that still hold resources of the device.
    pub(super) stray_zones: Cell<usize>,
    /// Zones that turned read-only or offline, and were told of.
    pub(super) lost_zones: RefCell<BTreeMap<ZoneId, ZoneCondition>>,
    /// Who names the blocks of a lost zone.
    pub(super) naming: Rc<Semaphore>,
    pub(super) commit: Commit,
    pub(super) reads_in_flight: ReadsInFlight,
    pub(super) checks: Checks,
    pub turns: Turns,
    pub(super) scrub: Scrub,
    pub(super) room: Room,
    pub(super) metrics: OsdMetrics,
    pub(super) findings: Rc<Findings>,
    pub(super) budgets: Budgets,
}

impl Osd {
    /// An OSD of what mounting found.
    pub(super) fn new(
        world: World,
        device: Rc<dyn ZonedDevice>,
        path: String,
        label: Label,
        findings: Rc<Findings>,
        budgets: Budgets,
    ) -> Self {
        let metrics = OsdMetrics::new(world.clock.now());
        let turns = Turns::new(budgets.disk, device.geometry().zones);
        Self {
            world,
            device,
            path,
            label,
            state: Cell::new(OsdState::Healthy),
            extents: RefCell::default(),
            free_slots: RefCell::default(),
            ledger: Ledger::default(),
            stray_zones: Cell::default(),
            lost_zones: RefCell::default(),
            naming: Rc::new(Semaphore::new(1)),
            commit: Commit::default(),
            reads_in_flight: ReadsInFlight::default(),
            checks: Checks::default(),
            turns,
            scrub: Scrub::default(),
            room: Room::default(),
            metrics,
            findings,
            budgets,
        }
    }

    pub fn id(&self) -> OsdId {
        self.label.osd
    }

    pub fn state(&self) -> OsdState {
        self.state.get()
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.label.layout
    }

    /// An extent of this OSD, in whatever state.
    pub fn extent(&self, extent: ExtentId) -> Option<Rc<Extent>> {
        self.extents.borrow().get(&extent).cloned()
    }

    /// A buffer for a record's payload, before it is read from the socket.
    pub fn receive_buffer(&self, extent: ExtentId, payload_bytes: u32) -> Result<RecordBuffer, Refusal> {
        let extent = self.extent(extent).ok_or(Refusal::UnknownExtent)?;
        extent.check_open()?;
        self.check_size(payload_bytes)?;
        let bytes = record_bytes(payload_bytes);
        let grant =
            self.budgets.receive.take(bytes).ok_or(Refusal::Busy("the disk's part of the byte budget is spent"))?;
        Ok(RecordBuffer::new(self.device.alloc_buffer(bytes as usize), payload_bytes, grant))
    }

    fn check_size(&self, payload_bytes: u32) -> Result<(), Refusal> {
        let fits = payload_bytes <= SEALED_BYTES_MAX && record_bytes(payload_bytes) <= self.layout().zone_used_bytes;
        if fits { Ok(()) } else { Err(Refusal::RecordTooLarge { bytes: u64::from(payload_bytes) }) }
    }

    pub(super) fn check_healthy(&self) -> Result<(), Refusal> {
        match self.state.get() {
            OsdState::Failed => Err(Refusal::DeviceFailed(format!("disk {} has failed", self.path))),
            _ => Ok(()),
        }
    }

    /// Creates an extent and makes its header durable; the bytes of records it can hold. A repeat of the same request
    /// is answered alike.
    pub async fn create_extent(self: &Rc<Self>, new: NewExtent) -> Result<u64, Refusal> {
        self.check_healthy()?;
        let payload_bytes = self.layout().payload_bytes();
        let (waiter, done) = oneshot::channel();
        if self.extent(new.extent).is_none() {
            self.make_slot().await?;
        }
        if let Some(extent) = self.extent(new.extent) {
            let header = &extent.header;
            if (header.volume, header.bucket, header.member) != (new.volume, new.bucket, new.member) {
                return Err(Refusal::ExtentExists);
            }
            match extent.state.get() {
                State::Creating => extent.creating.borrow_mut().push(waiter),
                State::Open => return Ok(payload_bytes),
                State::Closing | State::Closed => return Err(Refusal::ExtentClosed),
                State::Failed => return Err(extent.failed()),
            }
        } else {
            let extent = self.allocate(new)?;
            extent.creating.borrow_mut().push(waiter);
            let mut buffer = self.device.alloc_buffer(SECTOR_BYTES);
            if let Some(sector) = buffer.get_mut(..SECTOR_BYTES) {
                sector.copy_from_slice(&extent.header.encode());
            }
            let item = Item {
                ticket: 0,
                class: Class::Client,
                spot: Spot { zone: 0, offset_bytes: 0 },
                buffer: Some(buffer),
                bytes: SECTOR_BYTES as u64,
                work: Work::Header,
                accepted: self.world.clock.now(),
            };
            self.submit(&extent, item);
        }
        let created = done.await.unwrap_or_else(|_| Err(Refusal::DeviceFailed("the shard stops".to_owned())))?;
        self.journal_written().await;
        Ok(created)
    }

    fn allocate(&self, new: NewExtent) -> Result<Rc<Extent>, Refusal> {
        self.check_zone_limits()?;
        if self.lacks_room() {
            return Err(Refusal::NoFreeExtent("the file system that holds the disk is full, or a limit of it is met"));
        }
        let slot = self.free_slots.borrow_mut().pop_first().ok_or(Refusal::NoFreeExtent("the disk is full"))?;
        let header = ExtentHeader {
            extent: new.extent,
            volume: new.volume,
            bucket: new.bucket,
            member: new.member,
            created_ms: self.world.clock.unix_ms(),
            osd: self.id(),
            slot,
        };
        let extent = Rc::new(Extent::create(header, self.layout(), SECTOR_BYTES as u64));
        self.extents.borrow_mut().insert(new.extent, extent.clone());
        Ok(extent)
    }

    /// Appends a record and answers when it is durable. The same (extent, hash, put id) again is answered with the
    /// same place.
    pub async fn append(self: &Rc<Self>, key: AppendKey, payload: RecordBuffer) -> Result<Appended, Refusal> {
        self.check_healthy()?;
        let extent = self.extent(key.extent).ok_or(Refusal::UnknownExtent)?;
        extent.check_generation(key.generation)?;
        if key.bucket != extent.header.bucket || key.plain_bytes > BLOCK_BYTES_MAX {
            return Err(Refusal::Malformed("the extent belongs to another bucket, or the block is too large"));
        }
        self.check_size(payload.payload_bytes())?;
        let name = (key.hash, key.put_id);
        let (waiter, done) = oneshot::channel();
        let twin_waits = extent.waiting.borrow().contains_key(&name);
        if !twin_waits && let Some(place) = self.find_twin(&extent, &key).await? {
            let free_bytes = extent.placement.borrow().free_bytes();
            return Ok(Appended { offset_bytes: place.offset_bytes(), free_bytes });
        }
        if let Some(waiters) = extent.waiting.borrow_mut().get_mut(&name) {
            waiters.push(waiter);
        } else {
            extent.check_open()?;
            self.accept(&extent, &key, payload)?;
            extent.waiting.borrow_mut().insert(name, vec![waiter]);
        }
        done.await.unwrap_or_else(|_| Err(extent.failed()))
    }

    /// Takes room for a record and queues it.
    fn accept(self: &Rc<Self>, extent: &Rc<Extent>, key: &AppendKey, payload: RecordBuffer) -> Result<(), Refusal> {
        if self.commit.accepted() >= OSD_QUEUE_RECORDS_MAX {
            return Err(Refusal::Busy("the OSD's queue is full"));
        }
        let payload_bytes = payload.payload_bytes();
        let record = Record {
            kind: RecordKind::Block,
            fragment: 0,
            fragments: 1,
            hash: key.hash,
            put_id: key.put_id,
            plain_bytes: key.plain_bytes,
            ..blank_record(extent, payload_bytes)
        };
        if self.lacks_room_for(record.bytes()) {
            return Err(Refusal::ExtentFull { free_bytes: 0 });
        }
        let mut placement = extent.placement.borrow_mut();
        let full = Refusal::ExtentFull { free_bytes: placement.free_bytes() };
        let spot = placement.take(record.bytes()).ok_or(full)?;
        drop(placement);
        let (buffer, grant) = payload.into_parts();
        let bytes = record.bytes();
        let accepted = self.world.clock.now();
        let work = Work::Record { record, grant };
        let class = key.class;
        self.submit(extent, Item { ticket: 0, class, spot, buffer: Some(buffer), bytes, work, accepted });
        Ok(())
    }

    /// A durable record of this very put, proven by its header on disk.
    async fn find_twin(&self, extent: &Extent, key: &AppendKey) -> Result<Option<Place>, Refusal> {
        let candidates = extent.toc.borrow().candidates(&key.hash, key.put_id);
        for place in candidates {
            let Some(spot) = Spot::at(place.offset_bytes(), self.layout()) else { continue };
            let zone = self.layout().zone(extent.header.slot, spot.zone);
            let (read, ()) = self.read_device(key.class, zone, spot.offset_bytes, SECTOR_BYTES, ()).await?;
            let buffer = read.map_err(|error| Refusal::DeviceFailed(error.to_string()))?;
            if let Ok(record) = Record::decode(&buffer)
                && (record.extent, record.hash, record.put_id) == (extent.header.extent, key.hash, key.put_id)
            {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }
}

/// What every record of an extent says alike; the writer adds sequences and checksums.
pub(super) fn blank_record(extent: &Extent, payload_bytes: u32) -> Record {
    const { assert!(RECORD_HEADER_BYTES < SECTOR_BYTES) };
    Record {
        kind: RecordKind::Block,
        member: extent.header.member,
        fragment: 0,
        fragments: 0,
        hash: BlockHash::default(),
        put_id: PutId(0),
        extent: extent.header.extent,
        bucket: extent.header.bucket,
        volume: extent.header.volume,
        sequence: 0,
        life_sequence: 0,
        durable_sequence: 0,
        plain_bytes: 0,
        payload_bytes,
        payload_crc: 0,
    }
}
