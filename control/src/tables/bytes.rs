//! The codec of row values: fixed little-endian fields behind one version byte, read with every bound checked. A
//! damaged value is a typed error, never a panic.

/// What is wrong with a stored key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("it ends early")]
    Short,
    #[error("{bytes} bytes follow its end")]
    Trailing { bytes: usize },
    #[error("version {found} is not known")]
    Version { found: u8 },
    #[error("{what} has the impossible value {found}")]
    Value { what: &'static str, found: u64 },
    #[error("{what} is not UTF-8")]
    Text { what: &'static str },
}

/// Writes one value.
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn new(version: u8) -> Self {
        Self { bytes: vec![version] }
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn u128(&mut self, value: u128) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn array(&mut self, value: &[u8]) {
        self.bytes.extend(value);
    }

    /// A length of two bytes, then the bytes. Callers check lengths before they build rows.
    pub fn blob(&mut self, value: &[u8]) {
        assert!(value.len() <= usize::from(u16::MAX), "rows are built from checked input: no field has 64 KiB");
        self.u16(value.len() as u16);
        self.bytes.extend(value);
    }

    pub fn text(&mut self, value: &str) {
        self.blob(value.as_bytes());
    }

    /// One byte that says whether a text follows, then the text.
    pub fn text_or_none(&mut self, value: Option<&str>) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            self.text(value);
        }
    }
}

/// Reads one value.
pub struct Reader<'a> {
    rest: &'a [u8],
    version: u8,
}

impl<'a> Reader<'a> {
    /// Begins behind the version byte, which must be the given one or an older one.
    pub fn new(value: &'a [u8], newest: u8) -> Result<Self, Damage> {
        let mut reader = Self { rest: value, version: 0 };
        match reader.u8()? {
            found if (1..=newest).contains(&found) => Ok(Self { version: found, ..reader }),
            found => Err(Damage::Version { found }),
        }
    }

    /// The version the value was written with.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Nothing may follow the last field.
    pub fn finish(self) -> Result<(), Damage> {
        if self.rest.is_empty() { Ok(()) } else { Err(Damage::Trailing { bytes: self.rest.len() }) }
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Damage::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, Damage> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, Damage> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn u128(&mut self) -> Result<u128, Damage> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    pub fn blob(&mut self) -> Result<&'a [u8], Damage> {
        let length = usize::from(self.u16()?);
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Damage::Short)?;
        self.rest = rest;
        Ok(head)
    }

    pub fn text(&mut self, what: &'static str) -> Result<String, Damage> {
        let bytes = self.blob()?.to_vec();
        String::from_utf8(bytes).map_err(|_| Damage::Text { what })
    }

    pub fn text_or_none(&mut self, what: &'static str) -> Result<Option<String>, Damage> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.text(what).map(Some),
            found => Err(Damage::Value { what, found: u64::from(found) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_and_every_cut_is_refused() {
        let mut writer = Writer::new(3);
        writer.u16(7);
        writer.u128(u128::MAX);
        writer.text("Größe");
        writer.text_or_none(None);
        writer.text_or_none(Some(""));
        let value = writer.finish();
        let read = |value: &[u8]| -> Result<(), Damage> {
            let mut reader = Reader::new(value, 3)?;
            assert_eq!(reader.u16()?, 7);
            assert_eq!(reader.u128()?, u128::MAX);
            assert_eq!(reader.text("name")?, "Größe");
            assert_eq!(reader.text_or_none("none")?, None);
            assert_eq!(reader.text_or_none("empty")?.as_deref(), Some(""));
            reader.finish()
        };
        assert_eq!(read(&value), Ok(()));
        for cut in 0..value.len() {
            assert_eq!(read(&value[..cut]), Err(Damage::Short), "cut at {cut}");
        }
        let longer = [value.as_slice(), &[0]].concat();
        assert_eq!(read(&longer), Err(Damage::Trailing { bytes: 1 }));
        assert!(matches!(Reader::new(&value, 2), Err(Damage::Version { found: 3 })));
        assert!(Reader::new(&value, 4).is_ok_and(|reader| reader.version() == 3), "older versions stay readable");
        assert!(matches!(Reader::new(&[0], 4), Err(Damage::Version { found: 0 })));
    }
}
