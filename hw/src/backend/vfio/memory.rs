//! Memory that the controller reads and writes by itself: queues and lists.
//!
//! Invariants: every access is one aligned load or store, which the compiler neither drops nor doubles; the memory is
//! freed only after the device's way to it is gone.
//! This file uses `unsafe` for volatile accesses to memory that a device shares, and for a barrier of the processor.

use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use super::dma::{Dma, Mapping};
use crate::buffer::Buffer;

/// Zeroed pages that the device sees.
pub(super) struct Memory {
    start: NonNull<u8>,
    bytes: usize,
    mapping: Option<Mapping>,
    /// Taken out only to be leaked.
    owner: Option<Buffer>,
    dma: Rc<Dma>,
}

impl Memory {
    /// `bytes` rounded up to whole pages. The error is the system's: no memory may be pinned any more.
    pub(super) fn new(dma: &Rc<Dma>, bytes: usize) -> io::Result<Self> {
        let mut owner = Buffer::new_unpooled(bytes);
        let Some(start) = NonNull::new(owner.as_mut_ptr()) else { return Err(io::ErrorKind::OutOfMemory.into()) };
        let mapping = dma.map(start, owner.len())?;
        Ok(Self { start, bytes: owner.len(), mapping: Some(mapping), owner: Some(owner), dma: Rc::clone(dma) })
    }

    /// Where the device sees it.
    pub(super) fn iova(&self) -> u64 {
        self.mapping.as_ref().map_or(0, Mapping::iova)
    }

    fn place<T>(&self, at: usize) -> *mut T {
        let inside = at.checked_add(size_of::<T>()).is_some_and(|end| end <= self.bytes);
        assert!(inside && at.is_multiple_of(align_of::<T>()), "an access is aligned and stays inside the memory");
        // SAFETY: just checked against the length of the memory.
        unsafe { self.start.as_ptr().add(at).cast() }
    }

    pub(super) fn read(&self, at: usize) -> u32 {
        // SAFETY: `place` checked range and alignment, the memory is initialised and lives as long as `self`; that the
        // device may write meanwhile is what volatile is for.
        u32::from_le(unsafe { self.place::<u32>(at).read_volatile() })
    }

    pub(super) fn write(&self, at: usize, value: u32) {
        // SAFETY: as in `read`; no reference to the memory exists.
        unsafe { self.place::<u32>(at).write_volatile(value.to_le()) }
    }

    pub(super) fn write_wide(&self, at: usize, value: u64) {
        // SAFETY: as in `write`.
        unsafe { self.place::<u64>(at).write_volatile(value.to_le()) }
    }

    /// The bytes, once the device is done with them.
    pub(super) fn copy(&self, bytes: usize) -> Vec<u8> {
        (0..bytes.min(self.bytes) / 4).flat_map(|word| self.read(4 * word).to_le_bytes()).collect()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let Some(mapping) = self.mapping.take() else { return };
        if let Err(error) = self.dma.unmap(mapping) {
            tracing::error!(%error, "memory stays with a device that cannot be cut off from it");
            std::mem::forget(self.owner.take());
        }
    }
}

/// Orders accesses to shared memory and to registers: what came before is seen by the device before what comes after,
/// and what the device wrote before is seen after.
pub(super) fn barrier() {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    // x86 keeps stores, and loads, in order towards devices too; ARM needs to be told that devices are meant.
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier touches neither memory nor registers.
    unsafe {
        std::arch::asm!("dsb sy", options(nostack, preserves_flags))
    };
}
