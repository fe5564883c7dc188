//! A pool's memory as the kernel knows it beforehand: transfers from and to it pin no pages.
//!
//! Invariant: the memory stays where it is, and keeps its pages, for as long as the ring lives.
//! This file uses `unsafe` to tell the kernel of memory.

use std::io;

use io_uring::Submitter;

use crate::buffer::{BufferPool, PinnedPool};

/// The most the kernel takes as one registered buffer (`io_sqe_buffer_register`: SZ_1G).
const PIECE_BYTES: usize = 1 << 30;

/// Memory registered with a ring.
pub(super) struct Registered {
    pool: PinnedPool,
}

impl Registered {
    /// Registers all memory of a pool, which from then on is in use whether or not a buffer lies in it. The error is
    /// the kernel's: ENOMEM above the limit of locked memory, EINVAL or EBUSY where the ring has registered memory.
    pub(super) fn new(submitter: &Submitter<'_>, pool: &BufferPool) -> io::Result<Self> {
        let pool = pool.pin();
        let (start, bytes) = pool.memory();
        let pieces: Vec<libc::iovec> = (0..bytes)
            .step_by(PIECE_BYTES)
            .map(|at| libc::iovec {
                iov_base: start.as_ptr().wrapping_add(at).cast(),
                iov_len: PIECE_BYTES.min(bytes - at),
            })
            .collect();
        // SAFETY: the pieces lie in the pool's mapping, which `pool` keeps until the ring, which owns this, is gone.
        unsafe { submitter.register_buffers(&pieces)? };
        Ok(Self { pool })
    }

    /// The registered piece that all of these bytes lie in.
    pub(super) fn piece(&self, memory: *const u8, bytes: usize) -> Option<u16> {
        let (start, length) = self.pool.memory();
        let at = (memory as usize).checked_sub(start.as_ptr() as usize)?;
        let last = at.checked_add(bytes.checked_sub(1)?)?;
        let piece = at / PIECE_BYTES;
        (last < length && last / PIECE_BYTES == piece).then_some(u16::try_from(piece).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::rc::Rc;

    use io_uring::IoUring;

    use super::*;
    use crate::buffer::Buffer;
    use crate::ring::{Ring, block_on};

    #[test]
    fn bytes_are_found_in_the_piece_that_holds_all_of_them() {
        let ring = IoUring::new(4).expect("io_uring works here");
        let pool = BufferPool::new(8 << 20).expect("mapped");
        let registered = Registered::new(&ring.submitter(), &pool).expect("registers");
        let buffer = pool.try_alloc(8 << 20).expect("fits");
        let at = |offset: usize| buffer.as_ptr().wrapping_add(offset);
        assert_eq!(registered.piece(at(0), 8 << 20), Some(0));
        assert_eq!(registered.piece(at(4096), (8 << 20) - 4096), Some(0));
        assert_eq!(registered.piece(at(4096), 8 << 20), None, "over the end");
        assert_eq!(registered.piece(at(0), 0), None, "nothing is transferred");
        assert_eq!(registered.piece(at(0).wrapping_sub(4096), 4096), None, "before the start");
        let other = Buffer::new_unpooled(4096);
        assert_eq!(registered.piece(other.as_ptr(), 4096), None, "from elsewhere");
        assert!(Registered::new(&ring.submitter(), &pool).is_err(), "a ring takes memory once");
    }

    #[test]
    fn registered_memory_is_not_given_back_while_it_is_idle() {
        let ring = IoUring::new(4).expect("io_uring works here");
        let pool = BufferPool::new(4 << 20).expect("mapped");
        let registered = Registered::new(&ring.submitter(), &pool).expect("registers");
        drop(pool.try_alloc(4 << 20).expect("fits"));
        assert_eq!((pool.release_idle(), pool.release_idle()), (0, 0));
        drop((ring, registered));
        assert_eq!((pool.release_idle(), pool.release_idle()), (0, 4 << 20));
    }
    #[test]
    fn memory_that_the_kernel_refuses_serves_transfers_all_the_same() {
        let ring = Ring::new(4).expect("io_uring works here");
        let (first, pool) = (BufferPool::new(4 << 20).expect("mapped"), BufferPool::new(4 << 20).expect("mapped"));
        // A ring takes memory once, so the pool is refused, as it is above the limit of locked memory.
        let taken = Registered::new(&ring.state.borrow().uring.submitter(), &first);
        ring.register(&pool);
        ring.register(&pool);
        assert!(ring.state.borrow().registered.is_none());
        let file = Rc::new(tempfile::tempfile().expect("a file"));
        file.write_all_at(&[7; 4096], 0).expect("written");
        let buffer = pool.try_alloc(4096).expect("fits");
        let (read, buffer) = block_on(&ring, ring.read_at(&file, 0, buffer, 0..4096));
        assert!(read.is_ok() && buffer[..4096] == [7; 4096]);
        drop(buffer);
        assert!(pool.release_idle() == 0 && pool.release_idle() > 0, "and is given back when it is idle");
        drop((ring, taken));
    }
}
