//! The end of a connection that one side closes: a typed reason, then the end, so that the reason arrives.

use std::rc::Rc;
use std::time::Duration;

use futures_io::AsyncWrite;
use futures_util::io::AsyncWriteExt;
use shingle_proto::frame::{HELLO_VERSION, Header, Kind, Reject, RejectReason, VERSIONS};

use super::ProtocolError;
use super::incoming::Incoming;
use crate::tasks::Tasks;

/// How long the reason may take to arrive.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a peer that is turned away for lack of room is told to wait.
const BUSY_MS: u64 = 100;

/// The reason to close with, for a peer that broke the protocol; none when it is the one who closed.
pub(super) fn reject_for(error: &ProtocolError) -> Option<Reject> {
    let (reason, number) = match error {
        ProtocolError::Rejected { .. } => return None,
        ProtocolError::Frame(error) => (RejectReason::from(error), 0),
        ProtocolError::CreditExceeded { bytes, .. } => (RejectReason::Oversize, u64::from(*bytes)),
        ProtocolError::DuplicateRequest { id } | ProtocolError::UnknownRequest { id } => (RejectReason::Malformed, *id),
        ProtocolError::TooManyRequests { requests } => (RejectReason::Oversize, *requests as u64),
        ProtocolError::Stalled { ms } => (RejectReason::Malformed, *ms),
        ProtocolError::Body { .. } | ProtocolError::UnexpectedKind { .. } | ProtocolError::Truncated => {
            (RejectReason::Malformed, 0)
        }
    };
    Some(Reject { reason, versions: VERSIONS, number })
}

/// The reason to turn a peer away when there is no room for it.
pub(super) fn reject_busy() -> Reject {
    Reject { reason: RejectReason::Busy, versions: VERSIONS, number: BUSY_MS }
}

/// The reason to turn away a peer whose versions are not ours.
pub(super) fn reject_version() -> Reject {
    Reject { reason: RejectReason::NoCommonVersion, versions: VERSIONS, number: 0 }
}

/// Sends the reason, ends the sending direction, and reads what still comes: a connection closed with bytes unread is
/// reset, and a reset overtakes the reason.
pub(super) async fn close_with(
    reject: Reject,
    incoming: &mut Incoming,
    writer: &mut (dyn AsyncWrite + Unpin),
    tasks: &Rc<dyn Tasks>,
) {
    let body = reject.encode();
    let header = Header::new(Kind::Reject, HELLO_VERSION, &body, &[]).expect("a REJECT is within its own limits");
    let farewell = async {
        let mut frame = header.encode().to_vec();
        frame.extend_from_slice(&body);
        writer.write_all(&frame).await?;
        writer.close().await?;
        incoming.drain().await;
        Ok::<_, std::io::Error>(())
    };
    match tasks.timeout(FAREWELL, farewell).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the reason for closing a connection did not get through"),
        Err(_) => tracing::debug!("the peer did not close after the reason for closing"),
    }
}
