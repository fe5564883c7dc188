//! References: `hash / manifest` says that this manifest, finished or in the making, needs this block. Written in the
//! transaction that saw or made the block's row; while one is there the row stays (invariant 12).
//!
//! Beside them two counters per block, kept in the same transactions: how many references were ever added, and how many
//! dropped. They answer "is another one left?" at one cost, however many there are or were: a scan of the references would
//! pass over every one that was dropped before. Adding is blind, so that uploads with a block in common do not conflict
//! over its count; dropping reads and writes only the other counter, so that reclaim does not conflict with them either.

use shingle_proto::ids::{BlockHash, ManifestId};

use super::bytes::{Damage, Reader, Writer};
use super::keys::{KeyRange, KeyReader, KeyWriter, Table};
use super::row::{Counter, Row, RowDamaged};
use super::tally::Tally;
use super::work::{TableError, Work};
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

/// Which of a block's two counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CountOf {
    Added,
    Dropped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReferenceCountKey {
    pub hash: BlockHash,
    pub of: CountOf,
}

/// References to one block that were ever added, or dropped, since its row was inserted. A missing row is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReferenceCount(pub u64);

impl ReferenceCount {
    /// The block's two keys.
    fn keys(hash: BlockHash) -> (ReferenceCountKey, ReferenceCountKey) {
        (ReferenceCountKey { hash, of: CountOf::Added }, ReferenceCountKey { hash, of: CountOf::Dropped })
    }
}

impl Row for ReferenceCount {
    const TABLE: Table = Table::ReferenceCount;
    const TELLS_ITS_WRITER: bool = false;
    type Key = ReferenceCountKey;

    fn put_key(key: &ReferenceCountKey, out: &mut KeyWriter) {
        out.array(&key.hash.0);
        out.u8(match key.of {
            CountOf::Added => 0,
            CountOf::Dropped => 1,
        });
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<ReferenceCountKey, Damage> {
        let hash = BlockHash(from.array()?);
        let of = match from.u8()? {
            0 => CountOf::Added,
            1 => CountOf::Dropped,
            found => return Err(Damage::Value { what: "which count of references", found: u64::from(found) }),
        };
        Ok(ReferenceCountKey { hash, of })
    }

    fn put(&self, out: &mut Writer) {
        out.u64(self.0);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        from.u64().map(Self)
    }

    fn encode(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, RowDamaged> {
        let damaged = |damage| RowDamaged { table: Self::TABLE, key: key.to_vec(), damage };
        match value.split_first_chunk::<8>() {
            Some((number, [])) => Ok(Self(u64::from_le_bytes(*number))),
            Some((_, rest)) => Err(damaged(Damage::Trailing { bytes: rest.len() })),
            None => Err(damaged(Damage::Short)),
        }
    }
}

impl Counter for ReferenceCount {}

/// References a block, whose row this transaction has read or inserted, on behalf of a manifest. Doing it twice is doing
/// it once.
pub async fn add_reference(work: &Work, hash: BlockHash, manifest: ManifestId) -> Result<(), TableError> {
    let key = ReferenceKey { hash, manifest };
    if work.get::<Reference>(&key).await?.is_none() {
        work.insert(&key, &Reference);
        work.add::<ReferenceCount>(&ReferenceCount::keys(hash).0, 1);
    }
    Ok(())
}

/// Drops a manifest's reference to a block. True when no reference remains, as this transaction has read: then the counts
/// are gone, and the block's row has to go with them.
///
/// While others are left, only the count of dropped references is read so that it conflicts: two drops that each saw the
/// other's reference cannot both commit. References added meanwhile only make the answer truer. When none is left, the
/// other count and the references themselves are read as well, so that whoever adds one at the same time conflicts.
pub async fn drop_reference(work: &Work, hash: BlockHash, manifest: ManifestId) -> Result<bool, TableError> {
    let key = ReferenceKey { hash, manifest };
    let Some(reference) = work.get::<Reference>(&key).await? else { return Ok(false) };
    work.remove(&key, &reference);
    let (added_key, dropped_key) = ReferenceCount::keys(hash);
    let old = work.get::<ReferenceCount>(&dropped_key).await?;
    let dropped = ReferenceCount(old.unwrap_or_default().0 + 1);
    if work.peek::<ReferenceCount>(&added_key).await?.unwrap_or_default().0 > dropped.0 {
        work.put(&dropped_key, old.as_ref(), &dropped);
        return Ok(false);
    }
    let added = work.get::<ReferenceCount>(&added_key).await?;
    if !work.scan::<Reference>(Reference::to_block(hash), 1).await?.is_empty() {
        // The counts are wrong; the references are the truth, and the index scan will say so. The row must stay.
        tracing::error!(block = %hash, ?added, ?dropped, "a block has more references than were counted");
        work.put(&dropped_key, old.as_ref(), &dropped);
        return Ok(false);
    }
    if let Some(added) = added {
        work.remove(&added_key, &added);
    }
    if let Some(old) = old {
        work.remove(&dropped_key, &old);
    }
    Ok(true)
}
