//! A PCI device behind the IOMMU: its group, its registers, its interrupt.
//!
//! Invariant: the device is ours alone from `open` on, since its group can be opened once; when the last of this is
//! dropped the kernel resets it.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::rc::Rc;

use super::bar::Bar;
use super::dma::Iommu;
use super::ioctl;

/// Used where the kernel does not tell the IOMMU's range: above the interrupts' addresses, within 39 bits, which every
/// IOMMU translates.
const RANGE_DEFAULT: Range<u64> = 1 << 32..1 << 39;

/// The command register in the configuration space: memory and bus mastering.
const COMMAND: u64 = 4;
const MEMORY: u16 = 1 << 1;
const MASTER: u16 = 1 << 2;

/// Why a group does not give a device away.
#[derive(Debug, thiserror::Error)]
pub(super) enum GroupError {
    #[error("other devices of IOMMU group {group} still have a driver")]
    NotViable { group: String },
    #[error("the group is in use")]
    Busy,
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

/// A device and what holds it.
pub(super) struct Device {
    device: OwnedFd,
    container: File,
    _group: File,
    configuration: ioctl::Region,
}

impl Device {
    /// Takes the device at a PCI address out of its group, by the group's node.
    pub(super) fn open(node: &Path, address: &str) -> Result<Rc<Self>, GroupError> {
        let failed = |what: &'static str| move |source: io::Error| GroupError::Io { what, source };
        let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
        let container = open(Path::new("/dev/vfio/vfio")).map_err(failed("opening /dev/vfio/vfio"))?;
        if !ioctl::is_usable(container.as_fd()).map_err(failed("asking VFIO for its version"))? {
            let source = io::ErrorKind::Unsupported.into();
            return Err(GroupError::Io { what: "VFIO has no type 1 IOMMU here (modprobe vfio_iommu_type1)", source });
        }
        let group = match open(node) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Err(GroupError::Busy),
            outcome => outcome.map_err(failed("opening the IOMMU group"))?,
        };
        if !ioctl::is_viable(group.as_fd()).map_err(failed("asking the group for its state"))? {
            let group = node.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(GroupError::NotViable { group });
        }
        ioctl::attach(group.as_fd(), container.as_fd())
            .map_err(failed("putting the group behind the IOMMU (interrupt remapping may be off)"))?;
        let device = ioctl::device(group.as_fd(), address).map_err(failed("taking the device out of its group"))?;
        let configuration = ioctl::region(device.as_fd(), ioctl::REGION_CONFIGURATION)
            .map_err(failed("finding the configuration space"))?;
        let opened = Self { device, container, _group: group, configuration };
        opened.set_command(MEMORY | MASTER, 0).map_err(failed("letting the device master the bus"))?;
        Ok(Rc::new(opened))
    }

    pub(super) fn registers(&self) -> io::Result<Bar> {
        Bar::map(self.device.as_fd(), &ioctl::region(self.device.as_fd(), ioctl::REGION_BAR0)?)
    }

    /// Lets the device's interrupt signal an event, which stays open as long as the device may.
    pub(super) fn signal_on_interrupt(&self, event: BorrowedFd<'_>) -> io::Result<()> {
        if ioctl::interrupts(self.device.as_fd())? == 0 {
            return Err(io::Error::other("the controller has no message interrupts"));
        }
        ioctl::signal_on_interrupt(self.device.as_fd(), event)
    }

    /// The addresses the device can be given.
    pub(super) fn addresses(&self) -> io::Result<Range<u64>> {
        Ok(ioctl::largest_range(self.container.as_fd())?.unwrap_or(RANGE_DEFAULT))
    }

    fn set_command(&self, set: u16, clear: u16) -> io::Result<()> {
        let at = self.configuration.offset + COMMAND;
        let mut command = [0; 2];
        if rustix::io::pread(&self.device, &mut command, at)? != command.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let changed = (u16::from_le_bytes(command) | set) & !clear;
        match rustix::io::pwrite(&self.device, &changed.to_le_bytes(), at)? {
            2 => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

impl Iommu for Rc<Device> {
    fn map(&self, start: NonNull<u8>, bytes: usize, iova: u64) -> io::Result<()> {
        ioctl::map(self.container.as_fd(), start, bytes, iova)
    }

    fn unmap(&self, iova: u64, bytes: usize) -> io::Result<()> {
        ioctl::unmap(self.container.as_fd(), iova, bytes)
    }

    fn quiet(&self) {
        if let Err(error) = self.set_command(0, MASTER) {
            tracing::warn!(%error, "a failed device stays master of its bus; its memory is taken from it");
        }
    }
}
