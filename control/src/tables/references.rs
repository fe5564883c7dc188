//! References: `hash / manifest` says that this manifest, finished or in the making, needs this block. Written in the
//! transaction that saw or made the block's row; while one is there the row stays (invariant 12).

use shingle_proto::ids::{BlockHash, ManifestId};

use super::bytes::{Damage, Reader, Writer};
use super::keys::{KeyRange, KeyReader, KeyWriter, Table};
use super::row::Row;
use super::tally::Tally;

/// One reference; its key says everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReferenceKey {
    pub hash: BlockHash,
    pub manifest: ManifestId,
}

impl Reference {
    /// All references to a block.
    pub fn to_block(hash: BlockHash) -> KeyRange {
        let mut prefix = KeyWriter::new(Table::Reference);
        prefix.array(&hash.0);
        prefix.range()
    }
}

impl Row for Reference {
    const TABLE: Table = Table::Reference;
    type Key = ReferenceKey;

    fn put_key(key: &ReferenceKey, out: &mut KeyWriter) {
        out.array(&key.hash.0);
        out.u128(key.manifest.0);
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<ReferenceKey, Damage> {
        Ok(ReferenceKey { hash: BlockHash(from.array()?), manifest: ManifestId(from.u128()?) })
    }

    fn put(&self, _: &mut Writer) {}

    fn take(_: &mut Reader<'_>) -> Result<Self, Damage> {
        Ok(Self)
    }

    fn tally(&self) -> Tally {
        Tally { references: 1, ..Tally::default() }
    }
}
