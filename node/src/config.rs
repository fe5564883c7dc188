//! Configuration of the host process; unknown keys are refused.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use shingle_proto::limits::{
    KIB, MIB, OSD_SHARE_MAX, RECORD_ALIGN_BYTES, SEALED_BYTES_MAX, SHARD_BUDGET_BYTES_DEFAULT,
};
use shingle_seam::net::{NotLoopback, require_loopback};

use crate::osd::lanes::Shares;
use crate::osd::policy::{BANDWIDTH_BYTES_DEFAULT, BandwidthFrom, DiskPolicy, IO_COST_BYTES_MAX};

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostConfig {
    /// Number of this host in the cell, from 1.
    pub host: u32,
    /// Address of the first shard; shard i listens i ports higher. Loopback only. Port 0: any free ones.
    pub listen: SocketAddr,
    /// Address of the control plane.
    pub control: SocketAddr,
    /// The disks: files made by `shingle up`, nodes of zoned drives, or NVMe drives taken from the kernel
    /// (`vfio:0000:01:00.0`). They are dealt to the shards in turn.
    pub disks: Vec<PathBuf>,
    /// Profiles of disks, by the path in `disks`: the `drive.toml` of `shingle qualify`. What was measured on a disk
    /// replaces the `disk-` values below for it. A profile of another drive is refused.
    pub disk_profiles: BTreeMap<PathBuf, PathBuf>,
    /// Shards: threads, each with its disks and its port.
    pub shards: u32,
    /// Cores to pin the shards to, one each; empty: the kernel moves them as it likes.
    pub cores: Vec<usize>,
    /// Memory for blocks on their way to and from the disks, per shard, in MiB.
    pub budget_mib: u64,
    /// Shares of a disk that clients, repair, scrub and compaction get when all of them want it, each 1 to 1000. Only
    /// their ratios count, and what one does not use is the others'.
    pub share_client: u32,
    pub share_repair: u32,
    pub share_scrub: u32,
    pub share_compaction: u32,
    /// Transfers one disk works on at once, 1 to 1024, and of large ones no more than 32 MiB. A drive profile that tells
    /// depths by size takes its place.
    pub disk_queue_depth: u32,
    /// What positioning costs a disk, as KiB it could have transferred meanwhile.
    pub disk_io_cost_kib: u64,
    /// What a disk reads per second, in MB (millions of bytes), at its slowest place. None: what data sheets say.
    pub disk_bandwidth_mb: Option<u64>,
    /// Days in which every record is read back and checked once, 1 to 365.
    pub scrub_days: u32,
}

/// Shards of one process; hosts have fewer cores.
const SHARDS_MAX: u32 = 256;
/// Below this the read quarter of the budget holds no record of the largest size.
const BUDGET_MIB_MIN: u64 = 32;
const _: () = assert!(BUDGET_MIB_MIN * MIB / 4 > SEALED_BYTES_MAX as u64 + RECORD_ALIGN_BYTES as u64);

/// Transfers a disk may be given at once: NVMe queues are as deep.
const QUEUE_DEPTH_MAX: u32 = 1024;
const IO_COST_KIB_MAX: u64 = IO_COST_BYTES_MAX / KIB;
/// No disk reads faster.
const BANDWIDTH_MB_MAX: u64 = 1_000_000;
const SCRUB_DAYS_MAX: u32 = 365;
/// Data sheets count in millions.
const MB: u64 = 1_000_000;

