//! What hosts and tools ask of control: heartbeats, open volumes, suspicions, findings, the cell's status.

use std::mem::take;

use shingle_proto::ids::{HostId, OsdId, VolumeId};
use shingle_proto::message::{
    CellStatus, Done, ErrorCode, ErrorReply, Heartbeat, HeartbeatReply, ReportSuspect, Request, Response, SuspectReason,
};
use shingle_seam::rpc::Call;

use super::Control;
use super::catalog::Locate;
use crate::master::health::HeartbeatRefused;
use crate::tables::work::TableError;

impl Control {
    /// Answers one request that is not the catalog's, from memory, but findings only once they are in the store.
    pub(super) async fn administer(&self, call: &Call, request: Request) -> Response {
        match request {
            Request::Heartbeat(heartbeat) => self.heartbeat(*heartbeat).await,
            Request::GetVolumes(_) => Response::Volumes(Box::new(self.master.open_volumes())),
            Request::ReportSuspect(report) => self.report_suspect(&report),
            Request::ReportFinding(report) => match self.master.keep(std::slice::from_ref(&*report.finding)).await {
                Ok(()) => done(),
                Err(error) => not_kept(error),
            },
            Request::ListFindings(list) => {
                Response::FindingList(Box::new(self.master.list_findings(list.after_id, list.limit)))
            }
            Request::GetStatus(_) => Response::CellStatus(Box::new(self.status())),
            _ => {
                tracing::debug!(peer = %call.peer, "a request that control does not serve");
                ErrorReply::new(ErrorCode::Unsupported, 0, "control does not serve this request").into()
            }
        }
    }

    async fn heartbeat(&self, mut heartbeat: Heartbeat) -> Response {
        if heartbeat.host == 0 {
            return ErrorReply::new(ErrorCode::Malformed, 0, "hosts are numbered from 1").into();
        }
        let host = HostId(heartbeat.host);
        let findings = take(&mut heartbeat.findings);
        let listing = match self.master.heard(heartbeat) {
            Ok(listing) => listing,
            Err(late @ HeartbeatRefused::Late) => {
                tracing::debug!(%host, %late, "a heartbeat changes nothing");
                self.master.listing_of(host)
            }
            Err(full @ HeartbeatRefused::CellFull { .. }) => {
                tracing::warn!(%host, %full, "a host was turned away");
                return ErrorReply::new(ErrorCode::Unsupported, u64::from(host.0), full.to_string()).into();
            }
        };
        // Its host lives, whatever comes of its findings; but it keeps them until they are in the store.
        if let Err(error) = self.master.keep(&findings).await {
            return not_kept(error);
        }
        Response::HeartbeatReply(Box::new(HeartbeatReply { cell: self.master.cell().into(), listing }))
    }

    fn report_suspect(&self, report: &ReportSuspect) -> Response {
        match report.reason {
            SuspectReason::ExtentFull => self.master.full(VolumeId(report.volume)),
            reason => self.master.suspect(OsdId(report.osd), reason),
        }
        done()
    }

    fn status(&self) -> CellStatus {
        // A sum that a damaged count made negative is shown as zero rather than as 2^64.
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        let counts = self.catalog.counts();
        let store = self.store.metrics();
        let mut status = CellStatus {
            objects: count(counts.objects),
            logical_bytes: count(counts.logical_bytes),
            manifest_bytes: count(counts.manifest_bytes),
            blocks: count(counts.blocks),
            block_plain_bytes: count(counts.block_plain_bytes),
            block_sealed_bytes: count(counts.block_sealed_bytes),
            references: count(counts.references),
            intents: count(counts.intents),
            reclaim_queue: count(counts.reclaim_queue),
            commit_p50_us: store.commit_p50_us,
            commit_p99_us: store.commit_p99_us,
            commits: store.commits,
            syncs: store.syncs,
            ..CellStatus::default()
        };
        self.master.fill_status(&mut status);
        status
    }
}

/// The caller keeps its findings and tells them again.
fn not_kept(error: TableError) -> Response {
    tracing::error!(%error, "findings are not in the store yet");
    error.reply().into()
}

fn done() -> Response {
    Response::Done(Box::new(Done {}))
}
