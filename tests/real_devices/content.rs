//! What is in a file by its number alone, so that nobody has to remember what was stored.

use sha2::{Digest, Sha256};

/// Largest file: more than one block.
const BYTES_MAX: u64 = 5 << 20;
/// Most are small.
const SMALL_BYTES_MAX: u64 = 250_000;
/// One file of so many may be of the largest size.
const LARGE_EVERY: u64 = 12;

/// Whether the file with this number may be larger than most.
pub fn is_large(number: u64) -> bool {
    number.is_multiple_of(LARGE_EVERY)
}

/// The content of the file with this number.
pub fn content(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let most = if is_large(number) { BYTES_MAX } else { SMALL_BYTES_MAX };
    let mut content = vec![0; (next() % most) as usize + 1];
    for word in content.chunks_mut(8) {
        word.copy_from_slice(&next().to_le_bytes()[..word.len()]);
    }
    content
}

/// SHA-256, in hex.
pub fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
