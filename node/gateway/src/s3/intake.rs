//! The first thing a request meets: what the S3 library would let through or handle without a bound is refused here
//! (form uploads, which it reads into memory before it checks who sends them; signatures of version 2; presigned URLs
//! without an end; bodies above S3's limit). Every request gets its id here, and every answer carries it.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, SERVER,
};
use hyper::{Method, Request, Response, StatusCode};
use s3s::service::S3Service;
use s3s::stream::DynByteStream;
use s3s::{Body, HttpError, S3Error, S3ErrorCode, S3Result};
use shingle_proto::limits::{S3_PRESIGNED_SECONDS_MAX, S3_PUT_BYTES_MAX};

use super::checksum::BodyVerifier;
use super::complaint;
use super::errors::{RequestId, RequestIds, bad_request, refuse, unsupported};
use super::incoming::{Fate, IncomingBody};
use super::stall::Unread;

/// Shared by all connections of a server.
pub struct Intake {
    service: S3Service,
    ids: RequestIds,
}

impl Intake {
    /// `start` tells the request ids of this process from those of another.
    pub fn new(service: S3Service, start: u64) -> Arc<Self> {
        Arc::new(Self { service, ids: RequestIds::new(start) })
    }

    /// Serves one request. An error closes the connection; `unread` is told of a body that nobody will read.
    pub async fn call(&self, request: Request<Incoming>, unread: &Unread) -> Result<Response<Body>, HttpError> {
        let id = self.ids.next();
        let head = request.method() == Method::HEAD;
        let resource = request.uri().path().to_owned();
        let response = match admit(request, &id) {
            Ok((request, fate)) => self.serve(request, &fate, &id, unread).await?,
            Err(error) => closing(answer(error)?, unread),
        };
        let mut response = complaint::complete(response, &resource, &id);
        if head && response.headers().contains_key(CONTENT_RANGE) && response.status().is_success() {
            // The library gives 206 to GetObject only.
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        if let Ok(value) = HeaderValue::from_str(&id.0) {
            response.headers_mut().insert("x-amz-request-id", value);
        }
        response.headers_mut().insert(SERVER, HeaderValue::from_static("shingle"));
        Ok(response)
    }

    async fn serve(
        &self,
        request: Request<Body>,
        fate: &Fate,
        id: &RequestId,
        unread: &Unread,
    ) -> Result<Response<Body>, HttpError> {
        let response = self.service.call(request).await.inspect_err(|error| {
            tracing::error!(request = &*id.0, ?error, "a request was left without an answer");
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let response = match fate.take_fault() {
            // The library only knows that the body ended badly; intake knows why.
            Some(error) => answer(error)?,
            None => response,
        };
        Ok(if fate.is_whole() { response } else { closing(response, unread) })
    }
}

/// Tells the client that the connection ends: it does when a body stays unread, and a client that does not know loses
/// its next request on it.
fn closing(mut response: Response<Body>, unread: &Unread) -> Response<Body> {
    unread.set();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn answer(error: S3Error) -> Result<Response<Body>, HttpError> {
    error.to_http_response().map_err(|error| HttpError::new(Box::new(error)))
}

fn admit(request: Request<Incoming>, id: &RequestId) -> S3Result<(Request<Body>, Fate)> {
    let (mut parts, body) = request.into_parts();
    refuse_forms(&parts.method, &parts.headers)?;
    refuse_old_signatures(parts.uri.query(), &parts.headers)?;
    refuse_long_bodies(&parts.headers)?;
    let verifier = body_verifier(&parts.method, parts.uri.path(), &parts.headers)?;
    let (body, fate) = IncomingBody::new(body, &parts.headers, verifier);
    parts.extensions.insert(id.clone());
    let stream: DynByteStream = Box::pin(body);
    Ok((Request::from_parts(parts, Body::from(stream)), fate))
}

fn refuse_forms(method: &Method, headers: &HeaderMap) -> S3Result<()> {
    let form = headers.get(CONTENT_TYPE).is_some_and(|value| {
        let name = value.as_bytes().get(..b"multipart/form-data".len());
        name.is_some_and(|name| name.eq_ignore_ascii_case(b"multipart/form-data"))
    });
    if method == Method::POST && form { Err(unsupported("Uploading with a browser form")) } else { Ok(()) }
}

fn refuse_old_signatures(query: Option<&str>, headers: &HeaderMap) -> S3Result<()> {
    let parameters = || query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let in_header = headers.get(AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"AWS "));
    if in_header || parameters().any(|(name, _)| name == "Signature") {
        return Err(refuse(
            S3ErrorCode::InvalidRequest,
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
        ));
    }
    let expires = parameters().find(|(name, _)| *name == "X-Amz-Expires").map(|(_, value)| value.parse::<u64>());
    match expires {
        None => Ok(()),
        Some(Ok(seconds)) if seconds <= S3_PRESIGNED_SECONDS_MAX => Ok(()),
        Some(_) => Err(bad_request(
            "AuthorizationQueryParametersError",
            "X-Amz-Expires must be a number of seconds and less than a week (in seconds).",
        )),
    }
}

fn refuse_long_bodies(headers: &HeaderMap) -> S3Result<()> {
    let number =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let declared: Option<u64> = number("x-amz-decoded-content-length").or_else(|| number(CONTENT_LENGTH.as_str()));
    if declared.is_some_and(|bytes| bytes > S3_PUT_BYTES_MAX) {
        return Err(refuse(
            S3ErrorCode::EntityTooLarge,
            "Your proposed upload exceeds the maximum allowed size of 5 GiB: use a multipart upload.",
        ));
    }
    Ok(())
}

/// Bodies that are not an object's: the library reads them whole and verifies nothing in time for a good answer.
fn body_verifier(method: &Method, path: &str, headers: &HeaderMap) -> S3Result<Option<BodyVerifier>> {
    let names_key = path.trim_start_matches('/').split_once('/').is_some_and(|(_, key)| !key.is_empty());
    let verifier = match (method, names_key) {
        // x-amz-checksum-* speak of the object being completed here.
        (&Method::POST, true) => BodyVerifier::content_md5(headers)?,
        (&Method::POST | &Method::PUT, false) => BodyVerifier::from_headers(headers)?,
        _ => return Ok(None),
    };
    verifier.with_payload_sha256(headers).map(Some)
}
