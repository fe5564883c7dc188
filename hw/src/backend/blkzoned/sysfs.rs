//! What the kernel tells of a block device in sysfs.

use std::fs;
use std::io;
use std::path::PathBuf;

/// A device's directory in sysfs.
pub(super) struct Sysfs {
    directory: PathBuf,
}

impl Sysfs {
    /// By device number, so that nothing depends on a name.
    pub(super) fn of(device: u64) -> Self {
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        Self { directory: format!("/sys/dev/block/{major}:{minor}").into() }
    }

    pub(super) fn has(&self, attribute: &str) -> bool {
        self.directory.join(attribute).exists()
    }

    /// An attribute's text, without white space around it; `None` when there is none or it is empty.
    pub(super) fn text(&self, attribute: &str) -> Option<String> {
        let bytes = fs::read(self.directory.join(attribute)).ok()?;
        printable(&bytes)
    }

    pub(super) fn number(&self, attribute: &str) -> io::Result<u64> {
        let text = fs::read_to_string(self.directory.join(attribute))?;
        text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{attribute}: {text}")))
    }

    /// As the device says it: NVMe and virtio as text, SCSI and ATA in a page of vital product data (four bytes of
    /// header). Namespaces of one NVMe controller share its number, so theirs goes with it.
    pub(super) fn serial(&self) -> Option<String> {
        if let Some(serial) = self.text("device/serial") {
            let nsid = self.number("nsid").ok();
            return Some(nsid.map_or(serial.clone(), |nsid| format!("{serial}-n{nsid}")));
        }
        let page = || fs::read(self.directory.join("device/vpd_pg80")).ok();
        self.text("serial").or_else(|| printable(page()?.get(4..)?))
    }

    /// Who made it, and what it calls it.
    pub(super) fn model(&self) -> String {
        let words = ["device/vendor", "device/model"].map(|attribute| self.text(attribute));
        // The vendor of an NVMe controller is a PCI number; SCSI has a name.
        let words: Vec<String> = words.into_iter().flatten().filter(|word| !word.starts_with("0x")).collect();
        if words.is_empty() { "unknown".to_owned() } else { words.join(" ") }
    }
}

fn printable(bytes: &[u8]) -> Option<String> {
    let text: String = bytes.iter().filter(|byte| (0x20..0x7f).contains(*byte)).map(|byte| char::from(*byte)).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
