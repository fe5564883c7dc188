//! Accepts connections, greets them, and lets a session answer each.
//!
//! Keeps: the number of connections and the credit they hold are bounded; who comes too much is told so and closed.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_io::AsyncWrite;
use futures_util::future::select;
use futures_util::io::AsyncWriteExt;
use shingle_proto::frame::{HELLO_VERSION, Header, Kind, Reject, VERSIONS, common_version};
use shingle_proto::limits::{HANDSHAKE_DEADLINE_MS, LISTENER_CONNECTIONS_MAX};
use shingle_proto::message::{Hello, HelloReply, decode_hello, encode_hello_reply};

use super::budget::{Budget, Share};
use super::farewell::{close_with, reject_busy, reject_for, reject_version};
use super::incoming::{Incoming, ReceiveError};
use super::session::Session;
use super::{ProtocolError, Service};
use crate::World;
use crate::gate::Gate;
use crate::net::{Connection, Listener};

/// Connections beyond the limit that are being told so; more than these are closed without a word.
const REFUSALS_MAX: usize = 64;
/// First and longest pause after a failure to accept, such as too many open files.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// Credits for request payloads handed out over all connections never exceed this. Below one payload
    /// (`FRAME_PAYLOAD_BYTES_MAX`) only the control plane is let in.
    pub budget_bytes: u64,
}

/// Serves until dropped; dropping it ends every connection and drops every handler.
pub async fn serve<S: Service>(world: World, listener: Box<dyn Listener>, service: Rc<S>, options: ServeOptions) {
    let door = Rc::new(Door {
        world,
        service,
        budget: Budget::new(options.budget_bytes),
        closing: Gate::new(0),
        connections: Cell::new(0),
    });
    let _closing = CloseOnDrop(&door.closing);
    let mut pause = ACCEPT_PAUSE.0;
    loop {
        match listener.accept().await {
            Ok(connection) => {
                pause = ACCEPT_PAUSE.0;
                door.admit(connection);
            }
            Err(error) => {
                tracing::warn!(address = %listener.local_address(), %error, ?pause, "cannot accept a connection");
                door.world.tasks.sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE.1);
            }
        }
    }
}

struct CloseOnDrop<'a>(&'a Gate);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What all connections of one listener share.
struct Door<S: Service> {
    world: World,
    service: Rc<S>,
    budget: Rc<Budget>,
    closing: Gate,
    connections: Cell<usize>,
}

/// A connection counted among the open ones, until it is dropped.
struct Counted<S: Service>(Rc<Door<S>>);

impl<S: Service> Drop for Counted<S> {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
    }
}

/// How greeting a connection ended without a session.
enum Turned {
    Away(Reject),
    Broken(ReceiveError),
}

impl From<ReceiveError> for Turned {
    fn from(error: ReceiveError) -> Self {
        Self::Broken(error)
    }
}

impl From<io::Error> for Turned {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

impl<S: Service> Door<S> {
    fn admit(self: &Rc<Self>, connection: Connection) {
        let connections = self.connections.get();
        if connections >= LISTENER_CONNECTIONS_MAX + REFUSALS_MAX {
            tracing::warn!(peer = %connection.peer, connections, "connection dropped: far too many");
            return;
        }
        self.connections.set(connections + 1);
        let counted = Counted(self.clone());
        let crowded = connections >= LISTENER_CONNECTIONS_MAX;
        let task = async move {
            let door = &*counted.0;
            let closing = pin!(door.closing.wait_closed());
            let serving = pin!(door.serve_connection(connection, crowded));
            select(closing, serving).await;
        };
        self.world.tasks.spawn("connection", Box::pin(task));
    }

    async fn serve_connection(&self, connection: Connection, crowded: bool) {
        let Connection { reader, mut writer, peer } = connection;
        let mut incoming = Incoming::new(reader, self.world.tasks.clone());
        let limit = Duration::from_millis(HANDSHAKE_DEADLINE_MS);
        let greeted = match crowded {
            true => Err(Turned::Away(reject_busy())),
            false => match self.world.tasks.timeout(limit, self.greet(&mut incoming, &mut *writer)).await {
                Ok(greeted) => greeted,
                Err(_) => Err(Turned::Broken(ProtocolError::Stalled { ms: HANDSHAKE_DEADLINE_MS }.into())),
            },
        };
        let reject = match greeted {
            Ok((hello, version, share)) => {
                tracing::debug!(%peer, role = ?hello.role, process = hello.process, "connected");
                let credit = share.bytes();
                let (world, service) = (self.world.clone(), self.service.clone());
                let session = Session::new(world, service, peer, hello.role, version, credit);
                let weak = Rc::downgrade(&session);
                share.on_raise(Box::new(move |bytes| {
                    if let Some(session) = weak.upgrade() {
                        session.raise_credit(bytes);
                    }
                }));
                let _end = EndOnDrop(&session);
                return session.run(incoming, writer).await;
            }
            Err(Turned::Away(reject)) => {
                tracing::warn!(%peer, reason = ?reject.reason, "connection turned away");
                Some(reject)
            }
            Err(Turned::Broken(ReceiveError::Io(error))) => {
                tracing::debug!(%peer, %error, "connection broken before HELLO");
                None
            }
            Err(Turned::Broken(ReceiveError::Protocol(error))) => {
                tracing::warn!(%peer, %error, "connection closed before HELLO");
                reject_for(&error)
            }
        };
        if let Some(reject) = reject {
            close_with(reject, &mut incoming, &mut *writer, &self.world.tasks).await;
        }
    }

    /// Exchanges HELLO.
    async fn greet(
        &self,
        incoming: &mut Incoming,
        writer: &mut (dyn AsyncWrite + Unpin),
    ) -> Result<(Hello, u16, Share), Turned> {
        let header = incoming.header(HELLO_VERSION).await?;
        let Some(header) = header else { return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) };
        if header.kind != Kind::Hello {
            return Err(ReceiveError::from(ProtocolError::UnexpectedKind { found: header.kind }).into());
        }
        let body = incoming.body(&header).await?;
        let hello = decode_hello(&body).map_err(|error| {
            ReceiveError::from(ProtocolError::Body { kind: header.kind, detail: error.to_string() })
        })?;
        let theirs = (hello.versions_min, hello.versions_max);
        let version = common_version(VERSIONS, theirs).ok_or(Turned::Away(reject_version()))?;
        let share = self.budget.share(hello.role).ok_or(Turned::Away(reject_busy()))?;
        let reply = HelloReply { version, credit_bytes: share.bytes(), process: self.service.process() };
        let body = encode_hello_reply(&reply);
        let header = Header::new(Kind::HelloReply, HELLO_VERSION, &body, &[])
            .map_err(|error| ReceiveError::from(ProtocolError::from(error)))?;
        let mut frame = header.encode().to_vec();
        frame.extend_from_slice(&body);
        writer.write_all(&frame).await?;
        writer.flush().await?;
        Ok((hello, version, share))
    }
}

/// Ends a session's handlers when its connection's task is dropped.
struct EndOnDrop<'a, S: Service>(&'a Session<S>);

impl<S: Service> Drop for EndOnDrop<'_, S> {
    fn drop(&mut self) {
        self.0.end();
    }
}
