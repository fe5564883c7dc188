//! The guest's devices: made through configfs, or found by serial number. Names mean nothing: they differ from boot to
//! boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a device may take to appear; scsi_debug needs seconds.
const APPEARS_WITHIN: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
pub fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(since.elapsed() < APPEARS_WITHIN, "{what} does not appear");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn entries(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A null_blk, removed when it is dropped.
pub struct NullBlk {
    directory: PathBuf,
    pub node: PathBuf,
}

impl NullBlk {
    /// A zoned one with these attributes (sizes in MiB).
    pub fn zoned(name: &str, attributes: &[(&str, u32)]) -> Self {
        let attributes: Vec<_> = [("zoned", 1)].iter().chain(attributes).copied().collect();
        Self::new(name, &attributes)
    }

    pub fn new(name: &str, attributes: &[(&str, u32)]) -> Self {
        let root = Path::new("/sys/kernel/config/nullb");
        let directory = root.join(name);
        // The folder appears a moment before devices may be made in it.
        wait_for("null_blk", || fs::create_dir(&directory).ok());
        for (attribute, value) in [("memory_backed", 1)].iter().chain(attributes).chain([&("power", 1)]) {
            fs::write(directory.join(attribute), value.to_string())
                .unwrap_or_else(|error| panic!("{attribute}={value}: {error}"));
        }
        let node = wait_for("the device's node", || {
            let index = text(directory.join("index"))?;
            [format!("/dev/{name}"), format!("/dev/nullb{index}")].iter().map(PathBuf::from).find(|node| node.exists())
        });
        Self { directory, node }
    }

    /// Writes one of its attributes while it runs: faults are made so.
    pub fn set(&self, attribute: &str, value: &str) {
        fs::write(self.directory.join(attribute), value).unwrap_or_else(|error| panic!("{attribute}={value}: {error}"));
    }
}

impl Drop for NullBlk {
    fn drop(&mut self) {
        let _ = fs::write(self.directory.join("power"), "0");
        let _ = fs::remove_dir(&self.directory);
    }
}

/// The block node of the NVMe namespace behind the controller with this serial number.
pub fn zns_block(serial: &str) -> PathBuf {
    zns(serial, "nvme")
}

/// The generic character device of the same namespace.
pub fn zns_generic(serial: &str) -> PathBuf {
    zns(serial, "ng")
}

fn zns(serial: &str, prefix: &str) -> PathBuf {
    wait_for(serial, || {
        let is_it = |controller: &PathBuf| text(controller.join("serial")).as_deref() == Some(serial);
        let controller = entries("/sys/class/nvme").into_iter().find(is_it)?;
        let number = name(&controller).strip_prefix("nvme")?.to_owned();
        let node = PathBuf::from(format!("/dev/{prefix}{number}n1"));
        node.exists().then_some(node)
    })
}

/// The PCI address of the NVMe controller with this serial number, while the kernel's driver has it.
pub fn nvme_address(serial: &str) -> String {
    wait_for(serial, || {
        let is_it = |controller: &PathBuf| text(controller.join("serial")).as_deref() == Some(serial);
        let controller = entries("/sys/class/nvme").into_iter().find(is_it)?;
        Some(name(&fs::canonicalize(controller.join("device")).ok()?))
    })
}

/// The block node of the emulated SMR disk.
pub fn scsi_debug() -> PathBuf {
    wait_for("scsi_debug", || {
        let is_it = |disk: &PathBuf| {
            text(disk.join("device/model")).as_deref() == Some("scsi_debug")
                && text(disk.join("queue/nr_zones")).is_some_and(|zones| zones != "0")
        };
        let disk = entries("/sys/block").into_iter().find(is_it)?;
        let node = Path::new("/dev").join(name(&disk));
        node.exists().then_some(node)
    })
}
