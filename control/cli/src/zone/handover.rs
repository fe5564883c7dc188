//! `shingle zone take` and `give-back`: an NVMe drive changes hands between the kernel's driver and Shingle's own.
//!
//! Invariant: a drive that somebody uses stays where it is.

use std::path::Path;

use serde::Serialize;
use shingle_hw::backend::vfio::{self, Address, BindingError, PREFIX};

use crate::failure::Failure;
use crate::output;

/// Where a drive is now, for scripts.
#[derive(Serialize)]
struct Handed {
    address: String,
    /// What to call it now; none while the kernel has it.
    device: Option<String>,
}

/// Takes a drive from the kernel's driver.
pub fn take(drive: &Path, json: bool) -> Result<(), Failure> {
    let address = address_of(drive)?;
    vfio::take(&address).map_err(|error| refusal(&address, &error))?;
    let device = format!("{PREFIX}{address}");
    if json {
        return output::json(&Handed { address: address.to_string(), device: Some(device) });
    }
    output::line(format_args!(
        "{device} is yours until the machine restarts; `driverctl set-override {address} vfio-pci` keeps it so"
    ))
}

/// Gives a drive back to the kernel's driver.
pub fn give_back(drive: &Path, json: bool) -> Result<(), Failure> {
    let address = address_of(drive)?;
    vfio::give_back(&address).map_err(|error| refusal(&address, &error))?;
    if json {
        return output::json(&Handed { address: address.to_string(), device: None });
    }
    output::line(format_args!("{address} is with the kernel's driver again"))
}

/// By its PCI address, with or without what makes it the name of a device, or by a node.
fn address_of(drive: &Path) -> Result<Address, Failure> {
    let text = drive.to_string_lossy();
    let bare = text.strip_prefix(PREFIX).unwrap_or(&text);
    Address::parse(bare).or_else(|| Address::of_node(drive)).ok_or_else(|| {
        Failure::usage(
            format!("{text}: neither a node of an NVMe drive nor a PCI address"),
            "name /dev/nvme0n1, /dev/ng0n1, or an address like 0000:01:00.0 (`lspci -D`)",
        )
    })
}

fn refusal(address: &Address, error: &BindingError) -> Failure {
    let what = format!("{address}: {error}");
    match error {
        BindingError::InUse { .. } => {
            Failure::InUse { what, advice: "a drive in use stays where it is; stop its use first".into() }
        }
        BindingError::Missing => Failure::usage(what, "`lspci -D` lists addresses"),
        BindingError::Permission | BindingError::Io { .. } | BindingError::NotTaken => Failure::failed(what, ""),
        _ => Failure::unfit(what, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_are_named_by_address_or_by_node() {
        let found = |name: &str| address_of(Path::new(name)).map(|address| address.to_string()).ok();
        assert_eq!(found("0000:01:00.0").as_deref(), Some("0000:01:00.0"));
        assert_eq!(found("vfio:0000:01:00.0").as_deref(), Some("0000:01:00.0"));
        assert_eq!(found("/dev/null"), None);
        assert_eq!(found("/dev/nvme4095n1"), None);
    }

    #[test]
    fn an_address_with_nothing_behind_it_is_a_usage_error() {
        let taken = take(Path::new("ffff:ff:1f.7"), false);
        assert!(matches!(taken, Err(Failure::Usage { .. })), "{taken:?}");
    }
}
