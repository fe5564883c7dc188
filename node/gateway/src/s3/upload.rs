//! Streams one body into the core: at most `S3_BODY_PIECES_MAX` pieces wait between the two, declared checksums are
//! verified on the way, and the core hears `End` only after all of them matched. A body that breaks a promise ends by
//! closing the channel, which is an aborted upload: nothing is stored.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use s3s::dto::StreamingBlob;
use s3s::stream::ByteStream as _;
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders};
use shingle_proto::limits::{S3_BODY_PIECES_MAX, S3_DRAIN_BYTES_MAX, S3_DRAIN_MS};
use tokio::sync::{mpsc, oneshot};

use super::checksum::{BodyVerifier, payload_mismatch};
use super::errors::{RequestId, refuse, to_s3};
use super::frontend::Frontend;
use super::incoming::incomplete;
use crate::request::{Body, BodyPiece, Checksum, CoreRequest, GatewayError, ReplyTo};

/// One body on its way.
pub struct Upload {
    pub body: Option<StreamingBlob>,
    /// The decoded length the client declared; S3 demands one.
    pub declared_bytes: Option<i64>,
    pub verifier: BodyVerifier,
    pub trailers: Option<TrailingHeaders>,
    pub s3_bucket: String,
}

/// How sending the body ended.
enum Sent {
    /// The core has it all.
    Whole(Option<Checksum>),
    /// The core closed the channel: its answer says why.
    CoreLeft,
}

impl Upload {
    /// Sends the body with the request that `make` builds around it; the core's answer and the verified checksum.
    pub async fn send<T>(
        self,
        frontend: &Frontend,
        id: &RequestId,
        make: impl FnOnce(Body, ReplyTo<T>) -> CoreRequest,
    ) -> S3Result<(T, Option<Checksum>)> {
        let mut body = self.body.unwrap_or_else(|| StreamingBlob::from(s3s::Body::empty()));
        // A request without a length and without chunked encoding has no body, says HTTP.
        let none = || body.remaining_length().exact().filter(|bytes| *bytes == 0).map(|_| 0);
        let declared_bytes = self.declared_bytes.and_then(|bytes| u64::try_from(bytes).ok()).or_else(none);
        let Some(declared_bytes) = declared_bytes else {
            return Err(refuse(S3ErrorCode::MissingContentLength, "You must provide the Content-Length HTTP header."));
        };
        if declared_bytes > S3_DRAIN_BYTES_MAX {
            // Too much to be read and dropped: the commonest refusal comes before the body does.
            super::buckets::must_exist(frontend, &self.s3_bucket, id).await?;
        }
        let (pieces, receiver) = mpsc::channel(S3_BODY_PIECES_MAX);
        let (reply, answer) = oneshot::channel();
        let request = make(Body { pieces: receiver, declared_bytes: Some(declared_bytes) }, reply);
        frontend.send(request).map_err(|error| to_s3(error, id))?;

        let sent = {
            let sending = pin!(send_pieces(&mut body, pieces, self.verifier, self.trailers, declared_bytes));
            match select(answer, sending).await {
                Either::Left((Ok(Ok(value)), sending)) => match sending.await? {
                    Sent::Whole(checksum) => return Ok((value, checksum)),
                    Sent::CoreLeft => {
                        return Err(super::errors::internal("an upload was acknowledged before its end", id));
                    }
                },
                Either::Left((early, _)) => Err(early),
                Either::Right((sent, answer)) => Ok((sent?, answer)),
            }
        };
        match sent {
            Ok((Sent::Whole(checksum), answer)) => {
                Ok((settle(answer.await).map_err(|error| to_s3(error, id))?, checksum))
            }
            Ok((Sent::CoreLeft, answer)) => {
                drain(&mut body).await;
                Err(failure(answer.await, id))
            }
            Err(early) => {
                drain(&mut body).await;
                Err(failure(early, id))
            }
        }
    }
}

type Answer<T> = Result<Result<T, GatewayError>, oneshot::error::RecvError>;

fn settle<T>(answer: Answer<T>) -> Result<T, GatewayError> {
    answer.unwrap_or(Err(GatewayError::SlowDown("the gateway is stopping")))
}

fn failure<T>(answer: Answer<T>, id: &RequestId) -> S3Error {
    match settle(answer) {
        Err(error) => to_s3(error, id),
        Ok(_) => super::errors::internal("an upload was acknowledged before its end", id),
    }
}

async fn send_pieces(
    body: &mut StreamingBlob,
    pieces: mpsc::Sender<BodyPiece>,
    mut verifier: BodyVerifier,
    trailers: Option<TrailingHeaders>,
    declared_bytes: u64,
) -> S3Result<Sent> {
    let mut received_bytes = 0;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| body_error(&error.to_string()))?;
        received_bytes += piece.len() as u64;
        if received_bytes > declared_bytes {
            return Err(incomplete());
        }
        verifier.update(&piece);
        if !piece.is_empty() && pieces.send(BodyPiece::Chunk(piece)).await.is_err() {
            return Ok(Sent::CoreLeft);
        }
    }
    if received_bytes != declared_bytes {
        return Err(incomplete());
    }
    let trailers = trailers.as_ref().and_then(TrailingHeaders::take);
    let checksum = verifier.finish(trailers.as_ref())?;
    match pieces.send(BodyPiece::End { checksum: checksum.clone() }).await {
        Ok(()) => Ok(Sent::Whole(checksum)),
        Err(_) => Ok(Sent::CoreLeft),
    }
}

/// The library's body errors are of private types: their texts (of the pinned version) are what it shows.
fn body_error(text: &str) -> S3Error {
    if text.contains("Sha256Mismatch") {
        payload_mismatch()
    } else if text.contains("SignatureMismatch") {
        refuse(
            S3ErrorCode::SignatureDoesNotMatch,
            "The signature of a chunk of the body does not match the signature you provided.",
        )
    } else if text.contains("FormatError") || text.contains("Too") {
        refuse(S3ErrorCode::InvalidRequest, "The chunked body is malformed")
    } else {
        incomplete()
    }
}

/// Reads and drops a bounded rest of the body, so that a client that is still sending comes to read its answer.
async fn drain(body: &mut StreamingBlob) {
    let mut left = S3_DRAIN_BYTES_MAX;
    let reading = async {
        while let Some(Ok(piece)) = body.next().await {
            left = left.saturating_sub(piece.len() as u64);
            if left == 0 {
                break;
            }
        }
    };
    // Time is up: the client gets its answer and the connection closes behind it.
    drop(tokio::time::timeout(Duration::from_millis(S3_DRAIN_MS), reading).await);
}
