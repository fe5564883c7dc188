//! Which driver a PCI device is with, and moving an NVMe controller between the kernel's driver and VFIO.
//!
//! Invariant: a controller whose namespaces somebody uses is not taken from the kernel's driver.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

const VFIO: &str = "vfio-pci";
/// Mass storage, non-volatile memory, NVM Express.
const NVME_CLASS: &str = "0x010802";

/// Why a device cannot be driven through VFIO, or not be handed over. Every variant says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BindingError {
    #[error("there is no PCI device with this address")]
    Missing,
    #[error("not an NVMe controller (its PCI class is {class})")]
    NotNvme { class: String },
    #[error("no IOMMU protects it: switch it on in the firmware and boot with intel_iommu=on or amd_iommu=on")]
    NoIommu,
    #[error("it is with the kernel's driver {driver}; `shingle zone take` hands it over")]
    OtherDriver { driver: String },
    #[error("it is with no driver; `shingle zone take` gives it to vfio-pci")]
    NoDriver,
    #[error(
        "IOMMU group {group} holds other devices that have a driver, so none of it can be had; move the drive to another slot, or give up the others too"
    )]
    NotViable { group: String },
    #[error("the vfio-pci driver is not loaded: `modprobe vfio-pci`")]
    NoVfio,
    #[error("{node} is in use: mounted, or opened by another program; free it first")]
    InUse { node: String },
    #[error("permission denied; handing devices over takes root")]
    Permission,
    #[error("no driver took the device; the kernel's log may say why")]
    NotTaken,
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

/// A PCI device's address, as sysfs spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// `0000:01:00.0`: domain, bus, device, function, in lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let shape = b"xxxx:xx:xx.x";
        let fits = |(expected, found): (&u8, u8)| match expected {
            b'x' => matches!(found, b'0'..=b'9' | b'a'..=b'f'),
            expected => *expected == found,
        };
        let whole = text.len() == shape.len() && shape.iter().zip(text.bytes()).all(fits);
        whole.then(|| Self(text.to_owned()))
    }

    /// Of the controller behind a node of the kernel's driver: `/dev/nvme0`, `/dev/nvme0n1`, `/dev/ng0n1`.
    pub fn of_node(node: &Path) -> Option<Self> {
        let name = node.file_name()?.to_str()?;
        let digits = name.strip_prefix("nvme").or_else(|| name.strip_prefix("ng"))?;
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        let device = fs::canonicalize(format!("/sys/class/nvme/nvme{digits}/device")).ok()?;
        Self::parse(device.file_name()?.to_str()?)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A device in a sysfs below a root, so that a test can bring its own.
struct Sysfs<'a> {
    root: &'a Path,
    directory: PathBuf,
}

impl<'a> Sysfs<'a> {
    fn new(root: &'a Path, address: &Address) -> Result<Self, BindingError> {
        let directory = root.join("sys/bus/pci/devices").join(address.as_str());
        let sysfs = Self { root, directory };
        let class = sysfs.text("class").ok_or(BindingError::Missing)?;
        if class == NVME_CLASS { Ok(sysfs) } else { Err(BindingError::NotNvme { class }) }
    }

    fn text(&self, attribute: &str) -> Option<String> {
        Some(fs::read_to_string(self.directory.join(attribute)).ok()?.trim().to_owned())
    }

