//! The gateway's side of the control plane: one client that asks again while the control plane restarts, and turns
//! answers into the types that were asked for.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use shingle_proto::ids::PutToken;
use shingle_proto::limits::{CONTROL_DEADLINE_MS, CONTROL_LONG_DEADLINE_MS, CONTROL_RETRY_MS};
use shingle_proto::message::{ErrorCode, HeadObject, ObjectRow, Request, Response};
use shingle_seam::World;
use shingle_seam::rpc::{CallMeta, Peers, RpcError};

use crate::request::{GatewayError, ObjectName};

/// First and longest pause before the control plane is asked again.
const RETRY_MS: std::ops::RangeInclusive<u64> = 50..=1_000;

/// Takes one variant out of a response.
macro_rules! expect_variant {
    ($response:expr, $variant:ident) => {
        match $response {
            shingle_proto::message::Response::$variant(inner) => Ok(*inner),
            other => Err($crate::catalog::unexpected(stringify!($variant), &other)),
        }
    };
}
pub(crate) use expect_variant;

/// On whose behalf something is asked: goes into the header of every frame it causes.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Proof of a live upload intent; zero without one.
    pub put_token: PutToken,
    /// Ties together what one user's request causes anywhere.
    pub trace: u64,
}

/// Calls to the control plane.
pub struct ControlClient {
    world: World,
    peers: Rc<Peers>,
    address: SocketAddr,
    /// Whether the last call got an answer: the outage is logged once, not once per retry.
    away: Cell<bool>,
}

impl ControlClient {
    pub fn new(world: World, peers: Rc<Peers>, address: SocketAddr) -> Self {
        Self { world, peers, address, away: Cell::new(false) }
    }

    /// Asks, and asks again for up to `CONTROL_RETRY_MS` while nobody answers or the control plane is busy.
    /// A request whose repetition could do harm is repeated only when it was certainly never received.
    pub async fn call(&self, request: Request) -> Result<Response, GatewayError> {
        self.call_for(request, self.origin()).await
    }

    /// As [`Self::call`], on behalf of a user's request.
    pub async fn call_for(&self, request: Request, origin: Origin) -> Result<Response, GatewayError> {
        let give_up = self.world.clock.now() + Duration::from_millis(CONTROL_RETRY_MS);
        let mut pause_ms = *RETRY_MS.start();
        loop {
            let error = match self.ask(request.clone(), origin).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let Some(wait_ms) = retry_after(&request, &error, pause_ms) else { return Err(give_up_on(error)) };
            if self.world.clock.now() + Duration::from_millis(wait_ms) > give_up {
                return Err(give_up_on(error));
            }
            // A quarter of jitter: a whole gateway's requests should not come back in one instant.
            let jitter_ms = self.world.entropy.below(wait_ms / 4 + 1);
            self.world.tasks.sleep(Duration::from_millis(wait_ms + jitter_ms)).await;
            pause_ms = (pause_ms * 2).min(*RETRY_MS.end());
        }
    }

    /// Tells the control plane something that nobody waits for; a failure is logged.
    pub async fn tell(&self, request: Request) {
        if let Err(error) = self.ask(request.clone(), self.origin()).await {
            tracing::warn!(%error, ?request, "report to the control plane failed");
        }
    }

    /// A new origin without an upload.
    pub fn origin(&self) -> Origin {
        Origin { put_token: PutToken(0), trace: self.world.entropy.u64() }
    }

    /// The object's row.
    pub async fn head(&self, name: &ObjectName) -> Result<ObjectRow, GatewayError> {
        let head = HeadObject { s3_bucket: name.s3_bucket.clone(), key: name.key.clone(), part_number: 0 };
        let head = expect_variant!(self.call(Request::HeadObject(Box::new(head))).await?, ObjectHead)?;
        Ok(*head.row)
    }

    async fn ask(&self, request: Request, origin: Origin) -> Result<Response, RpcError> {
        let meta = CallMeta {
            put_token: origin.put_token,
            trace: origin.trace,
            ..CallMeta::client(Duration::from_millis(deadline_ms(&request)))
        };
        let result = self.peers.call(self.address, &meta, request, None).await;
        let away = matches!(result, Err(RpcError::Connect(..) | RpcError::Lost));
        if away != self.away.replace(away) {
            match &result {
                Err(error) => tracing::warn!(control = %self.address, %error, "the control plane is away"),
                Ok(_) => tracing::info!(control = %self.address, "the control plane is back"),
            }
        }
        result.map(|reply| reply.response)
    }
}

