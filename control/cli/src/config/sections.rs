//! The sections of the file. One definition makes the key, the flag and the documentation, so they cannot differ.
//!
//! Every field is optional here: what is not set keeps the process's own default.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Command};
use serde::{Deserialize, Serialize};

use super::disk_profile::{self as disk_profiles, DiskProfile};
use crate::units::ByteSize;

/// A section of the file.
pub trait Section: Args + Serialize + Default {
    /// Its name between brackets.
    const NAME: &'static str;
    /// One line about it.
    const ABOUT: &'static str;

    /// Every key with a value: the defaults where there are any, an example otherwise. Shown by `shingle config`.
    fn example() -> Self;

    /// Every key with its description, as the flags have them.
    fn keys() -> Vec<(String, String)> {
        let command = Self::augment_args(Command::new(Self::NAME));
        let described = command.get_arguments().filter_map(|argument| {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            Some((argument.get_long()?.to_string(), help))
        });
        described.collect()
    }
}

/// `[up]`: a whole cell on this machine.
#[derive(Args, Serialize, Deserialize, Clone, Debug, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpSection {
    /// Directory of the cell [default: SHINGLE_DIR, then $XDG_DATA_HOME/shingle]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Hosts, 4 at least; 5 keep writing when one is down [default: 5]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<u32>,
    /// Disks of each host [default: 2]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disks: Option<u32>,
    /// Size of each disk; a sparse file that grows as it is written [default: 64GiB]
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_size: Option<ByteSize>,
    /// Size of a zone of the disks [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_size: Option<ByteSize>,
    /// Port of S3; 0 picks a free one at the first start, which is kept [default: 0]
    #[arg(long, value_name = "PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_port: Option<u16>,
    /// Port of the control plane; 0 picks a free one at the first start, which is kept [default: 0]
    #[arg(long, value_name = "PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_port: Option<u16>,
    /// Port of the first host, the others follow; 0 picks free ones at the first start, which are kept [default: 0]
    #[arg(long, value_name = "PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// Start without hosts whose disks are damaged or gone; what they hold is read from the other copies
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<bool>,
    /// File that is created when the cell serves, and removed when it stops
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_file: Option<PathBuf>,
    /// Print events line by line instead of the live screen
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_tui: Option<bool>,
}

impl Section for UpSection {
    const NAME: &'static str = "up";
    const ABOUT: &'static str = "a whole cell on this machine: shingle up";

    fn example() -> Self {
        Self {
            dir: Some("/var/lib/shingle".into()),
            hosts: Some(5),
            disks: Some(2),
            disk_size: Some(ByteSize(64 << 30)),
            zone_size: Some(ByteSize(256 << 20)),
            s3_port: Some(7000),
            control_port: Some(7001),
            host_port: Some(7101),
            degraded: Some(false),
            ready_file: Some("/run/shingle.ready".into()),
            no_tui: Some(false),
        }
    }
}

/// `[host]`: the process that serves disks.
#[derive(Args, Serialize, Deserialize, Clone, Debug, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostSection {
    /// Number of this host in the cell, from 1 on
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<u32>,
    /// Address of the first shard; shard i listens i ports higher. Loopback only; port 0 takes free ones
    #[arg(long, value_name = "IP:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Address of the control plane
    #[arg(long, value_name = "IP:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<SocketAddr>,
    /// Disks to serve: files made by `shingle up`, nodes of zoned drives, or drives taken from the kernel (vfio:ADDRESS)
    #[arg(long, value_name = "FILE", num_args = 1..)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disks: Option<Vec<PathBuf>>,
    /// Profiles of disks that `shingle qualify` measured (its drive.toml); they replace the disk- values for their disks
    #[arg(long, value_name = "DISK=FILE", num_args = 1..)]
    #[serde(skip_serializing_if = "Option::is_none", with = "disk_profiles")]
    pub disk_profiles: Option<Vec<DiskProfile>>,
    /// Shards: cores to use, each with its own disks and port [default: 1]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<u32>,
    /// Cores to pin the shards to, one each; without it the kernel moves them as it likes
    #[arg(long, value_name = "CORE", num_args = 1..)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<Vec<usize>>,
    /// Memory for blocks on their way to and from the disks, per shard, in MiB [default: 128]
    #[arg(long, value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_mib: Option<u64>,
    /// Clients' share of a disk that all classes want, 1 to 1000; only ratios count, idle shares go to the others [default: 60]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_client: Option<u32>,
    /// Repair's share of a disk [default: 15]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_repair: Option<u32>,
    /// Scrub's share of a disk; with the bandwidth it must suffice for the sweep [default: 15]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_scrub: Option<u32>,
    /// Compaction's share of a disk [default: 10]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_compaction: Option<u32>,
    /// Transfers one disk works on at once, of large ones at most 32 MiB [default: 32]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_queue_depth: Option<u32>,
    /// What positioning costs a disk, as KiB it could have transferred meanwhile [default: 1024]
    #[arg(long, value_name = "KIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_io_cost_kib: Option<u64>,
    /// What a disk reads per second at its inner edge, in millions of bytes [default: 126]
    #[arg(long, value_name = "MB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bandwidth_mb: Option<u64>,
    /// Days in which every record is read back and checked once [default: 14]
    #[arg(long, value_name = "DAYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrub_days: Option<u32>,
}

impl Section for HostSection {
    const NAME: &'static str = "host";
    const ABOUT: &'static str = "the process that serves disks: shingle host";

