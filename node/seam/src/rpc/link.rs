//! One established connection of a caller: requests go out, answers find their callers.
//!
//! Keeps: a place and the credit of a request are given back by its answer, or when nothing of it was sent, and by
//! nothing else; so both sides always agree on what is in flight. A peer that does not answer, not even that a deadline
//! has passed, is given up, and with it whatever it holds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

use futures_io::AsyncWrite;
use futures_util::future::{Either, select};
use local_sync::oneshot;
use shingle_proto::frame::{Header, Kind, RejectReason, VERSIONS, checksum};
use shingle_proto::limits::{CONNECTION_REQUESTS_MAX, SILENCE_AFTER_DEADLINE_MS, SILENT_TIMEOUTS_MAX};
use shingle_proto::message::{
    ErrorCode, ErrorReply, MalformedBody, Request, Response, decode_response, encode_request,
};

use super::farewell::{close_with, reject_for};
use super::incoming::{Incoming, ReceiveError};
use super::outbox::{Outbox, Outgoing};
use super::{CallMeta, ProtocolError, Reply, RpcError, SharedPayload};
use crate::World;
use crate::clock::Monotonic;
use crate::gate::{Closed, Gate};

type Outcome = Result<Reply, RpcError>;

/// One connection, after HELLO.
pub(super) struct Link {
    /// For the tasks that outlive a call.
    me: Weak<Self>,
    world: World,
    peer: SocketAddr,
    version: u16,
    outbox: Outbox<SharedPayload>,
    /// Requests without an answer; the caller is gone where there is no sender.
    waiting: RefCell<BTreeMap<u64, Option<oneshot::Sender<Outcome>>>>,
    places: Gate,
    credit: Gate,
    /// All the credit there is when nothing is in flight.
    credit_bytes: Cell<u64>,
    closing: Gate,
    failure: RefCell<Option<RpcError>>,
    next_id: Cell<u64>,
    silent_timeouts: Cell<u32>,
    /// Frames received; tells silence.
    heard: Cell<u64>,
    /// A request's deadline has passed unanswered, and whether anything comes is being watched.
    watched: Cell<bool>,
    answered: Cell<bool>,
}

