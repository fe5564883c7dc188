//! A peer that speaks the protocol byte by byte, and so can break it.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use shingle_proto::frame::{HEADER_BYTES, HELLO_VERSION, Header, Kind, Reject, RejectReason, VERSIONS};
use shingle_proto::message::{Hello, HelloReply, Role, decode_hello_reply, encode_hello, encode_request};
use shingle_seam::World;
use shingle_seam::net::Connection;

use crate::echo::status;

/// One connection without any manners.
pub struct Raw {
    pub connection: Connection,
    world: World,
}

impl Raw {
    pub async fn connect(world: &World, address: SocketAddr) -> Self {
        Self::over(world, world.net.connect(address).await.unwrap())
    }

    pub fn over(world: &World, connection: Connection) -> Self {
        Self { connection, world: world.clone() }
    }

    /// Connects and exchanges HELLO.
    pub async fn greeted(world: &World, address: SocketAddr) -> (Self, HelloReply) {
        let mut raw = Self::connect(world, address).await;
        raw.send(&hello(VERSIONS)).await;
        let (header, body) = raw.frame().await.expect("HELLO is answered");
        assert_eq!(header.kind, Kind::HelloReply);
        let reply = decode_hello_reply(&body).unwrap();
        (raw, reply)
    }

    /// Sends as much as the peer takes; it may have closed already.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.connection.writer.write_all(bytes).await;
        let _ = self.connection.writer.flush().await;
    }

    /// The next frame's header and body, its payload dropped; nothing when the peer has closed.
    pub async fn frame(&mut self) -> Option<(Header, Vec<u8>)> {
        let tasks = self.world.tasks.clone();
        let limit = Duration::from_secs(10);
        let reader = &mut self.connection.reader;
        let read = async {
            let mut header = [0; HEADER_BYTES];
            reader.read_exact(&mut header).await.ok()?;
            let header = Header::decode(&header, HELLO_VERSION).expect("what the service sends is sound");
            let mut body = vec![0; header.body_bytes as usize];
            reader.read_exact(&mut body).await.ok()?;
            header.check_body(&body).unwrap();
            reader.read_exact(&mut vec![0; header.payload_bytes as usize]).await.ok()?;
            Some((header, body))
        };
        tasks.timeout(limit, read).await.expect("the service answers or closes")
    }

    /// Why the peer closes, skipping what it still had to say.
    pub async fn rejected(&mut self) -> Reject {
        loop {
            let (header, body) = self.frame().await.expect("a reason comes before the end");
            if header.kind == Kind::Reject {
                let reject = Reject::decode(&body).unwrap();
                assert!(self.frame().await.is_none(), "the connection is closed after the reason");
                return reject;
            }
        }
    }

    pub async fn reason(&mut self) -> RejectReason {
        self.rejected().await.reason
    }
}

/// A frame's bytes.
pub fn frame(header: &Header, body: &[u8], payload: &[u8]) -> Vec<u8> {
    [&header.encode(), body, payload].concat()
}

pub fn hello((versions_min, versions_max): (u16, u16)) -> Vec<u8> {
    let hello = Hello { versions_min, versions_max, role: Role::Tool, process: "raw".into(), cell: None };
    let body = encode_hello(&hello);
    frame(&Header::new(Kind::Hello, HELLO_VERSION, &body, &[]).unwrap(), &body, &[])
}

/// A request with this id, as bytes.
pub fn request(id: u64, body: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut header = Header::new(Kind::Request, HELLO_VERSION, body, payload).unwrap();
    header.request_id = id;
    header.deadline_ms = 20_000;
    frame(&header, body, payload)
}

pub fn status_request(id: u64) -> Vec<u8> {
    request(id, &encode_request(status()), &[])
}

/// Puts the right checksum back on a header that was changed.
pub fn reseal(frame: &mut [u8]) {
    let end = HEADER_BYTES - 4;
    let crc = shingle_proto::frame::checksum(&frame[..end]);
    frame[end..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}
