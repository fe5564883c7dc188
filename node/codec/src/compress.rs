//! zstd level 1, only where it pays.
//!
//! Level 1 is measured as the best trade of ratio and speed for the put path, and it skips incompressible data at
//! gigabytes per second by itself, so no probe stands before it.

use std::cell::RefCell;

use shingle_proto::limits::RECORD_ALIGN_BYTES;
use zstd::bulk::{Compressor, Decompressor};

const LEVEL: i32 = 1;

thread_local! {
    // A context is about a megabyte of tables: made once per thread, not once per block.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The compressed block, if that saves at least one 4 KiB step on disk; records are padded to those.
pub fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    let room = plain.len().checked_sub(RECORD_ALIGN_BYTES as usize)?;
    let mut packed = Vec::with_capacity(room);
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Compressor::new(LEVEL).ok();
        }
        // An error means that the result would not fit into what pays.
        slot.as_mut()?.compress_to_buffer(plain, &mut packed).ok()
    })?;
    Some(packed)
}

/// The plain block; `None` when `packed` is not one frame of at most `plain_bytes` bytes. Never uses more memory.
pub fn decompress(packed: &[u8], plain_bytes: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(plain_bytes);
    DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Decompressor::new().ok();
        }
        slot.as_mut()?.decompress_to_buffer(packed, &mut plain).ok()
    })?;
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngCore, SeedableRng, rngs::StdRng};

    #[test]
    fn text_shrinks_and_comes_back() {
        let plain = b"seven disks spin in the dark; ".repeat(5000);
        let packed = compress(&plain).expect("text pays");
        assert!(packed.len() < plain.len() / 10);
        assert_eq!(decompress(&packed, plain.len()), Some(plain));
    }

    #[test]
    fn what_does_not_shrink_is_left_alone() {
        let mut noise = vec![0; 100_000];
        StdRng::seed_from_u64(2).fill_bytes(&mut noise);
        assert_eq!(compress(&noise), None);
        assert_eq!(compress(b"short"), None);
        assert_eq!(compress(&[]), None);
    }

    #[test]
    fn a_frame_larger_than_promised_is_refused() {
        let packed = compress(&vec![0; 1 << 20]).expect("zeroes pay");
        assert_eq!(decompress(&packed, 1000), None);
        assert_eq!(decompress(&packed[..packed.len() - 1], 1 << 20), None);
    }
}
