//! The codec of row keys: the first byte is the table, what follows keeps the order of its parts (KEYS.md).
//!
//! Numbers are big-endian. A text ends with `00 01`, and a zero byte inside it becomes `00 ff`: texts of any content
//! sort as their bytes do, and a text's encoding without the end is a prefix of all texts that begin with it.

use super::bytes::Damage;

/// The tables, by the first byte of their keys. Numbers are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    Cell = 0x01,
    S3Bucket = 0x10,
    Object = 0x11,
    Upload = 0x12,
    Part = 0x13,
    Manifest = 0x20,
    Chunk = 0x21,
    Segment = 0x22,
    Entry = 0x23,
    Intent = 0x24,
    Block = 0x30,
    Reference = 0x31,
    ReferenceCount = 0x32,
    Reclaim = 0x40,
    Volume = 0x50,
    Bucket = 0x51,
    Finding = 0x60,
}

/// Keys from `begin` up to, and without, `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    pub begin: Vec<u8>,
    pub end: Vec<u8>,
}

impl KeyRange {
    /// All keys of a table.
    pub fn table(table: Table) -> Self {
        KeyWriter::new(table).range()
    }

    /// The part of the range behind `key`.
    pub fn after(mut self, key: &[u8]) -> Self {
        self.begin = self.begin.max(successor(key));
        self
    }

    /// The part of the range up to and with `key`.
    pub fn through(mut self, key: &[u8]) -> Self {
        self.end = self.end.min(successor(key));
        self
    }
}

/// The first key behind `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// The first key behind every key that begins with `prefix`.
pub fn behind_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    assert!(!end.is_empty(), "a key begins with its table, which is never ff");
    end
}

/// Builds one key, or the common beginning of many.
#[derive(Debug, Clone)]
pub struct KeyWriter {
    bytes: Vec<u8>,
}

impl KeyWriter {
    pub fn new(table: Table) -> Self {
        Self { bytes: vec![table as u8] }
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// All keys that begin with what was written so far.
    pub fn range(self) -> KeyRange {
        KeyRange { end: behind_prefix(&self.bytes), begin: self.bytes }
    }

    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_be_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes.extend(value.to_be_bytes());
    }

    pub fn u128(&mut self, value: u128) {
        self.bytes.extend(value.to_be_bytes());
    }

    pub fn array(&mut self, value: &[u8]) {
        self.bytes.extend(value);
    }

    pub fn text(&mut self, value: &str) {
        self.beginning_of_text(value);
        self.bytes.extend([0, 1]);
    }

    /// The encoding that all texts with this beginning share.
    pub fn beginning_of_text(&mut self, value: &str) {
        for byte in value.bytes() {
            self.bytes.push(byte);
            if byte == 0 {
                self.bytes.push(0xff);
            }
        }
    }
}

/// Takes one key apart.
pub struct KeyReader<'a> {
    rest: &'a [u8],
}

impl<'a> KeyReader<'a> {
    /// Begins behind the table's byte, which must be the expected one.
    pub fn new(key: &'a [u8], table: Table) -> Result<Self, Damage> {
        match key.split_first() {
            Some((first, rest)) if *first == table as u8 => Ok(Self { rest }),
            Some((first, _)) => Err(Damage::Value { what: "the table", found: u64::from(*first) }),
            None => Err(Damage::Short),
        }
    }

    pub fn finish(self) -> Result<(), Damage> {
        if self.rest.is_empty() { Ok(()) } else { Err(Damage::Trailing { bytes: self.rest.len() }) }
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Damage::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, Damage> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Damage> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn u128(&mut self) -> Result<u128, Damage> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    pub fn text(&mut self, what: &'static str) -> Result<String, Damage> {
        let mut text = Vec::new();
        loop {
            match self.u8()? {
                0 => match self.u8()? {
                    1 => return String::from_utf8(text).map_err(|_| Damage::Text { what }),
                    0xff => text.push(0),
                    found => return Err(Damage::Value { what, found: u64::from(found) }),
                },
                byte => text.push(byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(texts: &[&str], number: u64) -> Vec<u8> {
        let mut key = KeyWriter::new(Table::Object);
        texts.iter().for_each(|text| key.text(text));
        key.u64(number);
        key.finish()
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_parts_do(a in "[\0\u{1}a\u{ff}]{0,4}", b in "[\0\u{1}a\u{ff}]{0,4}",
                                       c in "[\0\u{1}a\u{ff}]{0,4}", d in "[\0\u{1}a\u{ff}]{0,4}",
                                       m in any::<u64>(), n in any::<u64>()) {
            let left = (a.as_bytes(), b.as_bytes(), m);
            let right = (c.as_bytes(), d.as_bytes(), n);
            prop_assert_eq!(left.cmp(&right), key(&[&a, &b], m).cmp(&key(&[&c, &d], n)));
        }

        #[test]
        fn keys_come_apart_as_they_were_put_together(a in any::<String>(), number in any::<u64>()) {
            let bytes = key(&[&a], number);
            let mut reader = KeyReader::new(&bytes, Table::Object).unwrap();
            prop_assert_eq!(reader.text("a").unwrap(), a);
            prop_assert_eq!(reader.u64().unwrap(), number);
            prop_assert!(reader.finish().is_ok());
        }

        #[test]
        fn texts_with_one_beginning_share_one_range(prefix in "[\0a\u{10ffff}]{0,3}", text in "[\0a\u{10ffff}]{0,5}") {
            let mut range = KeyWriter::new(Table::Object);
            range.beginning_of_text(&prefix);
            let range = range.range();
            let key = key(&[&text], 0);
            prop_assert_eq!(text.starts_with(&prefix), range.begin <= key && key < range.end);
        }

        #[test]
        fn no_bytes_panic_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(mut reader) = KeyReader::new(&bytes, Table::Object) {
                let _: Result<String, Damage> = reader.text("a");
            }
        }
    }

    #[test]
    fn the_key_behind_a_prefix_of_ff_bytes_is_the_next_shorter_one() {
        assert_eq!(behind_prefix(&[0x11, 0xff, 0xff]), [0x12]);
        assert_eq!(behind_prefix(&[0x11, 0x00, 0xff]), [0x11, 0x01]);
    }

    #[test]
    fn every_table_is_described() {
        let described = include_str!("KEYS.md");
        let mut tables = 0;
        for byte in 0..=u8::MAX {
            let table = [
                Table::Cell,
                Table::S3Bucket,
                Table::Object,
                Table::Upload,
                Table::Part,
                Table::Manifest,
                Table::Chunk,
                Table::Segment,
                Table::Entry,
                Table::Intent,
                Table::Block,
                Table::Reference,
                Table::ReferenceCount,
                Table::Reclaim,
                Table::Volume,
                Table::Bucket,
                Table::Finding,
            ]
            .into_iter()
            .find(|table| *table as u8 == byte);
            if let Some(table) = table {
                assert!(described.contains(&format!("| {table:?} | `{byte:02x}` |")), "{table:?}");
                tables += 1;
            }
        }
        assert_eq!(tables, described.matches("\n| ").count() - 1, "one line for each table, and the heading");
    }
}
