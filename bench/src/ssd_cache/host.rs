//! A host in virtual time: puts arrive whether or not the host keeps up (open loop), pass the network, and are durable
//! either on the staging SSD or on their disk.
//!
//! Invariants: events happen in the order of their times, ties in the order they were made; the same parameters and seed
//! give the same run. Direct writes follow the engine: one append in flight per zone, one flush for all appends in hand.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use shingle_hw::model::profile::DriveProfile;
use shingle_hw::model::service_time::{Progress, ServiceTime, Ticket, Work};

use super::destage::DestageRun;
use super::parameters::Parameters;
use super::stations::{self, Stations};

const NS: f64 = 1e9;
/// The staging SSD among the devices.
pub(super) const SSD: usize = usize::MAX;

/// Where puts become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Design {
    Staged,
    Direct,
}

/// One run at one load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// 10^6 bytes a second that arrived, and that were acknowledged.
    pub offered_mb_s: f64,
    pub acknowledged_mb_s: f64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    /// Blocks read from the disks meanwhile; 0 when there were none.
    pub read_p95_ms: f64,
    pub stations: Stations,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    ReadArrives,
    /// A put has passed the network.
    Received(u64),
    /// A command may have ended: device, command.
    Look(usize, Ticket),
}

/// What a command was for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Stage {
        put: u64,
    },
    /// A live append of a put to an open zone of a disk.
    Append {
        zone: usize,
        put: u64,
    },
    Flush,
    Read {
        since_ns: u64,
    },
    /// Destaging of a disk: a block has left the SSD, or has reached the disk, or all of the run are durable.
    DestageRead {
        disk: usize,
    },
    DestageWrite,
    DestageFlush,
}

struct Device {
    time: ServiceTime,
    running: BTreeMap<Ticket, Purpose>,
}

/// An open zone and the puts that wait for it.
pub(super) struct OpenZone {
    zone: u32,
    offset_bytes: u64,
    busy: bool,
    queue: VecDeque<u64>,
}

/// A disk as its host sees it.
pub(super) struct HostDisk {
    zones: Vec<OpenZone>,
    /// Puts accepted and not yet appended; appended and not yet durable; in the running flush.
    outstanding: BTreeSet<u64>,
    appended: Vec<u64>,
    flushing: Option<Vec<u64>>,
    /// The next flush waits for appends of puts before this one.
    gathers: Option<u64>,
    pub(super) destage_zone: OpenZone,
    /// Blocks staged for this disk, without those of the running run.
    pub(super) staged: u64,
    pub(super) run: Option<DestageRun>,
}

/// The simulation.
pub struct Host<'a> {
    pub(super) parameters: &'a Parameters,
    design: Design,
    offered_bytes_s: f64,
    devices: Vec<Device>,
    ssd: Device,
    pub(super) disks: Vec<HostDisk>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    made: u64,
    pub(super) random: SmallRng,
    now_ns: u64,
    network_free_ns: u64,
    arrived_ns: BTreeMap<u64, u64>,
    next_put: u64,
    pub(super) staged_bytes: u64,
    pub(super) staged_address: u64,
    /// Puts that wait for room on the SSD.
    pub(super) full: VecDeque<u64>,
    pub(super) destaging: usize,
    latencies_ns: Vec<u64>,
    reads_ns: Vec<u64>,
    acknowledged: u64,
    /// Given to network and SSD so far; of the disks, in `work`.
    given: stations::Work,
    /// All work before the measured time.
    before: Option<stations::Work>,
}

/// Simulates one load.
pub fn simulate(parameters: &Parameters, design: Design, offered_mb_s: f64, seed: u64) -> Point {
    let mut host = Host::new(parameters, design, offered_mb_s, seed);
    host.run();
    host.point()
}

