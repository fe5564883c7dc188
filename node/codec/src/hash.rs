//! SHA-256: names of blocks. Several blocks at once are hashed interleaved where the CPU gains from it.
//!
//! One SHA-NI stream is bound by the latency of its rounds, so every library is equally fast; independent streams
//! hide that latency (about twice the bytes per core with four, measured by the `hash_lanes` example).

use std::sync::OnceLock;
use std::time::Instant;

use aws_lc_rs::digest;
use shingle_proto::ids::BlockHash;

/// Blocks hashed side by side by [`sha256_many`].
pub const LANES: usize = 4;

/// SHA-256 of one block.
pub fn sha256(data: &[u8]) -> BlockHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    BlockHash(hash)
}

/// SHA-256 of each block. Fastest when the number of blocks is a multiple of [`LANES`] and they are equally long.
pub fn sha256_many(blocks: &[&[u8]]) -> Vec<BlockHash> {
    let mut hashes = Vec::with_capacity(blocks.len());
    let mut rest = blocks;
    if interleaving_is_faster() {
        while let Some((group, behind)) = rest.split_first_chunk::<LANES>() {
            hashes.extend(sha256_interleaved(*group));
            rest = behind;
        }
    }
    hashes.extend(rest.iter().map(|block| sha256(block)));
    hashes
}

/// Whether four interleaved streams beat one after the other on this CPU: measured once, in about two milliseconds.
/// It depends on the core: Zen 4 starts two rounds a cycle and doubles, Sapphire Rapids issues all of them on one port
/// and gains next to nothing.
pub fn interleaving_is_faster() -> bool {
    static FASTER: OnceLock<bool> = OnceLock::new();
    *FASTER.get_or_init(|| {
        if !lanes_available() {
            return false;
        }
        let data = vec![0x5a; 64 << 10];
        let views = [data.as_slice(); LANES];
        let best = |hash: &dyn Fn() -> BlockHash| {
            let times = (0..5).map(|_| {
                let start = Instant::now();
                std::hint::black_box(hash());
                start.elapsed()
            });
            times.min().unwrap_or_default()
        };
        let one_by_one = best(&|| views.map(sha256)[0]);
        let together = best(&|| sha256_interleaved(views)[0]);
        // A tenth less time at least: anything smaller is noise, and one stream leaves more to the other hyperthread.
        together * 10 < one_by_one * 9
    })
}

#[cfg(target_arch = "x86_64")]
fn lanes_available() -> bool {
    crate::lanes::available()
}

/// SHA-256 of four blocks side by side, faster here or not; the CPU must have the SHA instructions.
#[cfg(target_arch = "x86_64")]
pub fn sha256_interleaved(group: [&[u8]; LANES]) -> [BlockHash; LANES] {
    crate::lanes::sha256(group).map(BlockHash)
}

#[cfg(not(target_arch = "x86_64"))]
fn lanes_available() -> bool {
    false
}

/// SHA-256 of four blocks, one after the other on this kind of CPU.
#[cfg(not(target_arch = "x86_64"))]
pub fn sha256_interleaved(group: [&[u8]; LANES]) -> [BlockHash; LANES] {
    group.map(sha256)
}

/// The running SHA-256 over block hashes that an object's ETag is made of.
#[derive(Clone)]
pub struct EtagHasher {
    context: digest::Context,
    blocks: u64,
}

impl EtagHasher {
    pub fn new() -> Self {
        Self { context: digest::Context::new(&digest::SHA256), blocks: 0 }
    }

    /// Adds the next block of the object, in order.
    pub fn push(&mut self, hash: &BlockHash) {
        self.context.update(&hash.0);
        self.blocks += 1;
    }

    /// 32 hex digits of the SHA-256 over the block hashes, `-`, number of blocks.
    pub fn finish(self) -> String {
        use std::fmt::Write;
        let digest = self.context.finish();
        let mut etag = String::with_capacity(48);
        for byte in digest.as_ref().iter().take(16) {
            // Writing to a String cannot fail.
            let _ = write!(etag, "{byte:02x}");
        }
        let _ = write!(etag, "-{}", self.blocks);
        etag
    }
}

impl Default for EtagHasher {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use sha2::{Digest, Sha256};

    #[test]
    fn interleaved_lanes_agree_with_an_independent_implementation() {
        let mut random = StdRng::seed_from_u64(1);
        for round in 0..200 {
            let count = round % 11;
            let blocks: Vec<Vec<u8>> =
                (0..count).map(|_| (0..random.random_range(0..400usize)).map(|_| random.random()).collect()).collect();
            let views: Vec<&[u8]> = blocks.iter().map(Vec::as_slice).collect();
            let hashes = sha256_many(&views);
            assert_eq!(hashes.len(), blocks.len());
            for (hash, block) in hashes.iter().zip(&blocks) {
                assert_eq!(hash.0, <[u8; 32]>::from(Sha256::digest(block)), "length {}", block.len());
                assert_eq!(*hash, sha256(block));
            }
            // Whatever this CPU prefers, the lanes themselves must be right.
            if let Some(group) = views.first_chunk::<LANES>().filter(|_| lanes_available()) {
                assert_eq!(sha256_interleaved(*group)[..], hashes[..LANES]);
            }
        }
    }

    #[test]
    fn every_length_around_the_padding_boundaries_is_right() {
        let data: Vec<u8> = (0..=255).cycle().take(300).collect();
        for length in 0..260 {
            let views = [&data[..length], &data[1..=length], &data[..length / 2], &data[..259 - length / 2]];
            if !lanes_available() {
                return;
            }
            for (hash, view) in sha256_interleaved(views).iter().zip(views) {
                assert_eq!(hash.0, <[u8; 32]>::from(Sha256::digest(view)), "length {}", view.len());
            }
        }
    }

    #[test]
    fn etag_of_an_empty_object_is_the_hash_of_nothing() {
        assert_eq!(EtagHasher::new().finish(), "e3b0c44298fc1c149afbf4c8996fb924-0");
    }
}
