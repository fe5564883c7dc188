//! Configuration of the host process; unknown keys are refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use shingle_proto::limits::{MIB, RECORD_ALIGN_BYTES, SEALED_BYTES_MAX, SHARD_BUDGET_BYTES_DEFAULT};

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
    /// The disks, files made by `shingle up`. They are dealt to the shards in turn.
    pub disks: Vec<PathBuf>,
    /// Shards: threads, each with its disks and its port.
    pub shards: u32,
    /// Memory for blocks on their way to and from the disks, per shard, in MiB.
    pub budget_mib: u64,
}

/// Shards of one process; hosts have fewer cores.
const SHARDS_MAX: u32 = 256;
/// Below this the read quarter of the budget holds no record of the largest size.
const BUDGET_MIB_MIN: u64 = 32;
const _: () = assert!(BUDGET_MIB_MIN * MIB / 4 > SEALED_BYTES_MAX as u64 + RECORD_ALIGN_BYTES as u64);

/// A value that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("host = 0: hosts are numbered from 1")]
    Host,
    #[error("disks: none given; a host serves at least one")]
    NoDisks,
    #[error("disks: {} is given twice", .0.display())]
    DiskTwice(PathBuf),
    #[error("shards = {shards}: at least 1, at most one per disk ({disks}) and {SHARDS_MAX}")]
    Shards { shards: u32, disks: usize },
    #[error("budget-mib = {0}: at least {BUDGET_MIB_MIN}")]
    Budget(u64),
    #[error("listen = {listen}: {shards} shards need as many ports behind it")]
    Ports { listen: SocketAddr, shards: u32 },
}

impl Default for HostConfig {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            host: 1,
            listen: loopback(7101),
            control: loopback(7001),
            disks: Vec::new(),
            shards: 1,
            budget_mib: SHARD_BUDGET_BYTES_DEFAULT / MIB,
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
        let disks = self.disks.len();
        if self.shards == 0 || self.shards > SHARDS_MAX || self.shards as usize > disks {
            return Err(ConfigError::Shards { shards: self.shards, disks });
        }
        if self.budget_mib < BUDGET_MIB_MIN || self.budget_mib.checked_mul(MIB).is_none() {
            return Err(ConfigError::Budget(self.budget_mib));
        }
        if self.shard_address(self.shards - 1).is_none() {
            return Err(ConfigError::Ports { listen: self.listen, shards: self.shards });
        }
        Ok(())
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
        for shards in [0, 3, u32::MAX] {
            assert_eq!(HostConfig { shards, ..good() }.check(), Err(ConfigError::Shards { shards, disks: 2 }));
        }
        for budget_mib in [0, 31, u64::MAX] {
            assert_eq!(HostConfig { budget_mib, ..good() }.check(), Err(ConfigError::Budget(budget_mib)));
        }
        let last = HostConfig { listen: "127.0.0.1:65535".parse().unwrap(), shards: 2, ..good() };
        assert!(matches!(last.check(), Err(ConfigError::Ports { .. })));
    }
}
