//! The memory of one write from several buffers: what it owns, and the kernel's list of it.
//!
//! Invariant: the list names only memory of buffers owned here, which stay until the write has ended.

use std::ops::Range;

use crate::buffer::Buffer;

/// Bytes of one buffer among several.
pub type Part = (Buffer, Range<usize>);

/// See the module.
pub(super) struct Parts {
    parts: Vec<Part>,
    list: Vec<libc::iovec>,
}

impl Parts {
    pub(super) fn new(parts: Vec<Part>) -> Self {
        for (buffer, bytes) in &parts {
            assert!(bytes.start <= bytes.end && bytes.end <= buffer.len(), "a transfer stays inside its buffers");
        }
        Self { list: Vec::with_capacity(parts.len()), parts }
    }

    /// Bytes of all parts.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// The list of what is behind the first `moved` bytes. It stays where it is until it is asked for again.
    pub(super) fn list_from(&mut self, moved: usize) -> &[libc::iovec] {
        let mut skip = moved;
        self.list.clear();
        for (buffer, bytes) in &mut self.parts {
            let skipped = skip.min(bytes.len());
            skip -= skipped;
            let Some(rest) = buffer.get_mut(bytes.start + skipped..bytes.end).filter(|rest| !rest.is_empty()) else {
                continue;
            };
            self.list.push(libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() });
        }
        &self.list
    }

    /// The bytes of each part.
    pub(super) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().filter_map(|(buffer, bytes)| buffer.get(bytes.clone()))
    }

    /// Gives the buffers back; the kernel must be done with them.
    pub(super) fn take(&mut self) -> Vec<Part> {
        self.list.clear();
        std::mem::take(&mut self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_goes_on_where_a_short_write_ended() {
        let part = |bytes: Range<usize>| (Buffer::new_unpooled(8192), bytes);
        let mut parts = Parts::new(vec![part(0..4096), part(4096..8192), part(0..0), part(0..8192)]);
        assert_eq!(parts.len(), 16384);
        let lengths = |parts: &mut Parts, moved| -> Vec<usize> {
            parts.list_from(moved).iter().map(|entry| entry.iov_len).collect()
        };
        assert_eq!(lengths(&mut parts, 0), [4096, 4096, 8192]);
        assert_eq!(lengths(&mut parts, 4096), [4096, 8192]);
        assert_eq!(lengths(&mut parts, 5120), [3072, 8192]);
        assert_eq!(lengths(&mut parts, 12288), [4096]);
        assert!(lengths(&mut parts, 16384).is_empty());
        assert_eq!(parts.slices().map(<[u8]>::len).sum::<usize>(), 16384);
        assert_eq!(parts.take().len(), 4);
    }
}
