//! What a request may contain: every bound is checked before a transaction begins, so that rows are built from
//! checked input only.

use shingle_proto::ids::BlockHash;
use shingle_proto::limits::{
    BLOCK_BYTES_MAX, BLOCKS_PER_REQUEST_MAX, CHECKSUM_BYTES_MAX, ETAG_BYTES_MAX, S3_BUCKET_NAME_BYTES_MAX,
    S3_BUCKET_NAME_BYTES_MIN, S3_HEADERS_BYTES_MAX, S3_KEY_BYTES_MAX, S3_METADATA_BYTES_MAX, S3_OBJECT_BYTES_MAX,
    S3_PARTS_MAX, SEALED_BYTES_MAX, WRAPPED_KEY_BYTES_MAX,
};
use shingle_proto::message::{BlockName, BlockRow, ChecksumType, Compression, ErrorCode, ObjectHeaders};

use crate::tables::manifests::Entry;
use crate::tables::objects::ObjectKey;
use crate::tables::work::TableError;

/// A refusal of a body that breaks a limit.
pub(super) fn malformed(number: u64, message: impl Into<String>) -> TableError {
    TableError::refused(ErrorCode::Malformed, number, message)
}

pub(super) fn no_such_bucket(name: &str) -> TableError {
    TableError::refused(ErrorCode::NoSuchBucket, 0, format!("there is no S3 bucket {name:?}"))
}

pub(super) fn no_such_key(key: &str) -> TableError {
    TableError::refused(ErrorCode::NoSuchKey, 0, format!("there is no object {key:?}"))
}

/// The name of an S3 bucket to be looked up: one that cannot exist does not exist.
pub(super) fn s3_bucket(name: &str) -> Result<(), TableError> {
    if name.is_empty() || name.len() > S3_BUCKET_NAME_BYTES_MAX { Err(no_such_bucket(name)) } else { Ok(()) }
}

/// The name of an S3 bucket to be made: 3 to 63 of `a-z 0-9 . -`, a letter or digit first and last.
pub(super) fn new_s3_bucket(name: &str) -> Result<(), TableError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let long_enough = (S3_BUCKET_NAME_BYTES_MIN..=S3_BUCKET_NAME_BYTES_MAX).contains(&name.len());
    let ends = name.bytes().next().is_some_and(plain) && name.bytes().last().is_some_and(plain);
    if long_enough && ends && name.bytes().all(|byte| plain(byte) || byte == b'.' || byte == b'-') {
        return Ok(());
    }
    Err(malformed(name.len() as u64, format!("{name:?} is not a valid name of an S3 bucket")))
}

/// An object's name: the key has 1 to 1,024 bytes.
pub(super) fn object_name(bucket: String, key: String) -> Result<ObjectKey, TableError> {
    s3_bucket(&bucket)?;
    if key.is_empty() || key.len() > S3_KEY_BYTES_MAX {
        let message = format!("a key has 1 to {S3_KEY_BYTES_MAX} bytes, this one has {}", key.len());
        return Err(TableError::refused(ErrorCode::KeyTooLong, key.len() as u64, message));
    }
    Ok(ObjectKey { s3_bucket: bucket, key })
}

/// A prefix, a delimiter or a marker of a listing: no longer than a key.
pub(super) fn listing_text(text: &str) -> Result<(), TableError> {
    if text.len() <= S3_KEY_BYTES_MAX {
        return Ok(());
    }
    Err(malformed(text.len() as u64, format!("a prefix, delimiter or marker has at most {S3_KEY_BYTES_MAX} bytes")))
}

/// The checksum of a part or an object: both texts or neither, and short.
pub(super) fn checksum(algorithm: Option<&str>, value: Option<&str>) -> Result<(), TableError> {
    let bytes = algorithm.map_or(0, str::len) + value.map_or(0, str::len);
    if algorithm.is_some() == value.is_some() && bytes <= CHECKSUM_BYTES_MAX {
        return Ok(());
    }
    let message = format!("a checksum has an algorithm and a value, together at most {CHECKSUM_BYTES_MAX} bytes");
    Err(malformed(bytes as u64, message))
}

/// The type of an upload's checksum.
pub(super) fn checksum_type(found: ChecksumType) -> Result<ChecksumType, TableError> {
    match found {
        ChecksumType::None | ChecksumType::FullObject | ChecksumType::Composite => Ok(found),
        ChecksumType(found) => Err(malformed(u64::from(found), "the checksum's type is not known")),
    }
}

