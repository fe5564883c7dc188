//! A whole cell in one thread: a control plane, hosts with disks in memory, gateways; each can be killed and started.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use shingle_control::config::ControlConfig;
use shingle_control::service::Control;
use shingle_control::store::memory::{MemoryDisk, MemoryStore};
use shingle_control::store::{self, Store};
use shingle_control::verify::index_scan::check_tables;
use shingle_gateway::config::CoreConfig;
use shingle_gateway::request::CoreSender;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::device::ZonedDevice;
use shingle_hw::faulty::{FaultyDevice, Sleep};
use shingle_hw::geometry::Geometry;
use shingle_hw::qualify::profile::MeasuredProfile;
use shingle_node::osd::mount::Disk;
use shingle_node::osd::shard::{Shard, ShardConfig};
use shingle_proto::ids::{BootId, HostId, KekVersion};
use shingle_proto::limits::COPIES;
use shingle_proto::message::{CellStatus, GetStatus, HostReport, Request, Response, Role};
use shingle_seam::World;
use shingle_seam::keys::{Kek, Keys};
use shingle_seam::rpc::{CallMeta, Peers};

use super::executor::{Executor, ProcessId};
use super::net::Network;
use super::process::world;
use crate::check::copies::{CopiesChecker, CopiesSeen};
use crate::sim::workload::S3_BUCKET;

const CONTROL: ProcessId = ProcessId(1);
const CHECKER: ProcessId = ProcessId(2);
const FIRST_GATEWAY: u32 = 10;
const FIRST_HOST: u32 = 100;
const CONTROL_PORT: u16 = 7100;
const FIRST_HOST_PORT: u16 = 7200;

/// Virtual time: leases, quarantines and restarts together take less than half of it.
const READY_LIMIT: Duration = Duration::from_secs(180);
/// Virtual time: intents live a minute, and what they leave is taken apart in seconds.
const RECLAIM_LIMIT: Duration = Duration::from_secs(900);

/// The shape of a cell.
#[derive(Clone, Copy, Debug)]
pub struct CellShape {
    pub hosts: u32,
    pub disks: u32,
    pub gateways: u32,
    /// Whether a disk has 8 extents of 16 MiB, which a few large blocks fill, or 127 of 1 GiB.
    pub small_extents: bool,
}

impl Default for CellShape {
    /// As `shingle up` starts: five hosts of two disks; two gateways, so that puts race between processes too. The disks
    /// have more extents than the hosts' deaths of a run use up: nothing gives back the rest of a closed volume yet.
    fn default() -> Self {
        Self { hosts: 5, disks: 2, gateways: 2, small_extents: false }
    }
}

impl CellShape {
    /// Many small disks, so that volumes fill up and disks run out of extents.
    pub fn of_small_extents(disks: u32) -> Self {
        Self { disks, small_extents: true, ..Self::default() }
    }

    /// Real rules, 14 open zones at most, one conventional zone. Memory is taken only by what is written.
    pub fn geometry(self) -> Geometry {
        let (zones, zone_bytes) = if self.small_extents { (12, 16 << 20) } else { (512, 256 << 20) };
        Geometry {
            zones,
            zone_bytes,
            zone_capacity_bytes: zone_bytes,
            conventional_zones: 1,
            sector_bytes: 4096,
            open_zones_max: 14,
            active_zones_max: 0,
            transfer_bytes_max: 8 << 20,
        }
    }
}

/// One key-encryption key, the same in every gateway.
struct OneKey(Rc<Kek>);

impl Keys for OneKey {
    fn current(&self) -> KekVersion {
        KekVersion(1)
    }

    fn kek(&self, version: KekVersion) -> Option<Rc<Kek>> {
        (version == KekVersion(1)).then(|| self.0.clone())
    }
}

/// A disk: what survives a crash, and the faults between it and its host.
struct SimDisk {
    device: MemoryDevice,
    faulty: Rc<FaultyDevice>,
}

/// The cell.
pub struct SimCell {
    pub executor: Executor,
    pub network: Rc<Network>,
    pub tables: MemoryDisk,
    shape: CellShape,
    keys: Rc<dyn Keys>,
    disks: RefCell<Vec<SimDisk>>,
    /// What hosts know of their disks.
    profile: RefCell<Option<Rc<MeasuredProfile>>>,
    cores: RefCell<Vec<CoreSender>>,
    dead: RefCell<BTreeSet<ProcessId>>,
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl SimCell {
    pub fn new(seed: u64, shape: CellShape) -> Rc<Self> {
        // RUST_LOG=debug tells what the simulated processes say; silent without it.
        let log = tracing_subscriber::fmt().without_time().with_writer(std::io::stderr);
        drop(log.with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).try_init());
        let executor = Executor::new(seed);
        let network = Network::new(&executor);
        let timer = executor.clone();
        let sleep: Sleep = Rc::new(move |duration| Box::pin(timer.sleep(duration)));
        let disks = (0..shape.hosts * shape.disks).map(|number| {
            let device = MemoryDevice::new(shape.geometry(), &format!("sim-{number}"));
            device.yield_up_to(3, seed ^ u64::from(number));
            let inner: Rc<dyn ZonedDevice> = Rc::new(device.clone());
            let faulty = Rc::new(FaultyDevice::new(inner, sleep.clone(), seed ^ u64::from(number) << 8));
            SimDisk { device, faulty }
        });
        let disks = RefCell::new(disks.collect());
        let keys = Rc::new(OneKey(Rc::new(Kek([0x4b; 32]))));
        let tables = MemoryDisk::new(seed);
        Rc::new(Self {
            executor,
            network,
            tables,
            shape,
            keys,
            disks,
            profile: RefCell::default(),
            cores: RefCell::default(),
            dead: RefCell::default(),
        })
    }

