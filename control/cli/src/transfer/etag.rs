//! The ETag Shingle gives an object, computed here from the bytes that passed: how `cp` knows that what was stored, or
//! what arrived, is what it should be.
//!
//! First 32 hex digits of SHA-256 over the concatenated SHA-256 hashes of the object's 4 MiB blocks, `-`, the number
//! of blocks. A multipart object whose parts are whole blocks has the ETag of the same bytes stored in one piece.

use shingle_codec::hash;
use shingle_proto::ids::BlockHash;
use shingle_proto::limits::BLOCK_BYTES_MAX;

/// One block of an object, at most.
pub const BLOCK_BYTES: usize = BLOCK_BYTES_MAX as usize;

/// The ETag (without quotes) of an object with these blocks.
pub fn etag_of(blocks: &[BlockHash]) -> String {
    let mut names = Vec::with_capacity(blocks.len() * 32);
    for block in blocks {
        names.extend_from_slice(&block.0);
    }
    let digits = hash::sha256(&names).to_string();
    format!("{}-{}", digits.get(..32).unwrap_or(&digits), blocks.len())
}

/// How many blocks an object of `size_bytes` has when it is cut every 4 MiB.
pub fn whole_blocks(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(u64::from(BLOCK_BYTES_MAX))
}

/// The number of blocks an ETag speaks of, if it is one of Shingle's.
pub fn blocks_in(etag: &str) -> Option<u64> {
    let (digits, blocks) = etag.trim_matches('"').split_once('-')?;
    let hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex { blocks.parse().ok() } else { None }
}

/// Hashes a stream of pieces of any size, block by block.
#[derive(Default)]
pub struct BlockHasher {
    block: Vec<u8>,
    hashes: Vec<BlockHash>,
}

impl BlockHasher {
    pub fn update(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            // A whole block in one piece needs no copy.
            if self.block.is_empty()
                && let Some((block, rest)) = piece.split_at_checked(BLOCK_BYTES)
            {
                self.hashes.push(hash::sha256(block));
                piece = rest;
                continue;
            }
            let (head, rest) = piece.split_at(piece.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(head);
            piece = rest;
            if self.block.len() == BLOCK_BYTES {
                self.hashes.push(hash::sha256(&self.block));
                self.block.clear();
            }
        }
    }

    /// The hashes of all blocks, the last one shorter.
    pub fn finish(mut self) -> Vec<BlockHash> {
        if !self.block.is_empty() {
            self.hashes.push(hash::sha256(&self.block));
        }
        self.hashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etag_of_nothing_is_the_hash_of_nothing() {
        assert_eq!(etag_of(&[]), "e3b0c44298fc1c149afbf4c8996fb924-0");
    }

    #[test]
    fn etag_is_the_hash_over_the_hashes() {
        let block = hash::sha256(b"abc");
        let expected = hash::sha256(&block.0).to_string();
        assert_eq!(etag_of(&[block]), format!("{}-1", &expected[..32]));
    }

    #[test]
    fn pieces_of_any_size_give_the_same_blocks() {
        let data: Vec<u8> = (0..2 * BLOCK_BYTES + 17).map(|i| (i * 31 / 7) as u8).collect();
        let expected: Vec<_> = data.chunks(BLOCK_BYTES).map(hash::sha256).collect();
        for size in [1000, 65_536, BLOCK_BYTES, BLOCK_BYTES + 1, data.len()] {
            let mut hasher = BlockHasher::default();
            data.chunks(size).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish(), expected, "pieces of {size}");
        }
        assert_eq!(whole_blocks(data.len() as u64), 3);
    }

    #[test]
    fn only_our_etags_name_a_number_of_blocks() {
        assert_eq!(blocks_in("\"e3b0c44298fc1c149afbf4c8996fb924-7\""), Some(7));
        assert_eq!(blocks_in("e3b0c44298fc1c149afbf4c8996fb924"), None);
        assert_eq!(blocks_in("zzb0c44298fc1c149afbf4c8996fb924-7"), None);
        assert_eq!(blocks_in("-"), None);
    }
}
