//! Which OSDs may be written to: what heartbeats and reports say, judged against the time.
//!
//! Pure. An OSD is suspect when somebody says so, when its host is silent for `HOST_SUSPECT_MS`, when its host reports it
//! unwell or no longer reports it. It is healthy again after a quarantine of good heartbeats, which doubles with each
//! suspicion that follows closely on another, so that a disk that comes and goes does not open and close volumes for ever.
//!
//! A lost connection alone says that a process is gone, not that its disks are: it may be back in a second, with every
//! extent as it was; and a process that has just begun may still be reading its disks. Such OSDs are *away*: nothing is
//! offered on them and nothing of them is closed until they have told their open extents again, for `HOST_SUSPECT_MS` at
//! most. That is granted once within `SUSPECT_MEMORY_MS`.
//!
//! Extents. Of every extent of every OSD the last thing heard is kept; what is checked against it (members that ended,
//! extents that nobody needs) rests on its being complete. Heartbeats carry changes to a *listing*, which begins with
//! nothing under a number drawn here: for a host not heard before, for a new boot of it, and when it brings an OSD that
//! another host had. Only heartbeats with that number change it, so nothing that was said to an earlier control process, or
//! by an earlier process of the host, is mixed in. An OSD is *listed* when its host says that nothing is left to tell;
//! until then an extent that was not heard of is unknown rather than gone.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::net::SocketAddr;
use std::time::Duration;

use shingle_proto::ids::{BootId, BucketId, ExtentId, HostId, OsdId, VolumeId};
use shingle_proto::limits::{
    HOST_SUSPECT_MS, HOSTS_MAX, OSD_EXTENTS_MAX, OSDS_MAX, SUSPECT_MEMORY_MS, SUSPECT_QUARANTINE_MAX_MS,
    SUSPECT_QUARANTINE_MS,
};
use shingle_proto::message::{ExtentReport, ExtentState, Heartbeat, OsdReport, OsdState};
use shingle_seam::clock::Monotonic;

/// What the master thinks of an OSD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// Not heard of since the master started, which was a short time ago: neither offered nor blamed.
    Unheard,
    Healthy,
    /// Its connection was lost a short time ago: neither offered nor closed.
    Away,
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
    /// The number of the listing of its extents.
    pub listing: u64,
}

/// An extent, as last reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentHealth {
    pub state: ExtentState,
    /// Bytes of records it still takes.
    pub free_bytes: u64,
    /// Records, and their bytes with padding.
    pub records: u32,
    pub record_bytes: u64,
    /// What its header says that it was made for.
    pub volume: VolumeId,
    pub bucket: BucketId,
    pub member: u8,
}

impl From<&ExtentReport> for ExtentHealth {
    fn from(report: &ExtentReport) -> Self {
        Self {
            state: report.state,
            free_bytes: report.free_bytes,
            records: report.records,
            record_bytes: report.record_bytes,
            volume: VolumeId(report.volume),
            bucket: BucketId(report.bucket),
            member: report.member,
        }
    }
}

impl ExtentHealth {
    pub fn to_message(self, extent: ExtentId) -> ExtentReport {
        ExtentReport {
            extent: extent.into(),
            state: self.state,
            volume: self.volume.0,
            bucket: self.bucket.0,
            member: self.member,
            records: self.records,
            record_bytes: self.record_bytes,
            free_bytes: self.free_bytes,
        }
    }
}

/// An OSD, as last heard.
#[derive(Debug, Clone)]
pub struct OsdHealth {
    pub host: HostId,
    pub address: SocketAddr,
    /// Without its extents.
    pub report: OsdReport,
    pub extents: BTreeMap<ExtentId, ExtentHealth>,
    /// Its host has begun to tell its extents, open ones first: before that nothing is known of what is on it.
    pub begun: bool,
    /// Nothing is left out of `extents`.
    pub listed: bool,
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
    /// Nothing more than one lost connection.
    away: bool,
}

impl Suspicion {
    fn quarantine(self) -> Duration {
        let doubled = SUSPECT_QUARANTINE_MS.saturating_mul(1 << self.strikes.saturating_sub(1).min(16));
        Duration::from_millis(doubled.min(SUSPECT_QUARANTINE_MAX_MS))
    }
}

