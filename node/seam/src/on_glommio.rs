//! The seams on glommio: for the host process, one executor per core. The only file that names glommio.
//!
//! Two properties of glommio 0.9 shape it. A wake-up from another thread goes through a path that is not sound in
//! every order of events, so threads of the CPU pool never hold a waker: they sign a list and an eventfd that a task of
//! the executor reads. And a pending accept or file read keeps one more waker each time it is polled, so both are
//! polled by tasks of their own, which wake for nothing else.
//!
//! Contains `unsafe`: descriptors are handed to glommio, which takes them raw.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use glommio::io::BufferedFile;
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement, Task, TaskQueueHandle};
use local_sync::oneshot;
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, getrlimit};

use crate::World;
use crate::clock::SystemClock;
use crate::cpu_pool::CpuPool;
use crate::entropy::SystemEntropy;
use crate::gate::Gate;
use crate::net::{Connection, Listener, Net, require_loopback};
use crate::patience;
use crate::stop::Stop;
use crate::tasks::{CpuJob, LocalFuture, Tasks};

/// glommio's own I/O buffers, per shard. Block bytes never pass through them; they count against RLIMIT_MEMLOCK.
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// Below this limit of locked memory glommio does not start.
const LOCKED_MEMORY_MIN: u64 = 512 * 1024;
/// Entries of each of glommio's three rings: sockets and timers only, the disks have a ring of their own.
const RING_ENTRIES: usize = 256;
/// Threads of a shard's CPU pool. A shard has a core of its own and hands over only what would make it miss beats.
const CPU_THREADS: usize = 1;

/// Runs one shard on a thread of its own, pinned to `core` if one is given, until `main` ends. An idle shard sleeps.
///
/// # Errors
/// The thread's result: io_uring is not available, or the limit of locked memory is below 512 KiB.
pub fn run_shard(
    name: &str,
    core: Option<usize>,
    main: impl FnOnce(World) -> LocalFuture<'static, ()> + Send + 'static,
) -> io::Result<std::thread::JoinHandle<io::Result<()>>> {
    let builder = LocalExecutorBuilder::new(core.map_or(Placement::Unbound, Placement::Fixed))
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_ENTRIES)
        .spin_before_park(Duration::ZERO);
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        check_locked_memory()?;
        let executor = builder.make().map_err(io::Error::from)?;
        executor.run(async move {
            let ended = Rc::new(Cell::new(false));
            world(ended.clone()).map(main)?.await;
            ended.set(true);
            Ok(())
        })
    })
}

/// glommio refuses a lower limit with two bare numbers, and tries to register its buffers above it, which it may fail to do.
fn check_locked_memory() -> io::Result<()> {
    let limit = getrlimit(Resource::Memlock).current;
    locked_memory_suffices(limit).map_err(io::Error::other)
}

/// `limit_bytes`: none is no limit.
fn locked_memory_suffices(limit_bytes: Option<u64>) -> Result<(), String> {
    let (limit_bytes, least) = (limit_bytes.unwrap_or(u64::MAX), LOCKED_MEMORY_MIN);
    if limit_bytes >= least {
        return Ok(());
    }
    let (limit, least) = (limit_bytes / 1024, least / 1024);
    Err(format!(
        "this process may lock {limit} KiB of memory, a shard needs {least}: raise `ulimit -l` or LimitMEMLOCK"
    ))
}

fn world(ended: Rc<Cell<bool>>) -> io::Result<World> {
    Ok(World {
        clock: Rc::new(SystemClock::new()),
        net: Rc::new(GlommioNet),
        entropy: Rc::new(SystemEntropy),
        tasks: Rc::new(GlommioTasks { cpu: Rc::new(Cpu::new()?), ended }),
    })
}

/// Ends when the eventfd behind `fd` has been signalled, and takes the signal. To be awaited by a task that waits for
/// nothing else meanwhile.
///
/// # Errors
/// When `fd` cannot be duplicated or read.
pub async fn eventfd_signal(fd: BorrowedFd<'_>) -> io::Result<()> {
    EventFd::new(fd)?.signalled().await
}

