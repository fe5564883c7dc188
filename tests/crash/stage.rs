//! What a script acts on: one life of one disk, with every command recorded and every promise written down.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::device::ZonedDevice;
use shingle_hw::faulty::{Faults, FaultyDevice};
use shingle_hw::image::Image;
use shingle_hw::recorder::{Event, Log, Recorder};
use shingle_hw::zone::{ZoneCondition, ZoneId};
use shingle_node::osd::extent::State;
use shingle_node::osd::store::Osd;
use shingle_proto::ids::{ExtentId, Generation};
use shingle_seam::World;

use super::ledger::{Ledger, Promises};
use super::scripts::Script;
use crate::disk::{self, Block, Mounted, SERIAL};
use crate::sim::executor::{Executor, ProcessId};
use crate::sim::net::Network;
use crate::sim::process::world;

/// Virtual time that no script needs.
const LIMIT: Duration = Duration::from_secs(3600);
const PROCESS: ProcessId = ProcessId(1);

/// One life of a disk as it was recorded.
pub struct Life {
    /// What the disk held when it was switched on.
    pub before: Image,
    pub events: Vec<Event>,
    pub promises: Vec<(usize, Arc<Promises>)>,
}

/// How the recording lies, for the negative controls: the checks must find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    None,
    /// The device answers flushes well and does nothing.
    FlushesDoNothing,
    /// The host is told that its records are durable when they were only sent.
    AcknowledgedEarly,
}

/// One life on stage.
pub struct Stage {
    pub world: World,
    pub device: Rc<dyn ZonedDevice>,
    pub ledger: Ledger,
    medium: MemoryDevice,
    log: Log,
    /// Faults between the recorder and the medium.
    pub faults: Faults,
    draw: RefCell<StdRng>,
    lie: Lie,
}

/// Runs a life of a script on a disk that holds `before`, of which `promised` was promised.
pub fn record(script: &Script, life: u32, seed: u64, before: &Image, promised: Arc<Promises>, lie: Lie) -> Life {
    let executor = Executor::new(seed);
    let medium = MemoryDevice::from_image(before, SERIAL);
    if seed % 2 == 1 {
        medium.yield_up_to(3, seed);
    }
    let sleeper = executor.clone();
    let sleep = Rc::new(move |time| Box::pin(sleeper.sleep(time)) as _);
    let faulty = FaultyDevice::new(Rc::new(medium.clone()), sleep.clone(), seed);
    let faults = faulty.faults();
    let recorder = Recorder::new(Rc::new(faulty));
    let log = recorder.log();
    let liar = FaultyDevice::new(Rc::new(recorder), sleep, seed);
    liar.faults().set_lose_flushes(lie == Lie::FlushesDoNothing);
    let stage = Rc::new(Stage {
        world: world(&executor, &Network::new(&executor), PROCESS),
        device: Rc::new(liar),
        ledger: Ledger::new(log.clone(), promised),
        medium,
        log: log.clone(),
        faults,
        draw: RefCell::new(StdRng::seed_from_u64(seed)),
        lie,
    });
    let acting = stage.clone();
    let run = script.run;
    executor.run(LIMIT, async move { run(acting, life).await });
    executor.kill(PROCESS);
    Life { before: before.clone(), events: log.events(), promises: stage.ledger.versions() }
}

impl Stage {
    /// Mounts the disk, labelling it if need be.
    pub async fn start(&self) -> Mounted {
        disk::start(&self.world, self.device.clone()).await.expect("a script's disk mounts")
    }

    pub fn below(&self, bound: u32) -> u32 {
        self.draw.borrow_mut().random_range(0..bound)
    }

    /// A block nobody has put yet.
    pub fn block(&self, bytes: u32) -> Block {
        Block { number: self.draw.borrow_mut().random(), bytes }
    }

    pub async fn create(&self, osd: &Rc<Osd>, extent: u128) -> bool {
        self.ledger.change(|promises| {
            promises.create_attempted.insert(extent);
        });
        let created = disk::create(osd, extent).await.is_ok();
        if let Some(found) = osd.extent(ExtentId(extent)).filter(|_| created) {
            self.ledger.change(|promises| {
                promises.created.insert(extent, found.header.slot);
            });
        }
        created
    }

    /// Puts several blocks at once, of the given sizes; how many were acknowledged.
    pub async fn put(&self, osd: &Rc<Osd>, puts: &[(u128, u32)]) -> usize {
        let puts: Vec<(u128, Block)> = puts.iter().map(|(extent, bytes)| (*extent, self.block(*bytes))).collect();
        self.ledger.change(|promises| promises.attempted.extend(&puts));
        if self.lie == Lie::AcknowledgedEarly {
            let early = puts.iter().map(|name| (*name, 0));
            self.ledger.change(|promises| promises.stored.extend(early));
        }
        let one = async |(extent, block): &(u128, Block)| {
            let answer = disk::put(osd, *extent, *block, Generation(0)).await;
            if let Ok(appended) = &answer {
                let offset_bytes = appended.offset_bytes;
                let slot = osd.extent(ExtentId(*extent)).map(|found| found.header.slot);
                self.ledger.change(|promises| {
                    promises.stored.insert((*extent, *block), offset_bytes);
                    // Its creation may have been cut off before it was answered; now it is promised.
                    promises.created.extend(slot.map(|slot| (*extent, slot)));
                });
            }
            usize::from(answer.is_ok())
        };
        join_all(puts.iter().map(one)).await.into_iter().sum()
    }

    pub async fn close(&self, osd: &Rc<Osd>, extent: u128) -> bool {
        self.ledger.change(|promises| {
            promises.close_attempted.insert(extent);
        });
        let closed = osd.close_extent(ExtentId(extent), Generation(0)).await.is_ok();
        if closed {
            self.ledger.change(|promises| {
                promises.closed.insert(extent);
            });
        }
        closed
    }

    /// Extents that take records.
    pub fn open_extents(&self, osd: &Osd) -> Vec<u128> {
        let created = self.ledger.now();
        let is_open = |extent: &u128| osd.extent(ExtentId(*extent)).is_some_and(|e| e.state.get() == State::Open);
        created.create_attempted.iter().copied().filter(is_open).collect()
    }

    /// From now on these extents may end.
    pub fn trouble(&self, extents: &[u128]) {
        self.ledger.change(|promises| promises.troubled.extend(extents));
    }

    /// A zone turns read-only or offline, now and for good.
    pub fn fail_zone(&self, zone: ZoneId, condition: ZoneCondition) {
        match condition {
            ZoneCondition::ReadOnly => self.medium.set_read_only(zone),
            _ => self.medium.set_offline(zone),
        }
        self.log.zone_failed(zone, condition);
    }
}