impl OsdHealth {
    /// Whether anything spoke against it within `SUSPECT_MEMORY_MS`.
    fn remembered(&self, now: Monotonic) -> Option<Suspicion> {
        self.suspicion.filter(|suspicion| now - suspicion.at < Duration::from_millis(SUSPECT_MEMORY_MS))
    }

    fn strike(&mut self, now: Monotonic) {
        let strikes = match self.remembered(now) {
            Some(suspicion) if now - suspicion.at < suspicion.quarantine() => suspicion.strikes,
            Some(suspicion) => suspicion.strikes + 1,
            None => 1,
        };
        self.suspicion = Some(Suspicion { at: now, strikes, away: false });
    }

    /// A connection to it was lost.
    fn miss(&mut self, now: Monotonic) {
        match self.remembered(now) {
            None => self.suspicion = Some(Suspicion { at: now, strikes: 1, away: true }),
            Some(suspicion) if suspicion.away && self.is_away(now) => {}
            Some(_) => self.strike(now),
        }
    }

    /// Whether it has not proved yet that it is back with its extents.
    fn is_away(&self, now: Monotonic) -> bool {
        let unproved = |suspicion: Suspicion| self.heard <= suspicion.at || !self.begun || self.in_quarantine(now);
        self.suspicion.is_some_and(|suspicion| suspicion.away && unproved(suspicion))
    }

    /// Whether whatever spoke against it last did so `HOST_SUSPECT_MS` ago.
    fn is_overdue(&self, now: Monotonic) -> bool {
        self.suspicion.is_some_and(|suspicion| now - suspicion.at > Duration::from_millis(HOST_SUSPECT_MS))
    }

    fn suspected_within(&self, now: Monotonic, time: Duration) -> bool {
        self.suspicion.is_some_and(|suspicion| now - suspicion.at < time)
    }

    fn in_quarantine(&self, now: Monotonic) -> bool {
        self.suspicion.is_some_and(|suspicion| now - suspicion.at < suspicion.quarantine())
    }
}

/// All hosts and OSDs.
#[derive(Debug, Clone)]
pub struct Health {
    start: Monotonic,
    /// The number of the last listing that was begun.
    listings: u64,
    hosts: BTreeMap<HostId, HostHealth>,
    osds: BTreeMap<OsdId, OsdHealth>,
}

impl Health {
    /// Nobody was heard yet.
    pub fn new(start: Monotonic) -> Self {
        Self { start, listings: 0, hosts: BTreeMap::new(), osds: BTreeMap::new() }
    }

    /// Numbers listings from here on, so that no number is one of an earlier control process.
    pub fn number_listings_from(&mut self, number: u64) {
        self.listings = number;
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
        match () {
            () if silent => Liveness::Suspect,
            () if health.is_away(now) && !health.is_overdue(now) => Liveness::Away,
            () if health.is_away(now) => Liveness::Suspect,
            () if health.in_quarantine(now) => Liveness::Suspect,
            () => Liveness::Healthy,
        }
    }

    /// The master itself did not run for `gap`, so it heard nobody: that speaks against nobody.
    pub fn absent_for(&mut self, gap: Duration) {
        self.start = self.start + gap;
        self.hosts.values_mut().for_each(|host| host.heard = host.heard + gap);
    }

    /// Takes in a heartbeat. Gives the number of the listing that the host has to go on with.
    pub fn heard(&mut self, now: Monotonic, heartbeat: Heartbeat) -> Result<u64, HeartbeatRefused> {
        let host = HostId(heartbeat.host);
        let boot = BootId(heartbeat.boot);
        let before = self.hosts.get(&host);
        if before.is_some_and(|before| before.boot == boot && before.sequence >= heartbeat.sequence) {
            return Err(HeartbeatRefused::Late);
        }
        let was_silent = before.is_some_and(|before| silent(before, now));
        let known = before.filter(|before| before.boot == boot).map(|before| before.listing);
        self.check_room(host, &heartbeat)?;
        let moved = heartbeat.osds.iter().any(|report| self.is_another_hosts(report, host));
        let listing = known.filter(|_| !moved).unwrap_or_else(|| self.next_listing());
        if known != Some(listing) {
            self.forget_extents(host);
        }
        self.hosts.insert(host, HostHealth { boot, sequence: heartbeat.sequence, heard: now, listing });
        let named: BTreeSet<OsdId> = heartbeat.osds.iter().map(|report| OsdId(report.osd)).collect();
        for report in heartbeat.osds {
            self.take_report(now, host, report, heartbeat.listing == listing);
        }
        for (id, osd) in self.osds.iter_mut().filter(|(_, osd)| osd.host == host) {
            match named.contains(id) {
                // The process has just begun and has not come to this disk yet.
                false if !osd.begun && !was_silent => osd.miss(now),
                // Silence ended just now, or the disk is gone: either way it has to prove itself.
                false => osd.strike(now),
                true if was_silent => osd.strike(now),
                true => {}
            }
        }
        Ok(listing)
    }

