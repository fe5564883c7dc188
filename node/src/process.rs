//! The host process: one thread per shard, each with its ring, its disks and its port.
//!
//! A host starts whole or not at all. When it is told to stop it just stops: whatever was acknowledged is durable.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::{Either, select};
use local_sync::oneshot;
use shingle_hw::backend::{self, OpenError};
use shingle_hw::buffer::BufferPool;
use shingle_hw::device::ZonedDevice;
use shingle_hw::qualify::profile::{LoadError, MeasuredProfile, Mismatch};
use shingle_hw::ring::Ring;
use shingle_proto::ids::{BootId, HostId};
use shingle_proto::limits::MIB;
use shingle_seam::World;
use shingle_seam::entropy::{Entropy, SystemEntropy};
use shingle_seam::on_glommio::{EventFd, run_shard, stopped};
use shingle_seam::stop::Stop;

use crate::config::{ConfigError, HostConfig};
use crate::osd::board::Board;
use crate::osd::mount::Disk;
use crate::osd::shard::{Shard, ShardConfig, ShardError};
use crate::pump;

/// Commands one shard has with the kernel at once; more wait in the ring's own queue.
const RING_ENTRIES: u32 = 256;
/// The buffer pool beside the budget: room for gaps between buffers, and for what recovery and closing need.
const POOL_FACTOR: u64 = 2;
/// How often memory of buffers that nobody uses goes back to the system.
const RELEASE_INTERVAL: Duration = Duration::from_secs(2);

/// Why the host does not start, or has ended. Every variant says what to do.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The cause names the disk.
    #[error("{0}; restore the disk, or take it out of `disks`")]
    Disk(#[from] OpenError),
    #[error("the profile {} of {} {cause}", .profile.display(), .disk.display())]
    Profile { disk: PathBuf, profile: PathBuf, cause: LoadError },
    #[error(
        "the profile {} is not about {}: {cause}; give the disk its own in `disk-profiles`, or none",
        .profile.display(), .disk.display()
    )]
    OtherDrive { disk: PathBuf, profile: PathBuf, cause: Mismatch },
    #[error(transparent)]
    Shard(#[from] ShardError),
    #[error("io_uring is not available to this process ({0}): allow it, or use a kernel that has it")]
    Ring(std::io::Error),
    #[error("no memory for block buffers: {0}; lower budget-mib")]
    Buffers(std::io::Error),
    #[error("shard {shard} cannot run: {cause}")]
    Runtime { shard: u32, cause: std::io::Error },
    #[error("shard {0} ended without being told to")]
    ShardEnded(u32),
    #[error("cannot print where the host listens: {0}")]
    Stdout(std::io::Error),
}

/// Runs a host until `stop` is triggered.
///
/// # Errors
/// [`HostError`]; nothing of the host runs any more then.
pub fn run(config: HostConfig, stop: Stop) -> Result<(), HostError> {
    run_announced(config, stop, |host, addresses| {
        let listen: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "READY {{\"host\":{host},\"listen\":[{}]}}", listen.join(","))?;
        stdout.flush()
    })
}

/// As [`run`], but says where it listens by calling `ready` with the host's number and its shards' addresses.
///
/// # Errors
/// As [`run`].
pub fn run_announced(
    config: HostConfig,
    stop: Stop,
    ready: impl FnOnce(u32, &[SocketAddr]) -> std::io::Result<()>,
) -> Result<(), HostError> {
    config.check()?;
    let boot = BootId(SystemEntropy.u64());
    let board = Board::new(config.shards as usize);
    let (sender, messages) = mpsc::channel();
    let mut threads = Vec::new();
    let mut outcome = Ok(());
    for shard in 0..config.shards {
        let part = Part::of(&config, shard, boot, board.clone());
        match start_thread(shard, part, stop.clone(), sender.clone()) {
            Ok(thread) => threads.push((shard, thread)),
            Err(cause) => outcome = outcome.and(Err(HostError::Runtime { shard, cause })),
        }
    }
    drop(sender);
    if outcome.is_ok() {
        outcome = watch(&config, &stop, &messages, ready);
    }
    stop.trigger();
    for (shard, thread) in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => outcome = outcome.and(Err(HostError::Runtime { shard, cause })),
            Err(_) => outcome = outcome.and(Err(HostError::ShardEnded(shard))),
        }
    }
    outcome
}

/// What a shard's thread tells.
enum Message {
    Ready(u32, SocketAddr),
    Failed(HostError),
    Ended(u32),
}

/// Tells that a thread has ended, however it did.
struct Farewell {
    shard: u32,
    sender: mpsc::Sender<Message>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let _ = self.sender.send(Message::Ended(self.shard)); // nobody listens once the process ends
    }
}

