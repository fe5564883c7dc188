//! Signature Version 4 in the query string. The URL is built here, byte for byte as it will be sent: what is signed
//! and what travels are the same text.

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rusty_s3::{Method, signing};
use url::Url;

use crate::s3::endpoint::Endpoint;

/// Everything but the unreserved characters and the slash, as AWS's canonical URI wants it.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// A signature is used at once; five minutes allow for a slow upload's retries and for clocks that differ a little.
const EXPIRES_S: u64 = 300;

/// A bucket (empty: none) and a key (empty: none) as the path of a URL.
pub fn path_of(bucket: &str, key: &str) -> String {
    if bucket.is_empty() {
        return "/".into();
    }
    format!("/{}/{}", utf8_percent_encode(bucket, PATH), utf8_percent_encode(key, PATH))
}

/// The signed URL of a request. `headers` (lower-case names) must be sent exactly so.
pub fn signed_url(
    endpoint: &Endpoint,
    method: Method,
    path: &str,
    query: &[(String, String)],
    headers: &[(String, String)],
) -> Url {
    let sorted = |pairs: &[(String, String)]| {
        let mut pairs = pairs.to_vec();
        pairs.sort();
        pairs
    };
    let (query, headers) = (sorted(query), sorted(headers));
    let mut url = endpoint.url.clone();
    url.set_path(path);
    signing::sign(
        &Timestamp::now(),
        method,
        url,
        &endpoint.access_key,
        &endpoint.secret_key,
        None,
        &endpoint.region,
        EXPIRES_S,
        query.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_travel_exactly_as_they_are_named() {
        assert_eq!(path_of("bucket", "a b/ü+%?.txt"), "/bucket/a%20b/%C3%BC%2B%25%3F.txt");
        assert_eq!(path_of("bucket", "/x//y/"), "/bucket//x//y/");
        assert_eq!(path_of("bucket", ""), "/bucket/");
        assert_eq!(path_of("", ""), "/");
    }

    #[test]
    fn the_url_keeps_the_path_that_was_signed() {
        let endpoint = Endpoint {
            url: "http://127.0.0.1:7000".parse().unwrap(),
            access_key: "key".into(),
            secret_key: "secret".into(),
            region: "local".into(),
            source: String::new(),
        };
        for key in ["/x//y/", "a b", "100%", "~a'(1)*!"] {
            let path = path_of("bucket", key);
            let url = signed_url(&endpoint, Method::Get, &path, &[], &[]);
            assert_eq!(url.path(), path, "{key}");
        }
    }
}
