//! The receiving half of a connection: frames, judged piece by piece before anything is allocated for them.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_io::AsyncRead;
use futures_util::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use shingle_proto::frame::{Checksum, HEADER_BYTES, Header, Reject};
use shingle_proto::limits::FRAME_STALL_MS;

use super::ProtocolError;
use crate::tasks::Tasks;

/// What small frames are gathered in. Anything longer is read straight into its place.
const BUFFER_BYTES: usize = 16 * 1024;

/// Bytes of a payload that are read, and checked while the processor's cache has them, before others have their turn:
/// some 20 microseconds each.
pub const PIECE_BYTES: usize = 256 * 1024;

/// Why nothing more can be received.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// Reads frames. A frame that has begun must go on within `FRAME_STALL_MS`.
pub(super) struct Incoming {
    reader: BufReader<Box<dyn AsyncRead + Unpin>>,
    tasks: Rc<dyn Tasks>,
}

impl Incoming {
    pub(super) fn new(reader: Box<dyn AsyncRead + Unpin>, tasks: Rc<dyn Tasks>) -> Self {
        Self { reader: BufReader::with_capacity(BUFFER_BYTES, reader), tasks }
    }

    /// The next frame's header; `None` when the peer has ended the connection between two frames.
    pub(super) async fn header(&mut self, version: u16) -> Result<Option<Header>, ReceiveError> {
        if self.reader.fill_buf().await?.is_empty() {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_BYTES];
        self.fill(&mut bytes).await?;
        Ok(Some(Header::decode(&bytes, version).map_err(ProtocolError::from)?))
    }

    /// The body that follows `header`, checked.
    pub(super) async fn body(&mut self, header: &Header) -> Result<Vec<u8>, ReceiveError> {
        let mut body = vec![0; header.body_bytes as usize];
        self.fill(&mut body).await?;
        header.check_body(&body).map_err(ProtocolError::from)?;
        Ok(body)
    }

    /// The payload that follows the body, read into `place`, checked piece by piece as it comes: several that come together
    /// are then not checked all at once, with nobody's request going on meanwhile.
    pub(super) async fn payload(&mut self, header: &Header, place: &mut [u8]) -> Result<(), ReceiveError> {
        assert_eq!(place.len(), header.payload_bytes as usize, "a payload's buffer holds exactly the payload");
        let tasks = self.tasks.clone();
        let checksum = within_limit(&*tasks, self.read_checked(place)).await?;
        Ok(header.check_payload(checksum.value()).map_err(ProtocolError::from)?)
    }

    /// Fills `place`.
    async fn read_checked(&mut self, place: &mut [u8]) -> io::Result<Checksum> {
        let (mut checksum, mut left) = (Checksum::default(), place);
        while !left.is_empty() {
            let wanted = left.len().min(PIECE_BYTES);
            let read = match self.reader.read(&mut left[..wanted]).await {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let (piece, rest) = left.split_at_mut(read);
            checksum.update(piece);
            left = rest;
            if !left.is_empty() {
                self.tasks.yield_now().await;
            }
        }
        Ok(checksum)
    }

    /// Reads a payload that nobody wants.
    pub(super) async fn drop_payload(&mut self, header: &Header) -> Result<(), ReceiveError> {
        let mut left = header.payload_bytes as usize;
        let mut scratch = vec![0; left.min(BUFFER_BYTES)];
        while left > 0 {
            let piece = left.min(scratch.len());
            self.fill(&mut scratch[..piece]).await?;
            left -= piece;
        }
        Ok(())
    }

    /// The body of a REJECT.
    pub(super) async fn reject(&mut self, header: &Header) -> Result<Reject, ReceiveError> {
        let body = self.body(header).await?;
        Ok(Reject::decode(&body).map_err(ProtocolError::from)?)
    }

    /// Reads and drops everything until the peer ends the connection.
    pub(super) async fn drain(&mut self) {
        let mut scratch = vec![0; BUFFER_BYTES];
        while matches!(self.reader.read(&mut scratch).await, Ok(bytes) if bytes > 0) {}
    }

    /// Reads what is no payload.
    async fn fill(&mut self, place: &mut [u8]) -> Result<(), ReceiveError> {
        if place.is_empty() {
            return Ok(());
        }
        within_limit(&*self.tasks, self.reader.read_exact(place)).await
    }
}

/// What reading part of a frame gives, if it comes in time.
async fn within_limit<T>(
    tasks: &(dyn Tasks + 'static),
    read: impl Future<Output = io::Result<T>>,
) -> Result<T, ReceiveError> {
    let limit = Duration::from_millis(FRAME_STALL_MS);
    match tasks.timeout(limit, read).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ProtocolError::Truncated.into()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ProtocolError::Stalled { ms: FRAME_STALL_MS }.into()),
    }
}
