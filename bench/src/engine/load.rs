//! What the OSD is put through: durable appends and random reads, closed loop with a fixed number in flight, as fio
//! does it. Payloads are what the pool's pages hold: no byte is copied in, as no byte is copied into fio's buffers.
//!
//! Invariant: payloads are checked twice. Before the clock starts, for their checksums; and as a connection checks them
//! while they arrive, for its cost: over bytes that are in the processor's cache, where the kernel has just put them. Here
//! nobody has, so that a check of the payload itself would fetch all of it from memory once more, which no host does.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hint::black_box;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use shingle_hw::crc::crc32c;
use shingle_node::extent::format::SECTOR_BYTES;
use shingle_node::extent::placement::{Placement, Spot};
use shingle_node::extent::record::record_bytes;
use shingle_node::osd::budget::RecordBuffer;
use shingle_node::osd::fetch::ReadKey;
use shingle_node::osd::store::{AppendKey, NewExtent};
use shingle_proto::frame::{Checksum, Class};
use shingle_proto::ids::{BlockHash, BucketId, ExtentId, Generation, PutId, VolumeId};
use shingle_proto::limits::{BLOCK_BYTES_MAX, SEAL_OVERHEAD_BYTES};
use shingle_seam::rpc::{PIECE_BYTES, Payload};
use shingle_seam::tasks::spawn_joined;

use super::host::Rig;
use super::metered::Reading;
use super::rounds::Peer;
use super::space::Place;
use crate::error::BenchError;

/// Records of one size in extents of their own.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Index of the load; names its extents and its stored records.
    pub number: usize,
    pub payload_bytes: u32,
    /// Open extents the appends go to in turn, as a host serves several open volumes.
    pub extents: usize,
    /// Appends in flight.
    pub writers: usize,
    /// Reads asked for at once.
    pub readers: usize,
    /// Stored to be read, where no appends were measured before.
    pub records_to_read: u64,
    /// Zones of each extent that are filled, of 256 MiB each.
    pub zones_per_extent: u64,
    /// What its appends are compared with.
    pub peers: &'static [Peer],
}

/// What a round came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Outcome {
    pub records: u64,
    pub payload_bytes: u64,
    pub seconds: f64,
    pub device: Reading,
    /// Processor time of the shard's thread, and of the whole process: the kernel's workers for the ring belong to it.
    pub thread_cpu_seconds: f64,
    pub process_cpu_seconds: f64,
}

impl Load {
    /// Bytes of one record on disk.
    pub fn record_bytes(&self) -> u64 {
        record_bytes(self.payload_bytes)
    }

    /// Bytes of one block before it was sealed.
    pub fn plain_bytes(&self) -> u32 {
        self.payload_bytes.saturating_sub(SEAL_OVERHEAD_BYTES).min(BLOCK_BYTES_MAX)
    }

    fn extent(&self, index: usize) -> ExtentId {
        ExtentId((self.number as u128 + 1) << 64 | (index as u128 + 1))
    }

    /// Creates the load's extents.
    pub async fn create(self, rig: Rc<Rig>) -> Result<(), BenchError> {
        for index in 0..self.extents {
            let new =
                NewExtent { extent: self.extent(index), volume: VolumeId(1), bucket: BucketId(1), member: index as u8 };
            rig.osd.create_extent(new).await.map_err(refused)?;
        }
        let mut stored = rig.stored.borrow_mut();
        let loads = stored.len().max(self.number + 1);
        stored.resize(loads, 0);
        Ok(())
    }

    /// Closes the load's extents, with whatever that writes.
    pub async fn close(self, rig: Rc<Rig>) -> Result<(), BenchError> {
        for index in 0..self.extents {
            rig.osd.close_extent(self.extent(index), Generation::default()).await.map_err(refused)?;
        }
        Ok(())
    }

    /// Records stored so far.
    pub fn stored(&self, rig: &Rig) -> u64 {
        rig.stored.borrow().get(self.number).copied().unwrap_or(0)
    }