pub(super) fn headers(headers: &ObjectHeaders) -> Result<(), TableError> {
    let user: usize = headers.user.iter().map(|pair| pair.name.len() + pair.value.len()).sum();
    if user > S3_METADATA_BYTES_MAX || headers.user.len() > S3_METADATA_BYTES_MAX {
        let message = format!("user metadata has {user} bytes, at most {S3_METADATA_BYTES_MAX} are allowed");
        return Err(malformed(user as u64, message));
    }
    let others = [
        &headers.content_type,
        &headers.content_encoding,
        &headers.content_disposition,
        &headers.content_language,
        &headers.cache_control,
        &headers.expires,
        &headers.checksum_algorithm,
        &headers.checksum_value,
    ];
    let bytes: usize = others.iter().filter_map(|text| text.as_ref().map(String::len)).sum();
    if bytes > S3_HEADERS_BYTES_MAX {
        let message = format!("the object's headers have {bytes} bytes, at most {S3_HEADERS_BYTES_MAX} are allowed");
        return Err(malformed(bytes as u64, message));
    }
    Ok(())
}

pub(super) fn etag(etag: &str) -> Result<(), TableError> {
    if (1..=ETAG_BYTES_MAX).contains(&etag.len()) {
        return Ok(());
    }
    Err(malformed(etag.len() as u64, format!("an ETag has 1 to {ETAG_BYTES_MAX} bytes")))
}

pub(super) fn object_size(size_bytes: u64) -> Result<(), TableError> {
    if size_bytes <= S3_OBJECT_BYTES_MAX {
        return Ok(());
    }
    Err(malformed(size_bytes, format!("an object has at most {S3_OBJECT_BYTES_MAX} bytes")))
}

pub(super) fn part_number(number: u32) -> Result<(), TableError> {
    if (1..=S3_PARTS_MAX).contains(&number) {
        return Ok(());
    }
    let message = format!("part numbers go from 1 to {S3_PARTS_MAX}");
    Err(TableError::refused(ErrorCode::TooManyParts, u64::from(number), message))
}

pub(super) fn blocks_in_request(blocks: usize) -> Result<(), TableError> {
    if blocks <= BLOCKS_PER_REQUEST_MAX {
        return Ok(());
    }
    Err(malformed(blocks as u64, format!("a request names at most {BLOCKS_PER_REQUEST_MAX} blocks")))
}

/// A block of a manifest: its offset and its entry.
pub(super) fn block_name(name: &BlockName) -> Result<(u64, Entry), TableError> {
    entry(name.offset_bytes, BlockHash::from(&name.hash), name.plain_bytes)
}

/// A block that was just stored.
pub(super) fn new_block(offset_bytes: u64, row: &BlockRow) -> Result<(u64, Entry), TableError> {
    if row.sealed_bytes == 0 || row.sealed_bytes > SEALED_BYTES_MAX {
        let message = format!("a sealed block has 1 to {SEALED_BYTES_MAX} bytes");
        return Err(malformed(u64::from(row.sealed_bytes), message));
    }
    if row.wrapped_key.is_empty() || row.wrapped_key.len() > WRAPPED_KEY_BYTES_MAX {
        let message = format!("a wrapped key has 1 to {WRAPPED_KEY_BYTES_MAX} bytes");
        return Err(malformed(row.wrapped_key.len() as u64, message));
    }
    if !matches!(row.compression, Compression::None | Compression::Zstd) {
        return Err(malformed(u64::from(row.compression.0), "the compression is not known"));
    }
    entry(offset_bytes, BlockHash::from(&row.hash), row.plain_bytes)
}

fn entry(offset_bytes: u64, hash: BlockHash, plain_bytes: u32) -> Result<(u64, Entry), TableError> {
    if plain_bytes == 0 || plain_bytes > BLOCK_BYTES_MAX {
        return Err(malformed(u64::from(plain_bytes), format!("a block has 1 to {BLOCK_BYTES_MAX} plain bytes")));
    }
    match offset_bytes.checked_add(u64::from(plain_bytes)) {
        Some(end) if end <= S3_OBJECT_BYTES_MAX => Ok((offset_bytes, Entry { hash, plain_bytes })),
        _ => Err(malformed(offset_bytes, format!("an object has at most {S3_OBJECT_BYTES_MAX} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names_follow_the_rules_of_s3() {
        for good in ["abc", "a-b.c9", &"a".repeat(63)] {
            assert!(new_s3_bucket(good).is_ok(), "{good}");
        }
        for bad in ["", "ab", "Abc", "-ab", "ab-", "a_b", "a\0b", &"a".repeat(64)] {
            assert_eq!(new_s3_bucket(bad).unwrap_err().code(), Some(ErrorCode::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_key_of_1025_bytes_is_refused_with_its_length() {
        let error = object_name("abc".into(), "k".repeat(1025)).unwrap_err().reply();
        assert_eq!((error.code, error.number), (ErrorCode::KeyTooLong, 1025));
        assert_eq!(object_name("abc".into(), String::new()).unwrap_err().code(), Some(ErrorCode::KeyTooLong));
        assert!(object_name("abc".into(), "k".repeat(1024)).is_ok());
    }
}
