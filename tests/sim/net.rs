//! The network in memory: streams between processes with latency, chopped reads, resets and partitions from the seed.
//!
//! Invariant: bytes arrive in order and unchanged or the connection breaks; TCP promises no less and no more.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use shingle_seam::net::{Connection, Listener, Net, require_loopback};
use shingle_seam::tasks::LocalFuture;

use super::executor::{Executor, ProcessId};

/// One-way latency: uniform between these, in microseconds; about a rack's.
const LATENCY_US: std::ops::Range<u64> = 20..500;
/// Bytes a direction holds before its writer waits.
const PIPE_BYTES: usize = 1 << 20;

/// All links of the simulated cell.
pub struct Network {
    executor: Executor,
    listeners: RefCell<BTreeMap<SocketAddr, Weak<Accepting>>>,
    next_port: Cell<u16>,
    pipes: RefCell<Vec<Weak<Pipe>>>,
    cut: RefCell<BTreeSet<(ProcessId, ProcessId)>>,
}

struct Accepting {
    process: ProcessId,
    address: SocketAddr,
    waiting: RefCell<VecDeque<Connection>>,
    waker: RefCell<Option<Waker>>,
}

/// One direction of one connection.
struct Pipe {
    executor: Executor,
    network: Weak<Network>,
    from: ProcessId,
    to: ProcessId,
    chunks: RefCell<VecDeque<(u64, VecDeque<u8>)>>,
    held: Cell<usize>,
    last_arrival: Cell<u64>,
    /// The writer ended properly at this time.
    end: Cell<Option<u64>>,
    reset: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

impl Network {
    pub fn new(executor: &Executor) -> Rc<Self> {
        Rc::new(Self {
            executor: executor.clone(),
            listeners: RefCell::default(),
            next_port: Cell::new(10_000),
            pipes: RefCell::default(),
            cut: RefCell::default(),
        })
    }

    /// Breaks every connection of a killed process and frees its ports.
    pub fn kill(&self, process: ProcessId) {
        self.listeners.borrow_mut().retain(|_, l| l.upgrade().is_some_and(|l| l.process != process));
        let pipes: Vec<Rc<Pipe>> = self.pipes.borrow().iter().filter_map(Weak::upgrade).collect();
        pipes.iter().filter(|pipe| pipe.from == process || pipe.to == process).for_each(|pipe| pipe.break_off());
    }

    /// Holds everything between two processes back until [`Self::heal`].
    pub fn partition(&self, a: ProcessId, b: ProcessId) {
        self.cut.borrow_mut().extend([(a, b), (b, a)]);
    }

    pub fn heal(&self, a: ProcessId, b: ProcessId) {
        self.cut.borrow_mut().retain(|pair| *pair != (a, b) && *pair != (b, a));
        let pipes: Vec<Rc<Pipe>> = self.pipes.borrow().iter().filter_map(Weak::upgrade).collect();
        pipes.iter().for_each(|pipe| wake(&pipe.reader));
    }

    fn is_cut(&self, from: ProcessId, to: ProcessId) -> bool {
        self.cut.borrow().contains(&(from, to))
    }

    fn pipe(self: &Rc<Self>, from: ProcessId, to: ProcessId) -> Rc<Pipe> {
        let pipe = Rc::new(Pipe {
            executor: self.executor.clone(),
            network: Rc::downgrade(self),
            from,
            to,
            chunks: RefCell::default(),
            held: Cell::new(0),
            last_arrival: Cell::new(0),
            end: Cell::new(None),
            reset: Cell::new(false),
            reader: RefCell::default(),
            writer: RefCell::default(),
        });
        let mut pipes = self.pipes.borrow_mut();
        pipes.retain(|pipe| pipe.strong_count() > 0);
        pipes.push(Rc::downgrade(&pipe));
        pipe
    }