impl<'a> Host<'a> {
    fn new(parameters: &'a Parameters, design: Design, offered_mb_s: f64, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let device =
            |profile: &DriveProfile, seed| Device { time: ServiceTime::new(profile, seed), running: BTreeMap::new() };
        let devices = (0..parameters.disks as u64).map(|disk| device(&parameters.disk, seed ^ disk << 32)).collect();
        let disks = (0..parameters.disks).map(|_| HostDisk::new(parameters, &mut random)).collect();
        Self {
            parameters,
            design,
            offered_bytes_s: offered_mb_s * 1e6,
            devices,
            ssd: device(&parameters.ssd, seed),
            disks,
            events: BinaryHeap::new(),
            made: 0,
            random,
            now_ns: 0,
            network_free_ns: 0,
            arrived_ns: BTreeMap::new(),
            next_put: 0,
            staged_bytes: 0,
            staged_address: 0,
            full: VecDeque::new(),
            destaging: 0,
            latencies_ns: Vec::new(),
            reads_ns: Vec::new(),
            acknowledged: 0,
            given: stations::Work::default(),
            before: None,
        }
    }

    fn run(&mut self) {
        let warm_ns = (self.parameters.warm_up_s * NS) as u64;
        let end_ns = warm_ns + (self.parameters.measured_s * NS) as u64;
        self.arrive_later(Event::Arrives, self.offered_bytes_s / self.parameters.block_bytes as f64);
        let reads_s = self.parameters.reads_per_disk_s * self.parameters.disks as f64;
        self.arrive_later(Event::ReadArrives, reads_s);
        while let Some(Reverse((at_ns, _, event))) = self.events.pop() {
            if at_ns > end_ns {
                break;
            }
            if at_ns >= warm_ns && self.before.is_none() {
                self.before = Some(self.work());
            }
            self.now_ns = at_ns;
            match event {
                Event::Arrives => {
                    self.arrives();
                    self.arrive_later(event, self.offered_bytes_s / self.parameters.block_bytes as f64);
                }
                Event::ReadArrives => {
                    self.read_arrives();
                    self.arrive_later(event, reads_s);
                }
                Event::Received(put) => self.received(put),
                Event::Look(device, ticket) => self.look(device, ticket),
            }
        }
        self.now_ns = end_ns;
    }

    /// What every part has been given to do so far.
    fn work(&self) -> stations::Work {
        let arms = self.devices.iter().map(|device| device.time.arm_time());
        arms.fold(self.given, |work, arm| stations::Work {
            positioning_ns: work.positioning_ns + arm.positioning_ns,
            transfer_ns: work.transfer_ns + arm.transfer_ns,
            ..work
        })
    }

    /// Puts that were not acknowledged in time count with the time they have waited.
    fn point(mut self) -> Point {
        let warm_ns = (self.parameters.warm_up_s * NS) as u64;
        let waiting = self.arrived_ns.values().filter(|at_ns| **at_ns >= warm_ns).map(|at_ns| self.now_ns - at_ns);
        self.latencies_ns.extend(waiting);
        self.latencies_ns.sort_unstable();
        self.reads_ns.sort_unstable();
        let at = |sorted: &[u64], quantile: f64| {
            let index = (sorted.len() as f64 * quantile) as usize;
            sorted.get(index.min(sorted.len().saturating_sub(1))).map_or(0.0, |ns| *ns as f64 / 1e6)
        };
        let sum: f64 = self.latencies_ns.iter().map(|ns| *ns as f64 / 1e6).sum();
        let bytes = |count: usize| count as f64 * self.parameters.block_bytes as f64;
        Point {
            offered_mb_s: bytes(self.latencies_ns.len()) / self.parameters.measured_s / 1e6,
            acknowledged_mb_s: bytes(self.acknowledged as usize) / self.parameters.measured_s / 1e6,
            mean_ms: sum / self.latencies_ns.len().max(1) as f64,
            p50_ms: at(&self.latencies_ns, 0.5),
            p95_ms: at(&self.latencies_ns, 0.95),
            p99_ms: at(&self.latencies_ns, 0.99),
            read_p95_ms: at(&self.reads_ns, 0.95),
            stations: self.work().since(&self.before.unwrap_or_default(), self.parameters, self.parameters.measured_s),
        }
    }

