//! One way to open any zoned device: what a path is decides which back end it gets.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{blkzoned, file, nvme, vfio};
use crate::buffer::BufferPool;
use crate::device::ZonedDevice;
use crate::ring::Ring;

/// Why a device was not opened. Every variant names the path and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    File(#[from] file::OpenError),
    #[error(transparent)]
    Block(#[from] blkzoned::OpenError),
    #[error(transparent)]
    Nvme(#[from] nvme::OpenError),
    /// Commands past the block layer would need the namespace for themselves.
    #[error("{}: to look at a namespace, name its block node (/dev/nvmeXnY)", path.display())]
    NoBlockNode { path: PathBuf },
    #[error(transparent)]
    Vfio(#[from] vfio::OpenError),
}

/// Opens the emulated drive in a file, the zoned block device of a block node, or the NVMe namespace behind a generic
/// character device (`/dev/ngXnY`), or the namespace of a controller that was taken from the kernel
/// (`vfio:0000:01:00.0`), for this process alone. Blocks. The device's commands go through `ring`, its
/// buffers come from `pool`.
pub fn open(path: &Path, ring: Rc<Ring>, pool: BufferPool) -> Result<Rc<dyn ZonedDevice>, OpenError> {
    if vfio::is_named(path) {
        return Ok(Rc::new(vfio::open(path, ring, pool)?));
    }
    let kind = fs::metadata(path).map(|metadata| metadata.file_type());
    Ok(match kind {
        Ok(kind) if kind.is_block_device() => Rc::new(blkzoned::open(path, ring, pool)?),
        Ok(kind) if kind.is_char_device() => Rc::new(nvme::open(path, ring, pool)?),
        // The file back end also says what is wrong with a path that leads nowhere.
        _ => Rc::new(file::open(path, ring, pool)?),
    })
}
