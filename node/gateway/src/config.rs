//! What a gateway is told at its start. Unknown keys are refused, so that a misspelt limit is never silently ignored.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use shingle_proto::limits::{GATEWAY_BUDGET_BYTES_DEFAULT, MIB, PUT_DEADLINE_MS, READ_DEADLINE_MS, READ_HOLD_MS};

/// A gateway process's configuration: a TOML table with kebab-case keys, overlaid with flags.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GatewayConfig {
    /// Where S3 is served; loopback only. Port 0 takes a free one.
    pub s3_listen: SocketAddr,
    /// The control plane.
    pub control: SocketAddr,
    /// The key file: key-encryption keys, mode 0600.
    pub key_file: PathBuf,
    /// The S3 access key that requests must be signed with.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// What S3 buckets say their region is. Requests signed for any region are taken.
    pub region: String,
    /// Byte budget for blocks, in MiB; at least one block's plain and sealed bytes.
    pub budget_mib: u64,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            s3_listen: loopback(7000),
            control: loopback(7001),
            key_file: PathBuf::from("keys"),
            access_key: String::new(),
            secret_key: String::new(),
            region: "us-east-1".to_owned(),
            budget_mib: GATEWAY_BUDGET_BYTES_DEFAULT / MIB,
        }
    }
}

/// The secret key stays out of logs.
impl std::fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayConfig")
            .field("s3_listen", &self.s3_listen)
            .field("control", &self.control)
            .field("key_file", &self.key_file)
            .field("access_key", &self.access_key)
            .field("region", &self.region)
            .field("budget_mib", &self.budget_mib)
            .finish_non_exhaustive()
    }
}

impl GatewayConfig {
    /// The part the core needs.
    pub fn core(&self) -> CoreConfig {
        CoreConfig { budget_bytes: self.budget_mib.saturating_mul(MIB), ..CoreConfig::new(self.control) }
    }
}

/// What a gateway's core is told.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// The control plane.
    pub control: SocketAddr,
    /// How this gateway calls itself in HELLO.
    pub process: String,
    /// Bytes of blocks in memory, plain and sealed; raised to one block's worth.
    pub budget_bytes: u64,
    /// A member silent for longer during an append is suspect.
    pub put_deadline: Duration,
    /// One read from one member.
    pub read_deadline: Duration,
    /// How often a download under way says so, which keeps its object's blocks.
    pub hold_interval: Duration,
}

impl CoreConfig {
    /// The defaults of `limits`, with the control plane at `control`.
    pub fn new(control: SocketAddr) -> Self {
        Self {
            control,
            process: "gateway".to_owned(),
            budget_bytes: GATEWAY_BUDGET_BYTES_DEFAULT,
            put_deadline: Duration::from_millis(PUT_DEADLINE_MS),
            read_deadline: Duration::from_millis(READ_DEADLINE_MS),
            hold_interval: Duration::from_millis(READ_HOLD_MS / 3),
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
