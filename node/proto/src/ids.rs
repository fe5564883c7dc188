//! Newtype ids: one type per meaning, so that a volume's number is never taken for a bucket's.

use std::fmt;
use std::str::FromStr;

use crate::message::{Hash256, Id128};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);

        impl $name {
            /// Big-endian bytes: key order is number order.
            pub fn to_be_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }
        }

        impl From<Id128> for $name {
            fn from(id: Id128) -> Self {
                Self((u128::from(id.hi) << 64) | u128::from(id.lo))
            }
        }

        impl From<&Id128> for $name {
            fn from(id: &Id128) -> Self {
                Self((u128::from(id.hi) << 64) | u128::from(id.lo))
            }
        }

        impl From<$name> for Id128 {
            fn from(id: $name) -> Self {
                Id128 { hi: (id.0 >> 64) as u64, lo: id.0 as u64 }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = MalformedId;

            fn from_str(text: &str) -> Result<Self, MalformedId> {
                match text.len() {
                    32 => u128::from_str_radix(text, 16).map(Self).map_err(|_| MalformedId),
                    _ => Err(MalformedId),
                }
            }
        }
    };
}

/// A text that is not 32 (uuids) or 64 (hashes) hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: 32 hex digits expected, 64 for a block's hash")]
pub struct MalformedId;

number_id!(
    /// Random name of one attempt to store a block: two attempts at one hash are two records with different keys.
    PutId, u64, "p"
);
number_id!(
    /// About 1 GiB of blocks written around the same time; what the Block Index points at.
    BucketId, u64, "b"
);
number_id!(
    /// The redundancy unit: buckets plus the OSDs that hold them.
    VolumeId, u64, "v"
);
number_id!(
    /// One disk as a storage target; drawn at random when the disk is labelled.
    OsdId, u64, "osd-"
);
number_id!(
    /// One process that serves many OSDs.
    HostId, u32, "host-"
);
number_id!(
    /// Raised by every change of a volume's members.
    Generation, u64, "g"
);
number_id!(
    /// Which key-encryption key wraps a block's key.
    KekVersion, u32, "kek-"
);
number_id!(
    /// One start of one process: a new one means that everything in its memory is gone.
    BootId, u64, "boot-"
);
number_id!(
    /// Proof that an upload intent was alive when it was handed out; dies with the intent's lease.
    PutToken, u64, "t"
);
uuid_id!(
    /// An append-only physical unit on one disk; new at every reuse of its zones.
    ExtentId
);
uuid_id!(
    /// The ordered blocks of one object version, and the upload intent it grew from.
    ManifestId
);
uuid_id!(
    /// About 50 PB raw: one Replication Table, one master, its OSDs.
    CellId
);

/// SHA-256 of a block's plain bytes: the block's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockHash(pub [u8; 32]);

impl From<&Hash256> for BlockHash {
    fn from(hash: &Hash256) -> Self {
        Self(hash.bytes)
    }
}

impl From<Hash256> for BlockHash {
    fn from(hash: Hash256) -> Self {
        Self(hash.bytes)
    }
}

impl From<BlockHash> for Hash256 {
    fn from(hash: BlockHash) -> Self {
        Hash256 { bytes: hash.0 }
    }
}

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlockHash {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(MalformedId);
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| MalformedId)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| MalformedId)?;
        }
        Ok(Self(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_wire() {
        let hash = BlockHash(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(BlockHash::from(Hash256::from(hash)), hash);
        let extent = ExtentId(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);
        assert_eq!(extent.to_string().parse(), Ok(extent));
        assert_eq!(ExtentId::from(Id128::from(extent)), extent);
    }

    #[test]
    fn texts_that_are_no_ids_are_refused() {
        assert_eq!("12".parse::<ExtentId>(), Err(MalformedId));
        assert_eq!("é".repeat(32).parse::<BlockHash>(), Err(MalformedId));
        assert_eq!("g".repeat(64).parse::<BlockHash>(), Err(MalformedId));
    }
}
