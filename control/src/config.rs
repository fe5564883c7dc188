//! Configuration of the control process; unknown keys are refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use shingle_proto::limits::COPIES;
use shingle_seam::net::{NotLoopback, require_loopback};

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ControlConfig {
    /// Address and port to listen on; loopback only. Port 0: one that is free.
    pub listen: SocketAddr,
    /// Directory of the store. Created when it is not there; only one process may have it.
    pub dir: PathBuf,
    /// Copies of every block, on as many hosts (1 to 16).
    pub copies: u8,
}

/// Most copies that can be asked for.
const COPIES_MAX: u8 = 16;

/// A value that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("copies = {0}: at least 1 and at most {COPIES_MAX}")]
    Copies(u8),
    #[error("listen: {0}")]
    Listen(#[from] NotLoopback),
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7100)),
            dir: PathBuf::from("control"),
            copies: COPIES as u8,
        }
    }
}

impl ControlConfig {
    pub fn check(&self) -> Result<(), ConfigError> {
        require_loopback(self.listen)?;
        match self.copies {
            1..=COPIES_MAX => Ok(()),
            copies => Err(ConfigError::Copies(copies)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_senseless_value_is_named() {
        assert_eq!(ControlConfig::default().check(), Ok(()));
        for copies in [0, 17] {
            assert_eq!(ControlConfig { copies, ..ControlConfig::default() }.check(), Err(ConfigError::Copies(copies)));
        }
        let open = ControlConfig { listen: "0.0.0.0:0".parse().unwrap(), ..ControlConfig::default() };
        assert!(matches!(open.check(), Err(ConfigError::Listen(_))));
    }
}
