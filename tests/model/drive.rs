//! Operations carried out on a real OSD, each answer held against the reference.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::join_all;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::geometry::Geometry;
use shingle_node::extent::record::record_bytes;
use shingle_node::osd::refusal::Refusal;
use shingle_node::osd::store::Osd;
use shingle_proto::ids::{ExtentId, Generation};
use shingle_proto::message::{Appended, ExtentReport, ExtentState};
use shingle_seam::World;

use super::operation::Operation;
use super::reference::{Expected, Extent, Reference};
use crate::disk::{self, Block, Mounted, SERIAL};
use crate::sim::executor::{Executor, ProcessId};
use crate::sim::net::Network;
use crate::sim::process::world;

const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What was answered to requests that a loss of power cut short.
#[derive(Default)]
struct Answers {
    created: BTreeSet<u128>,
    stored: Vec<((u128, Block), u64)>,
    closed: BTreeSet<u128>,
}

/// Runs operations; the index of the first that was answered wrongly, and how.
///
/// # Panics
/// When the code under test does.
pub fn run(operations: &[Operation], seed: u64) -> Result<(), (usize, String)> {
    let executor = Executor::new(seed);
    let operations = operations.to_vec();
    let clock = executor.clone();
    let outcome = executor.run(LIMIT, async move {
        let mut drive = Drive::new(clock, seed).await.map_err(|what| (0, what))?;
        for (index, operation) in operations.iter().enumerate() {
            drive.step(operation).await.map_err(|what| (index, what))?;
        }
        drive.restart().await.map_err(|what| (operations.len(), what))
    });
    executor.kill(ProcessId(0));
    outcome
}

struct Drive {
    executor: Executor,
    seed: u64,
    device: MemoryDevice,
    process: u32,
    world: World,
    mounted: Mounted,
    reference: Reference,
    /// Every record ever asked for on this disk.
    attempted: BTreeSet<(u128, Block)>,
}

/// 40 slots of one zone more than the operations name extents at a time.
fn geometry() -> Geometry {
    Geometry { zones: 48, ..disk::small() }
}

fn blank(seed: u64) -> MemoryDevice {
    let device = MemoryDevice::new(geometry(), SERIAL);
    device.yield_up_to(2, seed);
    device
}

impl Drive {
    async fn new(executor: Executor, seed: u64) -> Result<Self, String> {
        let device = blank(seed);
        let world = world(&executor, &Network::new(&executor), ProcessId(1));
        let mounted = start(&world, &device).await?;
        let (reference, attempted) = (Reference::default(), BTreeSet::new());
        Ok(Self { executor, seed, device, process: 1, world, mounted, reference, attempted })
    }

