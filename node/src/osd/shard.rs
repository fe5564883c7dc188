//! One shard: the disks pinned to one thread, the port they are reached at, and the byte budget they share.
//!
//! Everything it does goes through its [`World`], so simulation runs it as it is.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{select, try_join_all};
use shingle_proto::ids::{BootId, CellId, HostId, OsdId};
use shingle_proto::limits::{HEARTBEAT_EXTENTS_MAX, HEARTBEAT_INTERVAL_MS};
use shingle_proto::message::{ExtentReport, OsdReport, Role};
use shingle_seam::World;
use shingle_seam::gate::Gate;
use shingle_seam::rpc::{Peers, ServeOptions, serve};

use super::board::Board;
use super::budget::Budgets;
use super::findings::Findings;
use super::listing::{Listing, extents_max};
use super::mount::{Disk, MountError, MountReport, check_extents, mount, read_label, write_label};
use super::policy::{CannotSweep, DiskPolicy};
use super::store::Osd;
use crate::extent::label::Label;

/// How a shard is reached and whom it reports to.
#[derive(Clone)]
pub struct ShardConfig {
    pub host: HostId,
    /// New at every start of the process; the same for all its shards.
    pub boot: BootId,
    /// Port 0 takes any.
    pub listen: SocketAddr,
    pub control: SocketAddr,
    /// Payloads received and not yet durable, and reads not yet sent.
    pub budget_bytes: u64,
    /// Where the shards of the process leave their reports.
    pub board: Board,
    /// This shard's number in the process, from 0.
    pub shard: usize,
    /// How its disks are shared and swept, and what is assumed of those without a profile.
    pub disk: DiskPolicy,
}

impl ShardConfig {
    /// The only shard of its process.
    pub fn solo(host: HostId, boot: BootId, listen: SocketAddr, control: SocketAddr, budget_bytes: u64) -> Self {
        let disk = DiskPolicy::default();
        Self { host, boot, listen, control, budget_bytes, board: Board::new(1), shard: 0, disk }
    }
}

/// Why a shard does not start.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: SocketAddr, cause: std::io::Error },
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("{path}: {cause}")]
    Sweep { path: String, cause: CannotSweep },
}

/// See the module.
pub struct Shard {
    pub(super) world: World,
    pub(super) config: ShardConfig,
    address: SocketAddr,
    osds: Vec<Rc<Osd>>,
    pub(super) cell: CellId,
    pub(super) findings: Rc<Findings>,
    pub(super) peers: Peers,
    pub(super) heartbeats: Cell<u64>,
    pub(super) listing: RefCell<Listing>,
    mounted: Vec<MountReport>,
    /// Closed when the shard stops; its tasks wait for that.
    stopping: Rc<Gate>,
}

/// Rounds that stopping waits for the shard's tasks to let go of its disks, one millisecond each.
const STOP_ROUNDS: u32 = 1000;

impl Shard {
    /// Mounts the disks and serves them. Empty disks are labelled with the cell that control names, so with one of those
    /// this waits until control answers.
    ///
    /// # Errors
    /// Any disk that cannot be used: a host starts whole or not at all.
    pub async fn start<D: Into<Disk>>(
        world: World,
        config: ShardConfig,
        disks: impl IntoIterator<Item = D>,
    ) -> Result<Rc<Self>, ShardError> {
        let listener =
            world.net.listen(config.listen).map_err(|cause| ShardError::Listen { address: config.listen, cause })?;
        let address = listener.local_address();
        let peers = Peers::new(world.clone(), Role::Host, format!("host-{:x}", config.host.0));
        let findings = Rc::new(Findings::default());
        let mut labelled = Vec::new();
        let mut empty = Vec::new();
        for disk in disks {
            let disk = disk.into();
            match read_label(&disk).await? {
                Some(label) => labelled.push((disk, label)),
                None => {
                    check_extents(&disk)?;
                    empty.push(disk);
                }
            }
        }
        let known = labelled.first().map(|(_, label)| label.cell);
        let cell = match known {
            Some(cell) if empty.is_empty() => ask_cell_once(&world, &peers, &config).await.unwrap_or(cell),
            _ => ask_cell(&world, &peers, &config).await,
        };
        for (disk, label) in &labelled {
            if label.cell != cell {
                let (path, found) = (disk.path.clone(), label.cell);
                return Err(MountError::OtherCell { path, found, expected: cell }.into());
            }
        }
        for disk in empty {
            let label = write_label(&world, &disk, cell).await?;
            labelled.push((disk, label));
        }
        check_disks(&config, &labelled)?;
        let budgets = Budgets::shared(config.budget_bytes, labelled.len(), config.disk);
        let mounting = labelled.into_iter().zip(budgets).map(|((disk, label), budgets)| {
            let budgets = Budgets { disk: disk.policy(config.disk), ..budgets };
            mount(world.clone(), disk, label, findings.clone(), budgets)
        });
        let (osds, mounted) = try_join_all(mounting).await?.into_iter().unzip();
        let budget_bytes = Budgets::credit_bytes(config.budget_bytes);
        let shard = Rc::new(Self {
            world,
            config,
            address,
            osds,
            cell,
            findings,
            peers,
            heartbeats: Cell::new(0),
            listing: RefCell::default(),
            mounted,
            stopping: Rc::new(Gate::new(0)),
        });
        let serving = serve(shard.world.clone(), listener, shard.clone(), ServeOptions { budget_bytes });
        shard.spawn_until_stopped("serve", serving);
        let beating = shard.clone();
        shard.spawn_until_stopped("heartbeats", async move { beating.send_heartbeats().await });
        for osd in &shard.osds {
            shard.spawn_until_stopped("scrub", osd.clone().run_scrub());
            shard.spawn_until_stopped("zones", osd.clone().watch_zones());
        }
        Ok(shard)
    }

