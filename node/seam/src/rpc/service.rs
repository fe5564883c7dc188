//! What answers calls: the trait a host, the control service or a test implements.

use std::net::SocketAddr;
use std::rc::Rc;

use shingle_proto::frame::Class;
use shingle_proto::ids::{Generation, PutToken};
use shingle_proto::message::{ErrorReply, Request, Response, Role};

use crate::clock::Monotonic;
use crate::tasks::LocalFuture;

/// Who asks, for whom, and until when.
#[derive(Clone, Debug)]
pub struct Call {
    pub peer: SocketAddr,
    /// The request's id on its connection.
    pub id: u64,
    pub trace: u64,
    pub class: Class,
    /// When the caller stops waiting; the handler is dropped then.
    pub deadline: Monotonic,
    pub generation: Generation,
    pub put_token: PutToken,
    /// What the caller said it is.
    pub role: Role,
}

/// What a handler gives back.
#[derive(Debug)]
pub struct Answer<B> {
    pub response: Response,
    pub payload: Option<B>,
}

impl<B> From<Response> for Answer<B> {
    fn from(response: Response) -> Self {
        Self { response, payload: None }
    }
}

impl<B> From<ErrorReply> for Answer<B> {
    fn from(error: ErrorReply) -> Self {
        Self { response: error.into(), payload: None }
    }
}

/// A payload in memory: exactly the payload's bytes; the service's own buffer may have room around them.
pub trait Payload: AsRef<[u8]> + AsMut<[u8]> + 'static {
    /// The bytes came with this CRC32C, and it fits them. Whoever stores it with them need not compute another, and what
    /// happens to them in memory from now on does not go unnoticed.
    fn checked(&mut self, _crc32c: u32) {}

    /// Their CRC32C, where it is known.
    fn crc32c(&self) -> Option<u32> {
        None
    }
}

impl Payload for Vec<u8> {}

/// Answers the requests of one listener.
pub trait Service: 'static {
    type Buffer: Payload;

    /// The name told to peers at HELLO.
    fn process(&self) -> String;

    /// Called before a payload of `bytes` is read from the socket, so that it is read straight into its place.
    ///
    /// # Errors
    /// A refusal is the request's answer; its payload is read and dropped.
    fn buffer(self: &Rc<Self>, request: &Request, bytes: u32) -> Result<Self::Buffer, ErrorReply>;

    /// Answers one request. The future is dropped when the caller cancels, its deadline passes or its connection is
    /// lost; that must be safe at every await.
    fn handle(
        self: Rc<Self>,
        call: Call,
        request: Request,
        payload: Option<Self::Buffer>,
    ) -> LocalFuture<'static, Answer<Self::Buffer>>;
}
