//! What can go wrong with a call, one variant per reaction of the caller.

use std::io;

use shingle_proto::frame::{FrameError, Kind, RejectReason};
use shingle_proto::message::ErrorReply;

/// A call that brought no answer, or a refusal.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RpcError {
    /// There is no connection and none could be made, or the pause after a failure is not over: the request was
    /// certainly not executed.
    #[error("cannot connect: {0}")]
    Connect(io::ErrorKind),
    /// The connection broke after the request may have been sent: it may have been executed, or may still be.
    #[error("the connection was lost")]
    Lost,
    /// The peer runs a release too far away from ours.
    #[error("no common protocol version: we speak {}..={}, the peer {}..={}", ours.0, ours.1, theirs.0, theirs.1)]
    NoCommonVersion { ours: (u16, u16), theirs: (u16, u16) },
    /// One side broke the protocol; the connection is closed.
    #[error("protocol error: {0}")]
    Protocol(#[from] ProtocolError),
    /// The time was up, here or at the peer: the request may have been executed.
    #[error("the deadline passed")]
    Deadline,
    /// The peer's answer is an error. `Busy` also when it turned the connection away.
    #[error("refused: {:?} {} {}", .0.code, .0.number, .0.message)]
    Refused(ErrorReply),
}

/// How the protocol was broken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProtocolError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the peer closed the connection because of {reason:?} ({number})")]
    Rejected { reason: RejectReason, number: u64 },
    #[error("the body of a {kind:?} frame does not decode: {detail}")]
    Body { kind: Kind, detail: String },
    #[error("a {found:?} frame where none may come")]
    UnexpectedKind { found: Kind },
    #[error("the connection ended inside a frame")]
    Truncated,
    #[error("nothing came of the rest of a frame for {ms} ms")]
    Stalled { ms: u64 },
    #[error("a payload of {bytes} bytes with {credit} bytes of credit")]
    CreditExceeded { bytes: u32, credit: u64 },
    #[error("request id {id} is in flight already")]
    DuplicateRequest { id: u64 },
    #[error("an answer to request {id}, which was not asked")]
    UnknownRequest { id: u64 },
    #[error("{requests} requests in flight")]
    TooManyRequests { requests: usize },
}
