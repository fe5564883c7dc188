//! CRC32C (Castagnoli, RFC 3720), the checksum of frames, records and sealed blocks.

use crc_fast::{CrcAlgorithm, checksum};

/// CRC32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    // The crate answers every width in 64 bits; a 32-bit checksum fills the low half.
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_matches_the_check_value_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }
}