    /// Where the records of these numbers are, or will be. Two that wait for one extent at once may change places.
    pub fn places(&self, rig: &Rig, numbers: Range<u64>) -> Result<Vec<Place>, BenchError> {
        let layout = rig.osd.label.layout;
        let behind_header = Placement::new(layout, Spot { zone: 0, offset_bytes: SECTOR_BYTES as u64 }, 0);
        let slot = |index| {
            let missing = || BenchError::Engine(format!("extent {index} of the load is not there"));
            Ok(rig.osd.extent(self.extent(index)).ok_or_else(missing)?.header.slot)
        };
        let slots: Vec<_> = (0..self.extents).map(slot).collect::<Result<_, BenchError>>()?;
        let mut extents: Vec<_> = slots.into_iter().map(|slot| (slot, behind_header.clone())).collect();
        let mut places = Vec::new();
        for number in 0..numbers.end {
            let (slot, placement) = &mut extents[number as usize % self.extents];
            let full = || BenchError::Engine(format!("the load's extents have no room for record {number}"));
            let spot = placement.take(self.record_bytes()).ok_or_else(full)?;
            if numbers.contains(&number) {
                let bytes = spot.offset_bytes..spot.offset_bytes + self.record_bytes();
                places.push(Place { zone: layout.zone(*slot, spot.zone), bytes });
            }
        }
        Ok(places)
    }

    /// Appends `records` records durably; all of them fit into the shard's budget.
    pub async fn append(self, rig: Rc<Rig>, records: u64) -> Result<Outcome, BenchError> {
        let before = self.stored(&rig);
        let received: VecDeque<_> =
            (before..before + records).map(|number| self.receive(&rig, number)).collect::<Result<_, _>>()?;
        let received = Rc::new(RefCell::new(received));
        let started = Started::now(&rig);
        let writer = || {
            let (received, rig) = (received.clone(), rig.clone());
            async move {
                let next = || received.borrow_mut().pop_front();
                while let Some((key, buffer)) = next() {
                    self.check_arriving(&rig).await;
                    rig.osd.append(key, buffer).await.map_err(refused)?;
                    if let Some(stored) = rig.stored.borrow_mut().get_mut(self.number) {
                        *stored += 1;
                    }
                }
                Ok(())
            }
        };
        together(&rig, self.writers, writer).await?;
        Ok(started.outcome(&rig, records, self.payload_bytes))
    }

    /// A record in memory, its payload checked, as a connection leaves it.
    fn receive(&self, rig: &Rig, number: u64) -> Result<(AppendKey, RecordBuffer), BenchError> {
        let (extent, hash, put_id) = self.key(number);
        let key = AppendKey {
            extent,
            hash,
            put_id,
            bucket: BucketId(1),
            plain_bytes: self.plain_bytes(),
            generation: Generation::default(),
            class: Class::Client,
        };
        let mut buffer = rig.osd.receive_buffer(key.extent, self.payload_bytes).map_err(refused)?;
        let sum = crc32c(buffer.as_ref());
        buffer.checked(sum);
        Ok((key, buffer))
    }

    /// What the check of an arriving payload costs a connection. Payloads come one after the other, as over a wire;
    /// several that are checked in turns would all be there late, and the drive without work until then.
    async fn check_arriving(&self, rig: &Rig) {
        let several_pieces = self.payload_bytes as usize > PIECE_BYTES;
        let arriving = if several_pieces { Some(rig.wire.lock().await) } else { None };
        let (mut checksum, mut left) = (Checksum::default(), self.payload_bytes as usize);
        while left > 0 {
            let piece_bytes = left.min(rig.arrived.len());
            checksum.update(&rig.arrived[..piece_bytes]);
            left -= piece_bytes;
            if left > 0 {
                rig.world.tasks.yield_now().await;
            }
        }
        black_box(checksum.value());
        drop(arriving);
    }

