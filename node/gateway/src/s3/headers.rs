//! What travels with an object besides its bytes: content headers and user metadata in both directions. And what
//! clients ask for with them: what Shingle does not do (ACLs, tags, locks, other storage classes, client-side keys)
//! is refused here by name, never ignored.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use s3s::dto::{ChecksumType, ETag, Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result};
use shingle_proto::limits::S3_METADATA_BYTES_MAX;
use shingle_proto::message::{self, ObjectHeaders, ObjectRow, PartRow, UserMetadata};

use super::checksum::Algorithm;
use super::errors::{refuse, unsupported};

/// The one owner of everything in a cell, until there are accounts.
pub const OWNER_ID: &str = "shingle";
/// What S3 says of objects that came without a Content-Type.
pub const CONTENT_TYPE_DEFAULT: &str = "binary/octet-stream";

/// The wishes a write may carry.
#[derive(Default)]
pub struct Wishes {
    pub acl: Option<String>,
    pub grants: bool,
    pub locks: bool,
    pub client_key: bool,
    pub kms: bool,
    pub encryption: Option<String>,
    pub storage_class: Option<String>,
    pub tagging: bool,
    pub redirect: bool,
    pub owner: Option<String>,
}

impl Wishes {
    /// Refuses the first wish that would not come true.
    pub fn check(&self) -> S3Result<()> {
        // Every object is private to the cell's one owner: these two ask for what is.
        let acl = self.acl.as_deref().filter(|acl| !matches!(*acl, "private" | "bucket-owner-full-control"));
        if acl.is_some() || self.grants {
            return Err(refuse(S3ErrorCode::AccessControlListNotSupported, "The bucket does not allow ACLs"));
        }
        if self.locks {
            return Err(unsupported("Object Lock"));
        }
        if self.client_key {
            return Err(unsupported("Encryption with keys of the customer (SSE-C)"));
        }
        // Every block is encrypted with AES-256-GCM: AES256 asks for what is.
        if self.kms || self.encryption.as_deref().is_some_and(|name| name != "AES256") {
            return Err(unsupported("Encryption with KMS keys"));
        }
        if self.storage_class.as_deref().is_some_and(|class| class != "STANDARD") {
            return Err(refuse(
                S3ErrorCode::InvalidStorageClass,
                "The storage class you specified is not valid: STANDARD is the only one here",
            ));
        }
        if self.tagging {
            return Err(unsupported("Tagging"));
        }
        if self.redirect {
            return Err(unsupported("Website redirection"));
        }
        expect_owner(self.owner.as_deref())
    }
}

/// Refuses requests meant for somebody else's bucket.
pub fn expect_owner(owner: Option<&str>) -> S3Result<()> {
    match owner {
        Some(owner) if owner != OWNER_ID => {
            Err(refuse(S3ErrorCode::AccessDenied, "Access Denied: the bucket has another owner"))
        }
        _ => Ok(()),
    }
}

/// Refuses versions: nothing here has more than the one that S3 calls "null".
pub fn expect_current(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("null") => Ok(()),
        Some(_) => {
            Err(refuse(S3ErrorCode::NoSuchVersion, "The specified version does not exist: buckets are not versioned"))
        }
    }
}

/// The [`Wishes`] of an input that writes an object (their fields are named alike).
macro_rules! wishes {
    ($input:expr) => {
        $crate::s3::headers::Wishes {
            acl: $input.acl.as_ref().map(|acl| acl.as_str().to_owned()),
            grants: $input.grant_full_control.is_some()
                || $input.grant_read.is_some()
                || $input.grant_read_acp.is_some()
                || $input.grant_write_acp.is_some(),
            locks: $input.object_lock_legal_hold_status.is_some()
                || $input.object_lock_mode.is_some()
                || $input.object_lock_retain_until_date.is_some(),
            client_key: $input.sse_customer_algorithm.is_some()
                || $input.sse_customer_key.is_some()
                || $input.sse_customer_key_md5.is_some(),
            kms: $input.ssekms_encryption_context.is_some()
                || $input.ssekms_key_id.is_some()
                || $input.bucket_key_enabled.is_some(),
            encryption: $input.server_side_encryption.as_ref().map(|name| name.as_str().to_owned()),
            storage_class: $input.storage_class.as_ref().map(|class| class.as_str().to_owned()),
            tagging: $input.tagging.is_some(),
            redirect: $input.website_redirect_location.is_some(),
            owner: $input.expected_bucket_owner.clone(),
        }
    };
}
pub(super) use wishes;