    fn schedule(&mut self, at_ns: u64, event: Event) {
        self.made += 1;
        self.events.push(Reverse((at_ns, self.made, event)));
    }

    /// The next arrival of a Poisson stream.
    fn arrive_later(&mut self, event: Event, per_second: f64) {
        if per_second > 0.0 {
            let uniform: f64 = self.random.random();
            let gap_ns = -(1.0 - uniform).ln() / per_second * NS;
            self.schedule(self.now_ns + gap_ns as u64, event);
        }
    }

    fn arrives(&mut self) {
        let put = self.next_put;
        self.next_put += 1;
        self.arrived_ns.insert(put, self.now_ns);
        let sent_ns = (self.parameters.block_bytes as f64 * 1e3 / self.parameters.network_mb_s) as u64;
        self.network_free_ns = self.network_free_ns.max(self.now_ns) + sent_ns;
        self.given.network_ns += sent_ns;
        self.schedule(self.network_free_ns, Event::Received(put));
    }

    fn read_arrives(&mut self) {
        let disk = self.random.random_range(0..self.disks.len());
        let zone = random_zone(self.parameters, &mut self.random);
        let work = Work::Read { zone, offset_bytes: 0, bytes: self.parameters.block_bytes };
        self.submit(disk, work, Purpose::Read { since_ns: self.now_ns });
    }

    fn received(&mut self, put: u64) {
        match self.design {
            Design::Staged => self.stage(put),
            Design::Direct => {
                let disk = self.random.random_range(0..self.disks.len());
                let zone = self.random.random_range(0..self.parameters.open_zones);
                let state = &mut self.disks[disk];
                state.outstanding.insert(put);
                state.zones[zone].queue.push_back(put);
                if state.flushing.is_none() && state.gathers.is_none() {
                    state.gathers = Some(self.next_put);
                }
                self.append_next(disk, zone);
            }
        }
    }

    pub(super) fn submit(&mut self, device: usize, work: Work, purpose: Purpose) {
        let now_ns = self.now_ns;
        match work {
            Work::Write { bytes, .. } if device == SSD => self.given.ssd_written_bytes += bytes,
            Work::Read { bytes, .. } if device == SSD => self.given.ssd_read_bytes += bytes,
            _ => {}
        }
        let state = if device == SSD { &mut self.ssd } else { &mut self.devices[device] };
        let ticket = state.time.submit(now_ns, work);
        state.running.insert(ticket, purpose);
        self.look(device, ticket);
    }

    /// Whether a command has ended; if not, when to ask again.
    fn look(&mut self, device: usize, ticket: Ticket) {
        let now_ns = self.now_ns;
        let state = if device == SSD { &mut self.ssd } else { &mut self.devices[device] };
        let at_ns = match state.time.progress(now_ns, ticket) {
            Progress::Ends { at_ns } if at_ns <= now_ns => {
                state.time.forget(ticket);
                if let Some(purpose) = state.running.remove(&ticket) {
                    self.ended(device, purpose);
                }
                return;
            }
            Progress::Ends { at_ns } => at_ns,
            Progress::Waits { until_ns } => until_ns,
        };
        self.schedule(at_ns, Event::Look(device, ticket));
    }

