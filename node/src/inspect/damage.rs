//! What is wrong with the file of an emulated drive, as findings.

use shingle_hw::backend::Damage;

use super::finding::{Finding, FindingName};

/// Bytes of a superblock.
const SUPERBLOCK_BYTES: u64 = 4096;

impl From<&Damage> for Finding {
    fn from(damage: &Damage) -> Self {
        let (name, at, value) = match damage {
            Damage::Superblock { copy } => {
                (FindingName::SuperblockDamaged, copy * SUPERBLOCK_BYTES, format!("copy {copy}"))
            }
            Damage::ZoneTable { page, file_bytes, .. } => {
                (FindingName::ZoneTableDamaged, *file_bytes, format!("page {page}"))
            }
            Damage::Truncated { found_bytes, .. } => {
                (FindingName::FileTruncated, *found_bytes, format!("{found_bytes} bytes"))
            }
        };
        let mut finding = Self::new(name, value, damage.to_string());
        // These lie in the file, beside the drive it stands for.
        finding.device_bytes = Some(at);
        finding
    }
}
