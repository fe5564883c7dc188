//! The seams on tokio: for the gateway's core, the control service, tools and tests.
//!
//! A world of this runtime lives inside a current-thread runtime and a `LocalSet`; tasks stay on that thread.
//! Contains `unsafe`: tokio wants the word of whoever registers a descriptor that it stays open.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use crate::World;
use crate::clock::SystemClock;
use crate::cpu_pool::CpuPool;
use crate::entropy::SystemEntropy;
use crate::net::{Connection, Listener, Net, require_loopback};
use crate::patience;
use crate::stop::Stop;
use crate::tasks::{CpuJob, LocalFuture, Tasks};

/// The seams of the current thread, which runs a tokio current-thread runtime with a `LocalSet`, and a CPU pool of
/// `cpu_threads` threads that start when they are first needed.
pub fn world(cpu_threads: usize) -> World {
    World {
        clock: Rc::new(SystemClock::new()),
        net: Rc::new(TokioNet),
        entropy: Rc::new(SystemEntropy),
        tasks: Rc::new(TokioTasks { pool: Rc::new(CpuPool::new(cpu_threads)) }),
    }
}

/// Ends when `stop` is triggered.
///
/// # Errors
/// When the signal's file descriptor cannot be watched.
pub async fn stopped(stop: &Stop) -> io::Result<()> {
    // A descriptor of its own: one descriptor can be registered with a runtime only once.
    let event = stop.as_fd().try_clone_to_owned()?;
    // SAFETY: an `OwnedFd` stays open, and the same, until its owner drops it, and the `AsyncFd` is that owner.
    let event = unsafe { AsyncFd::register_with_interest(event, Interest::READABLE) }.map_err(io::Error::from)?;
    event.readable().await?.retain_ready(); // seen, not consumed: others wait for the same event
    Ok(())
}

struct TokioTasks {
    pool: Rc<CpuPool>,
}

impl Tasks for TokioTasks {
    fn spawn(&self, name: &'static str, task: LocalFuture<'static, ()>) {
        drop(tokio::task::spawn_local(async move {
            task.await;
            tracing::trace!(task = name, "task ended");
        }));
    }

    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn run_cpu(&self, job: CpuJob) -> LocalFuture<'static, ()> {
        let pool = self.pool.clone();
        Box::pin(async move {
            let mut place = pool.place().await;
            let (done, over) = tokio::sync::oneshot::channel();
            let completion = move || {
                let _ = done.send(()); // the waiter may have gone
            };
            place.submit(job, Box::new(completion));
            drop(over.await);
        })
    }

    fn yield_now(&self) -> LocalFuture<'static, ()> {
        Box::pin(tokio::task::yield_now())
    }
}

struct TokioNet;

fn connection(stream: TcpStream, peer: SocketAddr) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    patience::limit(&stream)?;
    let (reader, writer) = stream.into_split();
    Ok(Connection { reader: Box::new(reader.compat()), writer: Box::new(writer.compat_write()), peer })
}

impl Net for TokioNet {
    fn connect(&self, peer: SocketAddr) -> LocalFuture<'static, io::Result<Connection>> {
        Box::pin(async move { connection(TcpStream::connect(peer).await?, peer) })
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let address = require_loopback(address).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Box::new(TokioListener { listener: TcpListener::from_std(listener)?, address }))
    }
}

struct TokioListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener for TokioListener {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> LocalFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            connection(stream, peer)
        })
    }
}
