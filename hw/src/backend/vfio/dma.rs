//! Which memory a device may touch, and where it sees it.
//!
//! Invariants: a device reaches nothing but what is mapped here; `cut_off` ends every way at once, after which buffers
//! may be freed whatever the device still means to do.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use super::iova::Addresses;
use crate::buffer::{BufferPool, PinnedPool};

/// The part of the system that lets a device at memory: the IOMMU, or a fake.
pub(super) trait Iommu {
    /// Pins whole pages and shows them to the device.
    fn map(&self, start: NonNull<u8>, bytes: usize, iova: u64) -> io::Result<()>;
    fn unmap(&self, iova: u64, bytes: usize) -> io::Result<()>;
    /// Keeps the device from starting transfers of its own.
    fn quiet(&self);
}

/// A mapped range.
#[derive(Debug)]
pub(super) struct Mapping {
    iova: u64,
    bytes: usize,
}

impl Mapping {
    pub(super) fn iova(&self) -> u64 {
        self.iova
    }
}

/// A device's view of memory.
pub(super) struct Dma {
    iommu: Box<dyn Iommu>,
    addresses: RefCell<Addresses>,
    /// What is mapped: start and bytes.
    mapped: RefCell<BTreeMap<u64, usize>>,
    pool: RefCell<Option<(PinnedPool, Mapping)>>,
    cut_off: Cell<bool>,
}

impl Dma {
    pub(super) fn new(iommu: Box<dyn Iommu>, range: Range<u64>) -> Self {
        Self {
            iommu,
            addresses: RefCell::new(Addresses::new(range)),
            mapped: RefCell::default(),
            pool: RefCell::new(None),
            cut_off: Cell::new(false),
        }
    }

    /// Shows whole pages to the device. They must stay where they are until `unmap` or `cut_off`.
    pub(super) fn map(&self, start: NonNull<u8>, bytes: usize) -> io::Result<Mapping> {
        if self.cut_off.get() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        let no_address = || io::Error::from_raw_os_error(libc::ENOSPC);
        let iova = self.addresses.borrow_mut().take(bytes as u64).ok_or_else(no_address)?;
        match self.iommu.map(start, bytes, iova) {
            Ok(()) => {
                self.mapped.borrow_mut().insert(iova, bytes);
                Ok(Mapping { iova, bytes })
            }
            Err(error) => {
                self.addresses.borrow_mut().give_back(iova, bytes as u64);
                Err(error)
            }
        }
    }

    /// Ends the device's way to a mapping; nothing is left to do when it was cut off.
    pub(super) fn unmap(&self, mapping: Mapping) -> io::Result<()> {
        if self.mapped.borrow_mut().remove(&mapping.iova).is_none() {
            return Ok(());
        }
        self.iommu.unmap(mapping.iova, mapping.bytes)?;
        self.addresses.borrow_mut().give_back(mapping.iova, mapping.bytes as u64);
        Ok(())
    }

    /// Shows all of a pool to the device, once and for as long as this lives. The pool keeps its memory meanwhile.
    pub(super) fn map_pool(&self, pool: &BufferPool) -> io::Result<()> {
        let pinned = pool.pin();
        let (start, bytes) = pinned.memory();
        let mapping = self.map(start, bytes)?;
        *self.pool.borrow_mut() = Some((pinned, mapping));
        Ok(())
    }

    /// Where the device sees memory of the pool; `None` for other memory.
    pub(super) fn in_pool(&self, start: *const u8, bytes: usize) -> Option<u64> {
        let pool = self.pool.borrow();
        let (pinned, mapping) = pool.as_ref()?;
        let offset = (start as usize).checked_sub(pinned.memory().0.as_ptr() as usize)?;
        (offset.checked_add(bytes)? <= mapping.bytes).then(|| mapping.iova + offset as u64)
    }

    /// Ends the device's way to all memory. Whether that worked: if not, no buffer of a command in flight may be freed.
    pub(super) fn cut_off(&self) -> bool {
        self.cut_off.set(true);
        self.iommu.quiet();
        let mut safe = true;
        let mapped = std::mem::take(&mut *self.mapped.borrow_mut());
        for (iova, bytes) in mapped {
            if let Err(error) = self.iommu.unmap(iova, bytes) {
                tracing::error!(%error, "a failed device cannot be cut off from memory");
                self.mapped.borrow_mut().insert(iova, bytes);
                safe = false;
            }
        }
        safe
    }
}

impl Drop for Dma {
    fn drop(&mut self) {
        let Some((pinned, mapping)) = self.pool.borrow_mut().take() else { return };
        if let Err(error) = self.unmap(mapping) {
            tracing::error!(%error, "a pool stays with a device that cannot be cut off from it");
            std::mem::forget(pinned);
        }
    }
}
