//! The body of a GetObject answer: the core's pieces in order, exactly as many bytes as were announced. An error in the
//! middle, or an end before the announced length, aborts the connection: a client never takes a part for the whole.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use s3s::stream::{ByteStream, RemainingLength};
use tokio::sync::mpsc;

use super::errors::RequestId;
use crate::request::{Download, GatewayError};

/// Ends the connection.
#[derive(Debug, thiserror::Error)]
#[error("the object's bytes ended early")]
struct DownloadAborted;

/// The stream behind one answer.
pub struct DownloadBody {
    pieces: mpsc::Receiver<Result<Bytes, GatewayError>>,
    left_bytes: u64,
    id: RequestId,
}

impl DownloadBody {
    pub fn new(download: Download, id: RequestId) -> Self {
        Self { pieces: download.pieces, left_bytes: download.length_bytes, id }
    }

    fn abort(&mut self, reason: &str) -> Poll<Option<Result<Bytes, Box<dyn std::error::Error + Send + Sync>>>> {
        tracing::error!(request = &*self.id.0, left_bytes = self.left_bytes, reason, "a download was aborted");
        self.left_bytes = 0;
        self.pieces.close();
        Poll::Ready(Some(Err(Box::new(DownloadAborted))))
    }
}

impl Stream for DownloadBody {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.left_bytes == 0 {
            return Poll::Ready(None);
        }
        match std::task::ready!(this.pieces.poll_recv(context)) {
            Some(Ok(piece)) => match this.left_bytes.checked_sub(piece.len() as u64) {
                Some(left) => {
                    this.left_bytes = left;
                    Poll::Ready(Some(Ok(piece)))
                }
                None => this.abort("the core sent more bytes than it announced"),
            },
            Some(Err(error)) => this.abort(&error.to_string()),
            None => this.abort("the core closed the download"),
        }
    }
}

impl ByteStream for DownloadBody {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.left_bytes).map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}
