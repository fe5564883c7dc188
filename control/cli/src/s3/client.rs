//! One S3 endpoint over HTTP: connections are kept, requests signed, errors turned into types.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rusty_s3::Method;

use crate::s3::endpoint::Endpoint;
use crate::s3::error::S3Error;
use crate::s3::retry::Retry;
use crate::s3::{sign, xml};

/// A request's body.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The longest a request may take until its answer begins: far above the slowest put, so that only a dead peer meets it.
const ANSWER_LIMIT: Duration = Duration::from_secs(180);
/// An answer that stays silent for longer has broken off.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// The largest answer that is kept whole: a page of a listing is below 2 MiB.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// What to ask of the endpoint.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    /// Empty: the endpoint itself.
    pub bucket: String,
    /// Empty: the bucket itself.
    pub key: String,
    pub query: Vec<(String, String)>,
    /// Lower-case names; all of them are signed.
    pub headers: Vec<(String, String)>,
}

impl Ask {
    pub fn new(method: Method, bucket: &str, key: &str) -> Self {
        Self { method, bucket: bucket.into(), key: key.into(), query: Vec::new(), headers: Vec::new() }
    }

    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// An answer that has been read whole.
#[derive(Debug)]
pub struct Answer {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The client. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    http: HttpClient<HttpConnector, Body>,
    pub retry: Retry,
}

impl Client {
    pub fn new(endpoint: Endpoint, retry: Retry) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            // A file that ends early or a signature that ages must be seen by our own retries, not repeated unseen.
            .retry_canceled_requests(false)
            .build(connector);
        Self { endpoint, http, retry }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends one request, once; the answer's body is still to be read. Answers that are errors become errors.
    pub async fn send(&self, ask: &Ask, body: Body, body_bytes: u64) -> Result<Response<Incoming>, S3Error> {
        let path = sign::path_of(&ask.bucket, &ask.key);
        let url = sign::signed_url(&self.endpoint, ask.method, &path, &ask.query, &ask.headers);
        let mut request = Request::builder().method(ask.method.to_str()).uri(url.as_str());
        for (name, value) in &ask.headers {
            request = request.header(name.as_str(), value.as_str());
        }
        if ask.method == Method::Put || ask.method == Method::Post {
            request = request.header(CONTENT_LENGTH, body_bytes);
        }
        let request = request.body(body).map_err(|error| S3Error::Local(format!("no valid request: {error}")))?;
        let answer = tokio::time::timeout(ANSWER_LIMIT, self.http.request(request))
            .await
            .map_err(|_| S3Error::Broken(format!("no answer within {} s", ANSWER_LIMIT.as_secs())))?
            .map_err(|error| self.transport_error(&error))?;
        if answer.status().is_success() { Ok(answer) } else { Err(refusal(answer).await) }
    }

    /// Sends a request with a small body and reads the whole answer, trying again after errors that pass.
    pub async fn ask(&self, ask: &Ask, body: Bytes) -> Result<Answer, S3Error> {
        self.retry.run(async || self.ask_once(ask, body.clone()).await).await
    }

    /// As [`Client::ask`], without a second try.
    pub async fn ask_once(&self, ask: &Ask, body: Bytes) -> Result<Answer, S3Error> {
        let body_bytes = body.len() as u64;
        let answer = self.send(ask, whole(body), body_bytes).await?;
        let headers = answer.headers().clone();
        Ok(Answer { headers, body: read_whole(answer).await? })
    }

    fn transport_error(&self, error: &hyper_util::client::legacy::Error) -> S3Error {
        let reason = innermost(error);
        if error.is_connect() {
            S3Error::Connect { endpoint: self.endpoint.url.to_string(), reason }
        } else {
            S3Error::Broken(reason)
        }
    }
}

/// A body that is already in memory.
pub fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// One header as text.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The ETag of an answer without its quotes.
pub fn etag(headers: &HeaderMap) -> Result<String, S3Error> {
    let value = header(headers, "etag").ok_or_else(|| S3Error::Malformed("an answer without an ETag".into()))?;
    Ok(value.trim_matches('"').to_string())
}

/// The deepest cause says what happened; what is around it says "client error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

async fn read_whole(answer: Response<Incoming>) -> Result<Bytes, S3Error> {
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
    let read = tokio::time::timeout(SILENCE_LIMIT, body).await;
    let read = read.map_err(|_| S3Error::Broken("the answer broke off".into()))?;
    read.map(|body| body.to_bytes()).map_err(|error| S3Error::Broken(innermost(error.as_ref())))
}

/// What the endpoint refused, in its own words.
async fn refusal(answer: Response<Incoming>) -> S3Error {
    let status = answer.status();
    let body = read_whole(answer).await.unwrap_or_default();
    let parsed: xml::ErrorAnswer = xml::parse(&body).unwrap_or_default();
    let reason = status.canonical_reason().unwrap_or("refused");
    S3Error::Refused {
        status: status.as_u16(),
        code: if parsed.code.is_empty() { reason.replace(' ', "") } else { parsed.code },
        message: if parsed.message.is_empty() { reason.to_string() } else { parsed.message },
    }
}