    /// The name of the load's record of this number. It is made anew for every read, in a few nanoseconds: a list of all
    /// of them would take the cache from what is measured.
    fn key(&self, number: u64) -> (ExtentId, BlockHash, PutId) {
        let mut hash = BlockHash::default();
        let first = ((self.number as u64) << 48 | number) * (hash.0.len() / size_of::<u64>()) as u64;
        for (word, at) in hash.0.chunks_exact_mut(size_of::<u64>()).zip(first..) {
            word.copy_from_slice(&mixed(at).to_le_bytes());
        }
        (self.extent(number as usize % self.extents), hash, PutId(number))
    }

    /// Reads the first `among` records that were appended, in random order, for so long.
    pub async fn read(self, rig: Rc<Rig>, among: u64, duration: Duration, seed: u64) -> Result<Outcome, BenchError> {
        let stored = self.stored(&rig).min(among);
        if stored == 0 {
            return Err(BenchError::Engine("nothing was stored to be read".to_owned()));
        }
        let records = Rc::new(Cell::new(0));
        let started = Started::now(&rig);
        let over = Rc::new(Cell::new(false));
        let (ends, timer) = (over.clone(), rig.world.tasks.sleep(duration));
        let end = async move {
            timer.await;
            ends.set(true);
        };
        rig.world.tasks.spawn("end of the round", Box::pin(end));
        let reader_number = Cell::new(0);
        let reader = || {
            let (over, records, rig) = (over.clone(), records.clone(), rig.clone());
            let mut random = SmallRng::seed_from_u64(seed << 16 | reader_number.replace(reader_number.get() + 1));
            async move {
                while !over.get() {
                    let (extent, hash, put_id) = self.key(random.random_range(0..stored));
                    let (generation, class) = (Generation::default(), Class::Client);
                    let key = ReadKey { extent, hash, put_id, generation, class };
                    rig.osd.read_block(key).await.map_err(refused)?;
                    records.set(records.get() + 1);
                }
                Ok(())
            }
        };
        together(&rig, self.readers, reader).await?;
        Ok(started.outcome(&rig, records.get(), self.payload_bytes))
    }
}

/// Runs `count` tasks and waits for all of them, each a task of the executor as a request's handler is.
async fn together<F>(rig: &Rig, count: usize, task: impl Fn() -> F) -> Result<(), BenchError>
where
    F: Future<Output = Result<(), BenchError>> + 'static,
{
    let tasks: Vec<_> = (0..count).map(|_| spawn_joined(&rig.world.tasks, "load", task())).collect();
    let ended = || BenchError::Engine("the shard stopped".to_owned());
    join_all(tasks).await.into_iter().try_for_each(|outcome| outcome.ok_or_else(ended)?)
}

/// Numbers that look random, each of its own: a step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn mixed(number: u64) -> u64 {
    let a = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ a >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let c = (b ^ b >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    c ^ c >> 31
}

fn refused(refusal: shingle_node::osd::refusal::Refusal) -> BenchError {
    BenchError::Engine(refusal.to_string())
}

/// The clocks and counters at a round's start.
struct Started {
    at: Instant,
    device: Reading,
    thread_cpu_seconds: f64,
    process_cpu_seconds: f64,
}

impl Started {
    fn now(rig: &Rig) -> Self {
        Self {
            device: rig.meter.read(),
            thread_cpu_seconds: cpu_seconds(ClockId::ThreadCPUTime),
            process_cpu_seconds: cpu_seconds(ClockId::ProcessCPUTime),
            at: Instant::now(),
        }
    }

    fn outcome(self, rig: &Rig, records: u64, payload_bytes: u32) -> Outcome {
        Outcome {
            seconds: self.at.elapsed().as_secs_f64(),
            records,
            payload_bytes: records * u64::from(payload_bytes),
            device: rig.meter.read().since(&self.device),
            thread_cpu_seconds: cpu_seconds(ClockId::ThreadCPUTime) - self.thread_cpu_seconds,
            process_cpu_seconds: cpu_seconds(ClockId::ProcessCPUTime) - self.process_cpu_seconds,
        }
    }
}

fn cpu_seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
