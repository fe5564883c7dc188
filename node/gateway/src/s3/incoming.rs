//! A request's body on its way to the S3 library: bounded in every dimension before anything of ours holds it. Stalled
//! clients time out, chunks are cut small, and XML bodies are checked against the checksums declared for them. What went
//! wrong is remembered, since the library only tells that something did.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use hyper::HeaderMap;
use hyper::body::{Body as _, Incoming};
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3Error, S3ErrorCode};
use shingle_proto::limits::{S3_STALL_TIMEOUT_MS, S3_XML_BYTES_MAX};
use tokio::time::{Instant, Sleep};

use super::checksum::BodyVerifier;
use super::errors::refuse;
use super::rechunk::{MalformedChunks, Rechunker};

type StreamError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What became of a body, for the answer.
#[derive(Clone, Default)]
pub struct Fate(Arc<Known>);

#[derive(Default)]
struct Known {
    fault: Mutex<Option<S3Error>>,
    whole: AtomicBool,
}

impl Fate {
    /// Why the body ended early, in S3's words.
    pub fn take_fault(&self) -> Option<S3Error> {
        self.0.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether all of it was read from the connection, which only then can carry another request.
    pub fn is_whole(&self) -> bool {
        self.0.whole.load(Ordering::Relaxed)
    }

    fn set_fault(&self, error: S3Error) {
        *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn set_whole(&self) {
        self.0.whole.store(true, Ordering::Relaxed);
    }
}

/// What the stream's reader is told; the reason is in the [`Fate`].
#[derive(Debug, thiserror::Error)]
#[error("the request's body was refused")]
struct BodyRefused;

/// Of a body that the library reads whole.
struct Inspection {
    verifier: BodyVerifier,
    left_bytes: usize,
}

/// The body of one request.
pub struct IncomingBody {
    body: Incoming,
    rechunker: Option<Rechunker>,
    inspection: Option<Inspection>,
    stalled: Pin<Box<Sleep>>,
    fate: Fate,
    ended: bool,
}

impl IncomingBody {
    /// `verifier` is for bodies that the library reads whole; the others are verified on their way into the core.
    pub fn new(body: Incoming, headers: &HeaderMap, verifier: Option<BodyVerifier>) -> (Self, Fate) {
        let fate = Fate::default();
        if body.is_end_stream() {
            fate.set_whole();
        }
        let mode = headers.get("x-amz-content-sha256").map_or(&b""[..], |value| value.as_bytes());
        let rechunker =
            mode.starts_with(b"STREAMING-").then(|| Rechunker::new(!mode.starts_with(b"STREAMING-UNSIGNED-")));
        let this = Self {
            body,
            rechunker,
            inspection: verifier.map(|verifier| Inspection { verifier, left_bytes: S3_XML_BYTES_MAX }),
            stalled: Box::pin(tokio::time::sleep(stall_timeout())),
            fate: fate.clone(),
            ended: false,
        };
        (this, fate)
    }

    fn fail(&mut self, error: S3Error) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.ended = true;
        self.fate.set_fault(error);
        Poll::Ready(Some(Err(Box::new(BodyRefused))))
    }

    /// Counts and verifies what came; before the last of it is passed on, since the library does not ask for an end
    /// behind the announced length.
    fn inspect(&mut self, data: &Bytes) -> Result<(), S3Error> {
        let Some(inspection) = &mut self.inspection else { return Ok(()) };
        inspection.left_bytes = inspection
            .left_bytes
            .checked_sub(data.len())
            .ok_or_else(|| refuse(S3ErrorCode::MaxMessageLengthExceeded, "Your request was too big."))?;
        inspection.verifier.update(data);
        if self.body.is_end_stream() { self.verify() } else { Ok(()) }
    }

    fn verify(&mut self) -> Result<(), S3Error> {
        match self.inspection.take() {
            Some(inspection) => inspection.verifier.finish(None).map(drop),
            None => Ok(()),
        }
    }

    /// The next data from the network; `None` at the body's end.
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, S3Error>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(None) => {
                    self.fate.set_whole();
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if self.body.is_end_stream() {
                        self.fate.set_whole();
                    }
                    self.stalled.as_mut().reset(Instant::now() + stall_timeout());
                    // HTTP's own trailers carry nothing in S3.
                    let Ok(data) = frame.into_data() else { continue };
                    return Poll::Ready(Ok(Some(data)));
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(incomplete())),
                Poll::Pending => {
                    if self.stalled.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    return Poll::Ready(Err(refuse(
                        S3ErrorCode::RequestTimeout,
                        "Your socket connection to the server was not read from or written to within the timeout period.",
                    )));
                }
            }
        }
    }
}

impl Stream for IncomingBody {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(bytes) = this.rechunker.as_mut().and_then(Rechunker::pop) {
                return Poll::Ready(Some(Ok(bytes)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match std::task::ready!(this.poll_data(context)) {
                Err(error) => return this.fail(error),
                Ok(None) => {
                    if let Err(error) = this.verify() {
                        return this.fail(error);
                    }
                    this.ended = true;
                }
                Ok(Some(data)) => {
                    if let Err(error) = this.inspect(&data) {
                        return this.fail(error);
                    }
                    let Some(rechunker) = &mut this.rechunker else { return Poll::Ready(Some(Ok(data))) };
                    if let Err(error) = rechunker.push(data) {
                        return this.fail(malformed(error));
                    }
                }
            }
        }
    }
}

impl ByteStream for IncomingBody {
    fn remaining_length(&self) -> RemainingLength {
        if self.rechunker.is_some() { RemainingLength::unknown() } else { self.body.size_hint().into() }
    }
}

fn stall_timeout() -> Duration {
    Duration::from_millis(S3_STALL_TIMEOUT_MS)
}

/// The client went away, or its HTTP framing broke.
pub fn incomplete() -> S3Error {
    refuse(
        S3ErrorCode::IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header.",
    )
}

fn malformed(error: MalformedChunks) -> S3Error {
    refuse(S3ErrorCode::InvalidRequest, error.to_string())
}
