//! The queue of what reclaim has to take apart: a row is written in the very transaction that made something
//! unreachable, and goes in the one that removes its last row. Nothing unreachable is ever outside of it.

use shingle_proto::ids::ManifestId;

use super::bytes::{Damage, Reader, Writer};
use super::keys::{KeyReader, KeyWriter, Table};
use super::row::Row;
use super::tally::Tally;
use super::uploads::Completion;
use super::work::{TableError, Work};

/// What is to be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReclaimKey {
    /// A manifest, finished or not.
    Manifest(ManifestId),
    /// The part rows of an upload that was completed or aborted.
    Parts(ManifestId),
}

/// Why it is unreachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its object was deleted or replaced, so it had been committed before.
    Replaced,
    Deleted,
    /// The intent was aborted, or its lease ran out.
    Aborted,
    Expired,
    /// A part that was replaced, or not named when the upload was completed, or whose upload was aborted.
    PartDropped,
    /// The upload was completed; parts marked with this completion belong to the object now.
    Completed {
        completion: Completion,
    },
    UploadAborted,
    /// A segment of a manifest that is being taken apart.
    Segment,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reclaim {
    /// Unix milliseconds.
    pub queued_ms: u64,
    pub why: Why,
}

impl Reclaim {
    /// Queues something, unless it is queued already.
    pub async fn queue(work: &Work, key: ReclaimKey, queued_ms: u64, why: Why) -> Result<(), TableError> {
        if work.get::<Self>(&key).await?.is_none() {
            work.insert(&key, &Self { queued_ms, why });
        }
        Ok(())
    }
}

impl Row for Reclaim {
    const TABLE: Table = Table::Reclaim;
    type Key = ReclaimKey;

    fn put_key(key: &ReclaimKey, out: &mut KeyWriter) {
        let (kind, id) = match key {
            ReclaimKey::Manifest(id) => (0, id),
            ReclaimKey::Parts(id) => (1, id),
        };
        out.u8(kind);
        out.u128(id.0);
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<ReclaimKey, Damage> {
        match from.u8()? {
            0 => Ok(ReclaimKey::Manifest(ManifestId(from.u128()?))),
            1 => Ok(ReclaimKey::Parts(ManifestId(from.u128()?))),
            found => Err(Damage::Value { what: "the kind of what is reclaimed", found: u64::from(found) }),
        }
    }

    fn put(&self, out: &mut Writer) {
        out.u64(self.queued_ms);
        let (why, completion) = match self.why {
            Why::Replaced => (0, 0),
            Why::Deleted => (1, 0),
            Why::Aborted => (2, 0),
            Why::Expired => (3, 0),
            Why::PartDropped => (4, 0),
            Why::Completed { completion } => (5, completion.0),
            Why::UploadAborted => (6, 0),
            Why::Segment => (7, 0),
        };
        out.u8(why);
        out.u64(completion);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        let queued_ms = from.u64()?;
        let why = match (from.u8()?, from.u64()?) {
            (0, 0) => Why::Replaced,
            (1, 0) => Why::Deleted,
            (2, 0) => Why::Aborted,
            (3, 0) => Why::Expired,
            (4, 0) => Why::PartDropped,
            (5, completion) => Why::Completed { completion: Completion(completion) },
            (6, 0) => Why::UploadAborted,
            (7, 0) => Why::Segment,
            (found, _) => return Err(Damage::Value { what: "the reason of reclaim", found: u64::from(found) }),
        };
        Ok(Self { queued_ms, why })
    }

    fn tally(&self) -> Tally {
        Tally { reclaim_queue: 1, ..Tally::default() }
    }
}