/// The content headers of an input that writes an object.
macro_rules! content_headers {
    ($input:expr) => {
        $crate::s3::headers::ContentHeaders {
            content_type: $input.content_type.take(),
            content_encoding: $input.content_encoding.take(),
            content_disposition: $input.content_disposition.take(),
            content_language: $input.content_language.take(),
            cache_control: $input.cache_control.take(),
            expires: $input.expires.take(),
            metadata: $input.metadata.take(),
        }
    };
}
pub(super) use content_headers;

/// Content headers as the library parsed them.
pub struct ContentHeaders {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub content_disposition: Option<String>,
    pub content_language: Option<String>,
    pub cache_control: Option<String>,
    pub expires: Option<Timestamp>,
    pub metadata: Option<HashMap<String, String>>,
}

impl ContentHeaders {
    /// What is kept; the checksum comes with the body's end.
    pub fn into_row(self) -> S3Result<ObjectHeaders> {
        let mut user: Vec<UserMetadata> =
            self.metadata.into_iter().flatten().map(|(name, value)| UserMetadata { name, value }).collect();
        user.sort_by(|a, b| a.name.cmp(&b.name));
        let metadata_bytes: usize = user.iter().map(|entry| entry.name.len() + entry.value.len()).sum();
        if metadata_bytes > S3_METADATA_BYTES_MAX {
            return Err(refuse(
                S3ErrorCode::MetadataTooLarge,
                "Your metadata headers exceed the maximum allowed metadata size of 2 KiB",
            ));
        }
        Ok(ObjectHeaders {
            content_type: self.content_type,
            content_encoding: self.content_encoding.and_then(|encoding| without_framing(&encoding)),
            content_disposition: self.content_disposition,
            content_language: self.content_language,
            cache_control: self.cache_control,
            expires: self.expires.as_ref().map(http_date).transpose()?,
            user,
            checksum_algorithm: None,
            checksum_value: None,
        })
    }
}

/// `aws-chunked` is how the body travelled, not how the object is encoded.
fn without_framing(encoding: &str) -> Option<String> {
    let kept: Vec<&str> =
        encoding.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "aws-chunked").collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

fn http_date(time: &Timestamp) -> S3Result<String> {
    let mut text = Vec::new();
    let formatted = time.format(TimestampFormat::HttpDate, &mut text).is_ok();
    let text = String::from_utf8(text).ok().filter(|_| formatted);
    text.ok_or_else(|| refuse(S3ErrorCode::InvalidArgument, "The date cannot be written as an HTTP date"))
}

/// A row's time for S3.
pub fn timestamp(unix_ms: u64) -> Timestamp {
    // Saturates far beyond every date HTTP can write, instead of panicking in a sum.
    let since = Duration::from_millis(unix_ms.min(253_402_300_799_000));
    Timestamp::from(SystemTime::UNIX_EPOCH + since)
}

/// A row's expiry, if it still reads as a date.
pub fn expires(headers: &ObjectHeaders) -> Option<Timestamp> {
    headers.expires.as_deref().and_then(|text| Timestamp::parse(TimestampFormat::HttpDate, text).ok())
}

/// A row's ETag as S3 quotes it.
pub fn etag(etag: &str) -> ETag {
    ETag::Strong(etag.to_owned())
}

/// A row's user metadata.
pub fn metadata(headers: &ObjectHeaders) -> Option<HashMap<String, String>> {
    let entries: HashMap<String, String> =
        headers.user.iter().map(|entry| (entry.name.clone(), entry.value.clone())).collect();
    (!entries.is_empty()).then_some(entries)
}

/// The checksum the client gave with the object.
pub fn checksum(row: &ObjectRow) -> Option<(Algorithm, String)> {
    let algorithm = row.headers.checksum_algorithm.as_deref().and_then(Algorithm::from_name)?;
    Some((algorithm, row.headers.checksum_value.clone()?))
}

/// The checksum of a part, as its client gave it.
pub fn part_checksum(row: &PartRow) -> Option<(Algorithm, String)> {
    let algorithm = row.checksum_algorithm.as_deref().and_then(Algorithm::from_name)?;
    Some((algorithm, row.checksum_value.clone()?))
}

/// S3's name of a checksum's type.
pub fn type_name(kind: message::ChecksumType) -> Option<ChecksumType> {
    match kind {
        message::ChecksumType::FullObject => Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
        message::ChecksumType::Composite => Some(ChecksumType::from_static(ChecksumType::COMPOSITE)),
        _ => None,
    }
}

