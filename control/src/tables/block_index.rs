//! The Block Index: hash -> where a block lies and what is needed to open it. Rows are written once, never changed
//! by clients, and go only in a transaction that read that no reference remains (invariant 12).

use shingle_proto::ids::{BlockHash, BucketId, CellId, KekVersion, PutId};
use shingle_proto::message::{BlockRow, Compression};

use super::bytes::{Damage, Reader, Writer};
use super::keys::{KeyReader, KeyWriter, Table};
use super::row::Row;
use super::tally::Tally;

/// What a placement holds of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlacementKind {
    /// All of it.
    Whole,
    /// One fragment of a code across regions.
    Fragment { number: u8 },
}

/// One place where the block, or a fragment of it, lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    pub region: u16,
    pub cell: CellId,
    pub bucket: BucketId,
    pub kind: PlacementKind,
}

/// One row, by the block's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub put_id: PutId,
    pub plain_bytes: u32,
    pub sealed_bytes: u32,
    pub sealed_crc32c: u32,
    pub compression: Compression,
    pub kek_version: KekVersion,
    pub wrapped_key: Vec<u8>,
    pub placements: Vec<Placement>,
}

impl Block {
    /// The row of a block just stored in a bucket of this cell.
    pub fn stored(row: &BlockRow, cell: CellId) -> Self {
        Self {
            put_id: PutId(row.put_id),
            plain_bytes: row.plain_bytes,
            sealed_bytes: row.sealed_bytes,
            sealed_crc32c: row.sealed_crc32c,
            compression: row.compression,
            kek_version: KekVersion(row.kek_version),
            wrapped_key: row.wrapped_key.clone(),
            placements: vec![Placement { region: 0, cell, bucket: BucketId(row.bucket), kind: PlacementKind::Whole }],
        }
    }

    /// The bucket of this cell that holds the whole block.
    pub fn bucket_in(&self, cell: CellId) -> Option<BucketId> {
        let here = self.placements.iter().find(|place| place.cell == cell && place.kind == PlacementKind::Whole);
        here.map(|place| place.bucket)
    }

    pub fn to_message(&self, hash: BlockHash, bucket: BucketId) -> BlockRow {
        BlockRow {
            hash: hash.into(),
            put_id: self.put_id.0,
            plain_bytes: self.plain_bytes,
            sealed_bytes: self.sealed_bytes,
            sealed_crc32c: self.sealed_crc32c,
            compression: self.compression,
            kek_version: self.kek_version.0,
            wrapped_key: self.wrapped_key.clone(),
            bucket: bucket.0,
        }
    }
}

impl Row for Block {
    const TABLE: Table = Table::Block;
    type Key = BlockHash;

    fn put_key(key: &BlockHash, out: &mut KeyWriter) {
        out.array(&key.0);
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<BlockHash, Damage> {
        from.array().map(BlockHash)
    }

    fn put(&self, out: &mut Writer) {
        out.u64(self.put_id.0);
        out.u32(self.plain_bytes);
        out.u32(self.sealed_bytes);
        out.u32(self.sealed_crc32c);
        out.u8(self.compression.0);
        out.u32(self.kek_version.0);
        out.blob(&self.wrapped_key);
        assert!(self.placements.len() <= usize::from(u8::MAX), "a block has a placement per region, not hundreds");
        out.u8(self.placements.len() as u8);
        for place in &self.placements {
            out.u16(place.region);
            out.u128(place.cell.0);
            out.u64(place.bucket.0);
            let (kind, fragment) = match place.kind {
                PlacementKind::Whole => (0, 0),
                PlacementKind::Fragment { number } => (1, number),
            };
            out.u8(kind);
            out.u8(fragment);
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        let put_id = PutId(from.u64()?);
        let (plain_bytes, sealed_bytes, sealed_crc32c) = (from.u32()?, from.u32()?, from.u32()?);
        let compression = match Compression(from.u8()?) {
            known @ (Compression::None | Compression::Zstd) => known,
            other => return Err(Damage::Value { what: "compression", found: u64::from(other.0) }),
        };
        let kek_version = KekVersion(from.u32()?);
        let wrapped_key = from.blob()?.to_vec();
        let placements = (0..from.u8()?).map(|_| take_placement(from)).collect::<Result<_, _>>()?;
        Ok(Self { put_id, plain_bytes, sealed_bytes, sealed_crc32c, compression, kek_version, wrapped_key, placements })
    }

    fn tally(&self) -> Tally {
        Tally {
            blocks: 1,
            block_plain_bytes: i64::from(self.plain_bytes),
            block_sealed_bytes: i64::from(self.sealed_bytes),
            ..Tally::default()
        }
    }
}

fn take_placement(from: &mut Reader<'_>) -> Result<Placement, Damage> {
    let region = from.u16()?;
    let cell = CellId(from.u128()?);
    let bucket = BucketId(from.u64()?);
    let kind = match (from.u8()?, from.u8()?) {
        (0, 0) => PlacementKind::Whole,
        (1, number) => PlacementKind::Fragment { number },
        (kind, _) => return Err(Damage::Value { what: "the placement's kind", found: u64::from(kind) }),
    };
    Ok(Placement { region, cell, bucket, kind })
}
