//! The master: keeps writable volumes ready, closes those that cannot take writes any more, and knows where buckets lie.
//!
//! It decides in pure code ([`step`]) and carries orders out in thin code (`carry_out`). Invariant 4: the tables are the
//! only truth about placement; what is in memory here was read from them, or is written after they were, and
//! a master that starts anew at any instruction goes on from the tables and the heartbeats that come.

mod carry_out;
mod findings;
pub mod health;
mod lack;
pub mod problems;
pub mod reclaim;
pub mod step;
mod take_apart;
pub mod view;
pub mod volumes;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use shingle_proto::ids::{BucketId, CellId, HostId, OsdId, VolumeId};
use shingle_proto::limits::{MASTER_ABSENT_MS, MASTER_STEP_MS, STATUS_EXTENTS_MAX, STATUS_PROBLEMS_MAX};
use shingle_proto::message::{self, CellStatus, Finding, FindingList, Heartbeat, HostReport};
use shingle_seam::World;
use shingle_seam::clock::Monotonic;
use shingle_seam::rpc::Peers;
use tokio::sync::Notify;

use self::findings::Findings;
use self::health::HeartbeatRefused;
use self::lack::{LackWatch, News};
use self::step::step;
use self::view::View;
use crate::service::catalog::Locate;
use crate::tables::Tables;
use crate::tables::replication::{Volume, VolumeState, cell_id, volumes_after};
use crate::tables::work::{TableError, Work};

/// Volumes read in one transaction at start.
const LOAD_ROWS: usize = 1000;

/// The master of a cell.
pub struct Master {
    world: World,
    tables: Tables,
    peers: Peers,
    cell: CellId,
    view: RefCell<View>,
    /// Closed volumes by bucket; open ones are in the view.
    closed: RefCell<BTreeMap<BucketId, (VolumeId, Volume)>>,
    findings: Rc<Findings>,
    /// Something changed that may need an order.
    changed: Notify,
    /// The number of the next order to open a volume.
    orders: Cell<u64>,
}

impl Master {
    /// Recovers from the tables. It decides nothing before [`Master::run`].
    pub async fn load(world: World, tables: Tables, peers: Peers, copies: usize) -> Result<Rc<Self>, TableError> {
        let fresh = CellId(world.entropy.u128());
        let cell = tables.run(async |work: &Work| cell_id(work, fresh).await).await?;
        let findings = Findings::load(tables.clone()).await?;
        let now = world.clock.now();
        let mut view = View::new(copies, now);
        view.health.number_listings_from(world.entropy.u64());
        let master = Self {
            world,
            tables,
            peers,
            cell,
            view: RefCell::new(view),
            closed: RefCell::default(),
            findings,
            changed: Notify::new(),
            orders: Cell::default(),
        };
        master.load_volumes(now).await?;
        Ok(Rc::new(master))
    }

    async fn load_volumes(&self, now: Monotonic) -> Result<(), TableError> {
        let mut after = None;
        loop {
            let page = volumes_after(&self.tables.look(), after, LOAD_ROWS).await?;
            after = page.last().map(|(id, _)| *id);
            let full = page.len() == LOAD_ROWS;
            for (id, row) in page {
                match row.state {
                    VolumeState::Open => self.view.borrow_mut().opened(id, row, now, None),
                    VolumeState::Closed => drop(self.closed.borrow_mut().insert(row.bucket, (id, row))),
                }
            }
            if !full {
                let (open, closed) = (self.view.borrow().volumes.len(), self.closed.borrow().len());
                tracing::info!(cell = %self.cell, open, closed, "the master knows its volumes");
                return Ok(());
            }
        }
    }

    /// Decides and gives orders until dropped.
    pub async fn run(self: Rc<Self>) {
        let mut last = self.now();
        let mut lack = LackWatch::new(last);
        loop {
            let now = self.now();
            if now - last > Duration::from_millis(MASTER_ABSENT_MS) {
                tracing::warn!(gap = ?(now - last), "the master did not run for a while");
                self.view.borrow_mut().health.absent_for(now - last);
            }
            last = now;
            let lacking = volumes::lack(&self.view.borrow(), now);
            match lack.look(lacking, now) {
                Some(News::Begins(lack)) => tracing::warn!(?lack, "no further volume can be opened"),
                Some(News::Ends(lack)) => tracing::info!(?lack, "volumes can be opened again"),
                None => {}
            }
            let orders = step(&self.view.borrow(), now);
            for order in orders {
                self.give(order);
            }
            let step_time = Duration::from_millis(MASTER_STEP_MS);
            if self.world.tasks.timeout(step_time, self.changed.notified()).await.is_err() {
                tracing::trace!("nothing woke the master");
            }
        }
    }

    fn now(&self) -> Monotonic {
        self.world.clock.now()
    }

