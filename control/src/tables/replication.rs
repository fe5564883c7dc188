//! The Replication Table: bucket -> volume, volume -> members; and the cell's own row.
//!
//! Invariant 4: these rows are the only truth about placement. A volume's rows appear in one transaction after all its
//! extents exist; its state goes from open to closed once, after the extents were closed.

use shingle_proto::ids::{BucketId, CellId, ExtentId, Generation, OsdId, VolumeId};
use shingle_proto::message::ErrorCode;

use super::bytes::{Damage, Reader, Writer};
use super::keys::{KeyRange, KeyReader, KeyWriter, Table};
use super::row::Row;
use super::work::{TableError, Work};

/// The cell: who it is, and which numbers were given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Drawn once, when the store is new.
    pub id: CellId,
    /// Every smaller number has been used.
    pub next_volume: VolumeId,
    pub next_bucket: BucketId,
}

impl Row for Cell {
    const TABLE: Table = Table::Cell;
    type Key = ();

    fn put_key((): &(), _: &mut KeyWriter) {}

    fn take_key(_: &mut KeyReader<'_>) -> Result<(), Damage> {
        Ok(())
    }

    fn put(&self, out: &mut Writer) {
        out.u128(self.id.0);
        out.u64(self.next_volume.0);
        out.u64(self.next_bucket.0);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        Ok(Self { id: CellId(from.u128()?), next_volume: VolumeId(from.u64()?), next_bucket: BucketId(from.u64()?) })
    }
}

/// Whether a volume takes blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeState {
    Open,
    /// Fenced: at least one member refuses appends for ever, so no put can be acknowledged.
    Closed,
}

/// One extent of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    pub osd: OsdId,
    pub extent: ExtentId,
}

/// A replicated volume: every member holds every block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub bucket: BucketId,
    pub state: VolumeState,
    pub generation: Generation,
    pub members: Vec<Member>,
}

/// The one redundancy scheme so far: full copies, as many as there are members.
const SCHEME_REPLICATED: u8 = 0;

impl Row for Volume {
    const TABLE: Table = Table::Volume;
    type Key = VolumeId;

    fn put_key(key: &VolumeId, out: &mut KeyWriter) {
        out.u64(key.0);
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<VolumeId, Damage> {
        Ok(VolumeId(from.u64()?))
    }

    fn put(&self, out: &mut Writer) {
        out.u8(SCHEME_REPLICATED);
        out.u8(match self.state {
            VolumeState::Open => 0,
            VolumeState::Closed => 1,
        });
        out.u64(self.bucket.0);
        out.u64(self.generation.0);
        assert!(self.members.len() <= usize::from(u8::MAX), "a volume has as many members as copies");
        out.u8(self.members.len() as u8);
        for member in &self.members {
            out.u64(member.osd.0);
            out.u128(member.extent.0);
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        let scheme = from.u8()?;
        if scheme != SCHEME_REPLICATED {
            return Err(Damage::Value { what: "the scheme", found: u64::from(scheme) });
        }
        let state = match from.u8()? {
            0 => VolumeState::Open,
            1 => VolumeState::Closed,
            found => return Err(Damage::Value { what: "the volume's state", found: u64::from(found) }),
        };
        let bucket = BucketId(from.u64()?);
        let generation = Generation(from.u64()?);
        let members = (0..from.u8()?)
            .map(|_| Ok(Member { osd: OsdId(from.u64()?), extent: ExtentId(from.u128()?) }))
            .collect::<Result<_, Damage>>()?;
        Ok(Self { bucket, state, generation, members })
    }
}

/// Where a bucket's blocks lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    pub volume: VolumeId,
}

impl Row for Bucket {
    const TABLE: Table = Table::Bucket;
    type Key = BucketId;

