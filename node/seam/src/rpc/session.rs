//! One accepted connection: requests come in, handlers run as tasks, answers go out in order of completion.
//!
//! Keeps: every request that was read gets exactly one answer, which returns the credit its payload took; what a peer
//! may have in flight is bounded in number, in payload bytes (credit) and in body bytes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_io::AsyncWrite;
use futures_util::future::{Either, select};
use shingle_proto::frame::{Header, Kind, checksum};
use shingle_proto::limits::{CONNECTION_BODIES_BYTES_MAX, CONNECTION_REQUESTS_MAX};
use shingle_proto::message::{ErrorCode, ErrorReply, MalformedBody, Request, Role, decode_request, encode_response};

use super::farewell::{close_with, reject_for};
use super::incoming::{Incoming, ReceiveError};
use super::outbox::{Outbox, Outgoing};
use super::{Answer, Call, Payload, ProtocolError, Service};
use crate::World;
use crate::gate::Gate;

/// One connection, after HELLO.
pub(super) struct Session<S: Service> {
    world: World,
    service: Rc<S>,
    peer: SocketAddr,
    role: Role,
    version: u16,
    outbox: Outbox<S::Buffer>,
    /// Requests whose handlers run, each with what is closed to end it.
    running: RefCell<BTreeMap<u64, Rc<Gate>>>,
    /// Payload bytes the peer may still send.
    credit: Cell<u64>,
    /// Bytes of bodies that may still be read before one is answered.
    bodies: Gate,
    over: Cell<bool>,
}

/// A request that has been read, and where it stands in the connection's accounts.
struct Received<B> {
    call: Call,
    request: Request,
    payload: Option<B>,
    body_bytes: u32,
    payload_bytes: u32,
}

impl<S: Service> Session<S> {
    pub(super) fn new(
        world: World,
        service: Rc<S>,
        peer: SocketAddr,
        role: Role,
        version: u16,
        credit_bytes: u32,
    ) -> Rc<Self> {
        Rc::new(Self {
            world,
            service,
            peer,
            role,
            version,
            outbox: Outbox::new(),
            running: RefCell::default(),
            credit: Cell::new(u64::from(credit_bytes)),
            bodies: Gate::new(u64::from(CONNECTION_BODIES_BYTES_MAX)),
            over: Cell::new(false),
        })
    }

    /// Serves the connection until it ends, for whatever reason.
    pub(super) async fn run(self: &Rc<Self>, mut incoming: Incoming, mut writer: Box<dyn AsyncWrite + Unpin>) {
        let ended = {
            let receiving = pin!(self.receive(&mut incoming));
            let sending = pin!(self.outbox.pump(&mut *writer, &self.world.tasks));
            match select(receiving, sending).await {
                Either::Left((result, _)) => result,
                Either::Right((result, _)) => result.map_err(ReceiveError::Io),
            }
        };
        self.end();
        match ended {
            Ok(()) => tracing::debug!(peer = %self.peer, "connection closed by the peer"),
            Err(ReceiveError::Io(error)) => tracing::debug!(peer = %self.peer, %error, "connection broken"),
            Err(ReceiveError::Protocol(error)) => {
                tracing::warn!(peer = %self.peer, %error, "connection closed");
                if let Some(reject) = reject_for(&error).filter(|_| self.outbox.between_frames()) {
                    close_with(reject, &mut incoming, &mut *writer, &self.world.tasks).await;
                }
            }
        }
    }

    /// Drops every handler.
    pub(super) fn end(&self) {
        self.over.set(true);
        for cancel in self.running.take().into_values() {
            cancel.close();
        }
    }

    /// The peer may send this many payload bytes more.
    pub(super) fn raise_credit(&self, bytes: u32) {
        self.credit.set(self.credit.get() + u64::from(bytes));
        let mut header = empty(Kind::Credit, self.version);
        header.credit_bytes = bytes;
        self.outbox.push(Outgoing { header, body: Vec::new(), payload: None });
    }

    async fn receive(self: &Rc<Self>, incoming: &mut Incoming) -> Result<(), ReceiveError> {
        while let Some(header) = incoming.header(self.version).await? {
            match header.kind {
                Kind::Request => self.receive_request(&header, incoming).await?,
                Kind::Cancel => self.cancel(header.request_id),
                Kind::Reject => {
                    let reject = incoming.reject(&header).await?;
                    return Err(ProtocolError::Rejected { reason: reject.reason, number: reject.number }.into());
                }
                found => return Err(ProtocolError::UnexpectedKind { found }.into()),
            }
        }
        Ok(())
    }

