//! A cell in which every order is carried out at once, and time passes when told to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shingle_control::master::step::{Order, step};
use shingle_control::master::view::View;
use shingle_control::tables::replication::{Member, Volume, VolumeState};
use shingle_proto::ids::{BucketId, ExtentId, Generation, HostId, OsdId, VolumeId};
use shingle_proto::limits::{GIB, HEARTBEAT_INTERVAL_MS};
use shingle_proto::message::{ExtentReport, ExtentState, Heartbeat, OsdReport, OsdState, ScrubStatus};
use shingle_seam::clock::Monotonic;

pub const COPIES: usize = 4;
pub const DISKS: u64 = 2;

/// Hosts as they really are, and the master's view of them.
pub struct Cell {
    pub view: View,
    pub now: Monotonic,
    /// Hosts that send heartbeats.
    pub alive: BTreeSet<u32>,
    pub disks: BTreeMap<OsdId, Disk>,
    /// The Replication Table.
    pub table: BTreeMap<VolumeId, Volume>,
    /// Orders carried out so far.
    pub done: Vec<Order>,
    sequence: u64,
    /// How often each host has started again.
    boots: BTreeMap<u32, u64>,
    /// The listing each host goes on with.
    listings: BTreeMap<u32, u64>,
    ids: u64,
}

pub struct Disk {
    pub host: u32,
    pub state: OsdState,
    /// Its host does not report it (yet).
    pub missing: bool,
    pub free: u32,
    /// How long ago its oldest extent was verified; its sweep is 1,000 ms.
    pub scrub_age_ms: u64,
    pub extents: BTreeMap<ExtentId, (ExtentState, u64)>,
    /// Extents that the master was told of.
    told: BTreeSet<ExtentId>,
}

pub fn osd(host: u32, disk: u64) -> OsdId {
    OsdId(u64::from(host) * 100 + disk)
}

impl Cell {
    pub fn new(hosts: u32) -> Self {
        let now = Monotonic::default() + Duration::from_secs(1000);
        let (extents, told) = (BTreeMap::new(), BTreeSet::new());
        let disk = |host| Disk {
            host,
            state: OsdState::Healthy,
            missing: false,
            free: 60,
            scrub_age_ms: 0,
            extents: extents.clone(),
            told: told.clone(),
        };
        let disks = (1..=hosts).flat_map(|host| (0..DISKS).map(move |n| (osd(host, n), host)));
        Self {
            view: View::new(COPIES, now),
            now,
            alive: (1..=hosts).collect(),
            disks: disks.map(|(osd, host)| (osd, disk(host))).collect(),
            table: BTreeMap::new(),
            done: Vec::new(),
            sequence: 0,
            boots: BTreeMap::new(),
            listings: BTreeMap::new(),
            ids: 0,
        }
    }

    /// A cell that has been running for a while.
    pub fn settled(hosts: u32) -> Self {
        let mut cell = Self::new(hosts);
        cell.pass(Duration::from_secs(1));
        cell.done.clear();
        cell
    }

    /// A new master on the same table and hosts, which has heard nobody yet.
    pub fn restart_master(&mut self) {
        self.view = View::new(COPIES, self.now);
        self.ids += 1_000_000;
        self.view.health.number_listings_from(self.ids);
        for (id, row) in self.table.iter().filter(|(_, row)| row.state == VolumeState::Open) {
            self.view.opened(*id, row.clone(), self.now, None);
        }
        self.done.clear();
    }