/// Ends when `stop` is triggered.
///
/// # Errors
/// When the signal's file descriptor cannot be duplicated or read.
pub async fn stopped(stop: &Stop) -> io::Result<()> {
    eventfd_signal(stop.as_fd()).await
}

/// An eventfd that tasks of this shard wait for; cheaper than [`eventfd_signal`] for one that is waited for often.
pub struct EventFd {
    file: BufferedFile,
}

impl EventFd {
    /// Takes a duplicate of `fd`.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let raw = fd.try_clone_to_owned()?.into_raw_fd();
        // SAFETY: `raw` was just given up by its owner, so the file becomes the only one to close it.
        Ok(Self { file: unsafe { BufferedFile::from_raw_fd(raw) } })
    }

    /// Ends when the eventfd has been signalled, and takes the signal. To be awaited by a task that waits for nothing
    /// else meanwhile.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn signalled(&self) -> io::Result<()> {
        let read = self.file.read_at(0, size_of::<u64>()).await.map_err(io::Error::from)?;
        match read.len() {
            8 => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

struct GlommioTasks {
    cpu: Rc<Cpu>,
    /// The executor is gone, or going: what a destructor still spawns then is dropped, since glommio would panic.
    ended: Rc<Cell<bool>>,
}

impl Tasks for GlommioTasks {
    fn spawn(&self, name: &'static str, task: LocalFuture<'static, ()>) {
        if self.ended.get() {
            return;
        }
        let task = async move {
            task.await;
            tracing::trace!(task = name, "task ended");
        };
        // `spawn_local` would run it at once. All tasks of a shard share the default queue.
        let spawned = glommio::spawn_local_into(task, TaskQueueHandle::default());
        spawned.expect("an executor has its default queue").detach();
    }

    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()> {
        Box::pin(async move {
            glommio::timer::sleep(duration).await;
        })
    }

    fn run_cpu(&self, job: CpuJob) -> LocalFuture<'static, ()> {
        let cpu = self.cpu.clone();
        Box::pin(async move { cpu.run(job).await })
    }

    fn yield_now(&self) -> LocalFuture<'static, ()> {
        Box::pin(async { glommio::executor().yield_now().await })
    }
}

/// The CPU pool of one shard, and the way back from its threads.
struct Cpu {
    pool: CpuPool,
    /// Jobs that are over; signed by the pool's threads before they signal `event`.
    over: Arc<Mutex<Vec<u64>>>,
    event: Arc<OwnedFd>,
    waiting: Rc<RefCell<BTreeMap<u64, oneshot::Sender<()>>>>,
    next: Cell<u64>,
    pumping: Cell<bool>,
}

impl Cpu {
    fn new() -> io::Result<Self> {
        Ok(Self {
            pool: CpuPool::new(CPU_THREADS),
            over: Arc::default(),
            event: Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?),
            waiting: Rc::default(),
            next: Cell::new(0),
            pumping: Cell::new(false),
        })
    }

    async fn run(&self, job: CpuJob) {
        let mut place = self.pool.place().await;
        if !self.pumping.replace(true) {
            self.pump();
        }
        let id = self.next.replace(self.next.get() + 1);
        let (done, finished) = oneshot::channel();
        self.waiting.borrow_mut().insert(id, done);
        let (over, event) = (self.over.clone(), self.event.clone());
        let completion = move || {
            over.lock().unwrap_or_else(PoisonError::into_inner).push(id);
            if let Err(error) = rustix::io::write(&*event, &1_u64.to_ne_bytes()) {
                tracing::error!(%error, "a finished job of the CPU pool cannot be announced");
            }
        };
        let _forget = Forget { waiting: &self.waiting, id };
        place.submit(job, Box::new(completion));
        drop(finished.await);
    }

    /// Starts the task that passes on what the pool's threads have signed. It lives as long as the executor.
    fn pump(&self) {
        let (over, waiting, event) = (self.over.clone(), self.waiting.clone(), self.event.clone());
        glommio::spawn_local(async move {
            let signals = match EventFd::new(event.as_fd()) {
                Ok(signals) => signals,
                Err(error) => return tracing::error!(%error, "the CPU pool cannot be waited for"),
            };
            loop {
                if let Err(error) = signals.signalled().await {
                    return tracing::error!(%error, "the CPU pool cannot be waited for");
                }
                let ids = std::mem::take(&mut *over.lock().unwrap_or_else(PoisonError::into_inner));
                for id in ids {
                    let waiter = waiting.borrow_mut().remove(&id);
                    if let Some(done) = waiter {
                        let _ = done.send(()); // the waiter may have gone
                    }
                }
            }
        })
        .detach();
    }
}

