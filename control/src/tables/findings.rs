//! Findings: bytes that are not what somebody promised, each with an owner and a state (invariant 10).
//!
//! One row for one damaged thing: told again, it counts. Its key is where the damage is: a block's record in an extent,
//! which has one place there, or what the finder says of a part that has no name.

use shingle_proto::ids::{BlockHash, ExtentId, OsdId, PutId};
use shingle_proto::limits::FINDING_DETAIL_BYTES_MAX;
use shingle_proto::message::{self, FindingKind, FindingOwner, FindingRecord, FindingState};

use super::bytes::{Damage, Reader, Writer};
use super::keys::{KeyRange, KeyReader, KeyWriter, Table};
use super::row::Row;
use super::work::{TableError, Work};

/// Which part of an extent is damaged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The record of a block.
    Block { hash: BlockHash, put_id: PutId },
    /// Something without a name, by its place: the finder's words, cut at `FINDING_DETAIL_BYTES_MAX`.
    Part(String),
}

/// What is damaged, and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FindingKey {
    /// 0: no disk; the tables promise what they do not have.
    pub osd: OsdId,
    /// 0: no extent, or all of the disk.
    pub extent: ExtentId,
    pub kind: FindingKind,
    pub what: What,
}

/// What is known of it. Times are in Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// In the order they were found; never 0.
    pub id: u64,
    pub found_ms: u64,
    /// When it was told last, and how often it was.
    pub last_ms: u64,
    pub count: u64,
    pub owner: FindingOwner,
    pub state: FindingState,
    /// When it left the state open; 0: it has not.
    pub ended_ms: u64,
    /// The finder's words when it was found.
    pub detail: String,
}

impl FindingKey {
    /// The key of something found, and the words that go into its row.
    pub fn of(finding: &message::Finding) -> (Self, String) {
        let detail = cut(&finding.detail);
        let what = match &finding.hash {
            Some(hash) => What::Block { hash: hash.into(), put_id: PutId(finding.put_id) },
            None => What::Part(detail.clone()),
        };
        let key = Self { osd: OsdId(finding.osd), extent: (&finding.extent).into(), kind: finding.kind, what };
        (key, detail)
    }
}

