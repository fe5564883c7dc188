//! `DIR/cell.toml`: what stays the same from start to start. Mode 0600: it holds the secret key.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::units::ByteSize;
use crate::up::env_file::write_private;
use crate::up::wish::Shape;

/// The ports of a cell, all on 127.0.0.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    pub s3: u16,
    pub control: u16,
    pub hosts: Vec<u16>,
}

impl Ports {
    /// Every port with the flag that changes it.
    pub fn all(&self) -> Vec<(u16, &'static str)> {
        let fixed = [(self.s3, "s3-port"), (self.control, "control-port")];
        fixed.into_iter().chain(self.hosts.iter().map(|port| (*port, "host-port"))).collect()
    }
}

/// The contents of the file.
#[derive(Clone, PartialEq, Eq)]
pub struct CellFile {
    pub shape: Shape,
    pub ports: Ports,
    pub access_key: String,
    pub secret_key: String,
}

/// The file as TOML.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Text {
    hosts: u32,
    disks: u32,
    disk_size: ByteSize,
    zone_size: ByteSize,
    s3_port: u16,
    control_port: u16,
    host_ports: Vec<u16>,
    access_key: String,
    secret_key: String,
}

const HEADER: &str = "# Written by `shingle up`: what stays the same from start to start. Change it with the flags of \
                      `up`, not by hand.\n";

impl CellFile {
    /// Reads the file; `None` when there is none.
    pub fn load(path: &Path) -> Result<Option<Self>, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::io(path.display().to_string())(error)),
        };
        let damaged = |reason: String| {
            Failure::unfit(
                format!("{}: {reason}", path.display()),
                "restore the file from a backup: the disks depend on it",
            )
        };
        let text: Text = toml::from_str(&text).map_err(|error| damaged(error.to_string().trim_end().into()))?;
        if text.host_ports.len() != text.hosts as usize {
            return Err(damaged(format!("{} ports for {} hosts", text.host_ports.len(), text.hosts)));
        }
        Ok(Some(Self {
            shape: Shape { hosts: text.hosts, disks: text.disks, disk_size: text.disk_size, zone_size: text.zone_size },
            ports: Ports { s3: text.s3_port, control: text.control_port, hosts: text.host_ports },
            access_key: text.access_key,
            secret_key: text.secret_key,
        }))
    }

    /// Writes the file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = toml::to_string(&Text {
            hosts: self.shape.hosts,
            disks: self.shape.disks,
            disk_size: self.shape.disk_size,
            zone_size: self.shape.zone_size,
            s3_port: self.ports.s3,
            control_port: self.ports.control,
            host_ports: self.ports.hosts.clone(),
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
        });
        let text = text.map_err(|error| Failure::failed(format!("{}: {error}", path.display()), ""))?;
        write_private(path, format!("{HEADER}{text}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_back_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cell.toml");
        assert!(CellFile::load(&path).unwrap().is_none());
        let cell = CellFile {
            shape: Shape { hosts: 4, disks: 1, disk_size: ByteSize(4 << 30), zone_size: ByteSize(64 << 20) },
            ports: Ports { s3: 1, control: 2, hosts: vec![3, 4, 5, 6] },
            access_key: "a".into(),
            secret_key: "s".into(),
        };
        cell.write(&path).unwrap();
        assert!(CellFile::load(&path).unwrap().as_ref() == Some(&cell));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("hosts = 4", "hosts = 5")).unwrap();
        assert_eq!(CellFile::load(&path).err().unwrap().exit_code(), 3);
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(CellFile::load(&path).is_err());
    }
}
