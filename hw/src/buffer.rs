//! Memory a device transfers from and to: aligned, owned, never moved.
//!
//! Invariant: a `Buffer` is the only owner of its bytes until it is dropped, and its bytes stay where they are when the
//! `Buffer` itself moves, so the kernel may use them for as long as somebody keeps it.
//! This file uses `unsafe` to view raw memory as slices.

mod pages;
mod pool;

use std::alloc::Layout;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;

pub use pool::BufferPool;
pub(crate) use pool::PinnedPool;

use pool::Lease;

use crate::crc::crc32c;

/// Alignment of every buffer and unit of its size. The largest sector of a device is as large.
pub const BUFFER_ALIGN_BYTES: usize = 4096;

/// Aligned bytes of one owner, which never leave their thread. Contents are defined but arbitrary: a pool's buffer
/// still holds what its previous owner wrote.
pub struct Buffer {
    start: NonNull<u8>,
    bytes: usize,
    home: Home,
    /// A CRC32C that somebody has computed already, and of what.
    known: Option<(Range<usize>, u32)>,
}

/// Where the memory goes back to.
enum Home {
    Heap(Layout),
    /// Its drop gives the pages back.
    Pool {
        _lease: Lease,
    },
}

impl Buffer {
    /// Zeroed memory outside any pool, `bytes` rounded up to 4 KiB (at least 4 KiB). It aborts the process when memory
    /// is exhausted, as `Vec` does: for tools, tests and start-up, not for what peers can ask for.
    pub fn new_unpooled(bytes: usize) -> Self {
        let bytes = round_up(bytes);
        let Ok(layout) = Layout::from_size_align(bytes, BUFFER_ALIGN_BYTES) else {
            panic!("a buffer of {bytes} bytes exceeds the address space");
        };
        // SAFETY: the layout's size is not zero, `round_up` sees to it.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(start) = NonNull::new(memory) else { std::alloc::handle_alloc_error(layout) };
        Self { start, bytes, home: Home::Heap(layout), known: None }
    }

    /// An unpooled buffer with these bytes in front.
    pub(crate) fn from_page(bytes: &[u8]) -> Self {
        let mut buffer = Self::new_unpooled(bytes.len());
        buffer.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        buffer
    }

    fn pooled(start: NonNull<u8>, bytes: usize, lease: Lease) -> Self {
        Self { start, bytes, home: Home::Pool { _lease: lease }, known: None }
    }

    /// Size in bytes: what was asked for, rounded up to 4 KiB.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Says what the CRC32C of some of the bytes is: a device that keeps checksums then need not read them once more.
    /// It is forgotten as soon as somebody might change a byte.
    pub fn know_crc32c(&mut self, bytes: Range<usize>, crc: u32) {
        debug_assert_eq!(self.get(bytes.clone()).map(crc32c), Some(crc), "a known checksum is that of the bytes");
        self.known = Some((bytes, crc));
    }

    /// The CRC32C of these very bytes, if it is known.
    pub fn known_crc32c(&self, bytes: &Range<usize>) -> Option<u32> {
        self.known.as_ref().filter(|(known, _)| known == bytes).map(|(_, crc)| *crc)
    }

    /// Never: a buffer has 4 KiB at least.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// `bytes` rounded up to whole pages, at least one.
fn round_up(bytes: usize) -> usize {
    bytes.max(1).saturating_add(BUFFER_ALIGN_BYTES - 1) / BUFFER_ALIGN_BYTES * BUFFER_ALIGN_BYTES
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` heads `bytes` bytes which this buffer owns alone and which were zeroed when they were mapped
        // or allocated.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.known = None;
        // SAFETY: as in `deref`, and the exclusive borrow of the owner makes this the only view.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Buffer").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Home::Heap(layout) = self.home {
            // SAFETY: `new_unpooled` allocated `start` with this very layout, and nobody else frees it.
            unsafe { std::alloc::dealloc(self.start.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpooled_buffers_are_aligned_zeroed_and_rounded_up() {
        for (asked, got) in [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192)] {
            let buffer = Buffer::new_unpooled(asked);
            assert_eq!(buffer.len(), got);
            assert_eq!(buffer.as_ptr() as usize % BUFFER_ALIGN_BYTES, 0);
            assert!(buffer.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_known_checksum_is_forgotten_when_a_byte_may_have_changed() {
        let mut buffer = Buffer::new_unpooled(8192);
        let crc = crc32c(&buffer[..4096]);
        buffer.know_crc32c(0..4096, crc);
        assert_eq!(buffer.known_crc32c(&(0..4096)), Some(crc));
        assert_eq!(buffer.known_crc32c(&(0..8192)), None, "of these bytes and no others");
        buffer[8191] = 1;
        assert_eq!(buffer.known_crc32c(&(0..4096)), None);
    }
}
