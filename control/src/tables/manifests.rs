//! Manifests: the ordered blocks of one object version. While its intent lives, a manifest is a row per block
//! (entries); finishing folds them into chunks. A completed multipart upload is a list of segments, each a finished
//! manifest. Finished manifests never change; only reclaim takes them apart.

use shingle_proto::ids::{BlockHash, ManifestId};
use shingle_proto::limits::CHUNK_BLOCKS_MAX;

use super::bytes::{Damage, Reader, Writer};
use super::keys::{KeyRange, KeyReader, KeyWriter, Table};
use super::row::Row;
use super::tally::Tally;

/// What a finished manifest consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestKind {
    Chunks,
    Segments,
}

/// A finished manifest, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manifest {
    pub kind: ManifestKind,
    pub size_bytes: u64,
    pub blocks: u64,
}

/// One block's place in a manifest: name and length; its offset is in the key, or follows from the chunk's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub hash: BlockHash,
    pub plain_bytes: u32,
}

/// A row's place in a manifest, in bytes of the object version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaceKey {
    pub manifest: ManifestId,
    pub offset_bytes: u64,
}

impl PlaceKey {
    fn put(&self, out: &mut KeyWriter) {
        out.u128(self.manifest.0);
        out.u64(self.offset_bytes);
    }

    fn take(from: &mut KeyReader<'_>) -> Result<Self, Damage> {
        Ok(Self { manifest: ManifestId(from.u128()?), offset_bytes: from.u64()? })
    }
}

/// Up to `CHUNK_BLOCKS_MAX` entries that follow each other, by the first one's offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Blocks of the manifest before this chunk.
    pub blocks_before: u64,
    pub entries: Vec<Entry>,
}

impl Chunk {
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.plain_bytes)).sum()
    }

    /// The entries with their offsets in the manifest.
    pub fn placed(&self, first_offset_bytes: u64) -> impl Iterator<Item = (u64, Entry)> {
        let mut next = first_offset_bytes;
        self.entries.iter().map(move |entry| {
            let offset = next;
            next += u64::from(entry.plain_bytes);
            (offset, *entry)
        })
    }
}

/// One part of a completed multipart upload, by its first byte's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub leaf: ManifestId,
    pub size_bytes: u64,
    pub blocks: u64,
}

/// All rows of type `R` of one manifest.
pub fn of_manifest<R: Row<Key = PlaceKey>>(manifest: ManifestId) -> KeyRange {
    let mut prefix = KeyWriter::new(R::TABLE);
    prefix.u128(manifest.0);
    prefix.range()
}

impl Row for Manifest {
    const TABLE: Table = Table::Manifest;
    type Key = ManifestId;

    fn put_key(key: &ManifestId, out: &mut KeyWriter) {
        out.u128(key.0);
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<ManifestId, Damage> {
        from.u128().map(ManifestId)
    }

    fn put(&self, out: &mut Writer) {
        out.u8(match self.kind {
            ManifestKind::Chunks => 0,
            ManifestKind::Segments => 1,
        });
        out.u64(self.size_bytes);
        out.u64(self.blocks);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        let kind = match from.u8()? {
            0 => ManifestKind::Chunks,
            1 => ManifestKind::Segments,
            found => return Err(Damage::Value { what: "the manifest's kind", found: u64::from(found) }),
        };
        Ok(Self { kind, size_bytes: from.u64()?, blocks: from.u64()? })
    }
}

impl Entry {
    fn put_fields(&self, out: &mut Writer) {
        out.array(&self.hash.0);
        out.u32(self.plain_bytes);
    }

    fn take_fields(from: &mut Reader<'_>) -> Result<Self, Damage> {
        Ok(Self { hash: BlockHash(from.array()?), plain_bytes: from.u32()? })
    }
}

impl Row for Entry {
    const TABLE: Table = Table::Entry;
    type Key = PlaceKey;

    fn put_key(key: &PlaceKey, out: &mut KeyWriter) {
        key.put(out);
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<PlaceKey, Damage> {
        PlaceKey::take(from)
    }

    fn put(&self, out: &mut Writer) {
        self.put_fields(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        Self::take_fields(from)
    }

    fn tally(&self) -> Tally {
        Tally { manifest_bytes: i64::from(self.plain_bytes), ..Tally::default() }
    }
}

impl Row for Chunk {
    const TABLE: Table = Table::Chunk;
    type Key = PlaceKey;

    fn put_key(key: &PlaceKey, out: &mut KeyWriter) {
        key.put(out);
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<PlaceKey, Damage> {
        PlaceKey::take(from)
    }

    fn put(&self, out: &mut Writer) {
        assert!(self.entries.len() <= CHUNK_BLOCKS_MAX, "a chunk stays below the store's value limit");
        out.u64(self.blocks_before);
        out.u16(self.entries.len() as u16);
        self.entries.iter().for_each(|entry| entry.put_fields(out));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        let blocks_before = from.u64()?;
        let count = from.u16()?;
        if count == 0 || usize::from(count) > CHUNK_BLOCKS_MAX {
            return Err(Damage::Value { what: "the chunk's number of blocks", found: u64::from(count) });
        }
        let entries = (0..count).map(|_| Entry::take_fields(from)).collect::<Result<_, _>>()?;
        Ok(Self { blocks_before, entries })
    }

    fn tally(&self) -> Tally {
        let manifest_bytes = self.entries.iter().map(|entry| i64::from(entry.plain_bytes)).sum();
        Tally { manifest_bytes, ..Tally::default() }
    }
}

impl Row for Segment {
    const TABLE: Table = Table::Segment;
    type Key = PlaceKey;

    fn put_key(key: &PlaceKey, out: &mut KeyWriter) {
        key.put(out);
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<PlaceKey, Damage> {
        PlaceKey::take(from)
    }

    fn put(&self, out: &mut Writer) {
        out.u128(self.leaf.0);
        out.u64(self.size_bytes);
        out.u64(self.blocks);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        Ok(Self { leaf: ManifestId(from.u128()?), size_bytes: from.u64()?, blocks: from.u64()? })
    }
}