/// The type that a client names.
pub fn type_named(kind: Option<&ChecksumType>) -> S3Result<message::ChecksumType> {
    match kind.map(ChecksumType::as_str) {
        None => Ok(message::ChecksumType::None),
        Some(ChecksumType::FULL_OBJECT) => Ok(message::ChecksumType::FullObject),
        Some(ChecksumType::COMPOSITE) => Ok(message::ChecksumType::Composite),
        Some(_) => Err(refuse(S3ErrorCode::InvalidRequest, "Value for x-amz-checksum-type header is invalid.")),
    }
}

/// The checksum in an input's fields, one per algorithm; the first of them.
macro_rules! take_checksum {
    ($input:expr) => {{
        use $crate::s3::checksum::Algorithm;
        let fields = [
            (Algorithm::Crc32, $input.checksum_crc32.take()),
            (Algorithm::Crc32c, $input.checksum_crc32c.take()),
            (Algorithm::Crc64Nvme, $input.checksum_crc64nvme.take()),
            (Algorithm::Sha1, $input.checksum_sha1.take()),
            (Algorithm::Sha256, $input.checksum_sha256.take()),
        ];
        fields.into_iter().find_map(|(algorithm, value)| {
            value.map(|value| $crate::request::Checksum { algorithm: algorithm.name().to_owned(), value })
        })
    }};
}
pub(super) use take_checksum;

/// Puts a checksum into the field of its algorithm.
macro_rules! set_checksum {
    ($output:expr, $checksum:expr) => {
        if let Some((algorithm, value)) = $checksum {
            match algorithm {
                $crate::s3::checksum::Algorithm::Crc32 => $output.checksum_crc32 = Some(value),
                $crate::s3::checksum::Algorithm::Crc32c => $output.checksum_crc32c = Some(value),
                $crate::s3::checksum::Algorithm::Crc64Nvme => $output.checksum_crc64nvme = Some(value),
                $crate::s3::checksum::Algorithm::Sha1 => $output.checksum_sha1 = Some(value),
                $crate::s3::checksum::Algorithm::Sha256 => $output.checksum_sha256 = Some(value),
            }
        }
    };
}
pub(super) use set_checksum;

/// What GetObject and HeadObject say of a row alike.
macro_rules! describe {
    ($output:expr, $row:expr) => {
        let headers = &$row.headers;
        $output.accept_ranges = Some("bytes".to_owned());
        $output.cache_control = headers.cache_control.clone();
        $output.content_disposition = headers.content_disposition.clone();
        $output.content_encoding = headers.content_encoding.clone();
        $output.content_language = headers.content_language.clone();
        let content_type = headers.content_type.clone();
        $output.content_type =
            Some(content_type.unwrap_or_else(|| $crate::s3::headers::CONTENT_TYPE_DEFAULT.to_owned()));
        $output.e_tag = Some($crate::s3::headers::etag(&$row.etag));
        $output.expires = $crate::s3::headers::expires(headers);
        $output.last_modified = Some($crate::s3::headers::timestamp($row.modified_ms));
        $output.metadata = $crate::s3::headers::metadata(headers);
    };
}
pub(super) use describe;

/// A length as S3's signed numbers want it.
pub fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A number of a request that counts things, within `0..=max`; `name` is for the refusal.
pub fn count(value: Option<i32>, max: u32, name: &str) -> Result<u32, S3Error> {
    match value.map(u32::try_from) {
        None => Ok(max),
        Some(Ok(value)) => Ok(value.min(max)),
        Some(Err(_)) => Err(refuse(S3ErrorCode::InvalidArgument, format!("Argument {name} must not be negative"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_is_not_kept_as_an_encoding() {
        assert_eq!(without_framing("aws-chunked"), None);
        assert_eq!(without_framing("aws-chunked, gzip"), Some("gzip".to_owned()));
        assert_eq!(without_framing("gzip,br"), Some("gzip,br".to_owned()));
    }

    #[test]
    fn wishes_that_would_not_come_true_are_refused() {
        assert!(
            Wishes { acl: Some("private".into()), encryption: Some("AES256".into()), ..Wishes::default() }
                .check()
                .is_ok()
        );
        for wishes in [
            Wishes { acl: Some("public-read".into()), ..Wishes::default() },
            Wishes { encryption: Some("aws:kms".into()), ..Wishes::default() },
            Wishes { storage_class: Some("GLACIER".into()), ..Wishes::default() },
            Wishes { client_key: true, ..Wishes::default() },
            Wishes { tagging: true, ..Wishes::default() },
            Wishes { owner: Some("111122223333".into()), ..Wishes::default() },
        ] {
            assert!(wishes.check().is_err());
        }
    }

    #[test]
    fn times_far_away_do_not_panic() {
        assert!(http_date(&timestamp(u64::MAX)).is_ok());
    }
}