    async fn receive_request(self: &Rc<Self>, header: &Header, incoming: &mut Incoming) -> Result<(), ReceiveError> {
        let id = header.request_id;
        let deadline = self.world.clock.now() + Duration::from_millis(u64::from(header.deadline_ms));
        self.admit(header)?;
        self.bodies.acquire(u64::from(header.body_bytes)).await.expect("this gate is never closed");
        let body = incoming.body(header).await?;
        let request = match decode_request(&body) {
            Ok(request) => Ok(request),
            // A later version's request: nothing is wrong with the connection.
            Err(MalformedBody::UnknownType) => {
                Err(ErrorReply::new(ErrorCode::Unsupported, 0, "a request this release does not know"))
            }
            Err(MalformedBody::Invalid(error)) => {
                return Err(ProtocolError::Body { kind: header.kind, detail: error.to_string() }.into());
            }
        };
        drop(body);
        let place = match (&request, header.payload_bytes) {
            (Ok(_), 0) => Ok(None),
            (Ok(request), bytes) => self.service.buffer(request, bytes).map(Some),
            (Err(refusal), _) => Err(refusal.clone()),
        };
        let read = match place {
            Ok(mut place) => {
                if let Some(place) = &mut place {
                    incoming.payload(header, place.as_mut()).await?;
                    place.checked(header.payload_crc);
                }
                request.map(|request| (request, place))
            }
            Err(refusal) => incoming.drop_payload(header).await.map(|()| Err(refusal))?,
        };
        match read {
            Ok((request, payload)) => {
                let call = Call {
                    peer: self.peer,
                    id,
                    trace: header.trace_id,
                    class: header.class,
                    deadline,
                    generation: header.generation,
                    put_token: header.put_token,
                    role: self.role,
                };
                let (body_bytes, payload_bytes) = (header.body_bytes, header.payload_bytes);
                self.start(Received { call, request, payload, body_bytes, payload_bytes });
            }
            Err(refusal) => self.answer(id, header.body_bytes, header.payload_bytes, refusal.into()),
        }
        Ok(())
    }

    /// Holds a request against what its connection may have in flight. Twice the requests a peer may have, because it
    /// counts one as over when it has the answer, we when the answer has left.
    fn admit(&self, header: &Header) -> Result<(), ProtocolError> {
        let requests = self.running.borrow().len() + self.outbox.unsent();
        if requests >= 2 * CONNECTION_REQUESTS_MAX {
            return Err(ProtocolError::TooManyRequests { requests });
        }
        if self.running.borrow().contains_key(&header.request_id) {
            return Err(ProtocolError::DuplicateRequest { id: header.request_id });
        }
        let bytes = header.payload_bytes;
        match self.credit.get().checked_sub(u64::from(bytes)) {
            Some(left) => self.credit.set(left),
            None => return Err(ProtocolError::CreditExceeded { bytes, credit: self.credit.get() }),
        }
        Ok(())
    }

    /// Starts the task that answers one request: the handler, its deadline, or a cancellation, whichever is first.
    fn start(self: &Rc<Self>, received: Received<S::Buffer>) {
        let Received { call, request, payload, body_bytes, payload_bytes } = received;
        let (id, deadline) = (call.id, call.deadline);
        let cancel = Rc::new(Gate::new(0));
        self.running.borrow_mut().insert(id, cancel.clone());
        let session = self.clone();
        let task = async move {
            let answer = {
                let left = deadline - session.world.clock.now();
                let handler = session.service.clone().handle(call, request, payload);
                let (cancelled, expired) = (pin!(cancel.wait_closed()), session.world.tasks.sleep(left));
                match select(cancelled, select(handler, expired)).await {
                    Either::Left(_) => ErrorReply::new(ErrorCode::Cancelled, 0, "cancelled by the caller").into(),
                    Either::Right((Either::Left((answer, _)), _)) => answer,
                    Either::Right((Either::Right(_), _)) => {
                        ErrorReply::new(ErrorCode::DeadlineExceeded, 0, "the request's deadline passed").into()
                    }
                }
            };
            if !session.over.get() {
                session.running.borrow_mut().remove(&id);
                session.answer(id, body_bytes, payload_bytes, answer);
            }
        };
        self.world.tasks.spawn("request", Box::pin(task));
    }

    /// Queues a request's one answer, and with it gives back what the request has taken.
    fn answer(&self, id: u64, body_bytes: u32, payload_bytes: u32, answer: Answer<S::Buffer>) {
        let mut frame = self.frame(answer);
        frame.header.request_id = id;
        frame.header.credit_bytes = payload_bytes;
        self.credit.set(self.credit.get() + u64::from(payload_bytes));
        self.bodies.release(u64::from(body_bytes));
        self.outbox.push(frame);
    }

    fn frame(&self, answer: Answer<S::Buffer>) -> Outgoing<S::Buffer> {
        let body = encode_response(answer.response);
        let payload = answer.payload.as_ref().map_or((0, checksum(&[])), |payload| {
            (payload.as_ref().len(), payload.crc32c().unwrap_or_else(|| checksum(payload.as_ref())))
        });
        match Header::summed(Kind::Response, self.version, &body, payload) {
            Ok(header) => Outgoing { header, body, payload: answer.payload },
            Err(error) => {
                tracing::error!(peer = %self.peer, %error, "an answer is too large to be sent");
                self.frame(ErrorReply::new(ErrorCode::Unknown, 0, "the answer is too large to be sent").into())
            }
        }
    }

    /// The caller lost interest: its handler is dropped, or the answer that waits to be sent loses its payload.
    fn cancel(&self, id: u64) {
        if let Some(cancel) = self.running.borrow().get(&id) {
            cancel.close();
        } else if let Some(unsent) = self.outbox.withdraw(Kind::Response, id) {
            let mut frame = self.frame(ErrorReply::new(ErrorCode::Cancelled, 0, "cancelled by the caller").into());
            frame.header.request_id = id;
            frame.header.credit_bytes = unsent.header.credit_bytes;
            self.outbox.push(frame);
        }
    }
}

fn empty(kind: Kind, version: u16) -> Header {
    Header::new(kind, version, &[], &[]).expect("an empty frame is within every limit")
}