impl Link {
    pub(super) fn new(world: World, peer: SocketAddr, version: u16, credit_bytes: u32) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            world,
            peer,
            version,
            outbox: Outbox::new(),
            waiting: RefCell::default(),
            places: Gate::new(CONNECTION_REQUESTS_MAX as u64),
            credit: Gate::new(u64::from(credit_bytes)),
            credit_bytes: Cell::new(u64::from(credit_bytes)),
            closing: Gate::new(0),
            failure: RefCell::default(),
            next_id: Cell::new(1),
            silent_timeouts: Cell::new(0),
            heard: Cell::new(0),
            watched: Cell::new(false),
            answered: Cell::new(false),
        })
    }

    /// Whether no call can be made any more.
    pub(super) fn is_over(&self) -> bool {
        self.closing.is_closed()
    }

    /// Whether the peer has answered anything at all.
    pub(super) fn was_useful(&self) -> bool {
        self.answered.get()
    }

    /// Why no call can be made any more.
    pub(super) fn failure(&self) -> RpcError {
        self.failure.borrow().clone().unwrap_or(RpcError::Lost)
    }

    /// Ends the connection; every call in flight fails with `error`.
    pub(super) fn fail(&self, error: RpcError) {
        self.failure.borrow_mut().get_or_insert(error.clone());
        self.places.close();
        self.credit.close();
        self.closing.close();
        for caller in self.waiting.take().into_values().flatten() {
            let _ = caller.send(Err(error.clone())); // the caller may have gone
        }
    }

    /// Sends and receives until the connection ends, for whatever reason.
    pub(super) async fn run(&self, mut incoming: Incoming, mut writer: Box<dyn AsyncWrite + Unpin>) {
        let error = {
            let receiving = pin!(self.receive(&mut incoming));
            let sending = pin!(self.outbox.pump(&mut *writer, &self.world.tasks));
            let closing = pin!(self.closing.wait_closed());
            match select(closing, select(receiving, sending)).await {
                Either::Left(_) => None,
                Either::Right((Either::Left((error, _)), _)) => Some(error),
                Either::Right((Either::Right((result, _)), _)) => Some(result.err().map_or(RpcError::Lost, |error| {
                    tracing::debug!(peer = %self.peer, %error, "connection broken while sending");
                    RpcError::Lost
                })),
            }
        };
        let Some(error) = error else { return };
        self.fail(error.clone());
        let RpcError::Protocol(error) = error else { return };
        tracing::warn!(peer = %self.peer, %error, "connection closed");
        if let Some(reject) = reject_for(&error).filter(|_| self.outbox.between_frames()) {
            close_with(reject, &mut incoming, &mut *writer, &self.world.tasks).await;
        }
    }

    /// Receives until nothing more can be received, and says why.
    async fn receive(&self, incoming: &mut Incoming) -> RpcError {
        loop {
            match self.receive_frame(incoming).await {
                Ok(true) => {}
                Ok(false) => return RpcError::Lost,
                Err(error) => return receive_failure(error),
            }
        }
    }

    /// Handles one frame; false when the peer has ended the connection.
    async fn receive_frame(&self, incoming: &mut Incoming) -> Result<bool, ReceiveError> {
        let Some(header) = incoming.header(self.version).await? else { return Ok(false) };
        self.silent_timeouts.set(0);
        self.heard.set(self.heard.get() + 1);
        match header.kind {
            Kind::Response => self.receive_answer(&header, incoming).await?,
            Kind::Credit => {
                self.credit_bytes.set(self.credit_bytes.get().saturating_add(u64::from(header.credit_bytes)));
                self.credit.release(u64::from(header.credit_bytes));
            }
            Kind::Reject => {
                let reject = incoming.reject(&header).await?;
                return Err(ProtocolError::Rejected { reason: reject.reason, number: reject.number }.into());
            }
            found => return Err(ProtocolError::UnexpectedKind { found }.into()),
        }
        Ok(true)
    }

    async fn receive_answer(&self, header: &Header, incoming: &mut Incoming) -> Result<(), ReceiveError> {
        let id = header.request_id;
        let body = incoming.body(header).await?;
        let caller = self.waiting.borrow_mut().remove(&id).ok_or(ProtocolError::UnknownRequest { id })?;
        self.answered.set(true);
        let outcome = match caller {
            None => incoming.drop_payload(header).await.map(|()| None)?,
            Some(caller) => {
                let mut payload = vec![0; header.payload_bytes as usize];
                incoming.payload(header, &mut payload).await?;
                Some((caller, outcome(&body, payload)))
            }
        };
        self.places.release(1);
        self.credit.release(u64::from(header.credit_bytes));
        if let Some((caller, outcome)) = outcome {
            let malformed = match &outcome {
                Err(RpcError::Protocol(error)) => Some(error.clone()),
                _ => None,
            };
            let _ = caller.send(outcome); // the caller may have gone
            if let Some(error) = malformed {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Asks, and waits for the answer. Dropped, it takes the request back, or cancels it.
    pub(super) async fn call(
        &self,
        meta: &CallMeta,
        deadline: Monotonic,
        request: Request,
        payload: Option<SharedPayload>,
    ) -> Outcome {
        let body = encode_request(request);
        let summary = payload.as_ref().map_or((0, checksum(&[])), SharedPayload::summary);
        let mut header = Header::summed(Kind::Request, self.version, &body, summary).map_err(ProtocolError::from)?;
        let credit = u64::from(header.payload_bytes);
        if credit > self.credit_bytes.get() {
            let text = "the peer takes no payload of this size from us";
            return Err(RpcError::Refused(ErrorReply::new(ErrorCode::Busy, credit, text)));
        }
        let mut ask = Ask { link: self, deadline, place: false, credit: 0, sent: None, over: false };
        ask.take(credit).await?;
        header.class = meta.class;
        header.request_id = self.next_id.replace(self.next_id.get() + 1);
        header.trace_id = meta.trace;
        header.generation = meta.generation;
        header.put_token = meta.put_token;
        let left_ms = (deadline - self.world.clock.now()).as_nanos().div_ceil(1_000_000);
        header.deadline_ms = u32::try_from(left_ms).unwrap_or(u32::MAX).max(1);
        let (answer, answered) = oneshot::channel();
        self.waiting.borrow_mut().insert(header.request_id, Some(answer));
        ask.sent = Some(header.request_id);
        self.outbox.push(Outgoing { header, body, payload });
        let outcome = answered.await;
        ask.over = true;
        outcome.unwrap_or_else(|_| Err(self.failure()))
    }

    /// A caller stops waiting for a request that was queued; false when none of it was sent.
    fn abandon(&self, id: u64) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let Some(caller) = waiting.get_mut(&id) else { return true };
        *caller = None;
        if let Some(unsent) = self.outbox.withdraw(Kind::Request, id) {
            waiting.remove(&id);
            drop(waiting);
            self.places.release(1);
            self.credit.release(u64::from(unsent.header.payload_bytes));
            return false;
        }
        drop(waiting);
        let mut header =
            Header::new(Kind::Cancel, self.version, &[], &[]).expect("an empty frame is within every limit");
        header.request_id = id;
        self.outbox.push(Outgoing { header, body: Vec::new(), payload: None });
        true
    }

    /// A request that was sent has passed its deadline unanswered: the peer owes at least that word.
    fn watch(&self) {
        let Some(link) = self.me.upgrade().filter(|_| !self.is_over() && !self.watched.replace(true)) else { return };
        let heard = self.heard.get();
        let silence = self.world.tasks.sleep(Duration::from_millis(SILENCE_AFTER_DEADLINE_MS));
        let task = async move {
            silence.await;
            link.watched.set(false);
            if link.heard.get() == heard && !link.is_over() {
                tracing::warn!(peer = %link.peer, "connection given up: nothing comes back after a deadline");
                link.fail(RpcError::Lost);
            }
        };
        self.world.tasks.spawn("silence", Box::pin(task));
    }

    /// A call ran into its deadline: a connection that is silent through several of them is half open.
    fn count_timeout(&self) {
        let timeouts = self.silent_timeouts.get() + 1;
        self.silent_timeouts.set(timeouts);
        if timeouts >= SILENT_TIMEOUTS_MAX && !self.is_over() {
            tracing::warn!(peer = %self.peer, timeouts, "connection given up: nothing comes back");
            self.fail(RpcError::Lost);
        }
    }
}

/// A call in progress: what it has taken, to be given back if it is dropped.
struct Ask<'a> {
    link: &'a Link,
    deadline: Monotonic,
    place: bool,
    credit: u64,
    sent: Option<u64>,
    over: bool,
}

