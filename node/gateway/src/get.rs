//! Downloads: resolves object and range, proves the first block before it promises anything, then streams as fast as
//! the client reads. An object replaced or deleted in between is looked up again as long as nothing was promised.

use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use shingle_proto::message::{ErrorCode, ObjectRow};
use tokio::sync::{mpsc, oneshot};

use crate::core::Core;
use crate::request::{ByteRange, Download, GatewayError, ObjectName, ReplyTo};
use crate::stream::{BlockStream, Progress, StreamError};

/// Versions tried before the client is told to come again: each was replaced while it was being opened.
const VERSIONS_MAX: usize = 4;
/// Blocks handed over and not yet taken by the client's side.
const PIECES_MAX: usize = 1;

/// Answers a Get, then feeds the client until it has all, goes away, or a block cannot be read.
pub async fn get(
    core: Rc<Core>,
    name: ObjectName,
    range: Option<ByteRange>,
    if_match: Option<String>,
    mut reply: ReplyTo<Download>,
) {
    let opened = tokio::select! {
        biased;
        () = reply.closed() => return,
        opened = open(&core, &name, range, if_match.as_deref()) => opened,
    };
    match opened {
        Ok((row, (first, length_bytes), stream)) => {
            let (sender, pieces) = mpsc::channel(PIECES_MAX);
            if reply.send(Ok(Download { row, first, length_bytes, pieces })).is_ok() {
                feed(stream, sender).await;
            }
        }
        Err(error) => answer(reply, Err(error)),
    }
}

/// The object's row, the range within it, and a stream whose first block is proven.
async fn open(
    core: &Rc<Core>,
    name: &ObjectName,
    range: Option<ByteRange>,
    if_match: Option<&str>,
) -> Result<(ObjectRow, (u64, u64), BlockStream), GatewayError> {
    let mut last = None;
    for _ in 0..VERSIONS_MAX {
        let row = head(core, name, if_match).await?;
        let (first, length) = resolve(range, row.size_bytes)?;
        if last.as_ref() == Some(&row.manifest) {
            tracing::error!(manifest = ?row.manifest, key = name.key, "a live object's blocks are not in the index");
            return Err(GatewayError::BlockUnreadable { hash: "without a row".to_owned() });
        }
        let mut stream = BlockStream::new(core.clone(), core.budget.clone(), row.manifest.clone(), first, length);
        match stream.advance(true).await {
            Ok(_) => return Ok((row, (first, length), stream)),
            Err(StreamError::Gone) => last = Some(row.manifest),
            Err(StreamError::Failed(error)) => return Err(error),
        }
    }
    Err(GatewayError::SlowDown("the object is being replaced faster than it can be read"))
}

/// The object's row, if it is the version that was asked for.
pub async fn head(core: &Core, name: &ObjectName, if_match: Option<&str>) -> Result<ObjectRow, GatewayError> {
    let row = core.control.head(name).await?;
    match if_match {
        Some(wanted) if wanted != "*" && wanted.trim_matches('"') != row.etag => Err(GatewayError::Refused {
            code: ErrorCode::PreconditionFailed,
            number: 0,
            message: "the object has another ETag".to_owned(),
        }),
        _ => Ok(row),
    }
}

/// First byte and length of a range in an object; the whole object without one.
pub fn resolve(range: Option<ByteRange>, size_bytes: u64) -> Result<(u64, u64), GatewayError> {
    let (first, end) = match range {
        None => return Ok((0, size_bytes)),
        Some(ByteRange::FromTo { first, last }) if first <= last => (first, last.saturating_add(1).min(size_bytes)),
        Some(ByteRange::FromTo { .. }) => return Err(GatewayError::RangeNotSatisfiable { size_bytes }),
        Some(ByteRange::From { first }) => (first, size_bytes),
        Some(ByteRange::Last { bytes }) => (size_bytes.saturating_sub(bytes), size_bytes),
    };
    if first >= end { Err(GatewayError::RangeNotSatisfiable { size_bytes }) } else { Ok((first, end - first)) }
}

/// Hands pieces over while further blocks are being read.
async fn feed(mut stream: BlockStream, sender: mpsc::Sender<Result<Bytes, GatewayError>>) {
    let mut hold = pin!(stream.hold().fuse());
    let mut progress = Progress::Ready;
    while progress != Progress::End || stream.is_ready() {
        tokio::select! {
            biased;
            // A place in the channel is a client that took something: there may be room again.
            permit = sender.reserve(), if stream.is_ready() || progress == Progress::Full => {
                let Ok(permit) = permit else { return };
                if let Some(piece) = stream.take() {
                    permit.send(Ok(piece));
                }
                if progress == Progress::Full {
                    progress = Progress::Ready;
                }
            }
            advanced = stream.advance(sender.capacity() == PIECES_MAX), if progress == Progress::Ready => match advanced {
                Ok(now) => progress = now,
                Err(error) => return fail(&mut stream, &sender, error).await,
            },
            () = sender.closed() => return,
            () = &mut hold => {}
        }
    }
}

/// What was read before the error is still handed over, then the error.
async fn fail(stream: &mut BlockStream, sender: &mpsc::Sender<Result<Bytes, GatewayError>>, error: StreamError) {
    let error = match error {
        StreamError::Gone => GatewayError::Refused {
            code: ErrorCode::NoSuchKey,
            number: 0,
            message: "the object was replaced or deleted while it was being read".to_owned(),
        },
        StreamError::Failed(error) => error,
    };
    while let Some(piece) = stream.take() {
        if sender.send(Ok(piece)).await.is_err() {
            return;
        }
    }
    if sender.send(Err(error)).await.is_err() {
        tracing::debug!("the client left before it could be told of an error");
    }
}

/// Answers; a caller that has left needs none.
pub fn answer<T>(reply: oneshot::Sender<Result<T, GatewayError>>, result: Result<T, GatewayError>) {
    if reply.send(result).is_err() {
        tracing::debug!("the caller left before the answer");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_the_end_and_refused_behind_it() {
        let beyond = Err(GatewayError::RangeNotSatisfiable { size_bytes: 10 });
        assert_eq!(resolve(None, 0), Ok((0, 0)));
        assert_eq!(resolve(Some(ByteRange::FromTo { first: 2, last: 4 }), 10), Ok((2, 3)));
        assert_eq!(resolve(Some(ByteRange::FromTo { first: 2, last: u64::MAX }), 10), Ok((2, 8)));
        assert_eq!(resolve(Some(ByteRange::From { first: 9 }), 10), Ok((9, 1)));
        assert_eq!(resolve(Some(ByteRange::Last { bytes: 99 }), 10), Ok((0, 10)));
        assert_eq!(resolve(Some(ByteRange::From { first: 10 }), 10), beyond);
        assert_eq!(resolve(Some(ByteRange::Last { bytes: 0 }), 10), beyond);
        assert_eq!(resolve(Some(ByteRange::FromTo { first: 5, last: 4 }), 10), beyond);
    }
}
