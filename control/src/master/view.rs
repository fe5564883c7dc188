//! What the master knows: who lives, which volumes the table has open, what it has asked for and not yet seen done.
//!
//! Pure data; rebuilt after every start from the Replication Table and the heartbeats that follow (invariant 4).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shingle_proto::ids::{ExtentId, HostId, OsdId, VolumeId};
use shingle_proto::limits::{HOST_SUSPECT_MS, VOLUME_FREE_BYTES_MIN};
use shingle_proto::message::{self, ExtentState};
use shingle_seam::clock::Monotonic;

use super::health::{Health, Liveness};
use crate::tables::replication::{Member, Volume};

/// A volume that is open in the table.
#[derive(Debug, Clone)]
pub struct OpenVolume {
    pub row: Volume,
    /// When it was opened, or loaded from the table.
    pub opened: Monotonic,
    /// What its smallest extent took when it was new; not known after a restart.
    pub capacity_bytes: Option<u64>,
    /// Somebody ran into its end.
    pub reported_full: bool,
    /// It is being closed.
    pub closing: bool,
    /// Closing it failed; not to be tried again before.
    pub close_after: Monotonic,
}

/// Why a volume must close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    Full,
    MemberSuspect(OsdId),
    /// The member's extent is closed, failed or gone.
    MemberEnded(OsdId),
}

/// What may be done with an open volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Takes blocks.
    Usable {
        free_bytes: u64,
    },
    /// A member was not heard of yet: neither offered nor closed.
    Waiting,
    /// A member's host may be restarting: neither offered nor closed, and others are opened in its place.
    Away,
    Close(CloseReason),
}

enum MemberCondition {
    Good { free_bytes: u64 },
    Unknown,
    Away,
    Bad(CloseReason),
}

/// Everything the master decides from.
#[derive(Debug, Clone)]
pub struct View {
    /// Copies of every block, on as many hosts.
    pub copies: usize,
    pub health: Health,
    pub volumes: BTreeMap<VolumeId, OpenVolume>,
    /// Volumes whose extents are being created, by the number of the order.
    pub opening: BTreeMap<u64, Vec<Member>>,
    /// Extents that no open volume has and that are being closed.
    pub ending: BTreeSet<ExtentId>,
    /// OSDs that refused or failed a new extent: no others before this time.
    pub shunned: BTreeMap<OsdId, Monotonic>,
    /// Raised by every change of `volumes`.
    pub version: u64,
}

impl View {
    /// Knows nobody yet.
    pub fn new(copies: usize, start: Monotonic) -> Self {
        Self {
            copies,
            health: Health::new(start),
            volumes: BTreeMap::new(),
            opening: BTreeMap::new(),
            ending: BTreeSet::new(),
            shunned: BTreeMap::new(),
            version: 0,
        }
    }

    /// A volume became open; `capacity_bytes` is not known when it comes from the table.
    pub fn opened(&mut self, id: VolumeId, row: Volume, now: Monotonic, capacity_bytes: Option<u64>) {
        let volume = OpenVolume {
            row,
            opened: now,
            capacity_bytes,
            reported_full: false,
            closing: false,
            close_after: Monotonic::default(),
        };
        self.volumes.insert(id, volume);
        self.version += 1;
    }

    /// A volume was closed.
    pub fn closed(&mut self, id: VolumeId) {
        self.volumes.remove(&id);
        self.version += 1;
    }

    pub fn condition(&self, volume: &OpenVolume, now: Monotonic) -> Condition {
        let mut free = u64::MAX;
        let (mut waiting, mut away) = (false, false);
        for member in &volume.row.members {
            match self.member_condition(volume, member, now) {
                MemberCondition::Good { free_bytes } => free = free.min(free_bytes),
                MemberCondition::Unknown => waiting = true,
                MemberCondition::Away => away = true,
                MemberCondition::Bad(reason) => return Condition::Close(reason),
            }
        }
        match () {
            () if volume.reported_full || free < VOLUME_FREE_BYTES_MIN => Condition::Close(CloseReason::Full),
            () if away => Condition::Away,
            () if waiting => Condition::Waiting,
            () => Condition::Usable { free_bytes: free },
        }
    }

