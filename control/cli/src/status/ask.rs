//! Asks the control plane for the cell's status.

use std::net::SocketAddr;
use std::time::Duration;

use shingle_proto::message::{CellStatus, GetStatus, Request, Response, Role};
use shingle_seam::on_tokio;
use shingle_seam::rpc::{CallMeta, Peers, RpcError};

use crate::failure::Failure;

const DEADLINE: Duration = Duration::from_secs(5);

/// Connections of this program; must be made inside a `LocalSet`.
pub fn peers() -> Peers {
    Peers::new(on_tokio::world(1), Role::Tool, "shingle".into())
}

/// The status of the cell whose control plane is at `control`.
pub async fn cell_status(peers: &Peers, control: SocketAddr) -> Result<CellStatus, Failure> {
    let request = Request::GetStatus(Box::new(GetStatus {}));
    match peers.call(control, &CallMeta::client(DEADLINE), request, None).await {
        Ok(reply) => match reply.response {
            Response::CellStatus(status) => Ok(*status),
            _ => Err(Failure::failed(format!("the control plane at {control} gave another answer than a status"), "")),
        },
        Err(RpcError::Refused(refusal)) => Err(Failure::failed(
            format!("the control plane refused: {}", refusal.message),
            "its log says more: log/control.log in the cell's directory",
        )),
        Err(error) => Err(Failure::Unreachable {
            what: format!("the control plane at {control} does not answer: {error}"),
            advice: "start the cell with `shingle up`, or name it with --dir or --control".into(),
        }),
    }
}
