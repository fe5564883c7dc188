//! A disk and the file of its profile: `DISK=FILE` as a flag, a table in the file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One disk's profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskProfile {
    pub disk: PathBuf,
    pub profile: PathBuf,
}

impl FromStr for DiskProfile {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((disk, profile)) if !disk.is_empty() && !profile.is_empty() => {
                Ok(Self { disk: disk.into(), profile: profile.into() })
            }
            _ => Err("write DISK=FILE: a path of `disks`, and the drive.toml that was measured on it"),
        }
    }
}

/// As a table from disks to profiles.
pub fn serialize<S: Serializer>(profiles: &Option<Vec<DiskProfile>>, serializer: S) -> Result<S::Ok, S::Error> {
    let table = profiles.iter().flatten().map(|one| (&one.disk, &one.profile)).collect::<BTreeMap<_, _>>();
    table.serialize(serializer)
}

/// From the table.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<DiskProfile>>, D::Error> {
    let table = BTreeMap::<PathBuf, PathBuf>::deserialize(deserializer)?;
    Ok(Some(table.into_iter().map(|(disk, profile)| DiskProfile { disk, profile }).collect()))
}