    fn world(&self, process: ProcessId) -> World {
        world(&self.executor, &self.network, process)
    }

    fn host(&self, number: u32) -> ProcessId {
        assert!((1..=self.shape.hosts).contains(&number), "hosts are numbered from 1");
        ProcessId(FIRST_HOST + number)
    }

    /// The process of gateway `number`, counted from 0.
    pub fn gateway_process(&self, number: u32) -> ProcessId {
        ProcessId(FIRST_GATEWAY + number)
    }

    pub fn control_process(&self) -> ProcessId {
        CONTROL
    }

    /// Hosts that start from now on have this profile of each of their disks.
    pub fn profile_disks(&self, profile: Option<Rc<MeasuredProfile>>) {
        *self.profile.borrow_mut() = profile;
    }

    /// Starts everything and waits until the cell is ready.
    pub async fn start(&self) {
        self.start_control();
        (1..=self.shape.hosts).for_each(|number| self.start_host(number));
        (0..self.shape.gateways).for_each(|number| self.start_gateway(number));
        self.wait_ready().await;
    }

    pub fn start_control(&self) {
        let world = self.world(CONTROL);
        let store: Rc<dyn Store> = Rc::new(MemoryStore::open(world.clone(), self.tables.clone()));
        let config = ControlConfig { listen: address(CONTROL_PORT), ..ControlConfig::default() };
        let start = async move {
            // Its tasks keep what they need of it.
            drop(Control::start(world, store, &config).await.unwrap_or_else(|error| panic!("control: {error}")));
        };
        self.executor.spawn(CONTROL, "control start", Box::pin(start));
    }

    pub fn start_host(&self, number: u32) {
        let process = self.host(number);
        let world = self.world(process);
        let first = ((number - 1) * self.shape.disks) as usize;
        let disks = self.disks.borrow();
        let profile = self.profile.borrow().clone();
        let devices: Vec<Disk> = disks[first..first + self.shape.disks as usize]
            .iter()
            .map(|disk| Disk { profile: profile.clone(), ..Disk::from(disk.faulty.clone() as Rc<dyn ZonedDevice>) })
            .collect();
        let boot = BootId(world.entropy.u64());
        let listen = address(FIRST_HOST_PORT + number as u16);
        let config = ShardConfig::solo(HostId(number), boot, listen, address(CONTROL_PORT), 128 << 20);
        let start = async move {
            drop(Shard::start(world, config, devices).await.unwrap_or_else(|error| panic!("host {number}: {error}")));
        };
        self.executor.spawn(process, "host start", Box::pin(start));
    }

    pub fn start_gateway(&self, number: u32) {
        let core = CoreConfig::new(address(CONTROL_PORT));
        let sender = shingle_gateway::core::start(self.world(self.gateway_process(number)), self.keys.clone(), core);
        let mut cores = self.cores.borrow_mut();
        let place = number as usize;
        if place < cores.len() { cores[place] = sender } else { cores.push(sender) }
    }

    /// A way into one of the gateways.
    pub fn core(&self, number: u32) -> CoreSender {
        self.cores.borrow()[number as usize].clone()
    }

    pub fn kill_control(&self) {
        self.kill(CONTROL);
    }

    pub fn kill_gateway(&self, number: u32) {
        self.kill(self.gateway_process(number));
    }

    /// Kills a host; with `power_lost`, its disks lose what they had not made durable.
    pub fn kill_host(&self, number: u32, power_lost: bool) {
        self.kill(self.host(number));
        let first = ((number - 1) * self.shape.disks) as usize;
        for disk in &self.disks.borrow()[first..first + self.shape.disks as usize] {
            if power_lost { disk.device.crash(self.executor.below(u64::MAX)) } else { disk.device.power_cycle() }
        }
    }

    /// Power fails everywhere at once.
    pub fn kill_all(&self) {
        self.kill_control();
        (0..self.shape.gateways).for_each(|number| self.kill_gateway(number));
        (1..=self.shape.hosts).for_each(|number| self.kill_host(number, true));
    }

