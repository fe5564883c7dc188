//! Upload intents: a manifest in the making, with a lease. Its token is the put token: every transaction on behalf of
//! the upload reads this row, so a gateway whose lease is over cannot commit anything any more.

use shingle_proto::ids::{ManifestId, PutToken};

use super::bytes::{Damage, Reader, Writer};
use super::keys::{KeyReader, KeyWriter, Table};
use super::row::Row;
use super::tally::Tally;

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntentState {
    /// Blocks may be added.
    Open,
    /// Its entries are being folded into chunks: no block may be added any more.
    Sealed,
}

/// One row, by the manifest's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub put_token: PutToken,
    /// Unix milliseconds; dead at any later time.
    pub expires_ms: u64,
    pub state: IntentState,
    /// The object it is for.
    pub s3_bucket: String,
    pub key: String,
}

impl Row for Intent {
    const TABLE: Table = Table::Intent;
    type Key = ManifestId;

    fn put_key(key: &ManifestId, out: &mut KeyWriter) {
        out.u128(key.0);
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<ManifestId, Damage> {
        from.u128().map(ManifestId)
    }

    fn put(&self, out: &mut Writer) {
        out.u64(self.put_token.0);
        out.u64(self.expires_ms);
        out.u8(match self.state {
            IntentState::Open => 0,
            IntentState::Sealed => 1,
        });
        out.text(&self.s3_bucket);
        out.text(&self.key);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        Ok(Self {
            put_token: PutToken(from.u64()?),
            expires_ms: from.u64()?,
            state: match from.u8()? {
                0 => IntentState::Open,
                1 => IntentState::Sealed,
                found => return Err(Damage::Value { what: "the intent's state", found: u64::from(found) }),
            },
            s3_bucket: from.text("the S3 bucket")?,
            key: from.text("the object's key")?,
        })
    }

    fn tally(&self) -> Tally {
        Tally { intents: 1, ..Tally::default() }
    }
}
