//! ListObjects in both versions. Continuation tokens are opaque to clients and hold the last place of the page before.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};
use shingle_proto::limits::S3_LIST_MAX;
use shingle_proto::message::{self, ObjectRow, Request, Response};

use super::buckets::owner;
use super::checksum::Algorithm;
use super::errors::{RequestId, id_of, refuse, to_s3, unsupported};
use super::frontend::{Frontend, unexpected};
use super::headers::{count, etag, expect_owner, signed, timestamp};

/// One page, however it was asked for.
struct Page {
    contents: Vec<Object>,
    common_prefixes: Vec<CommonPrefix>,
    /// Where the next page starts; `None` at the end.
    next: Option<String>,
}

struct Wanted {
    s3_bucket: String,
    prefix: String,
    delimiter: String,
    start_after: String,
    most: u32,
    encode: bool,
    with_owner: bool,
}

pub async fn version_2(
    frontend: &Frontend,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let id = id_of(&request);
    let input = request.input;
    expect_owner(input.expected_bucket_owner.as_deref())?;
    refuse_attributes(input.optional_object_attributes.as_ref())?;
    let encode = encodes(input.encoding_type.as_ref())?;
    let continued = input.continuation_token.as_deref().map(decode_token).transpose()?;
    let most = count(input.max_keys, S3_LIST_MAX, "max-keys")?;
    let page = fetch(
        frontend,
        &id,
        Wanted {
            s3_bucket: input.bucket.clone(),
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            start_after: continued.or_else(|| input.start_after.clone()).unwrap_or_default(),
            most,
            encode,
            with_owner: input.fetch_owner == Some(true),
        },
    )
    .await?;
    let encoded = |text: Option<String>| text.map(|text| if encode { url_encode(&text) } else { text });
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encoded(input.prefix).unwrap_or_default()),
        max_keys: Some(signed_count(most)),
        key_count: i32::try_from(page.contents.len() + page.common_prefixes.len()).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.as_deref().map(encode_token),
        contents: Some(page.contents),
        common_prefixes: Some(page.common_prefixes),
        delimiter: encoded(input.delimiter),
        encoding_type: input.encoding_type,
        start_after: encoded(input.start_after),
        request_charged: None,
    }))
}

pub async fn version_1(
    frontend: &Frontend,
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let id = id_of(&request);
    let input = request.input;
    expect_owner(input.expected_bucket_owner.as_deref())?;
    refuse_attributes(input.optional_object_attributes.as_ref())?;
    let encode = encodes(input.encoding_type.as_ref())?;
    let most = count(input.max_keys, S3_LIST_MAX, "max-keys")?;
    let page = fetch(
        frontend,
        &id,
        Wanted {
            s3_bucket: input.bucket.clone(),
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            start_after: input.marker.clone().unwrap_or_default(),
            most,
            encode,
            with_owner: true,
        },
    )
    .await?;
    let encoded = |text: Option<String>| text.map(|text| if encode { url_encode(&text) } else { text });
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(encoded(input.prefix).unwrap_or_default()),
        marker: Some(encoded(input.marker).unwrap_or_default()),
        max_keys: Some(signed_count(most)),
        is_truncated: Some(page.next.is_some()),
        next_marker: encoded(page.next),
        contents: Some(page.contents),
        common_prefixes: Some(page.common_prefixes),
        delimiter: encoded(input.delimiter),
        encoding_type: input.encoding_type,
        request_charged: None,
    }))
}

async fn fetch(frontend: &Frontend, id: &RequestId, wanted: Wanted) -> S3Result<Page> {
    if wanted.most == 0 {
        super::buckets::must_exist(frontend, &wanted.s3_bucket, id).await?;
        return Ok(Page { contents: Vec::new(), common_prefixes: Vec::new(), next: None });
    }
    let request = message::ListObjects {
        s3_bucket: wanted.s3_bucket,
        prefix: wanted.prefix,
        delimiter: wanted.delimiter,
        start_after: wanted.start_after,
        limit: wanted.most,
    };
    let answer = frontend.catalog(Request::ListObjects(Box::new(request))).await;
    let list = match answer.map_err(|error| to_s3(error, id))? {
        Response::ObjectList(list) => list,
        other => return Err(to_s3(unexpected(&other), id)),
    };
    let encoded = |text: String| if wanted.encode { url_encode(&text) } else { text };
    let contents = list.objects.into_iter().map(|row| object(row, encoded, wanted.with_owner)).collect();
    let common_prefixes =
        list.common_prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(encoded(prefix)) }).collect();
    Ok(Page { contents, common_prefixes, next: list.next_start_after })
}

fn object(row: ObjectRow, encoded: impl Fn(String) -> String, with_owner: bool) -> Object {
    let algorithm = row.headers.checksum_algorithm.as_deref().and_then(Algorithm::from_name);
    Object {
        checksum_algorithm: algorithm.map(|algorithm| vec![ChecksumAlgorithm::from_static(algorithm.name())]),
        checksum_type: algorithm.map(|_| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
        e_tag: Some(etag(&row.etag)),
        key: Some(encoded(row.key)),
        last_modified: Some(timestamp(row.modified_ms)),
        owner: with_owner.then(owner),
        restore_status: None,
        size: Some(signed(row.size_bytes)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
    }
}

fn signed_count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Whether names are to be escaped, which clients ask for because XML cannot carry every key.
pub fn encodes(encoding: Option<&EncodingType>) -> S3Result<bool> {
    match encoding.map(EncodingType::as_str) {
        None => Ok(false),
        Some(EncodingType::URL) => Ok(true),
        Some(_) => Err(refuse(S3ErrorCode::InvalidArgument, "Invalid Encoding Method specified in Request")),
    }
}

fn refuse_attributes(attributes: Option<&OptionalObjectAttributesList>) -> S3Result<()> {
    if attributes.is_some() { Err(unsupported("Listing optional attributes")) } else { Ok(()) }
}

/// Percent-encoding that every client's decoder reads back: everything but unreserved characters and `/`.
pub fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A place in a listing, opaque to the client.
pub fn encode_token(place: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("1{place}"))
}

pub fn decode_token(token: &str) -> S3Result<String> {
    let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let place = text.as_deref().and_then(|text| text.strip_prefix('1')).map(str::to_owned);
    place.ok_or_else(|| refuse(S3ErrorCode::InvalidArgument, "The continuation token provided is incorrect"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_garbage_is_refused() {
        for place in ["a", "über/ünder", "a b+c%20"] {
            assert_eq!(decode_token(&encode_token(place)).unwrap(), place);
        }
        for garbage in ["", "%%%", "AAAA", "not base64!"] {
            assert_eq!(decode_token(garbage).unwrap_err().code(), &S3ErrorCode::InvalidArgument, "{garbage}");
        }
    }

    #[test]
    fn names_are_escaped_byte_by_byte() {
        assert_eq!(url_encode("a/b c+ü%"), "a/b%20c%2B%C3%BC%25");
    }
}
