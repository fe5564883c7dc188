//! Blocks made from numbers, so that nobody needs to remember their bytes.

use shingle_proto::ids::{BlockHash, PutId};

/// A block: its number, and how many sealed bytes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    pub number: u64,
    pub bytes: u32,
}

impl Block {
    /// Noise that only this block has.
    pub fn payload(self) -> Vec<u8> {
        let mut state = self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut payload = Vec::with_capacity(self.bytes as usize + 8);
        while payload.len() < self.bytes as usize {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            payload.extend_from_slice(&state.to_le_bytes());
        }
        payload.truncate(self.bytes as usize);
        payload
    }

    /// A name that looks as random as a real one.
    pub fn hash(self) -> BlockHash {
        let mut hash = [1; 32];
        hash[..8].copy_from_slice(&self.number.wrapping_mul(0xd134_2543_de82_ef95).to_le_bytes());
        BlockHash(hash)
    }

    pub fn put_id(self) -> PutId {
        PutId(self.number ^ 0x5555)
    }
}