    fn put_key(key: &BucketId, out: &mut KeyWriter) {
        out.u64(key.0);
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<BucketId, Damage> {
        Ok(BucketId(from.u64()?))
    }

    fn put(&self, out: &mut Writer) {
        out.u64(self.volume.0);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        Ok(Self { volume: VolumeId(from.u64()?) })
    }
}

/// The cell's id; `fresh` becomes it if the store is new.
pub async fn cell_id(work: &Work, fresh: CellId) -> Result<CellId, TableError> {
    if let Some(cell) = work.get::<Cell>(&()).await? {
        return Ok(cell.id);
    }
    work.insert(&(), &Cell { id: fresh, next_volume: VolumeId(1), next_bucket: BucketId(1) });
    Ok(fresh)
}

/// Numbers for one volume and its bucket, never given out again.
pub async fn draw_numbers(work: &Work) -> Result<(VolumeId, BucketId), TableError> {
    let Some(cell) = work.get::<Cell>(&()).await? else {
        return Err(TableError::refused(ErrorCode::StoreFailed, 0, "the cell's row is missing"));
    };
    let next_volume = VolumeId(cell.next_volume.0 + 1);
    let next_bucket = BucketId(cell.next_bucket.0 + 1);
    work.replace(&(), &cell, &Cell { next_volume, next_bucket, ..cell.clone() });
    Ok((cell.next_volume, cell.next_bucket))
}

/// Writes the rows of a volume whose extents all exist. Doing it again changes nothing.
///
/// # Errors
/// `Conflict` when another volume has the number: two draws that overlap may get one number when the result of a commit
/// was unknown, because each would have left the same row. The second one must not take the first one's place.
pub async fn insert_volume(work: &Work, id: VolumeId, volume: &Volume) -> Result<(), TableError> {
    match work.get::<Volume>(&id).await? {
        Some(there) if (there.bucket, &there.members) == (volume.bucket, &volume.members) => {}
        Some(_) => return Err(TableError::refused(ErrorCode::Conflict, id.0, format!("volume {id} exists already"))),
        None => {
            work.insert(&id, volume);
            work.insert(&volume.bucket, &Bucket { volume: id });
        }
    }
    Ok(())
}

/// Closes a volume whose extents were closed before. Doing it again changes nothing.
pub async fn close_volume(work: &Work, id: VolumeId) -> Result<(), TableError> {
    match work.get::<Volume>(&id).await? {
        Some(volume) if volume.state == VolumeState::Open => {
            work.replace(&id, &volume, &Volume { state: VolumeState::Closed, ..volume.clone() });
        }
        _ => {}
    }
    Ok(())
}

/// The volume of a bucket.
pub async fn volume_of(work: &Work, bucket: BucketId) -> Result<Option<(VolumeId, Volume)>, TableError> {
    let Some(row) = work.get::<Bucket>(&bucket).await? else { return Ok(None) };
    let volume = work.get::<Volume>(&row.volume).await?;
    Ok(volume.map(|volume| (row.volume, volume)))
}

/// A page of volumes from `after` on, for a scan in several transactions.
pub async fn volumes_after(
    work: &Work,
    after: Option<VolumeId>,
    limit: usize,
) -> Result<Vec<(VolumeId, Volume)>, TableError> {
    let mut range = KeyRange::table(Table::Volume);
    if let Some(after) = after {
        range = range.after(&Volume::encode_key(&after));
    }
    work.scan::<Volume>(range, limit).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume() -> Volume {
        let member = |n: u64| Member { osd: OsdId(n), extent: ExtentId(u128::from(n) << 64) };
        Volume {
            bucket: BucketId(7),
            state: VolumeState::Open,
            generation: Generation(1),
            members: (1..=4).map(member).collect(),
        }
    }

    #[test]
    fn rows_come_back_and_every_cut_or_flip_is_an_error_or_another_row() {
        let key = Volume::encode_key(&VolumeId(9));
        let value = volume().encode();
        assert_eq!(Volume::decode_key(&key), Ok(VolumeId(9)));
        assert_eq!(Volume::decode(&key, &value), Ok(volume()));
        for cut in 0..value.len() {
            assert!(Volume::decode(&key, &value[..cut]).is_err(), "cut at {cut}");
        }
        for flip in [0, 1, 2, 19] {
            let mut value = value.clone();
            value[flip] ^= 0x80;
            assert!(Volume::decode(&key, &value).is_err(), "version, scheme, state and count are checked: {flip}");
        }
    }

    #[test]
    fn the_layout_is_what_keys_md_says() {
        let cell = Cell { id: CellId(3), next_volume: VolumeId(4), next_bucket: BucketId(5) };
        assert_eq!(Cell::encode_key(&()), [0x01]);
        assert_eq!(cell.encode().len(), 1 + 16 + 8 + 8);
        assert_eq!(Cell::decode(&[1], &cell.encode()), Ok(cell));
        assert_eq!(Bucket::encode_key(&BucketId(7)), [0x51, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(Bucket { volume: VolumeId(9) }.encode(), [1, 9, 0, 0, 0, 0, 0, 0, 0]);
        let value = volume().encode();
        assert_eq!(value.len(), 1 + 1 + 1 + 8 + 8 + 1 + 4 * 24);
        assert_eq!(value[..4], [1, 0, 0, 7]);
    }
}
