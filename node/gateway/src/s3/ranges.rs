//! Range headers that say nothing (malformed, of another unit, of several ranges): HTTP wants them ignored, the S3
//! library refuses them. They are part of what the client signed, so they are taken off behind the signature's check:
//! such a request goes on to a second service that checks no signatures and is reached by this way only.

use hyper::header::{AUTHORIZATION, HeaderMap, RANGE};
use hyper::{Method, Request, Uri, http};
use s3s::dto::Range;
use s3s::route::S3Route;
use s3s::service::S3Service;
use s3s::{Body, S3Request, S3Response, S3Result};

use super::errors::{id_of, internal};

/// Takes requests with a meaningless Range on without it.
pub struct IgnoredRange {
    /// The same verbs, without a check of signatures.
    behind: S3Service,
}

impl IgnoredRange {
    pub fn new(behind: S3Service) -> Self {
        Self { behind }
    }
}

#[async_trait::async_trait]
impl S3Route for IgnoredRange {
    fn is_match(&self, method: &Method, _: &Uri, headers: &HeaderMap, _: &mut http::Extensions) -> bool {
        matches!(*method, Method::GET | Method::HEAD) && headers.contains_key(RANGE) && !is_one_range(headers)
    }

    /// The caller's signature has been checked: the library asks `check_access`, which wants one, before this.
    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let id = id_of(&request);
        let mut behind = Request::new(request.input);
        *behind.method_mut() = request.method;
        *behind.uri_mut() = unsigned(&request.uri).ok_or_else(|| internal("a URI without its signature", &id))?;
        *behind.headers_mut() = request.headers;
        *behind.extensions_mut() = request.extensions;
        behind.headers_mut().remove(RANGE);
        behind.headers_mut().remove(AUTHORIZATION);
        let answer = self.behind.call(behind).await.map_err(|error| internal(&format!("{error:?}"), &id))?;
        let (parts, body) = answer.into_parts();
        let mut response = S3Response::with_status(body, parts.status);
        response.headers = parts.headers;
        response.extensions = parts.extensions;
        Ok(response)
    }
}

/// Whether there is one Range header with one range of bytes in it.
fn is_one_range(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(RANGE).iter();
    let one = values.next().and_then(|value| value.to_str().ok()).is_some_and(|text| Range::parse(text).is_ok());
    one && values.next().is_none()
}

/// The URI without the parameters of a signature.
fn unsigned(uri: &Uri) -> Option<Uri> {
    let Some(query) = uri.query() else { return Some(uri.clone()) };
    let signs = |pair: &&str| pair.get(..6).is_some_and(|name| name.eq_ignore_ascii_case("x-amz-"));
    let kept: Vec<&str> = query.split('&').filter(|pair| !signs(pair)).collect();
    let path = uri.path();
    if kept.is_empty() { path.parse().ok() } else { format!("{path}?{}", kept.join("&")).parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_range_of_bytes_means_something() {
        let headers = |texts: &[&str]| {
            let mut headers = HeaderMap::new();
            for text in texts {
                headers.append(RANGE, text.parse().unwrap());
            }
            headers
        };
        for good in ["bytes=0-", "bytes=-5", "bytes=3-9"] {
            assert!(is_one_range(&headers(&[good])), "{good}");
        }
        for bad in ["bytes=0-1,3-4", "bytes=9-3", "bytes=", "lines=1-2", "bytes=a-b", ""] {
            assert!(!is_one_range(&headers(&[bad])), "{bad}");
        }
        assert!(!is_one_range(&headers(&["bytes=0-1", "bytes=3-4"])));
    }

    #[test]
    fn a_presigned_uri_loses_its_signature_only() {
        let uri = "/b/k?X-Amz-Signature=1&partNumber=2&x-amz-date=3&list-type=2".parse().unwrap();
        assert_eq!(unsigned(&uri).unwrap(), "/b/k?partNumber=2&list-type=2");
        assert_eq!(unsigned(&"/b/k?X-Amz-Signature=1".parse().unwrap()).unwrap(), "/b/k");
    }
}