    fn write(&self, path: &Path, value: &str) -> Result<(), BindingError> {
        fs::write(path, value).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => BindingError::Permission,
            _ => BindingError::Io { what: path.display().to_string(), source },
        })
    }

    fn driver(&self) -> Option<String> {
        driver_of(&self.directory)
    }

    /// The group's number, if none of its devices is with another driver than VFIO. Bridges stay with theirs.
    fn group(&self, except: &Address) -> Result<String, BindingError> {
        let link = fs::read_link(self.directory.join("iommu_group")).map_err(|_| BindingError::NoIommu)?;
        let group = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let members = names(&self.root.join("sys/kernel/iommu_groups").join(&group).join("devices"));
        for member in members.iter().filter(|member| *member != except.as_str()) {
            let driver = driver_of(&self.root.join("sys/bus/pci/devices").join(member));
            if driver.is_some_and(|driver| driver != VFIO && driver != "pcieport") {
                return Err(BindingError::NotViable { group });
            }
        }
        Ok(group)
    }

    /// Refuses while a program drives the device: a group is opened once.
    fn check_idle(&self) -> Result<(), BindingError> {
        let Ok(group) = fs::read_link(self.directory.join("iommu_group")) else { return Ok(()) };
        let node = self.root.join("dev/vfio").join(group.file_name().unwrap_or_default());
        match OpenOptions::new().read(true).write(true).open(&node) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                Err(BindingError::InUse { node: node.display().to_string() })
            }
            // Without VFIO there is no node, and nobody who has it.
            _ => Ok(()),
        }
    }

    /// Lets the driver that an override names have the device, or the one that suits it best.
    fn probe(&self, address: &Address, with: &str) -> Result<(), BindingError> {
        self.write(&self.directory.join("driver_override"), with)?;
        if self.driver().is_some() {
            self.write(&self.directory.join("driver/unbind"), address.as_str())?;
        }
        self.write(&self.root.join("sys/bus/pci/drivers_probe"), address.as_str())
    }

    /// Refuses when anybody uses a namespace; nobody can start to while the result lives.
    fn hold_namespaces(&self) -> Result<Vec<File>, BindingError> {
        let mut held = Vec::new();
        for controller in names(&self.directory.join("nvme")) {
            for name in names(&self.directory.join("nvme").join(controller)) {
                let node = self.root.join("dev").join(&name);
                let exclusive = if name.starts_with("nvme") { libc::O_EXCL } else { 0 };
                if !(name.starts_with("nvme") || name.starts_with("ng")) || !node.exists() {
                    continue;
                }
                let failed = |source: io::Error| match source.raw_os_error() {
                    Some(libc::EBUSY | libc::EWOULDBLOCK) => BindingError::InUse { node: node.display().to_string() },
                    _ => BindingError::Io { what: node.display().to_string(), source },
                };
                let file = OpenOptions::new().read(true).custom_flags(exclusive).open(&node).map_err(failed)?;
                rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
                    .map_err(|error| failed(error.into()))?;
                held.push(file);
            }
        }
        Ok(held)
    }
}

