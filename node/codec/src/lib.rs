//! Pure CPU work on blocks: hash, compress, encrypt, checksum. No I/O, no time, no randomness of its own.

mod aead;
pub mod checksum;
mod compress;
pub mod hash;
pub mod key;
#[cfg(target_arch = "x86_64")]
mod lanes;
pub mod seal;