    /// Time passes, with heartbeats and steps of the master.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(HEARTBEAT_INTERVAL_MS);
            self.beat();
            self.obey();
        }
    }

    /// Every living host sends a heartbeat.
    pub fn beat(&mut self) {
        for host in self.alive.clone() {
            self.beat_of(host);
        }
    }

    pub fn beat_of(&mut self, host: u32) {
        self.sequence += 1;
        let osds = self.reports(host);
        let listing = self.listings.get(&host).copied().unwrap_or(0);
        let boot = 1 + self.boots.get(&host).copied().unwrap_or(0);
        let heartbeat = Heartbeat { host, boot, sequence: self.sequence, osds, findings: Vec::new(), listing };
        let listing = self.view.health.heard(self.now, heartbeat).unwrap();
        if self.listings.insert(host, listing) != Some(listing) {
            self.beat_of(host);
        }
    }

    /// A host's process begins anew: it knows its extents, and no listing.
    pub fn restart_host(&mut self, host: u32) {
        *self.boots.entry(host).or_default() += 1;
        self.listings.remove(&host);
        self.alive.insert(host);
    }

    /// Every disk of a host with all its extents, and all that are gone.
    fn reports(&mut self, host: u32) -> Vec<OsdReport> {
        let disks = self.disks.iter_mut().filter(|(_, disk)| disk.host == host && !disk.missing);
        let report_of = |(id, disk): (&OsdId, &mut Disk)| {
            let mut report = report(*id, disk);
            let gone = disk.told.iter().filter(|extent| !disk.extents.contains_key(extent));
            report.gone = gone.map(|extent| (*extent).into()).collect();
            disk.told = disk.extents.keys().copied().collect();
            report
        };
        disks.map(report_of).collect()
    }

    /// Carries out what the master orders until it orders nothing more.
    pub fn obey(&mut self) {
        for _ in 0..50 {
            let orders = step(&self.view, self.now);
            if orders.is_empty() {
                return;
            }
            orders.iter().for_each(|order| self.carry_out(order));
            self.done.extend(orders);
        }
        panic!("the master never comes to rest: {:?}", self.done.last());
    }

    fn carry_out(&mut self, order: &Order) {
        match order {
            Order::Open { members } => self.open(members),
            Order::Close { volume, .. } => {
                let row = self.table.get_mut(volume).unwrap();
                row.state = VolumeState::Closed;
                row.members.clone().iter().for_each(|member| self.end(member.osd, member.extent));
                self.view.closed(*volume);
            }
            Order::EndExtent { osd, extent } => self.end(*osd, *extent),
        }
    }

    fn open(&mut self, osds: &[OsdId]) {
        let mut members = Vec::new();
        for osd in osds {
            self.ids += 1;
            let extent = ExtentId(u128::from(self.ids));
            let disk = self.disks.get_mut(osd).unwrap();
            assert!(self.alive.contains(&disk.host), "no extent is ordered from a dead host");
            assert!(disk.free > 0, "no extent is ordered from a full disk");
            disk.free -= 1;
            disk.extents.insert(extent, (ExtentState::Open, GIB));
            members.push(Member { osd: *osd, extent });
        }
        let hosts: BTreeSet<u32> = osds.iter().map(|osd| self.disks[osd].host).collect();
        assert_eq!(hosts.len(), COPIES, "every member is on a host of its own");
        self.ids += 1;
        let (id, bucket) = (VolumeId(self.ids), BucketId(self.ids));
        let row = Volume { bucket, state: VolumeState::Open, generation: Generation(1), members };
        self.table.insert(id, row.clone());
        self.view.opened(id, row, self.now, Some(GIB));
    }

    /// An extent closes if its host is there to do it.
    fn end(&mut self, osd: OsdId, extent: ExtentId) {
        let disk = self.disks.get_mut(&osd).unwrap();
        if self.alive.contains(&disk.host) {
            if let Some((state, _)) = disk.extents.get_mut(&extent) {
                *state = ExtentState::Closed;
            }
            self.view.health.extent_ended(osd, extent, ExtentState::Closed);
        }
    }

    /// The hosts of every volume that is offered.
    pub fn offered(&self) -> Vec<BTreeSet<u32>> {
        let usable = self.view.usable(self.now);
        usable.map(|(_, volume, _)| volume.row.members.iter().map(|m| self.disks[&m.osd].host).collect()).collect()
    }

    pub fn offered_ids(&self) -> Vec<VolumeId> {
        self.view.usable(self.now).map(|(id, ..)| id).collect()
    }

    pub fn avoidable(&self, host: u32) -> bool {
        self.offered().iter().any(|hosts| !hosts.contains(&host))
    }

    pub fn closed(&self) -> usize {
        self.done.iter().filter(|order| matches!(order, Order::Close { .. })).count()
    }

    pub fn hosts_heard(&self) -> Vec<HostId> {
        self.view.health.hosts().keys().copied().collect()
    }
}

fn report(id: OsdId, disk: &Disk) -> OsdReport {
    let extent = |(extent, (state, free_bytes)): (&ExtentId, &(ExtentState, u64))| ExtentReport {
        extent: (*extent).into(),
        state: *state,
        free_bytes: *free_bytes,
        ..ExtentReport::default()
    };
    let scrub = ScrubStatus { sweep_ms: 1_000, age_p100_ms: disk.scrub_age_ms, ..ScrubStatus::default() };
    OsdReport {
        osd: id.0,
        address: format!("127.0.0.1:{}", 7000 + disk.host),
        state: disk.state,
        extents_total: 64,
        extents_free: disk.free,
        extents: disk.extents.iter().map(extent).collect(),
        listed: true,
        scrub: Some(Box::new(scrub)),
        ..OsdReport::default()
    }
}
