//! Sealing a block: compress if it pays, encrypt under its own key, checksum; and the way back.
//!
//! Invariant: [`open`] gives back bytes only when checksum, tag, length and SHA-256 name all agree.

use shingle_proto::ids::{BlockHash, PutId};
use shingle_proto::limits::{BLOCK_BYTES_MAX, SEAL_OVERHEAD_BYTES};
use shingle_proto::message::Compression;

use crate::key::BlockKey;
use crate::{aead, checksum, compress, hash};

/// First byte of the associated data: a new way of sealing gets a new number.
const SEAL_VERSION: u8 = 1;
const ASSOCIATED_BYTES: usize = 46;

/// A block as OSDs see it.
#[derive(Debug)]
pub struct Sealed {
    /// Ciphertext and tag; at most `SEALED_BYTES_MAX`.
    pub bytes: Vec<u8>,
    pub compression: Compression,
    /// CRC32C of `bytes`.
    pub crc32c: u32,
}

/// What the Block Index remembers of a sealed block, needed to open it.
#[derive(Debug, Clone)]
pub struct SealParams {
    pub hash: BlockHash,
    pub put_id: PutId,
    pub plain_bytes: u32,
    pub compression: Compression,
    pub crc32c: u32,
}

/// Why a sealed block was not opened; every variant is a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("ciphertext checksum {found:#010x}, expected {expected:#010x}")]
    Checksum { found: u32, expected: u32 },
    #[error("the authentication tag does not match")]
    Tag,
    #[error("compression {0} is not known")]
    Compression(u8),
    #[error("{found} plain bytes, expected {expected}")]
    Length { found: usize, expected: u32 },
    #[error("the plain bytes have another SHA-256 than their name")]
    Name,
}

/// Seals one block. `key` must be fresh: it is used for nothing else, ever.
///
/// The associated data holds no location, so moving a block never re-encrypts it.
pub fn seal(plain: &[u8], hash: BlockHash, put_id: PutId, key: &BlockKey) -> Sealed {
    assert!(plain.len() <= BLOCK_BYTES_MAX as usize, "a block is at most 4 MiB");
    let (mut bytes, compression) = match compress::compress(plain) {
        Some(packed) => (packed, Compression::Zstd),
        None => {
            let mut copy = Vec::with_capacity(plain.len() + SEAL_OVERHEAD_BYTES as usize);
            copy.extend_from_slice(plain);
            (copy, Compression::None)
        }
    };
    aead::seal(key, &associated(hash, put_id, plain.len() as u32, compression), &mut bytes);
    let crc32c = checksum::crc32c(&bytes);
    Sealed { bytes, compression, crc32c }
}

/// Opens a sealed block, in its own memory where nothing has to be unpacked.
pub fn open(mut sealed: Vec<u8>, params: &SealParams, key: &BlockKey) -> Result<Vec<u8>, OpenError> {
    let found = checksum::crc32c(&sealed);
    if found != params.crc32c {
        return Err(OpenError::Checksum { found, expected: params.crc32c });
    }
    let associated = associated(params.hash, params.put_id, params.plain_bytes, params.compression);
    aead::open(key, &associated, &mut sealed).ok_or(OpenError::Tag)?;
    let expected = params.plain_bytes;
    let plain = match params.compression {
        Compression::None => sealed,
        Compression::Zstd => compress::decompress(&sealed, expected.min(BLOCK_BYTES_MAX) as usize)
            .ok_or(OpenError::Length { found: 0, expected })?,
        other => return Err(OpenError::Compression(other.0)),
    };
    if plain.len() != expected as usize {
        return Err(OpenError::Length { found: plain.len(), expected });
    }
    if hash::sha256(&plain) != params.hash {
        return Err(OpenError::Name);
    }
    Ok(plain)
}

fn associated(hash: BlockHash, put_id: PutId, plain_bytes: u32, compression: Compression) -> [u8; ASSOCIATED_BYTES] {
    let mut data = [0; ASSOCIATED_BYTES];
    data[0] = SEAL_VERSION;
    data[1] = compression.0;
    data[2..6].copy_from_slice(&plain_bytes.to_le_bytes());
    data[6..14].copy_from_slice(&put_id.0.to_le_bytes());
    data[14..].copy_from_slice(&hash.0);
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngCore, SeedableRng, rngs::StdRng};
    use shingle_proto::limits::SEALED_BYTES_MAX;

    fn sealed(plain: &[u8]) -> (Sealed, SealParams, BlockKey) {
        let key = BlockKey::generate(|k| k.fill(9));
        let hash = hash::sha256(plain);
        let sealed = seal(plain, hash, PutId(5), &key);
        let params = SealParams {
            hash,
            put_id: PutId(5),
            plain_bytes: plain.len() as u32,
            compression: sealed.compression,
            crc32c: sealed.crc32c,
        };
        (sealed, params, key)
    }

    #[test]
    fn blocks_of_every_kind_come_back() {
        let mut noise = vec![0; BLOCK_BYTES_MAX as usize];
        StdRng::seed_from_u64(3).fill_bytes(&mut noise);
        for plain in [vec![], vec![1], b"text ".repeat(10_000), noise] {
            let (sealed, params, key) = sealed(&plain);
            assert!(sealed.bytes.len() <= SEALED_BYTES_MAX as usize);
            assert_eq!(open(sealed.bytes, &params, &key), Ok(plain));
        }
    }

    #[test]
    fn every_flipped_bit_is_refused_even_with_a_matching_checksum() {
        let (sealed, params, key) = sealed(&b"plain".repeat(20));
        for bit in 0..sealed.bytes.len() * 8 {
            let mut bytes = sealed.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(open(bytes.clone(), &params, &key), Err(OpenError::Checksum { .. })));
            let forged = SealParams { crc32c: checksum::crc32c(&bytes), ..params.clone() };
            assert_eq!(open(bytes, &forged, &key), Err(OpenError::Tag));
        }
    }

    #[test]
    fn parameters_of_another_block_are_refused() {
        let (sealed, params, key) = sealed(&b"plain".repeat(2000));
        let wrong = [
            SealParams { put_id: PutId(6), ..params.clone() },
            SealParams { plain_bytes: 1, ..params.clone() },
            SealParams { hash: BlockHash([0; 32]), ..params.clone() },
            SealParams { compression: Compression::None, ..params.clone() },
        ];
        for params in wrong {
            assert_eq!(open(sealed.bytes.clone(), &params, &key), Err(OpenError::Tag));
        }
        let other = BlockKey::generate(|k| k.fill(8));
        assert_eq!(open(sealed.bytes, &params, &other), Err(OpenError::Tag));
    }

    #[test]
    fn other_bytes_sealed_under_a_name_are_never_taken_for_it() {
        let (name, other) = (hash::sha256(b"what was named"), b"what was stored");
        let key = BlockKey::generate(|k| k.fill(9));
        let Sealed { bytes, compression, crc32c } = seal(other, name, PutId(5), &key);
        let plain_bytes = other.len() as u32;
        let params = SealParams { hash: name, put_id: PutId(5), plain_bytes, compression, crc32c };
        assert_eq!(open(bytes, &params, &key), Err(OpenError::Name));
    }

    #[test]
    fn plain_bytes_do_not_show_in_the_sealed_block() {
        let plain = b"the quick brown fox".to_vec();
        let (sealed, ..) = sealed(&plain);
        assert!(!sealed.bytes.windows(8).any(|window| window == &plain[..8]));
    }
}
