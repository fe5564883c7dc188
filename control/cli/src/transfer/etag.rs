//! The ETag Shingle gives an object, computed here from the bytes that passed: how `cp` knows that what was stored, or
//! what arrived, is what it should be.
//!
//! First 32 hex digits of SHA-256 over the concatenated SHA-256 hashes of the object's 4 MiB blocks, `-`, the number
//! of blocks. A multipart object whose parts are whole blocks has the ETag of the same bytes stored in one piece; of
//! another one the gateway says where blocks end ([`Cut`]).

use std::collections::VecDeque;

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

/// Where an object's blocks end: lengths of pieces that follow each other, each with how often it comes. A piece is cut
/// into blocks of 4 MiB, its last one shorter; what is behind the last length is one more piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut(VecDeque<(u64, u64)>);

impl Cut {
    /// Reads the gateway's `LENGTH` or `LENGTHxCOUNT`, separated by commas; nothing if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let run = |run: &str| {
            let (length, count) = run.split_once('x').unwrap_or((run, "1"));
            let run: (u64, u64) = (length.parse().ok()?, count.parse().ok()?);
            (run.0 > 0 && run.1 > 0 && run.0.checked_mul(run.1).is_some()).then_some(run)
        };
        text.split(',').filter(|run| !run.is_empty()).map(run).collect::<Option<_>>().map(Self)
    }

    /// How many bytes it speaks of.
    pub fn bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum: u64, (length, count)| sum.saturating_add(length.saturating_mul(*count)))
    }

    /// Adds what follows.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    fn next_piece(&mut self) -> u64 {
        let Some((length, count)) = self.0.front_mut() else { return u64::MAX };
        let bytes = *length;
        *count -= 1;
        if *count == 0 {
            self.0.pop_front();
        }
        bytes
    }
}

/// Hashes a stream of pieces of any size, block by block.
#[derive(Default)]
pub struct BlockHasher {
    cut: Cut,
    /// Bytes that are left of the piece under way.
    piece_bytes: u64,
    block: Vec<u8>,
    hashes: Vec<BlockHash>,
}

impl BlockHasher {
    /// For an object that is cut like this.
    pub fn cut(cut: Cut) -> Self {
        Self { cut, ..Self::default() }
    }

    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.piece_bytes == 0 {
                self.piece_bytes = self.cut.next_piece();
            }
            let want = usize::try_from(self.piece_bytes).unwrap_or(usize::MAX).min(BLOCK_BYTES - self.block.len());
            let (head, rest) = bytes.split_at(bytes.len().min(want));
            self.piece_bytes -= head.len() as u64;
            bytes = rest;
            if head.len() < want {
                self.block.extend_from_slice(head);
            } else if self.block.is_empty() {
                // A whole block at once needs no copy.
                self.hashes.push(hash::sha256(head));
            } else {
                self.block.extend_from_slice(head);
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
    fn a_cut_moves_the_ends_of_blocks() {
        let data: Vec<u8> = (0..3 * BLOCK_BYTES + 5).map(|i| (i * 31 / 7) as u8).collect();
        let (odd, rest) = (BLOCK_BYTES + 3, BLOCK_BYTES - 1);
        let cut = Cut::parse(&format!("{odd}x2")).unwrap();
        assert_eq!(cut.bytes(), 2 * odd as u64);
        let ends = [BLOCK_BYTES, 3, BLOCK_BYTES, 3, rest];
        let mut left = data.as_slice();
        let expected: Vec<_> = ends.iter().map(|end| hash::sha256(left.split_off(..*end).unwrap())).collect();
        assert!(left.is_empty());
        for size in [999, BLOCK_BYTES, data.len()] {
            let mut hasher = BlockHasher::cut(cut.clone());
            data.chunks(size).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish(), expected, "pieces of {size}");
        }
    }

    #[test]
    fn only_lengths_are_a_cut() {
        assert_eq!(Cut::parse("").map(|cut| cut.bytes()), Some(0));
        for bad in ["0", "5x0", "x", "5x", "a", "5x2x3", "18446744073709551615x2", "-1"] {
            assert_eq!(Cut::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_our_etags_name_a_number_of_blocks() {
        assert_eq!(blocks_in("\"e3b0c44298fc1c149afbf4c8996fb924-7\""), Some(7));
        assert_eq!(blocks_in("e3b0c44298fc1c149afbf4c8996fb924"), None);
        assert_eq!(blocks_in("zzb0c44298fc1c149afbf4c8996fb924-7"), None);
        assert_eq!(blocks_in("-"), None);
    }
}