impl Ask<'_> {
    /// Waits for a place and for credit. A connection that ends meanwhile has not seen the request.
    async fn take(&mut self, credit: u64) -> Result<(), RpcError> {
        let unsent = |_: Closed| RpcError::Connect(io::ErrorKind::ConnectionAborted);
        self.link.places.acquire(1).await.map_err(unsent)?;
        self.place = true;
        if credit > 0 {
            self.link.credit.acquire(credit).await.map_err(unsent)?; // who needs none waits behind nobody
            self.credit = credit;
        }
        // What was granted in the same moment in which the connection ended is granted still: nobody would answer.
        if self.link.is_over() { Err(unsent(Closed)) } else { Ok(()) }
    }
}

impl Drop for Ask<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let sent = match self.sent {
            Some(id) => self.link.abandon(id),
            None => {
                self.link.places.release(u64::from(self.place));
                self.link.credit.release(self.credit);
                false
            }
        };
        if self.link.world.clock.now() >= self.deadline {
            self.link.count_timeout();
            if sent {
                self.link.watch();
            }
        }
    }
}

fn outcome(body: &[u8], payload: Vec<u8>) -> Outcome {
    match decode_response(body) {
        Ok(Response::ErrorReply(error)) if error.code == ErrorCode::DeadlineExceeded => Err(RpcError::Deadline),
        Ok(Response::ErrorReply(error)) => Err(RpcError::Refused(*error)),
        Ok(response) => Ok(Reply { response, payload }),
        // A later version's answer: nothing is wrong with the connection.
        Err(MalformedBody::UnknownType) => {
            let text = "the answer is of a type this release does not know";
            Err(RpcError::Refused(ErrorReply::new(ErrorCode::Unsupported, 0, text)))
        }
        Err(MalformedBody::Invalid(error)) => {
            Err(ProtocolError::Body { kind: Kind::Response, detail: error.to_string() }.into())
        }
    }
}

/// What a caller is told when nothing more can be received.
pub(super) fn receive_failure(error: ReceiveError) -> RpcError {
    match error {
        ReceiveError::Io(_) | ReceiveError::Protocol(ProtocolError::Truncated) => RpcError::Lost,
        ReceiveError::Protocol(ProtocolError::Rejected { reason: RejectReason::Busy, number }) => {
            RpcError::Refused(ErrorReply::new(ErrorCode::Busy, number, "the peer has no room for another connection"))
        }
        ReceiveError::Protocol(error) => RpcError::Protocol(error),
    }
}

/// What a caller is told when the peer answers HELLO with a REJECT for lack of a common version.
pub(super) fn no_common_version(theirs: (u16, u16)) -> RpcError {
    RpcError::NoCommonVersion { ours: VERSIONS, theirs }
}
