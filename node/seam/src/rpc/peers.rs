//! Connections to peers: opened on demand, one per address, reopened after loss.
//!
//! Keeps: at most one attempt to connect per peer at a time, with growing pauses after failures during which calls
//! fail at once; a connection nobody uses costs no timer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::io::AsyncWriteExt;
use shingle_proto::frame::{HELLO_VERSION, Header, Kind, RejectReason, VERSIONS};
use shingle_proto::limits::{HANDSHAKE_DEADLINE_MS, PEERS_MAX, RECONNECT_MS_MAX, RECONNECT_MS_MIN};
use shingle_proto::message::{
    ErrorCode, ErrorReply, Hello, HelloReply, Request, Role, decode_hello_reply, encode_hello,
};

use super::incoming::{Incoming, ReceiveError};
use super::link::{Link, no_common_version, receive_failure};
use super::{CallMeta, ProtocolError, Reply, RpcError, SharedPayload};
use crate::World;
use crate::clock::Monotonic;
use crate::gate::Gate;
use crate::net::Connection;

/// Connections to peers, opened on demand, one per address, reopened after loss. Cheap to clone; the connections are
/// closed with the last clone.
#[derive(Clone)]
pub struct Peers(Rc<Inner>);

struct Inner {
    world: World,
    hello: Rc<Hello>,
    peers: RefCell<BTreeMap<SocketAddr, Rc<Peer>>>,
}

/// One address.
struct Peer {
    address: SocketAddr,
    state: RefCell<State>,
    /// The next pause after a failure.
    pause: Cell<Duration>,
    /// Closed when nobody is left who could call.
    abandoned: Gate,
}

enum State {
    Idle,
    /// Closed when the attempt is over.
    Connecting(Rc<Gate>),
    Up(Rc<Link>),
    Failed {
        until: Monotonic,
        error: RpcError,
    },
}

impl Peers {
    /// `role` and `process` are told to peers at HELLO.
    pub fn new(world: World, role: Role, process: String) -> Self {
        let (versions_min, versions_max) = VERSIONS;
        let hello = Rc::new(Hello { versions_min, versions_max, role, process, cell: None });
        Self(Rc::new(Inner { world, hello, peers: RefCell::default() }))
    }

    /// Asks `peer` and waits for its answer. Waits for a connection and for credit, all within `meta.deadline`.
    /// Dropping the future cancels the request at the peer.
    ///
    /// # Errors
    /// [`RpcError`], in which an error answer of the peer is `Refused`, or `Deadline` when it says so.
    pub async fn call(
        &self,
        peer: SocketAddr,
        meta: &CallMeta,
        request: Request,
        payload: Option<SharedPayload>,
    ) -> Result<Reply, RpcError> {
        let world = &self.0.world;
        let deadline = world.clock.now() + meta.deadline;
        let call = async {
            let link = self.0.link(peer).await?;
            link.call(meta, deadline, request, payload).await
        };
        world.tasks.timeout(meta.deadline, call).await.unwrap_or(Err(RpcError::Deadline))
    }
}

impl Inner {
    /// The connection to `address`, made if there is none.
    async fn link(&self, address: SocketAddr) -> Result<Rc<Link>, RpcError> {
        let peer = self.peer(address)?;
        let attempt = match &*peer.state.borrow() {
            State::Up(link) if !link.is_over() => return Ok(link.clone()),
            State::Failed { until, error } if self.world.clock.now() < *until => return Err(error.clone()),
            State::Connecting(attempt) => Some(attempt.clone()),
            State::Up(_) | State::Failed { .. } | State::Idle => None,
        };
        let attempt = attempt.unwrap_or_else(|| self.start(&peer));
        attempt.wait_closed().await;
        match &*peer.state.borrow() {
            State::Up(link) => Ok(link.clone()),
            State::Failed { error, .. } => Err(error.clone()),
            State::Idle | State::Connecting(_) => Err(RpcError::Connect(io::ErrorKind::ConnectionAborted)),
        }
    }

    fn peer(&self, address: SocketAddr) -> Result<Rc<Peer>, RpcError> {
        let mut peers = self.peers.borrow_mut();
        if let Some(peer) = peers.get(&address) {
            return Ok(peer.clone());
        }
        if peers.len() >= PEERS_MAX {
            peers.retain(|_, peer| matches!(&*peer.state.borrow(), State::Up(_) | State::Connecting(_)));
        }
        if peers.len() >= PEERS_MAX {
            let text = "connections to too many peers";
            return Err(RpcError::Refused(ErrorReply::new(ErrorCode::Busy, PEERS_MAX as u64, text)));
        }
        let peer = Rc::new(Peer {
            address,
            state: RefCell::new(State::Idle),
            pause: Cell::new(Duration::from_millis(RECONNECT_MS_MIN)),
            abandoned: Gate::new(0),
        });
        peers.insert(address, peer.clone());
        Ok(peer)
    }

