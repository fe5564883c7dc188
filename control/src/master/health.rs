//! Which OSDs may be written to: what heartbeats and reports say, judged against the time.
//!
//! Pure. An OSD is suspect when somebody says so, when its host is silent for `HOST_SUSPECT_MS`, when its host reports it
//! unwell or no longer reports it. It is healthy again after a quarantine of good heartbeats, which doubles with each
//! suspicion that follows closely on another, so that a disk that comes and goes does not open and close volumes for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use shingle_proto::ids::{BootId, ExtentId, HostId, OsdId};
use shingle_proto::limits::{
    HOST_SUSPECT_MS, HOSTS_MAX, OSDS_MAX, SUSPECT_MEMORY_MS, SUSPECT_QUARANTINE_MAX_MS, SUSPECT_QUARANTINE_MS,
};
use shingle_proto::message::{ExtentState, Heartbeat, OsdReport, OsdState};
use shingle_seam::clock::Monotonic;

/// What the master thinks of an OSD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// Not heard of since the master started, which was a short time ago: neither offered nor blamed.
    Unheard,
    Healthy,
    Suspect,
}

/// A heartbeat that changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeartbeatRefused {
    /// A later one of the same process came first.
    #[error("a later heartbeat was heard before")]
    Late,
    /// A cell has `HOSTS_MAX` hosts and `OSDS_MAX` OSDs at most.
    #[error("the cell is full: {hosts} hosts, {osds} OSDs")]
    CellFull { hosts: usize, osds: usize },
}

/// A host, as last heard.
#[derive(Debug, Clone)]
pub struct HostHealth {
    pub boot: BootId,
    pub sequence: u64,
    pub heard: Monotonic,
}

/// An extent, as last reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentHealth {
    pub state: ExtentState,
    /// Bytes of records it still takes.
    pub free_bytes: u64,
}

/// An OSD, as last heard.
#[derive(Debug, Clone)]
pub struct OsdHealth {
    pub host: HostId,
    pub address: SocketAddr,
    pub report: OsdReport,
    pub extents: BTreeMap<ExtentId, ExtentHealth>,
    /// When its host last reported it.
    pub heard: Monotonic,
    suspicion: Option<Suspicion>,
}

#[derive(Debug, Clone, Copy)]
struct Suspicion {
    /// The last time something spoke against it.
    at: Monotonic,
    /// Suspicions in close succession, this one included.
    strikes: u32,
}

impl Suspicion {
    fn quarantine(self) -> Duration {
        let doubled = SUSPECT_QUARANTINE_MS.saturating_mul(1 << self.strikes.saturating_sub(1).min(16));
        Duration::from_millis(doubled.min(SUSPECT_QUARANTINE_MAX_MS))
    }
}

impl OsdHealth {
    fn strike(&mut self, now: Monotonic) {
        let strikes = match self.suspicion {
            Some(suspicion) if now - suspicion.at < suspicion.quarantine() => suspicion.strikes,
            Some(suspicion) if now - suspicion.at < Duration::from_millis(SUSPECT_MEMORY_MS) => suspicion.strikes + 1,
            _ => 1,
        };
        self.suspicion = Some(Suspicion { at: now, strikes });
    }

    fn in_quarantine(&self, now: Monotonic) -> bool {
        self.suspicion.is_some_and(|suspicion| now - suspicion.at < suspicion.quarantine())
    }
}

/// All hosts and OSDs.
#[derive(Debug, Clone)]
pub struct Health {
    start: Monotonic,
    hosts: BTreeMap<HostId, HostHealth>,
    osds: BTreeMap<OsdId, OsdHealth>,
}

impl Health {
    /// Nobody was heard yet.
    pub fn new(start: Monotonic) -> Self {
        Self { start, hosts: BTreeMap::new(), osds: BTreeMap::new() }
    }

    pub fn hosts(&self) -> &BTreeMap<HostId, HostHealth> {
        &self.hosts
    }

    pub fn osds(&self) -> &BTreeMap<OsdId, OsdHealth> {
        &self.osds
    }

    /// Whether the host was heard within `HOST_SUSPECT_MS`.
    pub fn host_alive(&self, host: HostId, now: Monotonic) -> bool {
        self.hosts.get(&host).is_some_and(|host| !silent(host, now))
    }

