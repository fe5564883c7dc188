//! The checksums clients give to objects and parts: which there are, and how those of parts become one of the whole
//! object, over its bytes (CRCs are joined without reading any) or over the checksums of its parts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, checksum_combine};
use shingle_proto::message::ChecksumType;

/// The algorithms we verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// S3's name in XML, in `x-amz-sdk-checksum-algorithm` and in our rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// Length of a value before base64.
    pub fn value_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    pub fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    /// What S3 makes of the parts' checksums when nobody says.
    pub fn default_type(self) -> ChecksumType {
        if self == Self::Crc64Nvme { ChecksumType::FullObject } else { ChecksumType::Composite }
    }

    /// Only CRCs can be joined, and CRC-64 has no other form.
    pub fn allows(self, kind: ChecksumType) -> bool {
        match kind {
            ChecksumType::FullObject => self.crc().is_some(),
            ChecksumType::Composite => self != Self::Crc64Nvme,
            _ => false,
        }
    }

    /// The big-endian bytes of a value in base64, if it has as many as it should.
    pub fn decode(self, value: &str) -> Option<Vec<u8>> {
        STANDARD.decode(value).ok().filter(|bytes| bytes.len() == self.value_bytes())
    }
}

/// The type that an object's checksum shows itself to be of.
pub fn type_of(value: &str) -> ChecksumType {
    if value.contains('-') { ChecksumType::Composite } else { ChecksumType::FullObject }
}

/// The checksum of an object made of parts with these checksums and lengths, in this order. Nothing if one does not
/// decode.
pub fn of_parts<'p>(
    algorithm: Algorithm,
    kind: ChecksumType,
    parts: impl ExactSizeIterator<Item = (&'p str, u64)>,
) -> Option<String> {
    let count = parts.len();
    if kind == ChecksumType::Composite {
        let mut values = Vec::with_capacity(count * algorithm.value_bytes());
        for (value, _) in parts {
            values.extend(algorithm.decode(value)?);
        }
        return Some(format!("{}-{count}", STANDARD.encode(digest(algorithm, &values))));
    }
    let crc = algorithm.crc()?;
    let mut joined = crc_fast::checksum(crc, b"");
    for (value, bytes) in parts {
        let decoded = algorithm.decode(value)?;
        let next = decoded.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        joined = checksum_combine(crc, joined, next, bytes);
    }
    Some(STANDARD.encode(big_endian(joined, algorithm.value_bytes())))
}

/// A CRC as S3 writes it.
pub fn big_endian(crc: u64, bytes: usize) -> Vec<u8> {
    crc.to_be_bytes().iter().copied().skip(size_of::<u64>() - bytes).collect()
}

fn digest(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
    match algorithm.crc() {
        Some(crc) => big_endian(crc_fast::checksum(crc, bytes), algorithm.value_bytes()),
        None if algorithm == Algorithm::Sha1 => digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec(),
        None => digest(&SHA256, bytes).as_ref().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [&[u8]; 4] = [b"1234", b"", b"56", b"789"];

    fn values(algorithm: Algorithm) -> Vec<(String, u64)> {
        PARTS.iter().map(|part| (STANDARD.encode(digest(algorithm, part)), part.len() as u64)).collect()
    }

    #[test]
    fn joined_crcs_are_those_of_the_joined_bytes() {
        for (algorithm, value) in
            [(Algorithm::Crc32, "y/Q5Jg=="), (Algorithm::Crc32c, "4waSgw=="), (Algorithm::Crc64Nvme, "rosUhgp5mIg=")]
        {
            let parts = values(algorithm);
            let parts = parts.iter().map(|(value, bytes)| (value.as_str(), *bytes));
            assert_eq!(of_parts(algorithm, ChecksumType::FullObject, parts).as_deref(), Some(value));
        }
    }

    #[test]
    fn composites_are_over_the_values_and_say_how_many() {
        for algorithm in Algorithm::ALL {
            let parts = values(algorithm);
            let raw: Vec<u8> = PARTS.iter().flat_map(|part| digest(algorithm, part)).collect();
            let expected = format!("{}-4", STANDARD.encode(digest(algorithm, &raw)));
            let parts = parts.iter().map(|(value, bytes)| (value.as_str(), *bytes));
            let composite = of_parts(algorithm, ChecksumType::Composite, parts).unwrap();
            assert_eq!((&composite, type_of(&composite)), (&expected, ChecksumType::Composite));
        }
    }

    #[test]
    fn what_does_not_decode_gives_nothing() {
        for bad in ["", "y/Q5", "y/Q5Jg==y", "y/Q5Jg==-2"] {
            for kind in [ChecksumType::FullObject, ChecksumType::Composite] {
                assert_eq!(of_parts(Algorithm::Crc32, kind, [(bad, 1)].into_iter()), None);
            }
        }
        assert_eq!(of_parts(Algorithm::Sha1, ChecksumType::FullObject, [].into_iter()), None);
    }
}