    async fn step(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::Create(extent) => self.create(*extent).await,
            Operation::Append { extent, block, generation } => self.append(*extent, *block, *generation).await,
            Operation::Batch(appends) => self.batch(appends).await,
            Operation::Read { extent, block, generation } => self.read(*extent, *block, *generation).await,
            Operation::Close { extent, generation } => self.close(*extent, *generation).await,
            Operation::Restart => self.restart().await,
            Operation::Crash { .. } => self.crash(operation).await,
            Operation::Replace => {
                self.executor.kill(ProcessId(self.process));
                self.device = blank(self.seed);
                (self.reference, self.attempted) = (Reference::default(), BTreeSet::new());
                self.mount().await
            }
        }
    }

    fn osd(&self) -> &Rc<Osd> {
        &self.mounted.osd
    }

    async fn create(&mut self, extent: u128) -> Result<(), String> {
        let expected = self.reference.create(extent);
        match disk::create(self.osd(), extent).await {
            Ok(_) if expected.contains(&Expected::Done) => {
                let is_open = self.reference.extents.get(&extent).is_some_and(|found| !found.closed);
                if !is_open {
                    self.reference.extents.insert(extent, Extent::default());
                }
                Ok(())
            }
            Err(Refusal::NoFreeExtent(_)) if !self.reference.extents.contains_key(&extent) => self.check_no_room(),
            Err(Refusal::NoFreeExtent(_)) if expected.contains(&Expected::Done) && expected.len() > 1 => Ok(()),
            other => judge("create", expected, other.map(|_| ())),
        }
    }

    /// A refusal for want of room is right when every slot or every zone resource is in use.
    fn check_no_room(&self) -> Result<(), String> {
        let report = self.osd().report(([127, 0, 0, 1], 1).into());
        let limit = geometry().open_zones_max as usize;
        if report.extents_free == 0 || self.osd().zones_held() >= limit {
            return Ok(());
        }
        Err(format!(
            "no extent can be had with {} free and {} zones open",
            report.extents_free,
            self.osd().zones_held()
        ))
    }

    async fn append(&mut self, extent: u128, block: Block, generation: u64) -> Result<(), String> {
        self.attempted.insert((extent, block));
        let answer = disk::put(self.osd(), extent, block, Generation(generation)).await;
        self.appended(extent, block, generation, answer)
    }

    fn appended(
        &mut self,
        extent: u128,
        block: Block,
        generation: u64,
        answer: Result<Appended, Refusal>,
    ) -> Result<(), String> {
        let expected = self.reference.append(extent, generation);
        if expected == [Expected::Done] {
            self.reference.saw(extent, generation);
        }
        let known = self.reference.extents.get(&extent).and_then(|found| found.records.get(&block)).copied();
        match answer {
            Ok(appended) if expected.contains(&Expected::Done) => match known {
                Some(offset) if offset != appended.offset_bytes => Err(format!("{block:?} is at {offset} already")),
                _ => {
                    let found = self.reference.extents.entry(extent).or_default();
                    found.records.insert(block, appended.offset_bytes);
                    Ok(())
                }
            },
            Err(Refusal::ExtentFull { free_bytes }) if expected == [Expected::Done] && known.is_none() => {
                self.check_full(extent, block, free_bytes)
            }
            other => judge("append", expected, other.map(|_| ())),
        }
    }

    /// A record that does not fit where the zone ends wastes less than its own size.
    fn check_full(&self, extent: u128, block: Block, free_bytes: u64) -> Result<(), String> {
        let held = self.reference.extents.get(&extent).map_or(0, |found| found.records.len());
        let many = held as u32 >= self.osd().label.layout.records_max;
        if many || free_bytes < 2 * record_bytes(block.bytes) {
            return Ok(());
        }
        Err(format!("full with {free_bytes} bytes left for {block:?}"))
    }

    async fn batch(&mut self, appends: &[(u128, Block)]) -> Result<(), String> {
        self.attempted.extend(appends);
        let osd = self.osd().clone();
        let puts = appends.iter().map(|(extent, block)| disk::put(&osd, *extent, *block, Generation(0)));
        let answers = join_all(puts).await;
        for ((extent, block), answer) in appends.iter().zip(answers) {
            self.appended(*extent, *block, 0, answer)?;
        }
        Ok(())
    }

    async fn read(&mut self, extent: u128, block: Block, generation: u64) -> Result<(), String> {
        let expected = self.reference.read(extent, block, generation);
        let answer = disk::get(self.osd(), extent, block, Generation(generation)).await;
        self.reference.saw(extent, generation);
        match answer {
            Ok(false) => Err(format!("{block:?} has other bytes")),
            other => judge("read", expected, other.map(|_| ())),
        }
    }

    async fn close(&mut self, extent: u128, generation: u64) -> Result<(), String> {
        let expected = self.reference.close(extent, generation);
        let answer = self.osd().close_extent(ExtentId(extent), Generation(generation)).await;
        self.reference.saw(extent, generation);
        if let (Ok(closed), Some(found)) = (&answer, self.reference.extents.get_mut(&extent)) {
            found.closed = true;
            if closed.records as usize != found.records.len() {
                return Err(format!("closed with {} records of {}", closed.records, found.records.len()));
            }
        }
        judge("close", expected, answer.map(|_| ()))
    }

    async fn restart(&mut self) -> Result<(), String> {
        self.device.power_cycle();
        self.mount().await?;
        self.compare(&Answers::default(), &[], &[]).await
    }

    /// Asks for many things at once and loses power in the middle of them.
    async fn crash(&mut self, operation: &Operation) -> Result<(), String> {
        let Operation::Crash { creates, appends, closes, steps, seed } = operation else { return Ok(()) };
        self.attempted.extend(appends);
        let answers = Rc::new(RefCell::new(Answers::default()));
        for extent in creates.iter().copied() {
            let (osd, answers) = (self.osd().clone(), answers.clone());
            self.spawn(async move {
                if disk::create(&osd, extent).await.is_ok() {
                    answers.borrow_mut().created.insert(extent);
                }
            });
        }
        for (extent, block) in appends.iter().copied() {
            let (osd, answers) = (self.osd().clone(), answers.clone());
            self.spawn(async move {
                if let Ok(appended) = disk::put(&osd, extent, block, Generation(0)).await {
                    answers.borrow_mut().stored.push(((extent, block), appended.offset_bytes));
                }
            });
        }
        for extent in closes.iter().copied() {
            let (osd, answers) = (self.osd().clone(), answers.clone());
            self.spawn(async move {
                if osd.close_extent(ExtentId(extent), Generation(0)).await.is_ok() {
                    answers.borrow_mut().closed.insert(extent);
                }
            });
        }
        for _ in 0..*steps {
            GiveWay(false).await;
        }
        self.device.crash(*seed);
        self.mount().await?;
        let answers = answers.take();
        self.compare(&answers, creates, closes).await
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.world.tasks.spawn("request", Box::pin(task));
    }

    /// Starts the disk in a new process; the one before is killed.
    async fn mount(&mut self) -> Result<(), String> {
        self.executor.kill(ProcessId(self.process));
        self.process += 1;
        self.world = world(&self.executor, &Network::new(&self.executor), ProcessId(self.process));
        self.mounted = start(&self.world, &self.device).await?;
        self.reference.restarted();
        Ok(())
    }

    /// Compares everything with the reference, and teaches it what the loss of power left open.
    async fn compare(&mut self, answers: &Answers, creates: &[u128], closes: &[u128]) -> Result<(), String> {
        if !self.mounted.findings.is_empty() {
            return Err(format!("findings on a sound disk: {:?}", self.mounted.findings.batch().0));
        }
        let reports = disk::extents(self.osd());
        let state = |extent: u128| reports.iter().find(|report| ExtentId::from(&report.extent).0 == extent);
        for report in &reports {
            let extent = ExtentId::from(&report.extent).0;
            if !self.reference.extents.contains_key(&extent) && !creates.contains(&extent) {
                return Err(format!("extent {extent} was never created"));
            }
            self.learn(extent, report, answers, closes).await?;
        }
        let known: Vec<u128> = self.reference.extents.keys().chain(&answers.created).copied().collect();
        for extent in known.into_iter().filter(|extent| state(*extent).is_none()) {
            let found = self.reference.extents.get(&extent);
            let empty = found.is_none_or(|found| found.records.is_empty());
            let was_closed = found.is_some_and(|found| found.closed) || closes.contains(&extent);
            if !(empty && was_closed) {
                return Err(format!("extent {extent} is gone"));
            }
            self.reference.extents.remove(&extent);
        }
        match answers.stored.iter().find(|((extent, block), _)| !self.holds(*extent, block)) {
            Some((name, _)) => Err(format!("{name:?} was acknowledged and is gone")),
            None => Ok(()),
        }
    }

    fn holds(&self, extent: u128, block: &Block) -> bool {
        self.reference.extents.get(&extent).is_some_and(|found| found.records.contains_key(block))
    }

    async fn learn(
        &mut self,
        extent: u128,
        report: &ExtentReport,
        answers: &Answers,
        closes: &[u128],
    ) -> Result<(), String> {
        let closed = match report.state {
            ExtentState::Open => false,
            ExtentState::Closed => true,
            other => return Err(format!("extent {extent} is {other:?} on a sound disk")),
        };
        let before = self.reference.extents.get(&extent).cloned().unwrap_or_default();
        if closed && !before.closed && !closes.contains(&extent) {
            return Err(format!("extent {extent} is closed and nobody closed it"));
        }
        // One that was closed without a record may be a new one by now.
        if !closed && (answers.closed.contains(&extent) || before.closed && !before.records.is_empty()) {
            return Err(format!("extent {extent} was closed and is open"));
        }
        let mut records = std::collections::BTreeMap::new();
        let names: Vec<Block> =
            self.attempted.iter().filter(|(of, _)| *of == extent).map(|(_, block)| *block).collect();
        for block in names {
            match disk::get(self.osd(), extent, block, Generation(0)).await {
                Ok(true) => {
                    let offset = before.records.get(&block).copied();
                    let stored = answers.stored.iter().find(|(name, _)| *name == (extent, block)).map(|(_, at)| *at);
                    let offset = match offset.or(stored) {
                        Some(offset) => offset,
                        None if closed => 0,
                        None => {
                            disk::put(self.osd(), extent, block, Generation(0))
                                .await
                                .map_err(|error| format!("{block:?} again: {error}"))?
                                .offset_bytes
                        }
                    };
                    records.insert(block, offset);
                }
                Ok(false) => return Err(format!("extent {extent}: {block:?} has other bytes")),
                Err(Refusal::BlockNotFound) if !before.records.contains_key(&block) => {}
                Err(refusal) => return Err(format!("extent {extent}: {block:?}: {refusal}")),
            }
        }
        if records.len() != report.records as usize {
            return Err(format!("extent {extent}: {} records, {} were appended", report.records, records.len()));
        }
        self.reference.extents.insert(extent, Extent { closed, generation: 0, records });
        Ok(())
    }
}

async fn start(world: &World, device: &MemoryDevice) -> Result<Mounted, String> {
    disk::start(world, Rc::new(device.clone())).await.map_err(|error| format!("the disk does not mount: {error}"))
}

/// Whether an answer is one of those expected.
fn judge(what: &str, expected: &[Expected], answer: Result<(), Refusal>) -> Result<(), String> {
    let found = match &answer {
        Ok(()) => Expected::Done,
        Err(Refusal::UnknownExtent) => Expected::Unknown,
        Err(Refusal::ExtentClosed) => Expected::Closed,
        Err(Refusal::StaleGeneration(_)) => Expected::Stale,
        Err(Refusal::BlockNotFound) => Expected::Absent,
        Err(other) => return Err(format!("{what}: {other:?}, expected {expected:?}")),
    };
    if expected.contains(&found) { Ok(()) } else { Err(format!("{what}: {answer:?}, expected {expected:?}")) }
}

/// Lets some other task go first, once.
struct GiveWay(bool);

impl Future for GiveWay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
