//! What a row of any table is: a key, a versioned value, and what it adds to the counters.

use std::fmt;

use super::bytes::{Damage, Reader, Writer};
use super::keys::{KeyReader, KeyWriter, Table};
use super::tally::Tally;

/// One type of row.
pub trait Row: Sized + Clone + PartialEq + fmt::Debug {
    const TABLE: Table;
    /// The first byte of the value. A change of the value's layout raises it, and `take` keeps reading the older ones
    /// (`Reader::version`).
    const VERSION: u8 = 1;
    /// Whether a row with a certain value proves which transaction wrote it. A count proves nothing: others reach it too.
    const TELLS_ITS_WRITER: bool = true;
    type Key: Clone + PartialEq + fmt::Debug;

    fn put_key(key: &Self::Key, out: &mut KeyWriter);
    fn take_key(from: &mut KeyReader<'_>) -> Result<Self::Key, Damage>;
    fn put(&self, out: &mut Writer);
    fn take(from: &mut Reader<'_>) -> Result<Self, Damage>;

    /// What this row counts for in the cell's status.
    fn tally(&self) -> Tally {
        Tally::default()
    }

    fn encode_key(key: &Self::Key) -> Vec<u8> {
        let mut out = KeyWriter::new(Self::TABLE);
        Self::put_key(key, &mut out);
        out.finish()
    }

    fn decode_key(key: &[u8]) -> Result<Self::Key, RowDamaged> {
        let decode = || {
            let mut from = KeyReader::new(key, Self::TABLE)?;
            let decoded = Self::take_key(&mut from)?;
            from.finish().map(|()| decoded)
        };
        decode().map_err(|damage| RowDamaged { table: Self::TABLE, key: key.to_vec(), damage })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(Self::VERSION);
        self.put(&mut out);
        out.finish()
    }

    /// `key` only names the row in the error.
    fn decode(key: &[u8], value: &[u8]) -> Result<Self, RowDamaged> {
        let decode = || {
            let mut from = Reader::new(value, Self::VERSION)?;
            let decoded = Self::take(&mut from)?;
            from.finish().map(|()| decoded)
        };
        decode().map_err(|damage| RowDamaged { table: Self::TABLE, key: key.to_vec(), damage })
    }
}

/// A row whose value is one number that stores can add to (`Transaction::add`): 8 bytes, little-endian, no version.
pub trait Counter: Row {}

/// A stored row that does not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDamaged {
    pub table: Table,
    pub key: Vec<u8>,
    pub damage: Damage,
}

impl fmt::Display for RowDamaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the row of table {:?} with key ", self.table)?;
        self.key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, " is damaged: {}", self.damage)
    }
}

impl std::error::Error for RowDamaged {}
