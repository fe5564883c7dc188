//! A TCP stream whose peer must keep reading: an answer that cannot be written for `S3_STALL_TIMEOUT_MS` ends the
//! connection, so that no client pins blocks in a gateway's memory. Reads have their own limits (head and body).
//!
//! And it lingers: a connection that ends with a body unread takes in and drops what still comes, for a bounded time,
//! because a socket that is closed on unread bytes resets, and the client loses the answer it has not read yet.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use shingle_proto::limits::{S3_LINGER_IDLE_MS, S3_LINGER_MS, S3_STALL_TIMEOUT_MS};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Bytes dropped at once while lingering, and how often before other connections get their turn.
const SCRATCH_BYTES: usize = 16 * 1024;
const READS_PER_TURN: usize = 64;

/// Set when a connection's last request has a body that nobody will read.
#[derive(Clone, Default)]
pub struct Unread(Arc<AtomicBool>);

impl Unread {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The stream of one connection.
pub struct StallGuard {
    stream: TcpStream,
    /// Armed while a write waits for the peer.
    timer: Option<Pin<Box<Sleep>>>,
    unread: Unread,
    /// The end of lingering, whatever comes, and its end if nothing comes.
    lingering: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl StallGuard {
    pub fn new(stream: TcpStream, unread: Unread) -> Self {
        Self { stream, timer: None, unread, lingering: None }
    }

    /// Drops what the peer sends until it stops, or the time is over.
    fn linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let idle = Duration::from_millis(S3_LINGER_IDLE_MS);
        let (end, silence) = self.lingering.get_or_insert_with(|| {
            let now = Instant::now();
            (now + Duration::from_millis(S3_LINGER_MS), Box::pin(tokio::time::sleep_until(now + idle)))
        });
        let mut scratch = [0; SCRATCH_BYTES];
        for _ in 0..READS_PER_TURN {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    silence.as_mut().reset((Instant::now() + idle).min(*end));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return silence.as_mut().poll(context),
            }
        }
        if Instant::now() >= *end {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn guard<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let limit = Duration::from_millis(S3_STALL_TIMEOUT_MS);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading its answer")))
    }
}

impl AsyncRead for StallGuard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for StallGuard {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.guard(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.guard(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        if self.unread.is_set() { self.linger(context).map(Ok) } else { Poll::Ready(Ok(())) }
    }
}
