//! S3 buckets and objects: the name space. An object's row names the manifest that is its current version; one
//! transaction flips it, and queues the version before for reclaim.

use shingle_proto::ids::ManifestId;
use shingle_proto::message::{ObjectHeaders, ObjectRow, UserMetadata};

use super::bytes::{Damage, Reader, Writer};
use super::keys::{KeyRange, KeyReader, KeyWriter, Table};
use super::row::Row;
use super::tally::Tally;

/// One S3 bucket, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct S3Bucket {
    pub created_ms: u64,
}

impl Row for S3Bucket {
    const TABLE: Table = Table::S3Bucket;
    type Key = String;

    fn put_key(key: &String, out: &mut KeyWriter) {
        out.text(key);
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<String, Damage> {
        from.text("the S3 bucket")
    }

    fn put(&self, out: &mut Writer) {
        out.u64(self.created_ms);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        Ok(Self { created_ms: from.u64()? })
    }
}

/// An object's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    pub s3_bucket: String,
    pub key: String,
}

/// An object's current version.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    pub manifest: ManifestId,
    pub size_bytes: u64,
    /// Unix milliseconds of the flip.
    pub modified_ms: u64,
    pub blocks: u64,
    /// Parts it was uploaded in; 0 when it came in one piece.
    pub parts: u32,
    pub etag: String,
    pub headers: ObjectHeaders,
}

impl Object {
    /// All objects of an S3 bucket whose keys begin with `prefix`.
    pub fn with_prefix(s3_bucket: &str, prefix: &str) -> KeyRange {
        let mut range = KeyWriter::new(Table::Object);
        range.text(s3_bucket);
        range.beginning_of_text(prefix);
        range.range()
    }

    pub fn into_message(self, key: String) -> ObjectRow {
        ObjectRow {
            key,
            manifest: self.manifest.into(),
            size_bytes: self.size_bytes,
            etag: self.etag,
            modified_ms: self.modified_ms,
            blocks: self.blocks,
            headers: Box::new(self.headers),
            parts: self.parts,
        }
    }
}

impl Row for Object {
    const TABLE: Table = Table::Object;
    type Key = ObjectKey;

    fn put_key(key: &ObjectKey, out: &mut KeyWriter) {
        out.text(&key.s3_bucket);
        out.text(&key.key);
    }

    fn take_key(from: &mut KeyReader<'_>) -> Result<ObjectKey, Damage> {
        Ok(ObjectKey { s3_bucket: from.text("the S3 bucket")?, key: from.text("the object's key")? })
    }

    fn put(&self, out: &mut Writer) {
        out.u128(self.manifest.0);
        out.u64(self.size_bytes);
        out.u64(self.modified_ms);
        out.u64(self.blocks);
        out.u32(self.parts);
        out.text(&self.etag);
        put_headers(&self.headers, out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Damage> {
        Ok(Self {
            manifest: ManifestId(from.u128()?),
            size_bytes: from.u64()?,
            modified_ms: from.u64()?,
            blocks: from.u64()?,
            parts: from.u32()?,
            etag: from.text("the ETag")?,
            headers: take_headers(from)?,
        })
    }

    fn tally(&self) -> Tally {
        let logical_bytes = i64::try_from(self.size_bytes).unwrap_or(i64::MAX);
        Tally { objects: 1, logical_bytes, ..Tally::default() }
    }
}

pub(super) fn put_headers(headers: &ObjectHeaders, out: &mut Writer) {
    let fields = [
        &headers.content_type,
        &headers.content_encoding,
        &headers.content_disposition,
        &headers.content_language,
        &headers.cache_control,
        &headers.expires,
        &headers.checksum_algorithm,
        &headers.checksum_value,
    ];
    fields.iter().for_each(|field| out.text_or_none(field.as_deref()));
    assert!(headers.user.len() <= usize::from(u16::MAX), "user metadata was checked to be a few KiB");
    out.u16(headers.user.len() as u16);
    for pair in &headers.user {
        out.text(&pair.name);
        out.text(&pair.value);
    }
}

pub(super) fn take_headers(from: &mut Reader<'_>) -> Result<ObjectHeaders, Damage> {
    Ok(ObjectHeaders {
        content_type: from.text_or_none("the content type")?,
        content_encoding: from.text_or_none("the content encoding")?,
        content_disposition: from.text_or_none("the content disposition")?,
        content_language: from.text_or_none("the content language")?,
        cache_control: from.text_or_none("the cache control")?,
        expires: from.text_or_none("the expiry")?,
        checksum_algorithm: from.text_or_none("the checksum's algorithm")?,
        checksum_value: from.text_or_none("the checksum")?,
        user: (0..from.u16()?).map(|_| take_metadata(from)).collect::<Result<_, _>>()?,
    })
}

fn take_metadata(from: &mut Reader<'_>) -> Result<UserMetadata, Damage> {
    Ok(UserMetadata { name: from.text("a metadata name")?, value: from.text("a metadata value")? })
}
