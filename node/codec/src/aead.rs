//! AES-256-GCM over one block, in place, with the tag behind it (NIST SP 800-38D).
//!
//! Invariant: a key seals exactly one message, so the nonce is constant.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::key::BlockKey;

/// Zero for every block: keys are fresh per block, and a nonce must only be unique under its key.
const NONCE: [u8; 12] = [0; 12];

fn cipher(key: &BlockKey) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.bytes()).expect("a block key has the cipher's 32 bytes"))
}

/// Encrypts `text` in place and appends the 16-byte tag.
pub fn seal(key: &BlockKey, associated: &[u8], text: &mut Vec<u8>) {
    cipher(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(NONCE), Aad::from(associated), text)
        .expect("a block is far below the cipher's 64 GiB");
}

/// Decrypts in place; the plain length, or `None` when the tag does not match.
pub fn open(key: &BlockKey, associated: &[u8], text: &mut Vec<u8>) -> Option<()> {
    let nonce = Nonce::assume_unique_for_key(NONCE);
    let plain_bytes = cipher(key).open_in_place(nonce, Aad::from(associated), text).ok()?.len();
    text.truncate(plain_bytes);
    Some(())
}