    /// The listing that a host has to go on with.
    pub fn listing_of(&self, host: HostId) -> u64 {
        self.hosts.get(&host).map_or(0, |host| host.listing)
    }

    /// Whether the OSD may be given new extents: healthy, and its open ones are known.
    pub fn takes_extents(&self, osd: OsdId, now: Monotonic) -> bool {
        self.osds.get(&osd).is_some_and(|osd| osd.begun) && self.liveness(osd, now) == Liveness::Healthy
    }

    /// Whether something spoke against the OSD within `SUSPECT_MEMORY_MS`, be it healthy again or not.
    pub fn suspected_lately(&self, osd: OsdId, now: Monotonic) -> bool {
        let memory = Duration::from_millis(SUSPECT_MEMORY_MS);
        self.osds.get(&osd).is_some_and(|osd| osd.suspected_within(now, memory))
    }

    fn next_listing(&mut self) -> u64 {
        // Never 0, which hosts have that were not given one.
        self.listings = self.listings.wrapping_add(1).max(1);
        self.listings
    }

    fn is_another_hosts(&self, report: &OsdReport, host: HostId) -> bool {
        self.osds.get(&OsdId(report.osd)).is_some_and(|osd| osd.host != host)
    }

    fn forget_extents(&mut self, host: HostId) {
        for osd in self.osds.values_mut().filter(|osd| osd.host == host) {
            osd.extents.clear();
            (osd.begun, osd.listed) = (false, false);
        }
    }

    /// Somebody says that this OSD does not do its work. False if it is unknown.
    pub fn suspect(&mut self, now: Monotonic, osd: OsdId) -> bool {
        let found = self.osds.get_mut(&osd);
        found.map(|osd| osd.strike(now)).is_some()
    }

    /// Somebody lost the connection to this OSD: its host's process is what is gone, with all of its OSDs. False if it is
    /// unknown.
    pub fn connection_lost(&mut self, now: Monotonic, osd: OsdId) -> bool {
        let Some(host) = self.osds.get(&osd).map(|osd| osd.host) else { return false };
        self.osds.values_mut().filter(|osd| osd.host == host).for_each(|osd| osd.miss(now));
        true
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

    /// `continues`: its extents continue the host's listing.
    fn take_report(&mut self, now: Monotonic, host: HostId, mut report: OsdReport, continues: bool) {
        let osd = OsdId(report.osd);
        let before = self.osds.remove(&osd);
        let Ok(address) = report.address.parse() else {
            tracing::warn!(%host, %osd, address = report.address, "an OSD's address is no socket address");
            return;
        };
        let told = take(&mut report.extents);
        let gone = take(&mut report.gone);
        let suspicion = before.as_ref().and_then(|before| before.suspicion);
        let before = before.filter(|before| before.host == host);
        let begun = continues || before.as_ref().is_some_and(|before| before.begun);
        let mut extents = before.map(|before| before.extents).unwrap_or_default();
        let mut listed = false;
        if continues {
            for extent in &gone {
                extents.remove(&ExtentId::from(extent));
            }
            extents.extend(told.iter().map(|extent| (ExtentId::from(&extent.extent), ExtentHealth::from(extent))));
            listed = report.listed && extents.len() <= OSD_EXTENTS_MAX;
            while extents.len() > OSD_EXTENTS_MAX {
                extents.pop_last();
            }
        }
        let unwell = report.state != OsdState::Healthy;
        let mut health = OsdHealth { host, address, report, extents, begun, listed, heard: now, suspicion };
        if unwell {
            health.strike(now);
        }
        self.osds.insert(osd, health);
    }
}

fn silent(host: &HostHealth, now: Monotonic) -> bool {
    now - host.heard > Duration::from_millis(HOST_SUSPECT_MS)
}