    fn member_condition(&self, volume: &OpenVolume, member: &Member, now: Monotonic) -> MemberCondition {
        match self.health.liveness(member.osd, now) {
            Liveness::Unheard => return MemberCondition::Unknown,
            Liveness::Away => return MemberCondition::Away,
            Liveness::Suspect => return MemberCondition::Bad(CloseReason::MemberSuspect(member.osd)),
            Liveness::Healthy => {}
        }
        let Some(osd) = self.health.osds().get(&member.osd) else { return MemberCondition::Unknown };
        match (osd.extents.get(&member.extent), volume.capacity_bytes) {
            (Some(extent), _) if extent.state == ExtentState::Open => {
                MemberCondition::Good { free_bytes: extent.free_bytes }
            }
            (Some(_), _) => MemberCondition::Bad(CloseReason::MemberEnded(member.osd)),
            // Gone, if every extent of the OSD is known. A heartbeat may have been on its way when this one was made.
            (None, _) if osd.listed && osd.heard > volume.opened + Duration::from_millis(HOST_SUSPECT_MS) => {
                MemberCondition::Bad(CloseReason::MemberEnded(member.osd))
            }
            (None, Some(free_bytes)) => MemberCondition::Good { free_bytes },
            (None, None) => MemberCondition::Unknown,
        }
    }

    /// Open volumes that take blocks now.
    pub fn usable(&self, now: Monotonic) -> impl Iterator<Item = (VolumeId, &OpenVolume, u64)> {
        self.volumes.iter().filter_map(move |(id, volume)| match self.condition(volume, now) {
            Condition::Usable { free_bytes } if !volume.closing => Some((*id, volume, free_bytes)),
            _ => None,
        })
    }

    /// The host of an OSD, if it was ever heard of.
    pub fn host_of(&self, osd: OsdId) -> Option<HostId> {
        self.health.osds().get(&osd).map(|osd| osd.host)
    }

    /// What a gateway needs to write to a volume.
    pub fn describe_open(&self, id: VolumeId, volume: &OpenVolume, free_bytes: u64, now: Monotonic) -> message::Volume {
        message::Volume { free_bytes, ..self.describe(id, &volume.row, true, now) }
    }

    /// What a gateway needs to read from a volume: all its members, healthy ones first. Those whose host was not heard of
    /// have no address.
    pub fn describe(&self, id: VolumeId, row: &Volume, open: bool, now: Monotonic) -> message::Volume {
        let osds = self.health.osds();
        let mut members: Vec<_> = row.members.iter().map(|member| (member, osds.get(&member.osd))).collect();
        members.sort_by_key(|(member, _)| self.health.liveness(member.osd, now) != Liveness::Healthy);
        message::Volume {
            id: id.0,
            bucket: row.bucket.0,
            generation: row.generation.0,
            open,
            free_bytes: 0,
            load_bytes: members
                .iter()
                .filter_map(|(_, heard)| *heard)
                .map(|osd| osd.report.queue_bytes)
                .max()
                .unwrap_or(0),
            members: members
                .iter()
                .map(|(member, heard)| message::Member {
                    osd: member.osd.0,
                    host: heard.map_or(0, |osd| osd.host.0),
                    extent: member.extent.into(),
                    address: heard.map_or_else(String::new, |osd| osd.address.to_string()),
                    read_times: heard.and_then(|osd| osd.report.read_times.clone()),
                })
                .collect(),
        }
    }

    /// Whether every living host can be avoided by some volume that takes blocks (with as many hosts as copies: whether
    /// there is a volume at all).
    pub fn ready(&self, now: Monotonic) -> bool {
        self.usable(now).next().is_some() && self.unavoidable_hosts(now).is_empty()
    }

    /// Living hosts that every volume which takes blocks has a member on. None with as many hosts as copies: there it
    /// has to be like that.
    pub fn unavoidable_hosts(&self, now: Monotonic) -> BTreeSet<HostId> {
        let mut hosts = self.healthy_hosts(now);
        if hosts.len() <= self.copies {
            return BTreeSet::new();
        }
        for (_, volume, _) in self.usable(now) {
            let members = self.hosts_of(&volume.row.members);
            hosts.retain(|host| members.contains(host));
        }
        hosts
    }

    pub fn hosts_of(&self, members: &[Member]) -> BTreeSet<HostId> {
        members.iter().filter_map(|member| self.host_of(member.osd)).collect()
    }

    /// Hosts with at least one healthy OSD.
    pub fn healthy_hosts(&self, now: Monotonic) -> BTreeSet<HostId> {
        let osds = self.health.osds().iter();
        osds.filter(|(id, _)| self.health.liveness(**id, now) == Liveness::Healthy).map(|(_, osd)| osd.host).collect()
    }
}