/// A value that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("host = 0: hosts are numbered from 1")]
    Host,
    #[error("disks: none given; a host serves at least one")]
    NoDisks,
    #[error("disks: {} is given twice", .0.display())]
    DiskTwice(PathBuf),
    #[error("disk-profiles: {} is not in `disks`", .0.display())]
    ProfileOfNone(PathBuf),
    #[error("shards = {shards}: at least 1, at most one per disk ({disks}) and {SHARDS_MAX}")]
    Shards { shards: u32, disks: usize },
    #[error("budget-mib = {0}: at least {BUDGET_MIB_MIN}")]
    Budget(u64),
    #[error("share-{class} = {share}: 1 to {OSD_SHARE_MAX}")]
    Share { class: &'static str, share: u32 },
    #[error("{key} = {value}: {least} to {most}")]
    OutOfRange { key: &'static str, value: u64, least: u64, most: u64 },
    #[error("cores: {cores} given for {shards} shards; name as many, each once, or none")]
    Cores { cores: usize, shards: u32 },
    #[error("listen: {0}")]
    Listen(#[from] NotLoopback),
    #[error("listen = {listen}: {shards} shards need as many ports behind it")]
    Ports { listen: SocketAddr, shards: u32 },
}

impl Default for HostConfig {
    fn default() -> Self {
        let disk = DiskPolicy::default();
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            host: 1,
            listen: loopback(7101),
            control: loopback(7001),
            disks: Vec::new(),
            disk_profiles: BTreeMap::new(),
            shards: 1,
            cores: Vec::new(),
            budget_mib: SHARD_BUDGET_BYTES_DEFAULT / MIB,
            share_client: disk.shares.client,
            share_repair: disk.shares.repair,
            share_scrub: disk.shares.scrub,
            share_compaction: disk.shares.compaction,
            disk_queue_depth: disk.queue_depth,
            disk_io_cost_kib: disk.io_cost_bytes / KIB,
            disk_bandwidth_mb: None,
            scrub_days: disk.sweep_days,
        }
    }
}

impl HostConfig {
    /// Whether a host can start with it.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.host == 0 {
            return Err(ConfigError::Host);
        }
        if self.disks.is_empty() {
            return Err(ConfigError::NoDisks);
        }
        for (index, disk) in self.disks.iter().enumerate() {
            if self.disks.iter().take(index).any(|other| other == disk) {
                return Err(ConfigError::DiskTwice(disk.clone()));
            }
        }
        if let Some(disk) = self.disk_profiles.keys().find(|disk| !self.disks.contains(disk)) {
            return Err(ConfigError::ProfileOfNone(disk.clone()));
        }
        let disks = self.disks.len();
        if self.shards == 0 || self.shards > SHARDS_MAX || self.shards as usize > disks {
            return Err(ConfigError::Shards { shards: self.shards, disks });
        }
        let (cores, shards) = (self.cores.len(), self.shards);
        let twice = self.cores.iter().enumerate().any(|(index, core)| self.cores.iter().take(index).any(|c| c == core));
        if cores > 0 && (cores != shards as usize || twice) {
            return Err(ConfigError::Cores { cores, shards });
        }
        require_loopback(self.listen)?;
        if self.budget_mib < BUDGET_MIB_MIN || self.budget_mib.checked_mul(MIB).is_none() {
            return Err(ConfigError::Budget(self.budget_mib));
        }
        self.check_disk()?;
        if self.shard_address(self.shards - 1).is_none() {
            return Err(ConfigError::Ports { listen: self.listen, shards: self.shards });
        }
        Ok(())
    }

    fn check_disk(&self) -> Result<(), ConfigError> {
        let shares = [
            ("client", self.share_client),
            ("repair", self.share_repair),
            ("scrub", self.share_scrub),
            ("compaction", self.share_compaction),
        ];
        if let Some((class, share)) = shares.into_iter().find(|(_, share)| !(1..=OSD_SHARE_MAX).contains(share)) {
            return Err(ConfigError::Share { class, share });
        }
        let ranges = [
            ("disk-queue-depth", u64::from(self.disk_queue_depth), 1, u64::from(QUEUE_DEPTH_MAX)),
            ("disk-io-cost-kib", self.disk_io_cost_kib, 0, IO_COST_KIB_MAX),
            ("disk-bandwidth-mb", self.disk_bandwidth_mb.unwrap_or(1), 1, BANDWIDTH_MB_MAX),
            ("scrub-days", u64::from(self.scrub_days), 1, u64::from(SCRUB_DAYS_MAX)),
        ];
        match ranges.into_iter().find(|(_, value, least, most)| !(least..=most).contains(&value)) {
            Some((key, value, least, most)) => Err(ConfigError::OutOfRange { key, value, least, most }),
            None => Ok(()),
        }
    }

    /// How the disks are shared and swept.
    pub fn disk_policy(&self) -> DiskPolicy {
        let (bandwidth_bytes, bandwidth_from) = match self.disk_bandwidth_mb {
            Some(mb) => (mb.saturating_mul(MB), BandwidthFrom::Configuration),
            None => (BANDWIDTH_BYTES_DEFAULT, BandwidthFrom::DataSheets),
        };
        DiskPolicy {
            shares: Shares {
                client: self.share_client,
                repair: self.share_repair,
                scrub: self.share_scrub,
                compaction: self.share_compaction,
            },
            queue_depth: self.disk_queue_depth,
            io_cost_bytes: self.disk_io_cost_kib.saturating_mul(KIB),
            bandwidth_bytes,
            bandwidth_from,
            sweep_days: self.scrub_days,
            ..DiskPolicy::default()
        }
    }

    /// Where a shard listens.
    pub fn shard_address(&self, shard: u32) -> Option<SocketAddr> {
        let mut address = self.listen;
        if address.port() != 0 {
            address.set_port(u16::try_from(u32::from(address.port()).checked_add(shard)?).ok()?);
        }
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> HostConfig {
        HostConfig { disks: vec!["a".into(), "b".into()], ..HostConfig::default() }
    }

    #[test]
    fn sensible_configuration_is_accepted() {
        assert_eq!(good().check(), Ok(()));
        assert_eq!(HostConfig { shards: 2, ..good() }.check(), Ok(()));
    }

    #[test]
    fn every_senseless_value_is_named() {
        assert_eq!(HostConfig { host: 0, ..good() }.check(), Err(ConfigError::Host));
        assert_eq!(HostConfig::default().check(), Err(ConfigError::NoDisks));
        let twice = HostConfig { disks: vec!["a".into(), "a".into()], ..good() };
        assert_eq!(twice.check(), Err(ConfigError::DiskTwice("a".into())));
        let disk_profiles = BTreeMap::from([("c".into(), "drive.toml".into())]);
        assert_eq!(HostConfig { disk_profiles, ..good() }.check(), Err(ConfigError::ProfileOfNone("c".into())));
        for shards in [0, 3, u32::MAX] {
            assert_eq!(HostConfig { shards, ..good() }.check(), Err(ConfigError::Shards { shards, disks: 2 }));
        }
        for budget_mib in [0, 31, u64::MAX] {
            assert_eq!(HostConfig { budget_mib, ..good() }.check(), Err(ConfigError::Budget(budget_mib)));
        }
        for share in [0, OSD_SHARE_MAX + 1] {
            let refused = HostConfig { share_scrub: share, ..good() }.check();
            assert_eq!(refused, Err(ConfigError::Share { class: "scrub", share }));
        }
        for refused in [
            HostConfig { disk_queue_depth: 0, ..good() },
            HostConfig { disk_io_cost_kib: u64::MAX, ..good() },
            HostConfig { disk_bandwidth_mb: Some(0), ..good() },
            HostConfig { scrub_days: 366, ..good() },
        ] {
            assert!(matches!(refused.check(), Err(ConfigError::OutOfRange { .. })), "{refused:?}");
        }
        assert_eq!(HostConfig { shards: 2, cores: vec![3, 0], ..good() }.check(), Ok(()));
        for cores in [vec![0], vec![0, 0], vec![0, 1, 2]] {
            let refused = HostConfig { shards: 2, cores, ..good() }.check();
            assert!(matches!(refused, Err(ConfigError::Cores { shards: 2, .. })), "{refused:?}");
        }
        let open = HostConfig { listen: "0.0.0.0:0".parse().unwrap(), ..good() };
        assert!(matches!(open.check(), Err(ConfigError::Listen(_))));
        let last = HostConfig { listen: "127.0.0.1:65535".parse().unwrap(), shards: 2, ..good() };
        assert!(matches!(last.check(), Err(ConfigError::Ports { .. })));
    }
}