    async fn connect(self: Rc<Self>, from: ProcessId, peer: SocketAddr) -> io::Result<Connection> {
        let latency = LATENCY_US.start + self.executor.below(LATENCY_US.end - LATENCY_US.start);
        self.executor.sleep(Duration::from_micros(2 * latency)).await;
        let listener = self.listeners.borrow().get(&peer).and_then(Weak::upgrade);
        let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
        if self.is_cut(from, listener.process) {
            self.executor.sleep(Duration::from_secs(1)).await;
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (there, back) = (self.pipe(from, listener.process), self.pipe(listener.process, from));
        let port = self.next_port.get();
        self.next_port.set(port.wrapping_add(1).max(10_000));
        let here = SocketAddr::new(peer.ip(), port);
        let accepted =
            Connection { reader: Box::new(Reader(there.clone())), writer: Box::new(Writer(back.clone())), peer: here };
        listener.waiting.borrow_mut().push_back(accepted);
        wake(&listener.waker);
        Ok(Connection { reader: Box::new(Reader(back)), writer: Box::new(Writer(there)), peer })
    }
}

fn wake(slot: &RefCell<Option<Waker>>) {
    let waker = slot.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Pipe {
    fn break_off(&self) {
        self.reset.set(true);
        wake(&self.reader);
        wake(&self.writer);
    }

    fn arrival(&self) -> u64 {
        let latency = LATENCY_US.start + self.executor.below(LATENCY_US.end - LATENCY_US.start);
        let at = (self.executor.now().0 + latency * 1000).max(self.last_arrival.get());
        self.last_arrival.set(at);
        at
    }

    fn poll_take(&self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.reset.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        *self.reader.borrow_mut() = Some(context.waker().clone());
        if self.network.upgrade().is_some_and(|network| network.is_cut(self.from, self.to)) {
            return Poll::Pending;
        }
        let now = self.executor.now().0;
        let mut chunks = self.chunks.borrow_mut();
        if let Some((at, bytes)) = chunks.front_mut() {
            if *at > now {
                self.executor.wake_at(*at, context.waker().clone());
                return Poll::Pending;
            }
            let most = bytes.len().min(into.len());
            // Now and then a short read, as a socket may give.
            let count = if self.executor.below(8) == 0 { 1 + self.executor.below(most as u64) as usize } else { most };
            let count = count.min(most);
            for (slot, byte) in into.iter_mut().zip(bytes.drain(..count)) {
                *slot = byte;
            }
            if bytes.is_empty() {
                chunks.pop_front();
            }
            self.held.set(self.held.get() - count);
            drop(chunks);
            wake(&self.writer);
            return Poll::Ready(Ok(count));
        }
        match self.end.get() {
            Some(at) if at <= now => Poll::Ready(Ok(0)),
            Some(at) => {
                self.executor.wake_at(at, context.waker().clone());
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    fn poll_put(&self, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        if self.reset.get() || self.end.get().is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = PIPE_BYTES - self.held.get();
        if room == 0 {
            *self.writer.borrow_mut() = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = from.len().min(room);
        let at = self.arrival();
        self.chunks.borrow_mut().push_back((at, from[..count].iter().copied().collect()));
        self.held.set(self.held.get() + count);
        wake(&self.reader);
        Poll::Ready(Ok(count))
    }

    fn finish(&self) {
        if self.end.get().is_none() {
            self.end.set(Some(self.arrival()));
            wake(&self.reader);
        }
    }
}

struct Reader(Rc<Pipe>);

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_take(context, into)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Nobody will read it: the writer hears of that, as from a socket that answers RST.
        self.0.break_off();
    }
}

struct Writer(Rc<Pipe>);

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_put(context, from)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// The network as one process sees it.
pub struct ProcessNet {
    pub network: Rc<Network>,
    pub process: ProcessId,
}

impl Net for ProcessNet {
    fn connect(&self, peer: SocketAddr) -> LocalFuture<'static, io::Result<Connection>> {
        Box::pin(self.network.clone().connect(self.process, peer))
    }

    fn listen(&self, mut address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        require_loopback(address).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        if address.port() == 0 {
            let port = self.network.next_port.get();
            self.network.next_port.set(port.wrapping_add(1).max(10_000));
            address.set_port(port);
        }
        let mut listeners = self.network.listeners.borrow_mut();
        if listeners.get(&address).is_some_and(|listener| listener.strong_count() > 0) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let accepting = Rc::new(Accepting {
            process: self.process,
            address,
            waiting: RefCell::default(),
            waker: RefCell::default(),
        });
        listeners.insert(address, Rc::downgrade(&accepting));
        Ok(Box::new(SimListener(accepting)))
    }
}

struct SimListener(Rc<Accepting>);

impl Listener for SimListener {
    fn local_address(&self) -> SocketAddr {
        self.0.address
    }

    fn accept(&self) -> LocalFuture<'_, io::Result<Connection>> {
        Box::pin(std::future::poll_fn(|context| match self.0.waiting.borrow_mut().pop_front() {
            Some(connection) => Poll::Ready(Ok(connection)),
            None => {
                *self.0.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        }))
    }
}
