//! Keys of blocks, and how a key-encryption key wraps them.
//!
//! Wrapping is AES-256 key wrap (RFC 3394): deterministic and without a nonce, because one key-encryption key wraps
//! far more than the 2^32 keys that random GCM nonces would allow.

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};

/// Bytes of a wrapped key: the key and RFC 3394's 8-byte check.
pub const WRAPPED_KEY_BYTES: usize = 40;

/// The 256-bit key of one stored block. Never printed, overwritten when dropped.
pub struct BlockKey([u8; 32]);

impl BlockKey {
    /// A fresh key from a source of randomness.
    pub fn generate(fill: impl FnOnce(&mut [u8])) -> Self {
        let mut key = [0; 32];
        fill(&mut key);
        Self(key)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for BlockKey {
    fn drop(&mut self) {
        // `black_box` keeps the compiler from dropping a store that nobody reads.
        std::hint::black_box(&mut self.0).fill(0);
        std::hint::black_box(&self.0);
    }
}

impl std::fmt::Debug for BlockKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockKey(..)")
    }
}

/// A wrapped key that this key-encryption key did not make, or that was changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the wrapped key does not open under this key-encryption key")]
pub struct UnwrapError;

/// Wraps a block's key.
pub fn wrap(kek: &[u8; 32], key: &BlockKey) -> [u8; WRAPPED_KEY_BYTES] {
    let mut wrapped = [0; WRAPPED_KEY_BYTES];
    let kek = AesKek::new(&AES_256, kek).expect("a key-encryption key has 32 bytes");
    kek.wrap(&key.0, &mut wrapped).expect("the output has room for key and check");
    wrapped
}

/// Unwraps a block's key.
pub fn unwrap(kek: &[u8; 32], wrapped: &[u8]) -> Result<BlockKey, UnwrapError> {
    if wrapped.len() != WRAPPED_KEY_BYTES {
        return Err(UnwrapError);
    }
    let mut room = [0; WRAPPED_KEY_BYTES];
    let kek = AesKek::new(&AES_256, kek).map_err(|_| UnwrapError)?;
    let plain = kek.unwrap(wrapped, &mut room).map_err(|_| UnwrapError)?;
    let key = plain.first_chunk::<32>().map(|key| BlockKey(*key)).ok_or(UnwrapError);
    std::hint::black_box(&mut room).fill(0);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn wrapping_matches_the_vector_of_rfc_3394() {
        // RFC 3394, section 4.6.
        let kek = hex("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F");
        let key = BlockKey::generate(|k| {
            k.copy_from_slice(&hex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F"));
        });
        let wrapped = wrap(&kek.try_into().unwrap(), &key);
        let expected = "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21";
        assert_eq!(wrapped.to_vec(), hex(expected));
    }

    #[test]
    fn changed_wrapped_keys_and_foreign_keks_are_refused() {
        let key = BlockKey::generate(|k| k.fill(7));
        let wrapped = wrap(&[1; 32], &key);
        assert_eq!(unwrap(&[1; 32], &wrapped).unwrap().bytes(), key.bytes());
        assert!(unwrap(&[2; 32], &wrapped).is_err());
        assert!(unwrap(&[1; 32], &wrapped[1..]).is_err());
        for bit in 0..wrapped.len() * 8 {
            let mut flipped = wrapped;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unwrap(&[1; 32], &flipped).is_err(), "bit {bit}");
        }
    }
}