    fn ended(&mut self, device: usize, purpose: Purpose) {
        match purpose {
            Purpose::Stage { put } => {
                self.acknowledge(put);
                self.staged();
            }
            Purpose::Append { zone, put } => {
                let state = &mut self.disks[device];
                state.zones[zone].busy = false;
                state.outstanding.remove(&put);
                if self.parameters.durable {
                    self.disks[device].appended.push(put);
                } else {
                    self.acknowledge(put);
                }
                self.append_next(device, zone);
                self.flush_if_gathered(device);
            }
            Purpose::Flush => {
                let batch = self.disks[device].flushing.take().unwrap_or_default();
                batch.into_iter().for_each(|put| self.acknowledge(put));
                let state = &mut self.disks[device];
                let waits = !state.outstanding.is_empty() || !state.appended.is_empty();
                state.gathers = waits.then_some(self.next_put);
                self.flush_if_gathered(device);
            }
            Purpose::Read { since_ns } => {
                if since_ns as f64 >= self.parameters.warm_up_s * NS {
                    self.reads_ns.push(self.now_ns - since_ns);
                }
            }
            Purpose::DestageRead { disk } => self.destage_read(disk),
            Purpose::DestageWrite => self.destage_written(device),
            Purpose::DestageFlush => self.destaged(device),
        }
    }

    fn acknowledge(&mut self, put: u64) {
        let Some(at_ns) = self.arrived_ns.remove(&put) else { return };
        let warm_ns = (self.parameters.warm_up_s * NS) as u64;
        self.acknowledged += u64::from(self.now_ns >= warm_ns);
        if at_ns >= warm_ns {
            self.latencies_ns.push(self.now_ns - at_ns);
        }
    }

    fn append_next(&mut self, disk: usize, zone: usize) {
        let bytes = self.parameters.block_bytes;
        let open = &mut self.disks[disk].zones[zone];
        if open.busy {
            return;
        }
        let Some(put) = open.queue.pop_front() else { return };
        open.busy = true;
        let work = open.place(bytes, self.parameters, &mut self.random);
        self.submit(disk, work, Purpose::Append { zone, put });
    }

    /// Starts the flush for every append in hand once those it waited for have ended.
    fn flush_if_gathered(&mut self, disk: usize) {
        let state = &mut self.disks[disk];
        let Some(before) = state.gathers else { return };
        if state.outstanding.first().is_some_and(|put| *put < before) || state.appended.is_empty() {
            if state.outstanding.is_empty() && state.appended.is_empty() {
                state.gathers = None;
            }
            return;
        }
        state.gathers = None;
        state.flushing = Some(std::mem::take(&mut state.appended));
        self.submit(disk, Work::Flush, Purpose::Flush);
    }
}

impl HostDisk {
    fn new(parameters: &Parameters, random: &mut SmallRng) -> Self {
        Self {
            zones: (0..parameters.open_zones).map(|_| OpenZone::random(parameters, random)).collect(),
            outstanding: BTreeSet::new(),
            appended: Vec::new(),
            flushing: None,
            gathers: None,
            destage_zone: OpenZone::random(parameters, random),
            staged: 0,
            run: None,
        }
    }
}

impl OpenZone {
    /// A zone anywhere on the disk, filled anyhow: open zones do not fill up together.
    fn random(parameters: &Parameters, random: &mut SmallRng) -> Self {
        let blocks = parameters.disk.shape.zone_bytes / parameters.block_bytes;
        let offset_bytes = random.random_range(0..blocks) * parameters.block_bytes;
        Self { zone: random_zone(parameters, random), offset_bytes, busy: false, queue: VecDeque::new() }
    }

    /// The next append; behind a full zone any other one follows.
    pub(super) fn place(&mut self, bytes: u64, parameters: &Parameters, random: &mut SmallRng) -> Work {
        if self.offset_bytes + bytes > parameters.disk.shape.zone_bytes {
            (self.zone, self.offset_bytes) = (random_zone(parameters, random), 0);
        }
        let work = Work::Write { zone: self.zone, offset_bytes: self.offset_bytes, bytes };
        self.offset_bytes += bytes;
        work
    }
}

fn random_zone(parameters: &Parameters, random: &mut SmallRng) -> u32 {
    let shape = &parameters.disk.shape;
    random.random_range(shape.conventional_zones..shape.zones)
}
