//! What a caller says about a call beside the request itself, and what it gets back.

use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use shingle_proto::frame::{Class, checksum};
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

/// A payload that the caller may keep and send several times; its checksum is computed once.
#[derive(Clone, Debug)]
pub struct SharedPayload {
    bytes: Rc<Vec<u8>>,
    crc32c: u32,
}

impl SharedPayload {
    /// Bytes and their CRC32C. Whoever gets them refuses them where it is that of others.
    pub fn summed(bytes: Vec<u8>, crc32c: u32) -> Self {
        Self { bytes: Rc::new(bytes), crc32c }
    }

    /// What the header of a frame says of it.
    pub(super) fn summary(&self) -> (usize, u32) {
        (self.bytes.len(), self.crc32c)
    }
}

impl From<Vec<u8>> for SharedPayload {
    fn from(bytes: Vec<u8>) -> Self {
        let crc32c = checksum(&bytes);
        Self::summed(bytes, crc32c)
    }
}

impl Deref for SharedPayload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for SharedPayload {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// An answer that is not a refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub response: Response,
    /// The block bytes that came with it; empty when none.
    pub payload: Vec<u8>,
}
