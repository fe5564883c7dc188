//! `shingle status --findings`: every finding the control plane keeps, page by page.

use std::net::SocketAddr;
use std::time::Duration;

use shingle_proto::limits::FINDINGS_ANSWER_MAX;
use shingle_proto::message::{FindingRecord, ListFindings, Request, Response};
use shingle_seam::rpc::{CallMeta, Peers};

use crate::failure::Failure;

const DEADLINE: Duration = Duration::from_secs(5);

/// All findings, in the order they were found.
pub async fn all(peers: &Peers, control: SocketAddr) -> Result<Vec<FindingRecord>, Failure> {
    let mut found: Vec<FindingRecord> = Vec::new();
    loop {
        let after_id = found.last().map_or(0, |record| record.id);
        let list = ListFindings { after_id, limit: FINDINGS_ANSWER_MAX as u32 };
        let request = Request::ListFindings(Box::new(list));
        let reply = peers.call(control, &CallMeta::client(DEADLINE), request, None).await;
        let reply = reply.map_err(|error| {
            Failure::failed(format!("the control plane at {control} does not list its findings: {error}"), "")
        })?;
        let Response::FindingList(page) = reply.response else {
            let what = format!("the control plane at {control} gave another answer than its findings");
            return Err(Failure::failed(what, ""));
        };
        let (none, end) = (page.findings.is_empty(), page.end);
        found.extend(page.findings);
        if end || none {
            return Ok(found);
        }
    }
}
