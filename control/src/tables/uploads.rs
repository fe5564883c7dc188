//! Multipart uploads and their parts. A part is a finished manifest waiting to become a segment of the object; the
//! upload's id is the manifest id of the object it may become.

use shingle_proto::ids::ManifestId;
use shingle_proto::message::{ChecksumType, ObjectHeaders, PartRow};

use super::bytes::{Damage, Reader, Writer};
use super::keys::{KeyRange, KeyReader, KeyWriter, Table};
use super::objects::{put_headers, take_headers};
use super::row::Row;

/// Random name of one attempt to complete an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadKey {
    pub s3_bucket: String,
    pub key: String,
    pub upload: ManifestId,
}

/// An upload neither completed nor aborted.
#[derive(Debug, Clone, PartialEq)]
pub struct Upload {
    pub created_ms: u64,
    /// The attempt to complete it that is under way. A new part ends that attempt by clearing this.
    pub completion: Option<Completion>,
    /// Of the algorithm that the headers name. Since version 2; none before.
    pub checksum_type: ChecksumType,
    pub headers: ObjectHeaders,
}

impl Upload {
    /// All uploads of an S3 bucket whose keys begin with `prefix`.
    pub fn with_prefix(s3_bucket: &str, prefix: &str) -> KeyRange {
        let mut range = KeyWriter::new(Table::Upload);
        range.text(s3_bucket);
        range.beginning_of_text(prefix);
        range.range()
    }

    /// All uploads to one key.
    pub fn to_key(s3_bucket: &str, key: &str) -> KeyRange {
        let mut range = KeyWriter::new(Table::Upload);
        range.text(s3_bucket);
        range.text(key);
        range.range()
    }
}

impl Row for Upload {
    const TABLE: Table = Table::Upload;
    const VERSION: u8 = 2;
    type Key = UploadKey;

    fn put_key(key: &UploadKey, out: &mut KeyWriter) {
        out.text(&key.s3_bucket);
        out.text(&key.key);
        out.u128(key.upload.0);
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<UploadKey, Damage> {
        Ok(UploadKey {
            s3_bucket: from.text("the S3 bucket")?,
            key: from.text("the object's key")?,
            upload: ManifestId(from.u128()?),
        })
    }

    fn put(&self, out: &mut Writer) {
        out.u64(self.created_ms);
        put_completion(self.completion, out);
        put_headers(&self.headers, out);
        out.u8(self.checksum_type.0);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        Ok(Self {
            created_ms: from.u64()?,
            completion: take_completion(from)?,
            headers: take_headers(from)?,
            checksum_type: if from.version() == 1 { ChecksumType::None } else { take_checksum_type(from)? },
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartKey {
    pub upload: ManifestId,
    /// 1..=10,000.
    pub number: u32,
}

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub manifest: ManifestId,
    pub size_bytes: u64,
    pub blocks: u64,
    pub modified_ms: u64,
    /// The attempt to complete the upload that last made a segment of it.
    pub named_by: Option<Completion>,
    pub etag: String,
    /// As the client declared and the gateway verified it: S3's name of the algorithm, and base64. Since version 2.
    pub checksum_algorithm: Option<String>,
    pub checksum_value: Option<String>,
}

impl Part {
    /// All parts of an upload.
    pub fn of_upload(upload: ManifestId) -> KeyRange {
        let mut range = KeyWriter::new(Table::Part);
        range.u128(upload.0);
        range.range()
    }

    pub fn into_message(self, number: u32) -> PartRow {
        PartRow {
            number,
            manifest: self.manifest.into(),
            size_bytes: self.size_bytes,
            blocks: self.blocks,
            etag: self.etag,
            modified_ms: self.modified_ms,
            checksum_algorithm: self.checksum_algorithm,
            checksum_value: self.checksum_value,
        }
    }
}

impl Row for Part {
    const TABLE: Table = Table::Part;
    const VERSION: u8 = 2;
    type Key = PartKey;

    fn put_key(key: &PartKey, out: &mut KeyWriter) {
        out.u128(key.upload.0);
        out.u32(key.number);
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<PartKey, Damage> {
        Ok(PartKey { upload: ManifestId(from.u128()?), number: from.u32()? })
    }

    fn put(&self, out: &mut Writer) {
        out.u128(self.manifest.0);
        out.u64(self.size_bytes);
        out.u64(self.blocks);
        out.u64(self.modified_ms);
        put_completion(self.named_by, out);
        out.text(&self.etag);
        out.text_or_none(self.checksum_algorithm.as_deref());
        out.text_or_none(self.checksum_value.as_deref());
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        let mut part = Self {
            manifest: ManifestId(from.u128()?),
            size_bytes: from.u64()?,
            blocks: from.u64()?,
            modified_ms: from.u64()?,
            named_by: take_completion(from)?,
            etag: from.text("the ETag")?,
            checksum_algorithm: None,
            checksum_value: None,
        };
        if from.version() > 1 {
            part.checksum_algorithm = from.text_or_none("the checksum's algorithm")?;
            part.checksum_value = from.text_or_none("the checksum")?;
        }
        Ok(part)
    }
}

fn take_checksum_type(from: &mut Reader<'_>) -> Result<ChecksumType, Damage> {
    match ChecksumType(from.u8()?) {
        known @ (ChecksumType::None | ChecksumType::FullObject | ChecksumType::Composite) => Ok(known),
        ChecksumType(found) => Err(Damage::Value { what: "the checksum's type", found: u64::from(found) }),
    }
}

fn put_completion(completion: Option<Completion>, out: &mut Writer) {
    out.u8(u8::from(completion.is_some()));
    out.u64(completion.map_or(0, |completion| completion.0));
}

fn take_completion(from: &mut Reader<'_>) -> Result<Option<Completion>, Damage> {
    match (from.u8()?, from.u64()?) {
        (0, 0) => Ok(None),
        (1, completion) => Ok(Some(Completion(completion))),
        (found, _) => Err(Damage::Value { what: "the completion", found: u64::from(found) }),
    }
}