    pub fn liveness(&self, osd: OsdId, now: Monotonic) -> Liveness {
        let Some(health) = self.osds.get(&osd) else {
            let waited = now - self.start > Duration::from_millis(HOST_SUSPECT_MS);
            return if waited { Liveness::Suspect } else { Liveness::Unheard };
        };
        let silent = self.hosts.get(&health.host).is_none_or(|host| silent(host, now));
        if silent || health.in_quarantine(now) { Liveness::Suspect } else { Liveness::Healthy }
    }

    /// The master itself did not run for `gap`, so it heard nobody: that speaks against nobody.
    pub fn absent_for(&mut self, gap: Duration) {
        self.start = self.start + gap;
        self.hosts.values_mut().for_each(|host| host.heard = host.heard + gap);
    }

    /// Takes in a heartbeat.
    pub fn heard(&mut self, now: Monotonic, heartbeat: &Heartbeat) -> Result<(), HeartbeatRefused> {
        let host = HostId(heartbeat.host);
        let boot = BootId(heartbeat.boot);
        let before = self.hosts.get(&host);
        if before.is_some_and(|before| before.boot == boot && before.sequence >= heartbeat.sequence) {
            return Err(HeartbeatRefused::Late);
        }
        let was_silent = before.is_some_and(|before| silent(before, now));
        self.check_room(host, heartbeat)?;
        self.hosts.insert(host, HostHealth { boot, sequence: heartbeat.sequence, heard: now });
        for report in &heartbeat.osds {
            self.take_report(now, host, report);
        }
        let named: BTreeSet<OsdId> = heartbeat.osds.iter().map(|report| OsdId(report.osd)).collect();
        for (id, osd) in self.osds.iter_mut().filter(|(_, osd)| osd.host == host) {
            // Silence ended just now, or the disk is gone: either way it has to prove itself.
            if was_silent || !named.contains(id) {
                osd.strike(now);
            }
        }
        Ok(())
    }

    /// Somebody says that this OSD does not do its work. False if it is unknown.
    pub fn suspect(&mut self, now: Monotonic, osd: OsdId) -> bool {
        let found = self.osds.get_mut(&osd);
        found.map(|osd| osd.strike(now)).is_some()
    }

    /// An extent was closed or turned out to have failed: known before the next heartbeat says so.
    pub fn extent_ended(&mut self, osd: OsdId, extent: ExtentId, state: ExtentState) {
        let extent = self.osds.get_mut(&osd).and_then(|osd| osd.extents.get_mut(&extent));
        if let Some(extent) = extent {
            extent.state = state;
        }
    }

    fn check_room(&self, host: HostId, heartbeat: &Heartbeat) -> Result<(), HeartbeatRefused> {
        let hosts = self.hosts.len() + usize::from(!self.hosts.contains_key(&host));
        let fresh = heartbeat.osds.iter().filter(|report| !self.osds.contains_key(&OsdId(report.osd))).count();
        let osds = self.osds.len() + fresh;
        if hosts > HOSTS_MAX || osds > OSDS_MAX {
            return Err(HeartbeatRefused::CellFull { hosts, osds });
        }
        Ok(())
    }

    fn take_report(&mut self, now: Monotonic, host: HostId, report: &OsdReport) {
        let osd = OsdId(report.osd);
        let before = self.osds.remove(&osd);
        let Ok(address) = report.address.parse() else {
            tracing::warn!(%host, %osd, address = report.address, "an OSD's address is no socket address");
            return;
        };
        let extents = report.extents.iter().map(|extent| {
            let health = ExtentHealth { state: extent.state, free_bytes: extent.free_bytes };
            (ExtentId::from(&extent.extent), health)
        });
        let mut health = OsdHealth {
            host,
            address,
            report: report.clone(),
            extents: extents.collect(),
            heard: now,
            suspicion: before.and_then(|before| before.suspicion),
        };
        if report.state != OsdState::Healthy {
            health.strike(now);
        }
        self.osds.insert(osd, health);
    }
}

fn silent(host: &HostHealth, now: Monotonic) -> bool {
    now - host.heard > Duration::from_millis(HOST_SUSPECT_MS)
}