    /// Takes over findings; they are durable when this ends well.
    pub async fn keep(&self, findings: &[Finding]) -> Result<(), TableError> {
        self.findings.keep(findings).await
    }

    /// A page of the findings, in the order they were found.
    pub fn list_findings(&self, after_id: u64, limit: u32) -> FindingList {
        self.findings.list(after_id, limit)
    }

    /// Takes in a heartbeat. Gives the number of the host's listing.
    pub fn heard(&self, heartbeat: Heartbeat) -> Result<u64, HeartbeatRefused> {
        let listing = self.view.borrow_mut().health.heard(self.now(), heartbeat)?;
        self.changed.notify_one();
        Ok(listing)
    }

    /// The number of the listing that a host has to go on with.
    pub fn listing_of(&self, host: HostId) -> u64 {
        self.view.borrow().health.listing_of(host)
    }

    /// A gateway says that an OSD does not do its work.
    pub fn suspect(&self, osd: OsdId, reason: message::SuspectReason) {
        let now = self.now();
        let mut view = self.view.borrow_mut();
        let known = match reason {
            message::SuspectReason::ConnectionLost => view.health.connection_lost(now, osd),
            _ => view.health.suspect(now, osd),
        };
        if known {
            tracing::warn!(%osd, ?reason, liveness = ?view.health.liveness(osd, now), "an OSD is blamed");
            self.changed.notify_one();
        }
    }

    /// A gateway ran into the end of a volume.
    pub fn full(&self, volume: VolumeId) {
        if let Some(volume) = self.view.borrow_mut().volumes.get_mut(&volume) {
            volume.reported_full = true;
            self.changed.notify_one();
        }
    }

    /// Every open volume whose members all live.
    pub fn open_volumes(&self) -> message::Volumes {
        let view = self.view.borrow();
        let now = self.now();
        let describe = |(id, volume, free_bytes)| view.describe_open(id, volume, free_bytes, now);
        message::Volumes {
            version: view.version,
            copies: u8::try_from(view.copies).unwrap_or(u8::MAX),
            volumes: view.usable(now).map(describe).collect(),
            lack: volumes::lack(&view, now),
        }
    }

    /// The master's part of the cell's status.
    pub fn fill_status(&self, status: &mut CellStatus) {
        let view = self.view.borrow();
        let now = self.now();
        status.lack = volumes::lack(&view, now);
        let extents: usize = view.health.osds().values().map(|osd| osd.extents.len()).sum();
        let report_of = |osd: &health::OsdHealth, id: OsdId| {
            let mut report = osd.report.clone();
            report.listed = osd.listed && extents <= STATUS_EXTENTS_MAX;
            if extents <= STATUS_EXTENTS_MAX {
                report.extents = osd.extents.iter().map(|(id, extent)| extent.to_message(*id)).collect();
            }
            if view.health.liveness(id, now) != health::Liveness::Healthy && report.state == message::OsdState::Healthy
            {
                report.state = message::OsdState::Suspect;
            }
            report
        };
        let host_of = |(id, host): (&HostId, &health::HostHealth)| {
            let osds = view.health.osds().iter().filter(|(_, osd)| osd.host == *id);
            HostReport {
                host: id.0,
                boot: host.boot.0,
                alive: view.health.host_alive(*id, now),
                age_ms: u64::try_from((now - host.heard).as_millis()).unwrap_or(u64::MAX),
                osds: osds.map(|(id, osd)| report_of(osd, *id)).collect(),
            }
        };
        status.cell = self.cell.into();
        status.ready = view.ready(now);
        status.copies = u8::try_from(view.copies).unwrap_or(u8::MAX);
        status.hosts = view.health.hosts().iter().map(host_of).collect();
        status.volumes_open = view.volumes.len() as u64;
        status.volumes_closed = self.closed.borrow().len() as u64;
        let closed = self.closed.borrow();
        let rows = closed.values().map(|(_, row)| row).chain(view.volumes.values().map(|volume| &volume.row));
        let members = rows.flat_map(|row| row.members.iter().map(|member| member.osd));
        status.problems = problems::problems(&view, members, now);
        status.problems_total = status.problems.len() as u64;
        status.problems.truncate(STATUS_PROBLEMS_MAX);
        self.findings.fill_status(status);
    }
}

impl Locate for Master {
    fn cell(&self) -> CellId {
        self.cell
    }

    fn locate(&self, bucket: BucketId) -> Option<message::Volume> {
        let view = self.view.borrow();
        let now = self.now();
        if let Some((id, row)) = self.closed.borrow().get(&bucket) {
            return Some(view.describe(*id, row, false, now));
        }
        let (id, volume) = view.volumes.iter().find(|(_, volume)| volume.row.bucket == bucket)?;
        Some(view.describe(*id, &volume.row, true, now))
    }

    fn report(&self, finding: Finding) {
        self.findings.keep_soon(finding);
    }
}
