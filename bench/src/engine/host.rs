//! A shard of a host without its network: one OSD on an emulated drive, on the thread, ring and pool it has in
//! production. Jobs are run on that thread one after the other; between jobs it does nothing.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use futures_util::lock::Mutex;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use shingle_hw::backend::file;
use shingle_hw::buffer::{Buffer, BufferPool};
use shingle_hw::device::ZonedDevice;
use shingle_hw::ring::Ring;
use shingle_node::osd::budget::Budgets;
use shingle_node::osd::findings::Findings;
use shingle_node::osd::mount::{Disk, mount, write_label};
use shingle_node::osd::store::Osd;
use shingle_node::pump;
use shingle_proto::ids::CellId;
use shingle_seam::World;
use shingle_seam::on_glommio::{EventFd, run_shard};
use shingle_seam::rpc::PIECE_BYTES;
use shingle_seam::tasks::LocalFuture;

use super::metered::{Meter, Metered};
use crate::error::BenchError;

/// As in the host process.
const RING_ENTRIES: u32 = 256;
const POOL_FACTOR: usize = 2;
const TOUCH_BYTES: usize = 4 << 20;

/// What jobs work with.
pub struct Rig {
    pub world: World,
    pub osd: Rc<Osd>,
    pub meter: Rc<Meter>,
    /// Held while a payload arrives.
    pub wire: Mutex<()>,
    /// The latest piece of it, where the kernel would have copied it to; it stays in the processor's cache.
    pub arrived: Vec<u8>,
    /// Records the loads stored, per load.
    pub stored: RefCell<Vec<u64>>,
}

type Job = Box<dyn FnOnce(Rc<Rig>) -> LocalFuture<'static, ()> + Send>;

/// The running shard.
pub struct Host {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Host {
    /// Labels and mounts the empty drive in `path`.
    pub fn start(path: &Path, budget_bytes: u64) -> Result<Self, BenchError> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (started, outcome) = mpsc::channel();
        let path = path.to_path_buf();
        let thread = run_shard("bench-shard", None, move |world| {
            Box::pin(async move {
                let rig = start_rig(world, path, budget_bytes).await;
                let rig = match rig {
                    Ok(rig) => Rc::new(rig),
                    Err(error) => return drop(started.send(Err(error))),
                };
                let _ = started.send(Ok(())); // whoever started us waits for it
                // Blocks the executor between jobs, when nothing is in flight.
                while let Ok(job) = queue.recv() {
                    job(rig.clone()).await;
                }
            })
        });
        let thread = thread.map_err(BenchError::io("start a shard"))?;
        let ended = || BenchError::Engine("the shard's thread ended; is io_uring allowed here?".to_owned());
        outcome.recv().map_err(|_| ended())??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs a job on the shard's thread and waits for its result.
    pub fn run<T, F>(&self, job: F) -> Result<T, BenchError>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Rig>) -> LocalFuture<'static, Result<T, BenchError>> + Send + 'static,
    {
        let (sender, result) = mpsc::channel();
        let job: Job = Box::new(move |rig| {
            Box::pin(async move {
                let _ = sender.send(job(rig).await); // whoever gave us the job waits for it
            })
        });
        let ended = || BenchError::Engine("the shard's thread ended in the middle of a job".to_owned());
        self.jobs.as_ref().ok_or_else(ended)?.send(job).map_err(|_| ended())?;
        result.recv().map_err(|_| ended())?
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn start_rig(world: World, path: PathBuf, budget_bytes: u64) -> Result<Rig, BenchError> {
    let engine = |error: &dyn std::fmt::Display| BenchError::Engine(error.to_string());
    let ring = Ring::new(RING_ENTRIES).map_err(BenchError::io("make a ring"))?;
    let pool = BufferPool::new(budget_bytes as usize * POOL_FACTOR).map_err(BenchError::io("make a buffer pool"))?;
    touch(&pool);
    let completions = EventFd::new(ring.event_fd()).map_err(BenchError::io("await the ring"))?;
    let meter = Rc::new(Meter::default());
    let (pumped, tasks) = (ring.clone(), world.tasks.clone());
    let pump = async move {
        drop(pump::run(&completions, &pumped, &*tasks).await); // a rig without completions is noticed by who waits for them
    };
    world.tasks.spawn("disk completions", Box::pin(pump));
    let drive = file::open(&path, ring, pool).map_err(|error| engine(&error))?;
    let device: Rc<dyn ZonedDevice> = Rc::new(Metered::new(Rc::new(drive), meter.clone()));
    let disk = Disk { path: path.display().to_string(), device, profile: None };
    let label = write_label(&world, &disk, CellId(1)).await.map_err(|error| engine(&error))?;
    let findings = Rc::new(Findings::default());
    let mounted = mount(world.clone(), disk, label, findings, Budgets::of(budget_bytes)).await;
    let (osd, _) = mounted.map_err(|error| engine(&error))?;
    let mut arrived = vec![0; PIECE_BYTES];
    SmallRng::seed_from_u64(1).fill_bytes(&mut arrived);
    Ok(Rig { world, osd, meter, wire: Mutex::default(), arrived, stored: RefCell::default() })
}

/// Puts noise on every page of the pool: what is written then is never zeroes, and no page is new during a measurement.
fn touch(pool: &BufferPool) {
    let mut random = SmallRng::seed_from_u64(1);
    let mut buffers: Vec<Buffer> = Vec::new();
    while let Some(mut buffer) = pool.try_alloc(TOUCH_BYTES) {
        random.fill_bytes(&mut buffer);
        buffers.push(buffer);
    }
}