    fn kill(&self, process: ProcessId) {
        self.executor.kill(process);
        self.network.kill(process);
        self.dead.borrow_mut().insert(process);
    }

    /// Starts again whatever was killed.
    pub fn restart_dead(&self) {
        let dead = self.dead.take();
        if dead.contains(&CONTROL) {
            self.start_control();
        }
        (1..=self.shape.hosts)
            .filter(|number| dead.contains(&self.host(*number)))
            .for_each(|number| self.start_host(number));
        let gateways = (0..self.shape.gateways).filter(|number| dead.contains(&self.gateway_process(*number)));
        gateways.for_each(|number| self.start_gateway(number));
    }

    /// The faults of one disk of a host, both counted from 1.
    pub fn faults(&self, host: u32, disk: u32) -> shingle_hw::faulty::Faults {
        self.disks.borrow()[((host - 1) * self.shape.disks + disk - 1) as usize].faulty.faults()
    }

    /// Slows the store down and lets commits fail as a busy or a remote one does.
    pub fn inject_store_faults(&self, conflicts_per_mille: u32, unknown_per_mille: u32) {
        self.tables.inject(store::memory::Faults {
            conflicts_per_mille,
            unknown_per_mille,
            commit_takes: Duration::from_micros(800),
            ..Default::default()
        });
    }

    /// What the control plane says of the cell; `None`: it does not answer.
    pub async fn status(&self) -> Option<CellStatus> {
        let peers = Peers::new(self.world(CHECKER), Role::Tool, "sim".to_owned());
        let meta = CallMeta::client(Duration::from_secs(5));
        let request = Request::GetStatus(Box::new(GetStatus {}));
        match peers.call(address(CONTROL_PORT), &meta, request, None).await.ok()?.response {
            Response::CellStatus(status) => Some(*status),
            other => panic!("a status answers: {other:?}"),
        }
    }

    /// Waits until every host is heard and puts have volumes.
    ///
    /// # Panics
    /// When that does not come to be, with what is lacking.
    pub async fn wait_ready(&self) {
        let give_up = self.executor.now() + READY_LIMIT;
        loop {
            let lacking = lacking(self.status().await.as_ref(), self.shape.hosts);
            if lacking.is_empty() {
                return;
            }
            assert!(self.executor.now() < give_up, "not ready after {READY_LIMIT:?}: {}", lacking.join("; "));
            self.executor.sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until reclaim has nothing left to do.
    ///
    /// # Panics
    /// When it does not come to an end, with what is left.
    pub async fn wait_reclaimed(&self) {
        let give_up = self.executor.now() + RECLAIM_LIMIT;
        loop {
            let status = self.status().await;
            if status.as_ref().is_some_and(|status| status.reclaim_queue == 0 && status.intents == 0) {
                return;
            }
            let left = status.map(|status| (status.reclaim_queue, status.intents));
            assert!(self.executor.now() < give_up, "(manifests, intents) left after {RECLAIM_LIMIT:?}: {left:?}");
            self.executor.sleep(Duration::from_secs(1)).await;
        }
    }

    /// Every copy of every block of every object; call it when nothing is broken.
    pub async fn check_copies(&self) -> CopiesSeen {
        CopiesChecker::new(self.world(CHECKER), self.keys.clone(), address(CONTROL_PORT)).check(S3_BUCKET, COPIES).await
    }

    /// The tables agree with each other.
    ///
    /// # Panics
    /// When they do not.
    pub async fn check_tables(&self) {
        let store: Rc<dyn Store> = Rc::new(MemoryStore::open(self.world(CHECKER), self.tables.clone()));
        let report = check_tables(&store).await.unwrap_or_else(|error| panic!("the tables can be read: {error}"));
        assert!(report.faults.is_empty(), "the tables do not agree: {:?}", report.faults);
    }
}

/// What keeps the cell from being ready; nothing when it is.
fn lacking(status: Option<&CellStatus>, hosts: u32) -> Vec<String> {
    let Some(status) = status else { return vec!["control does not answer".to_owned()] };
    let alive = |number: &u32| status.hosts.iter().any(|host| host.host == *number && host.alive);
    let silent: Vec<u32> = (1..=hosts).filter(|number| !alive(number)).collect();
    let mut lacking = Vec::new();
    if !silent.is_empty() {
        lacking.push(format!("hosts {silent:?} of {hosts} are silent"));
    }
    if !status.ready {
        let free = |host: &HostReport| {
            let free: Vec<String> =
                host.osds.iter().map(|osd| format!("{} of {}", osd.extents_free, osd.extents_total)).collect();
            format!("host {}: {}", host.host, free.join(", "))
        };
        let free: Vec<String> = status.hosts.iter().map(free).collect();
        let open = status.volumes_open;
        lacking.push(format!("volumes: {open} open, lacking {:?}; free extents: {}", status.lack, free.join("; ")));
        lacking.extend(status.problems.iter().map(|problem| problem.detail.clone()));
    }
    lacking
}