fn driver_of(device: &Path) -> Option<String> {
    let link = fs::read_link(device.join("driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The node of the device's IOMMU group, when the device can be driven through it.
pub(super) fn ready(address: &Address) -> Result<PathBuf, BindingError> {
    ready_in(Path::new("/"), address)
}

fn ready_in(root: &Path, address: &Address) -> Result<PathBuf, BindingError> {
    let sysfs = Sysfs::new(root, address)?;
    match sysfs.driver() {
        Some(driver) if driver == VFIO => {}
        Some(driver) => return Err(BindingError::OtherDriver { driver }),
        None => return Err(BindingError::NoDriver),
    }
    Ok(root.join("dev/vfio").join(sysfs.group(address)?))
}

/// Takes an NVMe controller from the kernel's driver and gives it to VFIO, until the next start of the machine.
///
/// # Errors
/// When it is in use, or cannot be driven through VFIO; it is where it was then, unless `NotTaken`.
pub fn take(address: &Address) -> Result<(), BindingError> {
    take_in(Path::new("/"), address)
}

fn take_in(root: &Path, address: &Address) -> Result<(), BindingError> {
    let sysfs = Sysfs::new(root, address)?;
    if sysfs.driver().is_some_and(|driver| driver == VFIO) {
        return Ok(());
    }
    sysfs.group(address)?;
    if !root.join("sys/bus/pci/drivers").join(VFIO).exists() {
        return Err(BindingError::NoVfio);
    }
    let held = sysfs.hold_namespaces()?;
    sysfs.probe(address, VFIO)?;
    drop(held);
    if sysfs.driver().is_some_and(|driver| driver == VFIO) { Ok(()) } else { Err(BindingError::NotTaken) }
}

/// Gives an NVMe controller back to the kernel's driver.
///
/// # Errors
/// When there is no such controller, a program drives it, or nobody takes it.
pub fn give_back(address: &Address) -> Result<(), BindingError> {
    let sysfs = Sysfs::new(Path::new("/"), address)?;
    // The kernel would wait for that program for ever.
    sysfs.check_idle()?;
    // A newline takes the override back.
    sysfs.probe(address, "\n")?;
    if sysfs.driver().is_some() { Ok(()) } else { Err(BindingError::NotTaken) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const ADDRESS: &str = "0000:00:04.0";

    fn address() -> Address {
        Address::parse(ADDRESS).expect("an address")
    }

    /// A sysfs with a controller at the address, and another device in its group.
    fn sysfs(driver: Option<&str>, neighbour: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        let sys = root.path().join("sys");
        let group = sys.join("kernel/iommu_groups/7/devices");
        fs::create_dir_all(&group).expect("made");
        for (name, driver) in [(ADDRESS, driver), ("0000:00:05.0", neighbour)] {
            let device = sys.join("bus/pci/devices").join(name);
            fs::create_dir_all(&device).expect("made");
            fs::write(device.join("class"), "0x010802\n").expect("written");
            symlink("../../../../kernel/iommu_groups/7", device.join("iommu_group")).expect("linked");
            fs::write(group.join(name), "").expect("written");
            if let Some(driver) = driver {
                symlink(Path::new("../../drivers").join(driver), device.join("driver")).expect("linked");
            }
        }
        root
    }

    #[test]
    fn only_a_device_with_vfio_in_a_group_of_its_own_is_ready() {
        let ready = |driver, neighbour| {
            let root = sysfs(driver, neighbour);
            ready_in(root.path(), &address()).map(|node| node.ends_with("dev/vfio/7"))
        };
        assert!(ready(Some("vfio-pci"), None).expect("ready"));
        assert!(ready(Some("vfio-pci"), Some("vfio-pci")).expect("ready"));
        assert!(ready(Some("vfio-pci"), Some("pcieport")).expect("ready"));
        let refused = |driver, neighbour| ready(driver, neighbour).expect_err("refused");
        assert!(matches!(refused(Some("nvme"), None), BindingError::OtherDriver { driver } if driver == "nvme"));
        assert!(matches!(refused(None, None), BindingError::NoDriver));
        assert!(matches!(refused(Some("vfio-pci"), Some("e1000e")), BindingError::NotViable { group } if group == "7"));
    }

    #[test]
    fn what_is_no_controller_or_has_no_iommu_is_refused() {
        let root = sysfs(Some("nvme"), None);
        let device = root.path().join("sys/bus/pci/devices").join(ADDRESS);
        let other = Address::parse("0000:00:09.0").expect("an address");
        assert!(matches!(ready_in(root.path(), &other), Err(BindingError::Missing)));
        assert!(matches!(take_in(root.path(), &address()), Err(BindingError::NoVfio)));
        fs::remove_file(device.join("iommu_group")).expect("removed");
        assert!(matches!(take_in(root.path(), &address()), Err(BindingError::NoIommu)));
        fs::write(device.join("class"), "0x020000\n").expect("written");
        assert!(
            matches!(take_in(root.path(), &address()), Err(BindingError::NotNvme { class }) if class == "0x020000")
        );
    }

    #[test]
    fn a_controller_in_use_stays_where_it_is() {
        let root = sysfs(Some("nvme"), None);
        let device = root.path().join("sys/bus/pci/devices").join(ADDRESS);
        fs::create_dir_all(device.join("nvme/nvme0/ng0n1")).expect("made");
        fs::create_dir_all(root.path().join("sys/bus/pci/drivers/vfio-pci")).expect("made");
        fs::create_dir_all(root.path().join("dev")).expect("made");
        let node = root.path().join("dev/ng0n1");
        fs::write(&node, "").expect("written");
        let user = File::open(&node).expect("opens");
        rustix::fs::flock(&user, FlockOperation::NonBlockingLockExclusive).expect("locks");
        assert!(matches!(take_in(root.path(), &address()), Err(BindingError::InUse { .. })));
        assert!(!device.join("driver_override").exists(), "nothing was touched");
    }
}
