//! Which volumes a put may use: whole ones on distinct hosts, away from what just failed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use shingle_proto::ids::{BucketId, ExtentId, Generation, HostId, OsdId, VolumeId};
use shingle_proto::message::{Member, ReadTimes, Volume};

/// One member of a volume, ready to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub osd: OsdId,
    pub host: HostId,
    pub extent: ExtentId,
    pub address: SocketAddr,
    /// How long reads take of its disk when it is idle, if that was measured.
    pub idle_reads: Option<IdleReads>,
}

/// How long reads take of a disk that does nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleReads {
    /// A small one is late after this.
    pub late_us: u32,
    /// Read per second at the slowest place.
    pub bandwidth_bytes: u64,
}

impl Target {
    /// When a read of so many bytes is late on an idle disk like this one.
    pub fn late(&self, bytes: u32) -> Option<Duration> {
        let IdleReads { late_us, bandwidth_bytes } = self.idle_reads?;
        let transfer_us = u64::from(bytes) * 1_000_000 / bandwidth_bytes.max(1);
        Some(Duration::from_micros(u64::from(late_us) + transfer_us))
    }
}

/// A volume as a gateway uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub id: VolumeId,
    pub bucket: BucketId,
    pub generation: Generation,
    pub members: Vec<Target>,
    /// Members nobody knows the address of: their hosts were not heard of since the control plane started.
    pub unheard: usize,
}

/// A row of the Replication Table that cannot be used as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableVolume {
    #[error("member {0} has an address that does not parse")]
    Address(OsdId),
    #[error("{found} members on distinct hosts, {expected} expected")]
    Spread { found: usize, expected: usize },
}

impl Placed {
    /// Takes the members that can be called; used for reads, where every reachable copy helps.
    pub fn for_reads(volume: &Volume) -> Self {
        let members: Vec<Target> = volume.members.iter().filter_map(|member| target(member).ok()).collect();
        Self {
            id: VolumeId(volume.id),
            bucket: BucketId(volume.bucket),
            generation: Generation(volume.generation),
            unheard: volume.members.len() - members.len(),
            members,
        }
    }

    /// Takes a volume for writing: every member must be callable and on a host of its own, `copies` of them.
    pub fn for_writes(volume: &Volume, copies: usize) -> Result<Self, UnusableVolume> {
        let members = volume.members.iter().map(target).collect::<Result<Vec<_>, _>>()?;
        let hosts: BTreeSet<HostId> = members.iter().map(|member| member.host).collect();
        if hosts.len() != members.len() || members.len() != copies {
            return Err(UnusableVolume::Spread { found: hosts.len(), expected: copies });
        }
        Ok(Self { members, ..Self::for_reads(volume) })
    }
}

fn target(member: &Member) -> Result<Target, UnusableVolume> {
    let osd = OsdId(member.osd);
    let address = member.address.parse().map_err(|_| UnusableVolume::Address(osd))?;
    let idle = |times: &ReadTimes| IdleReads { late_us: times.late_us, bandwidth_bytes: times.bandwidth_bytes };
    let idle_reads = member.read_times.as_deref().map(idle);
    Ok(Target { osd, host: HostId(member.host), extent: ExtentId::from(&member.extent), address, idle_reads })
}

/// What one block's put has learned to keep away from.
#[derive(Clone, Debug, Default)]
pub struct Avoid {
    pub volumes: BTreeSet<VolumeId>,
    pub osds: BTreeSet<OsdId>,
    pub hosts: BTreeSet<HostId>,
}

impl Avoid {
    /// Nothing of what failed is in the volume, not even another disk of the same host.
    pub fn admits(&self, volume: &Placed) -> bool {
        self.admits_hosts_again(volume) && volume.members.iter().all(|member| !self.hosts.contains(&member.host))
    }

    /// The weaker rule, for when failures on several hosts leave nothing else: other disks of these hosts may do.
    pub fn admits_hosts_again(&self, volume: &Placed) -> bool {
        !self.volumes.contains(&volume.id) && volume.members.iter().all(|member| !self.osds.contains(&member.osd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(hosts: &[u32]) -> Volume {
        let member =
            |&host| Member { osd: u64::from(host), host, address: "127.0.0.1:1".to_owned(), ..Member::default() };
        Volume { id: 1, members: hosts.iter().map(member).collect(), ..Volume::default() }
    }

    #[test]
    fn two_members_on_one_host_are_not_written_to() {
        assert!(Placed::for_writes(&volume(&[1, 2, 3, 4]), 4).is_ok());
        let spread = Err(UnusableVolume::Spread { found: 3, expected: 4 });
        assert_eq!(Placed::for_writes(&volume(&[1, 2, 3, 3]), 4), spread);
        assert_eq!(Placed::for_writes(&volume(&[1, 2, 3]), 4), spread);
    }

    #[test]
    fn a_member_without_an_address_is_skipped_by_reads_and_refused_by_writes() {
        let mut volume = volume(&[1, 2, 3, 4]);
        volume.members[2].address = String::new();
        assert_eq!(Placed::for_writes(&volume, 4), Err(UnusableVolume::Address(OsdId(3))));
        let placed = Placed::for_reads(&volume);
        assert_eq!((placed.members.len(), placed.unheard), (3, 1));
    }

    #[test]
    fn failed_hosts_are_avoided_and_failed_disks_never_taken_again() {
        let placed = Placed::for_writes(&volume(&[1, 2, 3, 4]), 4).expect("usable");
        let host = Avoid { hosts: [HostId(2)].into(), ..Avoid::default() };
        assert!(!host.admits(&placed) && host.admits_hosts_again(&placed));
        let osd = Avoid { osds: [OsdId(2)].into(), ..Avoid::default() };
        assert!(!osd.admits_hosts_again(&placed));
    }
}
