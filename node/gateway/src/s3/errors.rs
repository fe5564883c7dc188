//! What a client is told when something fails: one S3 error code per reaction. An internal error is logged here, once,
//! under the id that the client is shown; no text of ours about members or volumes reaches the client.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue};
use s3s::{S3Error, S3ErrorCode, S3Request};
use shingle_proto::message::ErrorCode;

use crate::request::GatewayError;

/// Names one request in the log and in its answer (`x-amz-request-id`).
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

/// Hands out request ids: the process's start in the high digits, a count in the low ones.
pub struct RequestIds {
    start: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub fn new(start: u64) -> Self {
        Self { start, next: AtomicU64::new(1) }
    }

    pub fn next(&self) -> RequestId {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        RequestId(format!("{:08X}{count:08X}", self.start & 0xffff_ffff).into())
    }
}

/// The id of a request, as intake stored it.
pub fn id_of<T>(request: &S3Request<T>) -> RequestId {
    request.extensions.get::<RequestId>().cloned().unwrap_or_else(|| RequestId("-".into()))
}

/// A refusal with its reason.
pub fn refuse(code: S3ErrorCode, message: impl Into<Cow<'static, str>>) -> S3Error {
    S3Error::with_message(code, message)
}

/// A code of S3's that the library does not know, with status 400.
pub fn bad_request(code: &'static str, message: &'static str) -> S3Error {
    let mut error = refuse(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(StatusCode::BAD_REQUEST);
    error
}

/// A promise we do not keep, refused rather than ignored.
pub fn unsupported(what: &str) -> S3Error {
    refuse(S3ErrorCode::NotImplemented, format!("{what} is not implemented"))
}

/// S3's words for what the core said.
pub fn to_s3(error: GatewayError, request: &RequestId) -> S3Error {
    match error {
        GatewayError::Refused { code, number, message } => refused(code, number, message, request),
        GatewayError::SlowDown(reason) => {
            refuse(S3ErrorCode::SlowDown, format!("Please reduce your request rate: {reason}"))
        }
        // The code clients know how to wait on; S3 has none for a store without room.
        GatewayError::Full => refuse(
            S3ErrorCode::SlowDown,
            "The cell is full: too few disks have room for another extent. Delete objects or add disks.",
        ),
        GatewayError::ControlUnavailable => {
            refuse(S3ErrorCode::ServiceUnavailable, "The control plane does not answer. Please try again.")
        }
        GatewayError::BodyAborted => refuse(
            S3ErrorCode::IncompleteBody,
            "You did not provide the number of bytes specified by the Content-Length header.",
        ),
        GatewayError::BadDigest(message) => refuse(S3ErrorCode::BadDigest, message),
        GatewayError::InvalidRequest(message) => refuse(S3ErrorCode::InvalidRequest, message),
        error @ (GatewayError::BlockUnreadable { .. } | GatewayError::KeyUnavailable { .. }) => {
            internal(&error.to_string(), request)
        }
        GatewayError::RangeNotSatisfiable { size_bytes } => range_not_satisfiable(size_bytes),
    }
}

/// 416, with the object's size where HTTP wants it.
pub fn range_not_satisfiable(size_bytes: u64) -> S3Error {
    let mut error = refuse(S3ErrorCode::InvalidRange, "The requested range is not satisfiable");
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    if let Ok(value) = HeaderValue::try_from(format!("bytes */{size_bytes}")) {
        headers.insert(CONTENT_RANGE, value);
    }
    error.set_headers(headers);
    error
}

/// 416 for a part that the object does not have.
pub fn no_such_part(parts: u64) -> S3Error {
    let message = format!("The requested partnumber is not satisfiable: the object has {parts}");
    let mut error = refuse(S3ErrorCode::Custom("InvalidPartNumber".into()), message);
    error.set_status_code(StatusCode::RANGE_NOT_SATISFIABLE);
    error
}

/// An error that is ours: the client sees its id only.
pub fn internal(detail: &str, request: &RequestId) -> S3Error {
    tracing::error!(request = &*request.0, detail, "a request failed inside");
    let mut error = refuse(
        S3ErrorCode::InternalError,
        format!("We encountered an internal error. Please try again. Request {}.", request.0),
    );
    error.set_request_id(&*request.0);
    error
}

fn refused(code: ErrorCode, number: u64, message: String, request: &RequestId) -> S3Error {
    let (code, text): (S3ErrorCode, &'static str) = match code {
        ErrorCode::NoSuchBucket => (S3ErrorCode::NoSuchBucket, "The specified bucket does not exist"),
        ErrorCode::BucketExists => (
            S3ErrorCode::BucketAlreadyOwnedByYou,
            "Your previous request to create the named bucket succeeded and you already own it.",
        ),
        ErrorCode::BucketNotEmpty => (S3ErrorCode::BucketNotEmpty, "The bucket you tried to delete is not empty"),
        ErrorCode::TooManyBuckets => {
            (S3ErrorCode::TooManyBuckets, "You have attempted to create more buckets than allowed")
        }
        ErrorCode::NoSuchKey => (S3ErrorCode::NoSuchKey, "The specified key does not exist."),
        ErrorCode::NoSuchUpload => {
            (S3ErrorCode::NoSuchUpload, "The specified upload does not exist. It may have been aborted or completed.")
        }
        ErrorCode::InvalidPart => (
            S3ErrorCode::InvalidPart,
            "One or more of the specified parts could not be found, or its ETag does not match.",
        ),
        ErrorCode::InvalidPartOrder => (S3ErrorCode::InvalidPartOrder, "The list of parts was not in ascending order."),
        ErrorCode::PartTooSmall => (
            S3ErrorCode::EntityTooSmall,
            "Your proposed upload is smaller than the minimum allowed size: every part but the last has at least 5 MiB.",
        ),
        ErrorCode::TooManyParts => (S3ErrorCode::InvalidArgument, "An upload has at most 10,000 parts."),
        ErrorCode::PreconditionFailed => {
            (S3ErrorCode::PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
        }
        ErrorCode::KeyTooLong => (S3ErrorCode::KeyTooLongError, "Your key is too long"),
        ErrorCode::Busy | ErrorCode::Conflict | ErrorCode::IntentExpired => {
            (S3ErrorCode::SlowDown, "Please reduce your request rate.")
        }
        ErrorCode::NoVolumes | ErrorCode::NotEnoughMembers | ErrorCode::DeadlineExceeded | ErrorCode::Cancelled => {
            (S3ErrorCode::ServiceUnavailable, "The cell cannot take this now. Please try again.")
        }
        other => return internal(&format!("{other:?} ({number}): {message}"), request),
    };
    refuse(code, text)
}