/// Waits until all shards serve, announces that, and then until the first one ends.
fn watch(
    config: &HostConfig,
    stop: &Stop,
    messages: &mpsc::Receiver<Message>,
    ready: impl FnOnce(u32, &[SocketAddr]) -> std::io::Result<()>,
) -> Result<(), HostError> {
    let mut addresses = BTreeMap::new();
    let mut ready = Some(ready);
    while let Ok(message) = messages.recv() {
        match message {
            Message::Ready(shard, address) => drop(addresses.insert(shard, address)),
            Message::Failed(error) => return Err(error),
            Message::Ended(_) if stop.is_triggered() => return Ok(()),
            Message::Ended(shard) => return Err(HostError::ShardEnded(shard)),
        }
        if addresses.len() == config.shards as usize
            && let Some(ready) = ready.take()
        {
            let addresses: Vec<SocketAddr> = addresses.values().copied().collect();
            ready(config.host, &addresses).map_err(HostError::Stdout)?;
        }
    }
    Ok(())
}

/// One shard's part of the configuration.
struct Part {
    config: ShardConfig,
    /// Each with its profile's path, if it has one.
    disks: Vec<(PathBuf, Option<PathBuf>)>,
    /// The core to stay on, if there is one.
    core: Option<usize>,
}

impl Part {
    /// Disks are dealt in turn.
    fn of(config: &HostConfig, shard: u32, boot: BootId, board: Board) -> Self {
        let core = config.cores.get(shard as usize).copied();
        let dealt = config.disks.iter().skip(shard as usize).step_by(config.shards as usize);
        let disks = dealt.map(|disk| (disk.clone(), config.disk_profiles.get(disk).cloned())).collect();
        let config = ShardConfig {
            host: HostId(config.host),
            boot,
            listen: config.shard_address(shard).unwrap_or(config.listen),
            control: config.control,
            budget_bytes: config.budget_mib.saturating_mul(MIB),
            board,
            shard: shard as usize,
            disk: config.disk_policy(),
        };
        Self { config, disks, core }
    }
}

fn start_thread(
    shard: u32,
    part: Part,
    stop: Stop,
    sender: mpsc::Sender<Message>,
) -> std::io::Result<JoinHandle<std::io::Result<()>>> {
    run_shard(&format!("shard-{shard}"), part.core, move |world| {
        Box::pin(async move {
            let farewell = Farewell { shard, sender };
            let (stopping, stopped_now) = oneshot::channel();
            let watched = async move {
                if let Err(error) = stopped(&stop).await {
                    tracing::error!(%error, "the stop signal cannot be awaited");
                }
                let _ = stopping.send(()); // the shard may have failed meanwhile
            };
            world.tasks.spawn("stop", Box::pin(watched));
            let starting = pin!(start_shard(&world, part));
            let Either::Left((started, stopped_now)) = select(starting, stopped_now).await else { return };
            match started {
                Ok(running) => {
                    let _ = farewell.sender.send(Message::Ready(shard, running.address())); // nobody listens once stopped
                    drop(stopped_now.await);
                    running.stop().await;
                }
                Err(error) => drop(farewell.sender.send(Message::Failed(error))),
            }
        })
    })
}

/// Opens the disks and starts the shard on them.
async fn start_shard(world: &World, part: Part) -> Result<Rc<Shard>, HostError> {
    let ring = Ring::new(RING_ENTRIES).map_err(HostError::Ring)?;
    let pool_bytes = usize::try_from(part.config.budget_bytes.saturating_mul(POOL_FACTOR)).unwrap_or(usize::MAX);
    let pool = BufferPool::new(pool_bytes).map_err(HostError::Buffers)?;
    let completions = EventFd::new(ring.event_fd()).map_err(HostError::Ring)?;
    let (pumped, tasks) = (ring.clone(), world.tasks.clone());
    let pump = async move {
        let error = pump::run(&completions, &pumped, &*tasks).await;
        tracing::error!(%error, "completions of the disks cannot be awaited: they will seem to hang");
    };
    world.tasks.spawn("disk completions", Box::pin(pump));
    let mut disks = Vec::new();
    for (path, profile) in part.disks {
        let device = backend::open(&path, ring.clone(), pool.clone())?;
        let profile = profile.map(|profile| load_profile(&path, profile, &*device)).transpose()?;
        disks.push(Disk { path: path.display().to_string(), device, profile: profile.map(Rc::new) });
    }
    let (tasks, idle) = (world.tasks.clone(), pool.clone());
    let release = async move {
        loop {
            tasks.sleep(RELEASE_INTERVAL).await;
            idle.release_idle();
        }
    };
    world.tasks.spawn("release buffers", Box::pin(release));
    Ok(Shard::start(world.clone(), part.config, disks).await?)
}

/// What was measured on a disk, if it was this one.
fn load_profile(disk: &Path, profile: PathBuf, device: &dyn ZonedDevice) -> Result<MeasuredProfile, HostError> {
    let disk = disk.to_path_buf();
    let measured = match MeasuredProfile::load(&profile) {
        Ok(measured) => measured,
        Err(cause) => return Err(HostError::Profile { disk, profile, cause }),
    };
    match measured.check_drive(device.identity(), device.geometry()) {
        Ok(()) => {
            tracing::info!(disk = %disk.display(), profile = %profile.display(), run = measured.run, "has a profile");
            Ok(measured)
        }
        Err(cause) => Err(HostError::OtherDrive { disk, profile, cause }),
    }
}