    fn example() -> Self {
        Self {
            host: Some(1),
            listen: Some(loopback(7101)),
            control: Some(loopback(7001)),
            disks: Some(vec!["/var/lib/shingle/hosts/host-1/disk-1.img".into()]),
            disk_profiles: Some(vec![DiskProfile {
                disk: "/var/lib/shingle/hosts/host-1/disk-1.img".into(),
                profile: "/etc/shingle/disk-1.toml".into(),
            }]),
            shards: Some(1),
            cores: Some(vec![0]),
            budget_mib: Some(128),
            share_client: Some(60),
            share_repair: Some(15),
            share_scrub: Some(15),
            share_compaction: Some(10),
            disk_queue_depth: Some(32),
            disk_io_cost_kib: Some(1024),
            disk_bandwidth_mb: Some(126),
            scrub_days: Some(14),
        }
    }
}

/// `[control]`: the control plane.
#[derive(Args, Serialize, Deserialize, Clone, Debug, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ControlSection {
    /// Address to listen on. Loopback only
    #[arg(long, value_name = "IP:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Directory of the embedded store
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Copies of every block, on as many different hosts [default: 4]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<u8>,
}

impl Section for ControlSection {
    const NAME: &'static str = "control";
    const ABOUT: &'static str = "the control plane: shingle control";

    fn example() -> Self {
        Self { listen: Some(loopback(7001)), dir: Some("/var/lib/shingle/control".into()), copies: Some(4) }
    }
}

/// `[gateway]`: the S3 front door.
#[derive(Args, Serialize, Deserialize, Clone, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GatewaySection {
    /// Address to serve S3 on. Loopback only
    #[arg(long, value_name = "IP:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_listen: Option<SocketAddr>,
    /// Address of the control plane
    #[arg(long, value_name = "IP:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<SocketAddr>,
    /// Key file with the key-encryption keys, mode 0600
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// S3 access key that requests must be signed with
    #[arg(long, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key: Option<String>,
    /// Its secret; better in the file (mode 0600) than on a command line, which everybody on the machine can read
    #[arg(long, value_name = "SECRET")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
    /// S3 region that signatures must name [default: us-east-1]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Memory for blocks on their way, in MiB [default: 256]
    #[arg(long, value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_mib: Option<u64>,
}

/// The secret key stays out of logs.
impl std::fmt::Debug for GatewaySection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GatewaySection({:?}, ..)", self.s3_listen)
    }
}

impl Section for GatewaySection {
    const NAME: &'static str = "gateway";
    const ABOUT: &'static str = "the S3 front door: shingle gateway";

    fn example() -> Self {
        Self {
            s3_listen: Some(loopback(7000)),
            control: Some(loopback(7001)),
            key_file: Some("/var/lib/shingle/kek.key".into()),
            access_key: Some("ACCESSKEY".into()),
            secret_key: Some("SECRETKEY".into()),
            region: Some(crate::up::env_file::REGION.into()),
            budget_mib: Some(256),
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The names of all sections and their keys.
pub fn known() -> Vec<(&'static str, Vec<String>)> {
    fn keys<S: Section>() -> (&'static str, Vec<String>) {
        (S::NAME, S::keys().into_iter().map(|(key, _)| key).collect())
    }
    vec![keys::<UpSection>(), keys::<HostSection>(), keys::<ControlSection>(), keys::<GatewaySection>()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::de::{DeserializeOwned, Visitor};
    use shingle_control::config::ControlConfig;
    use shingle_gateway::config::GatewayConfig;
    use shingle_node::config::HostConfig;

    use super::*;

    /// Asks a struct's `Deserialize` which fields it knows.
    struct FieldNames<'a>(&'a mut BTreeSet<String>);

    impl<'de> serde::Deserializer<'de> for FieldNames<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("only structs have field names"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.extend(fields.iter().map(|field| (*field).to_string()));
            Err(serde::de::Error::custom("the names are all that is wanted"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    fn fields<T: DeserializeOwned>() -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        assert!(T::deserialize(FieldNames(&mut names)).is_err());
        names
    }

    fn flags<S: Section>() -> BTreeSet<String> {
        S::keys().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn every_key_of_a_process_is_a_flag_and_the_other_way_round() {
        assert_eq!(flags::<HostSection>(), fields::<HostConfig>());
        assert_eq!(flags::<ControlSection>(), fields::<ControlConfig>());
        assert_eq!(flags::<GatewaySection>(), fields::<GatewayConfig>());
        assert_eq!(flags::<UpSection>(), fields::<UpSection>());
    }

    #[test]
    fn every_example_is_accepted_by_its_process() {
        fn accepted<S: Section, T: DeserializeOwned>() {
            let table = toml::Table::try_from(S::example()).unwrap();
            assert_eq!(table.len(), S::keys().len(), "[{}] has an example for every key", S::NAME);
            if let Err(error) = T::deserialize(table) {
                panic!("[{}]: {error}", S::NAME);
            }
        }
        accepted::<HostSection, HostConfig>();
        accepted::<ControlSection, ControlConfig>();
        accepted::<GatewaySection, GatewayConfig>();
        accepted::<UpSection, UpSection>();
    }

    #[test]
    fn every_key_is_documented() {
        let undocumented = |(key, help): (String, String)| help.is_empty().then_some(key);
        assert_eq!(HostSection::keys().into_iter().chain(UpSection::keys()).find_map(undocumented), None);
        let rest = ControlSection::keys().into_iter().chain(GatewaySection::keys());
        assert_eq!(rest.into_iter().find_map(undocumented), None);
    }
}
