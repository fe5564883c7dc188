//! The network: streams and listeners. Until links are encrypted, every listener binds to loopback.

use std::io;
use std::net::SocketAddr;

use futures_io::{AsyncRead, AsyncWrite};

use crate::tasks::LocalFuture;

/// One established connection: two independent directions.
pub struct Connection {
    pub reader: Box<dyn AsyncRead + Unpin>,
    pub writer: Box<dyn AsyncWrite + Unpin>,
    pub peer: SocketAddr,
}

/// A listener that would be reachable from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a loopback address: links are not encrypted yet, so Shingle listens on 127.0.0.0/8 or ::1 only")]
pub struct NotLoopback(pub SocketAddr);

/// Refuses addresses that other machines could reach.
pub fn require_loopback(address: SocketAddr) -> Result<SocketAddr, NotLoopback> {
    if address.ip().is_loopback() { Ok(address) } else { Err(NotLoopback(address)) }
}

/// Accepts connections.
pub trait Listener {
    fn local_address(&self) -> SocketAddr;
    fn accept(&self) -> LocalFuture<'_, io::Result<Connection>>;
}

/// A network stack.
pub trait Net {
    fn connect(&self, peer: SocketAddr) -> LocalFuture<'static, io::Result<Connection>>;
    /// Binds and listens; an address off loopback fails with [`NotLoopback`] inside an `InvalidInput` error.
    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_may_be_listened_on() {
        for good in ["127.0.0.1:1", "127.3.2.1:1", "[::1]:1"] {
            assert!(require_loopback(good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1"] {
            assert!(require_loopback(bad.parse().unwrap()).is_err(), "{bad}");
        }
    }
}
