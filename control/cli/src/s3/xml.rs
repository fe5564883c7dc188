//! S3's XML answers, as far as this client reads them. Anything that does not parse is an error, never a guess.

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::s3::error::S3Error;

/// Parses one answer.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, S3Error> {
    let text = std::str::from_utf8(body).map_err(|error| S3Error::Malformed(error.to_string()))?;
    quick_xml::de::from_str(text).map_err(|error| S3Error::Malformed(error.to_string()))
}

/// `<Error>`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ErrorAnswer {
    pub key: String,
    pub code: String,
    pub message: String,
}

/// `<ListAllMyBucketsResult>`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BucketList {
    #[serde(default)]
    pub buckets: Buckets,
}

/// The list inside [`BucketList`].
#[derive(Debug, Default, Deserialize)]
pub struct Buckets {
    #[serde(rename = "Bucket", default)]
    pub list: Vec<BucketEntry>,
}

/// One bucket.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BucketEntry {
    pub name: String,
    #[serde(default)]
    pub creation_date: String,
}

/// `<ListBucketResult>`: one page of a listing, keys as they are (decoded).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListPage {
    #[serde(default)]
    encoding_type: Option<String>,
    #[serde(default)]
    pub contents: Vec<ObjectEntry>,
    #[serde(default)]
    pub common_prefixes: Vec<PrefixEntry>,
    #[serde(default)]
    pub is_truncated: bool,
    #[serde(default)]
    pub next_continuation_token: Option<String>,
}

/// One object of a listing.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ObjectEntry {
    pub key: String,
    pub size: u64,
    #[serde(rename = "ETag", default)]
    pub etag: String,
    #[serde(default)]
    pub last_modified: String,
}

/// One common prefix of a listing with a delimiter.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PrefixEntry {
    pub prefix: String,
}

impl ListPage {
    /// Parses a page and undoes the URL encoding of keys, if the endpoint says it applied one.
    pub fn parse(body: &[u8]) -> Result<Self, S3Error> {
        let mut page: Self = parse(body)?;
        if page.encoding_type.as_deref() == Some("url") {
            let keys = page.contents.iter_mut().map(|entry| &mut entry.key);
            for name in keys.chain(page.common_prefixes.iter_mut().map(|entry| &mut entry.prefix)) {
                *name = decoded(name)?;
            }
        }
        if page.is_truncated && page.next_continuation_token.is_none() {
            return Err(S3Error::Malformed("a cut listing without a continuation token".into()));
        }
        Ok(page)
    }
}

/// S3's "url" encoding writes a space as `+`.
fn decoded(name: &str) -> Result<String, S3Error> {
    let plus_undone = name.replace('+', " ");
    let text = percent_decode_str(&plus_undone).decode_utf8();
    text.map(Into::into).map_err(|_| S3Error::Malformed(format!("the key {name:?} is not UTF-8")))
}

/// `<CopyObjectResult>` and `<CompleteMultipartUploadResult>`.
#[derive(Debug, Deserialize)]
pub struct Stored {
    #[serde(rename = "ETag")]
    pub etag: String,
}

/// `<InitiateMultipartUploadResult>`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UploadStarted {
    pub upload_id: String,
}

/// `<DeleteResult>`, in quiet mode: only what failed.
#[derive(Debug, Deserialize)]
pub struct Deleted {
    #[serde(rename = "Error", default)]
    pub errors: Vec<ErrorAnswer>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix></Prefix>
        <EncodingType>url</EncodingType><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated>
        <NextContinuationToken>token=</NextContinuationToken>
        <Contents><Key>a+b%2B%C3%BC%20</Key><LastModified>2026-11-22T01:00:00.000Z</LastModified>
        <ETag>&quot;e3b0c44298fc1c149afbf4c8996fb924-0&quot;</ETag><Size>0</Size><StorageClass>STANDARD</StorageClass></Contents>
        <CommonPrefixes><Prefix>dir%2F</Prefix></CommonPrefixes></ListBucketResult>"#;

    #[test]
    fn a_page_with_encoded_keys_is_decoded() {
        let page = ListPage::parse(PAGE.as_bytes()).unwrap();
        assert_eq!(page.contents[0].key, "a b+ü ");
        assert_eq!(page.contents[0].etag, "\"e3b0c44298fc1c149afbf4c8996fb924-0\"");
        assert_eq!(page.common_prefixes[0].prefix, "dir/");
        assert_eq!((page.is_truncated, page.next_continuation_token.as_deref()), (true, Some("token=")));
    }

    #[test]
    fn keys_that_were_not_encoded_are_left_alone() {
        let plain = PAGE.replace("<EncodingType>url</EncodingType>", "");
        assert_eq!(ListPage::parse(plain.as_bytes()).unwrap().contents[0].key, "a+b%2B%C3%BC%20");
    }

    #[test]
    fn answers_that_are_cut_or_contradict_themselves_are_refused() {
        assert!(ListPage::parse(&PAGE.as_bytes()[..PAGE.len() / 2]).is_err());
        let no_token = PAGE.replace("<NextContinuationToken>token=</NextContinuationToken>", "");
        assert!(ListPage::parse(no_token.as_bytes()).is_err());
        assert!(ListPage::parse(b"\xff\xfe").is_err());
    }

    #[test]
    fn small_answers_are_read() {
        let buckets: BucketList = parse(
            b"<ListAllMyBucketsResult><Buckets><Bucket><Name>one</Name><CreationDate>x</CreationDate></Bucket>\
              <Bucket><Name>two</Name></Bucket></Buckets></ListAllMyBucketsResult>",
        )
        .unwrap();
        let names: Vec<_> = buckets.buckets.list.iter().map(|bucket| bucket.name.as_str()).collect();
        assert_eq!(names, ["one", "two"]);
        let none: BucketList = parse(b"<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>").unwrap();
        assert!(none.buckets.list.is_empty());
        let error: ErrorAnswer = parse(b"<Error><Code>SlowDown</Code><Message>wait</Message></Error>").unwrap();
        assert_eq!((error.code.as_str(), error.message.as_str()), ("SlowDown", "wait"));
        let deleted: Deleted =
            parse(b"<DeleteResult><Error><Key>k</Key><Code>InternalError</Code></Error></DeleteResult>").unwrap();
        assert_eq!(deleted.errors[0].key, "k");
        let copied: Stored = parse(b"<CopyObjectResult><ETag>\"x\"</ETag></CopyObjectResult>").unwrap();
        assert_eq!(copied.etag, "\"x\"");
    }
}
