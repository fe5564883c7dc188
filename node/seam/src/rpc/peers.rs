//! Connections to peers: opened on demand, one per address.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use shingle_proto::message::{Request, Role};

use super::{CallMeta, Reply, RpcError};
use crate::World;

/// Connections to peers, opened on demand, one per address, reopened after loss. Cheap to clone.
#[derive(Clone)]
pub struct Peers(Rc<Inner>);

struct Inner {
    world: World,
    role: Role,
    process: String,
}

impl Peers {
    /// `role` and `process` are told to peers at HELLO.
    pub fn new(world: World, role: Role, process: String) -> Self {
        Self(Rc::new(Inner { world, role, process }))
    }

    /// Asks `peer` and waits for its answer.
    ///
    /// # Errors
    /// [`RpcError`], in which an error answer of the peer is `Refused`.
    pub async fn call(
        &self,
        peer: SocketAddr,
        meta: &CallMeta,
        request: Request,
        payload: Option<Rc<Vec<u8>>>,
    ) -> Result<Reply, RpcError> {
        let (_, _, _, _) = (&self.0.world, &self.0.role, &self.0.process, (peer, meta, request, payload));
        Err(RpcError::Connect(io::ErrorKind::Unsupported))
    }
}