    fn spawn_until_stopped(&self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        let stopping = self.stopping.clone();
        let until = async move {
            select(pin!(task), pin!(stopping.wait_closed())).await;
        };
        self.world.tasks.spawn(name, Box::pin(until));
    }

    /// Stops serving, and waits a second at most until the shard's tasks have let go of the disks. Whatever was
    /// acknowledged is durable already.
    pub async fn stop(self: Rc<Self>) {
        self.stopping.close();
        for _ in 0..STOP_ROUNDS {
            if Rc::strong_count(&self) == 1 && self.osds.iter().all(|osd| Rc::strong_count(osd) == 1) {
                return;
            }
            self.world.tasks.sleep(Duration::from_millis(1)).await;
        }
        tracing::warn!("the shard stops while something still uses its disks");
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn osds(&self) -> &[Rc<Osd>] {
        &self.osds
    }

    pub fn osd(&self, osd: OsdId) -> Option<Rc<Osd>> {
        self.osds.iter().find(|other| other.id() == osd).cloned()
    }

    /// What starting found, disk by disk in the order of [`Shard::osds`].
    pub fn mounted(&self) -> &[MountReport] {
        &self.mounted
    }

    /// Findings that control has not acknowledged.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Every OSD with its extents, as many of them as one answer can name.
    pub(super) fn reports(&self) -> Vec<OsdReport> {
        let mut room = HEARTBEAT_EXTENTS_MAX;
        let report = |osd: &Rc<Osd>| {
            let mut report = osd.report(self.address);
            report.listed = report.extents.len() <= room;
            report.extents.truncate(room);
            room -= report.extents.len();
            report
        };
        self.osds.iter().map(report).collect()
    }

    /// Every OSD with what is new of its extents, and the number that acknowledges them.
    pub(super) fn news(&self) -> (Vec<OsdReport>, u64) {
        let extents_max = extents_max(self.config.board.shards());
        let report = |osd: &Rc<Osd>, each: &mut dyn FnMut(ExtentReport)| osd.report_showing(self.address, each);
        self.listing.borrow_mut().page(&self.osds, extents_max, |osd| osd.id(), report)
    }

    pub(super) fn process_name(&self) -> String {
        format!("host-{:x}", self.config.host.0)
    }

    pub(super) fn host_and_boot(&self) -> (HostId, BootId) {
        (self.config.host, self.config.boot)
    }
}

/// No disk is there twice, and each can be scrubbed in time.
fn check_disks(config: &ShardConfig, labelled: &[(Disk, Label)]) -> Result<(), ShardError> {
    let mut names = BTreeSet::new();
    for (disk, label) in labelled {
        let bytes = u64::from(label.layout.extents) * label.layout.extent_bytes();
        let policy = disk.policy(config.disk);
        policy.check_sweep(bytes).map_err(|cause| ShardError::Sweep { path: disk.path.clone(), cause })?;
        if !names.insert(label.osd) {
            return Err(MountError::Twice { path: disk.path.clone(), osd: label.osd }.into());
        }
    }
    Ok(())
}

/// The cell that control says it is; asks until it is answered.
async fn ask_cell(world: &World, peers: &Peers, config: &ShardConfig) -> CellId {
    let mut asked = 0_u64;
    loop {
        if let Some(cell) = ask_cell_once(world, peers, config).await {
            return cell;
        }
        if asked == 0 {
            tracing::warn!(control = %config.control, "an empty disk waits for control to name the cell");
        }
        asked += 1;
        world.tasks.sleep(Duration::from_millis(HEARTBEAT_INTERVAL_MS / 2)).await;
    }
}

async fn ask_cell_once(world: &World, peers: &Peers, config: &ShardConfig) -> Option<CellId> {
    let asked = super::heartbeat::hello(peers, config).await;
    match asked {
        Ok(cell) => Some(cell),
        Err(error) => {
            tracing::debug!(control = %config.control, %error, at = world.clock.unix_ms(), "control does not answer yet");
            None
        }
    }
}
