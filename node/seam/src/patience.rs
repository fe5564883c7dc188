//! How long a socket waits for a peer that is gone without a word (a machine without power, a cable pulled): keepalive
//! probes when nothing is sent, and an end to retransmissions when something is. What the kernel of a living machine
//! answers for a process that hangs is noticed by the calls' deadlines.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;
use shingle_proto::limits::{KEEPALIVE_IDLE_MS, KEEPALIVE_INTERVAL_MS, KEEPALIVE_PROBES, TCP_UNANSWERED_MS};

/// Sets it on one TCP socket.
///
/// # Errors
/// The socket's, when it is no TCP socket or is gone.
pub(crate) fn limit(socket: impl AsFd) -> io::Result<()> {
    let socket = socket.as_fd();
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_millis(KEEPALIVE_IDLE_MS))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_millis(KEEPALIVE_INTERVAL_MS))?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    Ok(sockopt::set_tcp_user_timeout(socket, TCP_UNANSWERED_MS)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_gives_a_vanished_peer_ten_seconds() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!sockopt::socket_keepalive(&socket).unwrap());
        limit(&socket).unwrap();
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        let idle = sockopt::tcp_keepidle(&socket).unwrap();
        let probing = sockopt::tcp_keepintvl(&socket).unwrap() * sockopt::tcp_keepcnt(&socket).unwrap();
        assert!(idle + probing <= Duration::from_secs(10), "{idle:?} and {probing:?}");
        assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), TCP_UNANSWERED_MS);
        let (not_tcp, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(limit(&not_tcp).is_err());
    }
}
