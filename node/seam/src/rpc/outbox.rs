//! The sending half of a connection: a queue that one writer empties, so frames never mix.
//!
//! Keeps: the queue needs no bound of its own, every frame in it belongs to a request in flight, and those are bounded.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_io::AsyncWrite;
use futures_util::io::AsyncWriteExt;
use shingle_proto::frame::{Header, Kind};
use shingle_proto::limits::FRAME_STALL_MS;

use crate::tasks::Tasks;

/// Small frames are sent together up to about this many bytes.
const GATHER_BYTES: usize = 64 * 1024;

/// A frame ready to go; the header was made for this body and payload.
pub(super) struct Outgoing<B> {
    pub(super) header: Header,
    pub(super) body: Vec<u8>,
    pub(super) payload: Option<B>,
}

/// Frames on their way out of one connection.
pub(super) struct Outbox<B> {
    queue: RefCell<VecDeque<Outgoing<B>>>,
    writer: RefCell<Option<Waker>>,
    /// Frames taken from the queue and not yet completely written.
    writing: Cell<usize>,
}

impl<B: AsRef<[u8]>> Outbox<B> {
    pub(super) fn new() -> Self {
        Self { queue: RefCell::default(), writer: RefCell::default(), writing: Cell::new(0) }
    }

    pub(super) fn push(&self, frame: Outgoing<B>) {
        self.queue.borrow_mut().push_back(frame);
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// Takes back a frame of which nothing has been sent yet.
    pub(super) fn withdraw(&self, kind: Kind, request_id: u64) -> Option<Outgoing<B>> {
        let mut queue = self.queue.borrow_mut();
        let at = queue.iter().position(|frame| frame.header.kind == kind && frame.header.request_id == request_id)?;
        queue.remove(at)
    }

    /// Frames that are not completely written.
    pub(super) fn unsent(&self) -> usize {
        self.queue.borrow().len() + self.writing.get()
    }

    /// Whether the writer stands between two frames, so that another could be written behind its back.
    pub(super) fn between_frames(&self) -> bool {
        self.writing.get() == 0
    }

    /// Writes what is queued, for ever.
    ///
    /// # Errors
    /// When the connection breaks, or takes nothing for `FRAME_STALL_MS`.
    pub(super) async fn pump(
        &self,
        writer: &mut (dyn AsyncWrite + Unpin),
        tasks: &Rc<dyn Tasks>,
    ) -> Result<(), io::Error> {
        let mut scratch = Vec::new();
        loop {
            let payload = self.gather(&mut scratch);
            if scratch.is_empty() {
                writer.flush().await?;
                self.wait().await;
                continue;
            }
            let write = async {
                writer.write_all(&scratch).await?;
                match &payload {
                    Some(payload) => writer.write_all(payload.as_ref()).await,
                    None => Ok(()),
                }
            };
            match tasks.timeout(Duration::from_millis(FRAME_STALL_MS), write).await {
                Ok(written) => written?,
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
            self.writing.set(0);
            scratch.clear();
            scratch.shrink_to(GATHER_BYTES);
        }
    }

    /// Puts the next small frames, or everything but the payload of the next frame that has one, into `scratch`.
    fn gather(&self, scratch: &mut Vec<u8>) -> Option<B> {
        let mut queue = self.queue.borrow_mut();
        while scratch.len() < GATHER_BYTES {
            let Some(frame) = queue.pop_front() else { break };
            self.writing.set(self.writing.get() + 1);
            scratch.extend_from_slice(&frame.header.encode());
            scratch.extend_from_slice(&frame.body);
            if frame.payload.is_some() {
                return frame.payload;
            }
        }
        None
    }

    async fn wait(&self) {
        poll_fn(|context| {
            if !self.queue.borrow().is_empty() {
                return Poll::Ready(());
            }
            self.writer.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
