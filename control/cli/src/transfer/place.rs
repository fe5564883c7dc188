//! Where a transfer starts or ends: `sh://bucket/key`, a local path, or `-` for a standard stream.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use shingle_proto::limits::S3_KEY_BYTES_MAX;

/// An object, a prefix or (with an empty key) a whole bucket in a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    pub bucket: String,
    /// Key or prefix; empty means the bucket.
    pub key: String,
}

/// One end of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Remote(Remote),
    Local(PathBuf),
    /// Standard input or output.
    Stream,
}

/// A text that names no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAPlace {
    #[error("{0:?} names no bucket: write sh://BUCKET or sh://BUCKET/KEY")]
    NoBucket(String),
    #[error("{0:?} is no bucket name: 3 to 63 of a-z, 0-9, '.' and '-', starting and ending with a letter or digit")]
    BucketName(String),
    #[error("a key of {0} bytes is too long: {S3_KEY_BYTES_MAX} is the limit")]
    KeyTooLong(usize),
    #[error("the key {0:?} has a '.' or '..' between slashes, which HTTP would take away: use another name")]
    DotSegment(String),
    #[error("{0:?} is not in the cell: write sh://BUCKET or sh://BUCKET/KEY")]
    NotRemote(String),
}

/// What bucket and key of a URL start with.
pub const SCHEME: &str = "sh://";

impl FromStr for Remote {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| NotAPlace::NotRemote(text.into()))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(NotAPlace::NoBucket(text.into()));
        }
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let inner = bucket.bytes().all(|byte| allowed(byte) || byte == b'-' || byte == b'.');
        let ends = bucket.bytes().next().is_some_and(allowed) && bucket.bytes().last().is_some_and(allowed);
        if !inner || !ends || !(3..=63).contains(&bucket.len()) {
            return Err(NotAPlace::BucketName(bucket.into()));
        }
        check_key(key)?;
        Ok(Self { bucket: bucket.into(), key: key.into() })
    }
}

/// Refuses keys that cannot be stored under exactly this name.
pub fn check_key(key: &str) -> Result<(), NotAPlace> {
    if key.len() > S3_KEY_BYTES_MAX {
        return Err(NotAPlace::KeyTooLong(key.len()));
    }
    if key.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(NotAPlace::DotSegment(key.into()));
    }
    Ok(())
}

impl Remote {
    /// The same bucket, another key.
    pub fn with_key(&self, key: impl Into<String>) -> Self {
        Self { bucket: self.bucket.clone(), key: key.into() }
    }

    /// Whether it names a bucket or a folder rather than one object.
    pub fn is_folder(&self) -> bool {
        self.key.is_empty() || self.key.ends_with('/')
    }

    /// The key as a prefix of everything inside the folder: empty, or ending with a slash.
    pub fn folder_prefix(&self) -> String {
        if self.is_folder() { self.key.clone() } else { format!("{}/", self.key) }
    }

    /// What follows the last slash of the key.
    pub fn file_name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.bucket, self.key)
    }
}

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        match text {
            "-" => Ok(Self::Stream),
            _ if text.starts_with(SCHEME) => text.parse().map(Self::Remote),
            _ => Ok(Self::Local(PathBuf::from(text))),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(remote) => remote.fmt(f),
            Self::Local(path) => path.display().fmt(f),
            Self::Stream => f.write_str("-"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(bucket: &str, key: &str) -> Result<Place, NotAPlace> {
        Ok(Place::Remote(Remote { bucket: bucket.into(), key: key.into() }))
    }

    #[test]
    fn urls_paths_and_streams_are_told_apart() {
        assert_eq!("sh://photos/2026/a b.jpg".parse(), remote("photos", "2026/a b.jpg"));
        assert_eq!("sh://photos".parse(), remote("photos", ""));
        assert_eq!("sh://photos//x".parse(), remote("photos", "/x"));
        assert_eq!("-".parse(), Ok(Place::Stream));
        assert_eq!("./sh".parse(), Ok(Place::Local("./sh".into())));
    }

    #[test]
    fn urls_that_cannot_be_stored_are_refused() {
        let parse = |text: &str| text.parse::<Remote>().unwrap_err();
        assert_eq!(parse("sh:///key"), NotAPlace::NoBucket("sh:///key".into()));
        assert_eq!(parse("sh://Photos/x"), NotAPlace::BucketName("Photos".into()));
        assert_eq!(parse("sh://ab"), NotAPlace::BucketName("ab".into()));
        assert_eq!(parse("sh://a-b-/x"), NotAPlace::BucketName("a-b-".into()));
        assert_eq!(parse("sh://abc/a/../b"), NotAPlace::DotSegment("a/../b".into()));
        assert_eq!(parse(&format!("sh://abc/{}", "k".repeat(1025))), NotAPlace::KeyTooLong(1025));
        assert_eq!(parse("/tmp/x"), NotAPlace::NotRemote("/tmp/x".into()));
    }

    #[test]
    fn folders_end_with_a_slash() {
        let key = |key: &str| Remote { bucket: "abc".into(), key: key.into() };
        assert!(key("").is_folder() && key("a/").is_folder() && !key("a").is_folder());
        assert_eq!(key("a").folder_prefix(), "a/");
        assert_eq!(key("").folder_prefix(), "");
        assert_eq!(key("a/b.txt").file_name(), "b.txt");
    }
}