/// Takes a waiter that is dropped early off the list.
struct Forget<'a> {
    waiting: &'a RefCell<BTreeMap<u64, oneshot::Sender<()>>>,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        drop(self.waiting.borrow_mut().remove(&self.id));
    }
}

struct GlommioNet;

impl Net for GlommioNet {
    fn connect(&self, peer: SocketAddr) -> LocalFuture<'static, io::Result<Connection>> {
        Box::pin(async move { connection(TcpStream::connect(peer).await?, peer) })
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let address = require_loopback(address).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        // Not glommio's own bind: that one shares the port with whoever else asks for it.
        let listener = std::net::TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let raw = OwnedFd::from(listener).into_raw_fd();
        // SAFETY: `raw` was just given up by its owner, so the listener becomes the only one to close it.
        let listener = unsafe { TcpListener::from_raw_fd(raw) };
        let arrivals = Rc::new(Arrivals { room: Gate::new(1), arrived: Gate::new(0), queue: RefCell::default() });
        let accepting = glommio::spawn_local(accept_all(listener, arrivals.clone()));
        Ok(Box::new(GlommioListener { address, arrivals, _accepting: accepting }))
    }
}

/// One connection accepted ahead of who asks for it.
struct Arrivals {
    room: Gate,
    arrived: Gate,
    queue: RefCell<VecDeque<io::Result<Connection>>>,
}

async fn accept_all(listener: TcpListener, arrivals: Rc<Arrivals>) {
    while arrivals.room.acquire(1).await.is_ok() {
        let accepted = match listener.accept().await {
            Ok(stream) => stream.peer_addr().map_err(io::Error::from).and_then(|peer| connection(stream, peer)),
            Err(error) => Err(error.into()),
        };
        arrivals.queue.borrow_mut().push_back(accepted);
        arrivals.arrived.release(1);
    }
}

struct GlommioListener {
    address: SocketAddr,
    arrivals: Rc<Arrivals>,
    /// Cancelled, and the listener closed, when this is dropped.
    _accepting: Task<()>,
}

impl Listener for GlommioListener {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> LocalFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let closed = |_| io::Error::from(io::ErrorKind::NotConnected);
            self.arrivals.arrived.acquire(1).await.map_err(closed)?;
            let accepted = self.arrivals.queue.borrow_mut().pop_front();
            self.arrivals.room.release(1);
            accepted.unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))
        })
    }
}

fn connection(stream: TcpStream, peer: SocketAddr) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    // SAFETY: the stream stays open while it is borrowed here, and the borrowed descriptor goes no further.
    patience::limit(unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) })?;
    let stream = Rc::new(RefCell::new(stream));
    Ok(Connection { reader: Box::new(Half(stream.clone())), writer: Box::new(Half(stream)), peer })
}

/// One direction of a stream. Polls never nest, so the borrows do not either.
struct Half(Rc<RefCell<TcpStream>>);

impl AsyncRead for Half {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Half {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_locked_memory_that_is_too_low_is_told_with_what_to_raise() {
        assert_eq!(locked_memory_suffices(None), Ok(()));
        assert_eq!(locked_memory_suffices(Some(LOCKED_MEMORY_MIN)), Ok(()));
        let told = locked_memory_suffices(Some(64 * 1024)).unwrap_err();
        for part in ["64 KiB", "512", "ulimit -l", "LimitMEMLOCK"] {
            assert!(told.contains(part), "{told}");
        }
    }
}
