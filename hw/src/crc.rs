//! CRC32C of bytes, and of two runs of bytes from the checksums of each.
//!
//! Invariant: joining costs about a hundred steps per power of two of the length, however long the runs are; the
//! library's own join takes tens of microseconds, as much as a small append.

use crc_fast::CrcAlgorithm;

/// The Castagnoli polynomial, its bits reversed as the checksum's are: the highest bit stands for x^0.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x^0.
const ONE: u32 = 1 << 31;

/// x^(8 * 2^k) modulo the polynomial, for every k.
const SHIFTS: [u32; 64] = squares(ONE >> 8);

/// x^-(8 * 2^k) modulo the polynomial, for every k.
const BACK_SHIFTS: [u32; 64] = squares(byte_back());

/// CRC32C (Castagnoli).
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// The CRC32C of two runs of bytes, of which the second has `second_bytes`, from theirs.
pub fn crc32c_joined(first: u32, second: u32, second_bytes: u64) -> u32 {
    let shift = SHIFTS.iter().enumerate().filter(|(power, _)| second_bytes >> power & 1 == 1);
    shift.fold(first, |crc, (_, factor)| product(crc, *factor)) ^ second
}

/// The CRC32C of the first of two runs of bytes, from that of both and that of the second.
pub fn crc32c_cut(both: u32, second: u32, second_bytes: u64) -> u32 {
    let back = BACK_SHIFTS.iter().enumerate().filter(|(power, _)| second_bytes >> power & 1 == 1);
    back.fold(both ^ second, |crc, (_, factor)| product(crc, *factor))
}

/// The product of two polynomials modulo the Castagnoli polynomial.
const fn product(left: u32, right: u32) -> u32 {
    let (mut sum, mut right, mut bit) = (0, right, ONE);
    while bit != 0 {
        if left & bit != 0 {
            sum ^= right;
        }
        bit >>= 1;
        right = if right & 1 == 1 { (right >> 1) ^ POLYNOMIAL } else { right >> 1 };
    }
    sum
}

/// A number, its square, the square of that, and so on.
const fn squares(first: u32) -> [u32; 64] {
    let mut squares = [first; 64];
    let mut power = 1;
    while power < squares.len() {
        squares[power] = product(squares[power - 1], squares[power - 1]);
        power += 1;
    }
    squares
}

/// x^-8: eight divisions by x, of a 1. What has no constant term can be divided; otherwise the polynomial is added first,
/// which has one.
const fn byte_back() -> u32 {
    let (mut value, mut step) = (ONE, 0);
    while step < 8 {
        value = if value & ONE != 0 { ((value ^ POLYNOMIAL) << 1) | 1 } else { value << 1 };
        step += 1;
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_the_castagnoli_checksum() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    proptest! {
        #[test]
        fn joined_checksums_are_those_of_the_joined_bytes(bytes in prop::collection::vec(any::<u8>(), 0..5000), cut: prop::sample::Index) {
            let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(crc32c_joined(crc32c(first), crc32c(second), second.len() as u64), crc32c(&bytes));
        }

        #[test]
        fn cutting_undoes_joining(first: u32, second: u32, second_bytes: u64) {
            prop_assert_eq!(crc32c_cut(crc32c_joined(first, second, second_bytes), second, second_bytes), first);
        }

        #[test]
        fn lengths_of_any_size_are_joined_as_the_library_joins_them(first: u32, second: u32, bytes in 0u64..1 << 50) {
            let expected = crc_fast::checksum_combine(CrcAlgorithm::Crc32Iscsi, first.into(), second.into(), bytes);
            prop_assert_eq!(u64::from(crc32c_joined(first, second, bytes)), expected);
        }
    }
}