    /// Starts the task that connects and then runs the connection.
    fn start(&self, peer: &Rc<Peer>) -> Rc<Gate> {
        let attempt = Rc::new(Gate::new(0));
        peer.state.replace(State::Connecting(attempt.clone()));
        let (world, hello, peer, over) = (self.world.clone(), self.hello.clone(), peer.clone(), attempt.clone());
        let task = async move {
            let abandoned = pin!(peer.abandoned.wait_closed());
            let connecting = pin!(peer.connect_and_run(&world, &hello, &over));
            if let Either::Left(_) = select(abandoned, connecting).await {
                over.close();
            }
        };
        self.world.tasks.spawn("connection", Box::pin(task));
        attempt
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for peer in self.peers.get_mut().values() {
            peer.abandoned.close();
        }
    }
}

impl Peer {
    async fn connect_and_run(&self, world: &World, hello: &Hello, attempt: &Gate) {
        let limit = Duration::from_millis(HANDSHAKE_DEADLINE_MS);
        let connected = world.tasks.timeout(limit, connect(world, self.address, hello)).await;
        let (link, incoming, writer) = match connected {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return self.failed(world, error, attempt),
            Err(_) => return self.failed(world, RpcError::Connect(io::ErrorKind::TimedOut), attempt),
        };
        tracing::debug!(peer = %self.address, "connected");
        self.state.replace(State::Up(link.clone()));
        attempt.close();
        link.run(incoming, writer).await;
        let current = matches!(&*self.state.borrow(), State::Up(up) if Rc::ptr_eq(up, &link));
        if link.was_useful() {
            self.pause.set(Duration::from_millis(RECONNECT_MS_MIN));
            if current {
                self.state.replace(State::Idle);
            }
        } else if current {
            let error = match link.failure() {
                RpcError::Lost => RpcError::Connect(io::ErrorKind::ConnectionReset),
                error => error,
            };
            self.failed(world, error, attempt);
        }
    }

    /// Remembers a failure for the length of a pause, which grows with every failure and is never the same for two
    /// callers.
    fn failed(&self, world: &World, error: RpcError, attempt: &Gate) {
        let pause = self.pause.get();
        let jitter = Duration::from_millis(world.entropy.below(1 + pause.as_millis() as u64 / 2));
        tracing::debug!(peer = %self.address, %error, ?pause, "cannot connect");
        self.pause.set((pause * 2).min(Duration::from_millis(RECONNECT_MS_MAX)));
        self.state.replace(State::Failed { until: world.clock.now() + (pause - jitter), error });
        attempt.close();
    }
}

type Connected = (Rc<Link>, Incoming, Box<dyn futures_io::AsyncWrite + Unpin>);

/// Connects and exchanges HELLO.
async fn connect(world: &World, address: SocketAddr, hello: &Hello) -> Result<Connected, RpcError> {
    let failed = |error: io::Error| RpcError::Connect(error.kind());
    let Connection { reader, mut writer, peer } = world.net.connect(address).await.map_err(failed)?;
    let body = encode_hello(hello);
    let header = Header::new(Kind::Hello, HELLO_VERSION, &body, &[]).map_err(ProtocolError::from)?;
    let mut frame = header.encode().to_vec();
    frame.extend_from_slice(&body);
    writer.write_all(&frame).await.map_err(failed)?;
    writer.flush().await.map_err(failed)?;
    let mut incoming = Incoming::new(reader, world.tasks.clone());
    let reply = receive_reply(&mut incoming).await?;
    if !(VERSIONS.0..=VERSIONS.1).contains(&reply.version) {
        return Err(no_common_version((reply.version, reply.version)));
    }
    let link = Link::new(world.clone(), peer, reply.version, reply.credit_bytes);
    Ok((link, incoming, writer))
}

async fn receive_reply(incoming: &mut Incoming) -> Result<HelloReply, RpcError> {
    let failed = |error| match error {
        ReceiveError::Io(error) => RpcError::Connect(error.kind()),
        ReceiveError::Protocol(ProtocolError::Truncated) => RpcError::Connect(io::ErrorKind::UnexpectedEof),
        error => receive_failure(error),
    };
    let header = incoming.header(HELLO_VERSION).await.map_err(failed)?;
    let Some(header) = header else { return Err(RpcError::Connect(io::ErrorKind::UnexpectedEof)) };
    match header.kind {
        Kind::HelloReply => {
            let body = incoming.body(&header).await.map_err(failed)?;
            decode_hello_reply(&body)
                .map_err(|error| ProtocolError::Body { kind: header.kind, detail: error.to_string() }.into())
        }
        Kind::Reject => {
            let reject = incoming.reject(&header).await.map_err(failed)?;
            match reject.reason {
                RejectReason::NoCommonVersion => Err(no_common_version(reject.versions)),
                reason => Err(failed(ProtocolError::Rejected { reason, number: reject.number }.into())),
            }
        }
        found => Err(ProtocolError::UnexpectedKind { found }.into()),
    }
}
