//! Opens what is to be looked at; what keeps it from being opened is a finding when the disk itself is to blame.

use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use shingle_hw::backend::{self, Look, OpenError, blkzoned, file};
use shingle_node::inspect::{Finding, FindingName};

use crate::failure::Failure;
use crate::zone::device::{self, Opened};

/// A device that was opened, or why nothing of it can be shown.
pub enum Sight {
    Open(Opened, Look),
    /// Not even its shape is known.
    Blind(Finding),
}

/// Opens a device to look at it.
pub fn look(path: &Path) -> Result<Sight, Failure> {
    let (ring, pool) = device::ring_and_pool()?;
    match backend::look(path, Rc::clone(&ring), pool) {
        Ok(look) => Ok(Sight::Open(Opened { device: Rc::clone(&look.device), ring }, look)),
        Err(error) => match blinding(path, &error) {
            Some(finding) => Ok(Sight::Blind(finding)),
            None => Err(refusal(&error)),
        },
    }
}

fn blinding(path: &Path, error: &OpenError) -> Option<Finding> {
    let name = match error {
        OpenError::File(file::OpenError::NotADisk { .. }) => FindingName::NotADisk,
        OpenError::File(file::OpenError::SuperblockDamaged { .. }) => FindingName::SuperblockDamaged,
        OpenError::File(file::OpenError::Version { .. }) => FindingName::DeviceVersion,
        _ => return None,
    };
    let mut finding = Finding::new(name, first_bytes(path), error.to_string());
    finding.device_bytes = Some(0);
    Some(finding)
}

/// What the file begins with.
fn first_bytes(path: &Path) -> String {
    let mut bytes = Vec::new();
    let regular = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    let read = regular.then(|| std::fs::File::open(path).and_then(|file| file.take(16).read_to_end(&mut bytes)));
    match read {
        Some(Ok(0)) => "empty".to_owned(),
        Some(Ok(_)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Some(Err(_)) | None => "not a regular file".to_owned(),
    }
}

fn refusal(error: &OpenError) -> Failure {
    match error {
        OpenError::File(file::OpenError::Permission { .. })
        | OpenError::Block(blkzoned::OpenError::Permission { .. }) => {
            Failure::failed(error.to_string(), "run as a user who may read it")
        }
        _ => device::refusal(error),
    }
}