/// As much of a text as a row has room for.
fn cut(text: &str) -> String {
    let end = (0..=FINDING_DETAIL_BYTES_MAX.min(text.len())).rfind(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

impl Finding {
    /// Found just now.
    pub fn new(key: &FindingKey, id: u64, found_ms: u64, detail: String) -> Self {
        Self {
            id,
            found_ms,
            last_ms: found_ms,
            count: 1,
            owner: owner_of(key.kind),
            state: FindingState::Open,
            ended_ms: 0,
            detail,
        }
    }

    pub fn to_message(&self, key: &FindingKey) -> FindingRecord {
        let (hash, put_id) = match &key.what {
            What::Block { hash, put_id } => (Some((*hash).into()), put_id.0),
            What::Part(_) => (None, 0),
        };
        let finding = message::Finding {
            kind: key.kind,
            osd: key.osd.0,
            extent: key.extent.into(),
            hash,
            put_id,
            detail: self.detail.clone(),
        };
        FindingRecord {
            id: self.id,
            found_ms: self.found_ms,
            owner: self.owner,
            state: self.state,
            ended_ms: self.ended_ms,
            finding: Box::new(finding),
            last_ms: self.last_ms,
            count: self.count,
        }
    }
}

/// A torn tail is for the extent's recovery to explain; everything else needs a copy from elsewhere.
fn owner_of(kind: FindingKind) -> FindingOwner {
    match kind {
        FindingKind::TornTail => FindingOwner::Recovery,
        _ => FindingOwner::Repair,
    }
}

impl Row for Finding {
    const TABLE: Table = Table::Finding;
    type Key = FindingKey;

    fn put_key(key: &FindingKey, out: &mut KeyWriter) {
        out.u64(key.osd.0);
        out.u128(key.extent.0);
        out.u8(key.kind.0);
        match &key.what {
            What::Block { hash, put_id } => {
                out.u8(0);
                out.array(&hash.0);
                out.u64(put_id.0);
            }
            What::Part(words) => {
                out.u8(1);
                out.text(words);
            }
        }
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<FindingKey, Damage> {
        let (osd, extent) = (OsdId(from.u64()?), ExtentId(from.u128()?));
        let kind = FindingKind(from.u8()?);
        known(kind.variant_name(), "the kind of a finding", kind.0)?;
        let what = match from.u8()? {
            0 => What::Block { hash: BlockHash(from.array()?), put_id: PutId(from.u64()?) },
            1 => What::Part(from.text("what is damaged")?),
            found => return Err(Damage::Value { what: "what is damaged", found: u64::from(found) }),
        };
        Ok(FindingKey { osd, extent, kind, what })
    }

    fn put(&self, out: &mut Writer) {
        out.u64(self.id);
        out.u64(self.found_ms);
        out.u64(self.last_ms);
        out.u64(self.count);
        out.u8(self.owner.0);
        out.u8(self.state.0);
        out.u64(self.ended_ms);
        out.text(&self.detail);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        let (id, found_ms, last_ms, count) = (from.u64()?, from.u64()?, from.u64()?, from.u64()?);
        let (owner, state) = (FindingOwner(from.u8()?), FindingState(from.u8()?));
        known(owner.variant_name(), "the owner of a finding", owner.0)?;
        known(state.variant_name(), "the state of a finding", state.0)?;
        let (ended_ms, detail) = (from.u64()?, from.text("the words of a finding")?);
        Ok(Self { id, found_ms, last_ms, count, owner, state, ended_ms, detail })
    }
}

fn known(name: Option<&str>, what: &'static str, found: u8) -> Result<(), Damage> {
    name.map(drop).ok_or(Damage::Value { what, found: u64::from(found) })
}

/// A page of findings from `after` on, for a scan in several transactions.
pub async fn findings_after(
    work: &Work,
    after: Option<&FindingKey>,
    limit: usize,
) -> Result<Vec<(FindingKey, Finding)>, TableError> {
    let mut range = KeyRange::table(Table::Finding);
    if let Some(after) = after {
        range = range.after(&Finding::encode_key(after));
    }
    work.scan::<Finding>(range, limit).await
}

/// Makes the rows what is given: a finding as it is now, or none.
pub async fn write_findings(work: &Work, rows: &[(FindingKey, Option<Finding>)]) -> Result<(), TableError> {
    for (key, row) in rows {
        let old = work.get::<Finding>(key).await?;
        match (row, &old) {
            (Some(row), _) => work.put(key, old.as_ref(), row),
            (None, Some(old)) => work.remove(key, old),
            (None, None) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = "ü".repeat(FINDING_DETAIL_BYTES_MAX);
        assert_eq!(cut(&long), "ü".repeat(FINDING_DETAIL_BYTES_MAX / 2));
        let odd = format!("a{long}");
        assert_eq!(cut(&odd).len(), FINDING_DETAIL_BYTES_MAX - 1);
    }

    #[test]
    fn the_key_is_the_block_where_there_is_one_and_the_place_otherwise() {
        let found = |hash, put_id, detail: &str| {
            let finding = message::Finding { hash, put_id, detail: detail.into(), ..message::Finding::default() };
            FindingKey::of(&finding).0
        };
        let hash = || Some(message::Hash256 { bytes: [7; 32] });
        assert_eq!(found(hash(), 1, "by a read"), found(hash(), 1, "by the scrub"));
        assert_ne!(found(hash(), 1, "x"), found(hash(), 2, "x"), "another record of the same bytes");
        assert_ne!(found(None, 0, "at offset 4096"), found(None, 0, "at offset 8192"));
    }
}