/// Takes an answer that has no content.
pub(crate) fn expect_done(response: &Response) -> Result<(), GatewayError> {
    match response {
        Response::Done(_) => Ok(()),
        other => Err(unexpected("Done", other)),
    }
}

/// An answer of the wrong kind: a control plane of another make; nothing it says can be used.
pub(crate) fn unexpected(wanted: &'static str, response: &Response) -> GatewayError {
    tracing::error!(wanted, ?response, "the control plane gave an answer of the wrong kind");
    GatewayError::ControlUnavailable
}

/// When to ask again after this error, in milliseconds; nothing when asking again is useless or harmful.
fn retry_after(request: &Request, error: &RpcError, pause_ms: u64) -> Option<u64> {
    match error {
        RpcError::Connect(..) => Some(pause_ms),
        RpcError::Lost | RpcError::Deadline => repeatable(request).then_some(pause_ms),
        RpcError::Refused(refusal) => match refusal.code {
            // Refused before anything was done.
            ErrorCode::Busy => Some(refusal.number.clamp(*RETRY_MS.start(), *RETRY_MS.end())),
            ErrorCode::Conflict => Some(pause_ms),
            ErrorCode::DeadlineExceeded => repeatable(request).then_some(pause_ms),
            _ => None,
        },
        _ => None,
    }
}

fn give_up_on(error: RpcError) -> GatewayError {
    match error {
        RpcError::Refused(refusal) => match refusal.code {
            ErrorCode::Conflict => GatewayError::SlowDown("transactions on the same rows got in each other's way"),
            ErrorCode::DeadlineExceeded => GatewayError::ControlUnavailable,
            ErrorCode::IntentExpired => GatewayError::SlowDown("the upload's lease ended"),
            _ => refusal.into(),
        },
        error => {
            tracing::warn!(%error, "gave up asking the control plane");
            GatewayError::ControlUnavailable
        }
    }
}

/// Whether doing it twice does no more than doing it once. The others could answer wrongly the second time ("exists
/// already", "no such upload") or, under a precondition, act on what they did themselves.
fn repeatable(request: &Request) -> bool {
    match request {
        Request::CreateS3Bucket(_) | Request::DeleteS3Bucket(_) => false,
        Request::CreateUpload(_) | Request::AbortUpload(_) => false,
        Request::DeleteObject(delete) => delete.precondition.is_none(),
        _ => true,
    }
}

fn deadline_ms(request: &Request) -> u64 {
    match request {
        Request::FinishObject(_) | Request::FinishPart(_) | Request::CompleteUpload(_) | Request::CopyBlocks(_) => {
            CONTROL_LONG_DEADLINE_MS
        }
        _ => CONTROL_DEADLINE_MS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shingle_proto::message::{DeleteObject, ErrorReply, GetVolumes, Precondition};

    fn refused(code: ErrorCode, number: u64) -> RpcError {
        RpcError::Refused(ErrorReply::new(code, number, ""))
    }

    #[test]
    fn what_might_have_been_done_is_repeated_only_when_that_does_no_harm() {
        let harmless = Request::GetVolumes(Box::new(GetVolumes {}));
        let create = Request::CreateS3Bucket(Box::default());
        let conditional: DeleteObject =
            DeleteObject { precondition: Some(Box::<Precondition>::default()), ..DeleteObject::default() };
        let conditional = Request::DeleteObject(Box::new(conditional));
        assert_eq!(retry_after(&harmless, &RpcError::Lost, 50), Some(50));
        for request in [&create, &conditional] {
            assert_eq!(retry_after(request, &RpcError::Lost, 50), None);
            assert_eq!(retry_after(request, &RpcError::Connect(std::io::ErrorKind::ConnectionRefused), 50), Some(50));
            assert_eq!(retry_after(request, &refused(ErrorCode::Busy, 200), 50), Some(200));
        }
        assert_eq!(retry_after(&harmless, &refused(ErrorCode::NoSuchKey, 0), 50), None);
    }

    #[test]
    fn an_expired_intent_asks_the_client_to_come_again() {
        assert!(matches!(give_up_on(refused(ErrorCode::IntentExpired, 0)), GatewayError::SlowDown(_)));
        assert!(matches!(give_up_on(refused(ErrorCode::Busy, 0)), GatewayError::SlowDown(_)));
        assert_eq!(give_up_on(RpcError::Lost), GatewayError::ControlUnavailable);
    }
}
