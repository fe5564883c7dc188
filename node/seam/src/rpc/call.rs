//! What a caller says about a call beside the request itself, and what it gets back.

use std::time::Duration;

use shingle_proto::frame::Class;
use shingle_proto::ids::{Generation, PutToken};
use shingle_proto::message::Response;

/// What travels in the header of a request.
#[derive(Clone, Debug)]
pub struct CallMeta {
    pub class: Class,
    /// Bounds the whole call: connecting, waiting for credit, sending, the answer.
    pub deadline: Duration,
    /// Ties together what one user request causes anywhere; zero when it belongs to none.
    pub trace: u64,
    /// The volume generation the caller acts upon; zero where there is none.
    pub generation: Generation,
    /// Proof of a live upload intent; zero where there is none.
    pub put_token: PutToken,
}

impl CallMeta {
    /// A client's call with this deadline; no trace, generation or put token.
    pub fn client(deadline: Duration) -> Self {
        Self { class: Class::Client, deadline, trace: 0, generation: Generation(0), put_token: PutToken(0) }
    }
}

/// An answer that is not a refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub response: Response,
    /// The block bytes that came with it; empty when none.
    pub payload: Vec<u8>,
}
