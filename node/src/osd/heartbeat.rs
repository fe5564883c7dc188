//! Heartbeats: every OSD of the shard with what is new of its extents (`listing`), to control, and findings until they are
//! acknowledged.
//!
//! An answered heartbeat acknowledges its findings, and its extents if control goes on with their listing. A host sends one heartbeat for all its shards: the first shard
//! sends, the others leave their reports on the board.

use std::mem::take;
use std::time::Duration;

use shingle_proto::ids::CellId;
use shingle_proto::limits::HEARTBEAT_INTERVAL_MS;
use shingle_proto::message::{Heartbeat, Request, Response};
use shingle_seam::rpc::{CallMeta, Peers, RpcError};

use super::board::{Collected, Numbers, ShardNews};
use super::shard::{Shard, ShardConfig};

/// A heartbeat without an answer for longer is given up.
const HEARTBEAT_DEADLINE: Duration = Duration::from_millis(4 * HEARTBEAT_INTERVAL_MS);

/// No answer that means anything.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeartbeatError {
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error("control answers something else than a heartbeat's reply")]
    Response,
}

/// Asks control which cell it is, with a heartbeat of a host that has mounted nothing yet.
pub(super) async fn hello(peers: &Peers, config: &ShardConfig) -> Result<CellId, HeartbeatError> {
    let (host, boot) = (config.host.0, config.boot.0);
    let heartbeat = Heartbeat { host, boot, sequence: 0, osds: Vec::new(), findings: Vec::new(), listing: 0 };
    let (cell, listing) = send(peers, config, heartbeat).await?;
    config.board.answered(&Collected::default(), cell, listing);
    Ok(cell)
}

/// The cell and the listing that control names.
async fn send(peers: &Peers, config: &ShardConfig, heartbeat: Heartbeat) -> Result<(CellId, u64), HeartbeatError> {
    let meta = CallMeta::client(HEARTBEAT_DEADLINE);
    let reply = peers.call(config.control, &meta, Request::Heartbeat(Box::new(heartbeat)), None).await?;
    match reply.response {
        Response::HeartbeatReply(reply) => Ok((CellId::from(&reply.cell), reply.listing)),
        _ => Err(HeartbeatError::Response),
    }
}

impl Shard {
    /// Sends heartbeats for ever. Whether control is heard is logged when it changes.
    pub(super) async fn send_heartbeats(&self) {
        let interval = Duration::from_millis(HEARTBEAT_INTERVAL_MS);
        let mut heard = true;
        loop {
            let started = self.world.clock.now();
            if let Some(cell) = self.config.board.named().cell.filter(|cell| *cell != self.cell) {
                self.end(cell);
                return;
            }
            self.leave_news();
            if self.config.shard == 0 {
                match self.send_heartbeat().await {
                    Ok(()) if !heard => {
                        tracing::info!(control = %self.config.control, "control answers again");
                        heard = true;
                    }
                    Ok(()) => {}
                    Err(error) if heard => {
                        tracing::warn!(control = %self.config.control, %error, "control does not answer heartbeats");
                        heard = false;
                    }
                    Err(_) => {}
                }
            }
            let spent = self.world.clock.now() - started;
            self.world.tasks.sleep(interval.saturating_sub(spent)).await;
        }
    }

    /// Takes in what control has acknowledged, and leaves on the board what it does not know.
    fn leave_news(&self) {
        let board = &self.config.board;
        let acknowledged = board.acknowledged(self.config.shard);
        self.findings.acknowledge(acknowledged.findings);
        let mut listing = self.listing.borrow_mut();
        listing.acknowledge(acknowledged.page);
        listing.go_on(board.named().listing);
        let number = listing.number();
        drop(listing);
        let (osds, page) = self.news();
        let (findings, acknowledges) = self.findings.batch();
        let numbers = Numbers { findings: acknowledges, page };
        board.renew(self.config.shard, ShardNews { osds, findings, listing: number, numbers });
    }

    /// The disks are another cell's: none of them serves any more.
    fn end(&self, cell: CellId) {
        for osd in self.osds() {
            osd.fail(&format!("it belongs to cell {}, control is that of cell {cell}", self.cell));
        }
        tracing::error!(%cell, "this host's disks belong to another cell than its control: it stops serving");
    }

    async fn send_heartbeat(&self) -> Result<(), HeartbeatError> {
        let sequence = self.heartbeats.get() + 1;
        self.heartbeats.set(sequence);
        let mut collected = self.config.board.collect();
        let (osds, findings) = (take(&mut collected.osds), take(&mut collected.findings));
        let (host, boot) = self.host_and_boot();
        let listing = collected.listing;
        let heartbeat = Heartbeat { host: host.0, boot: boot.0, sequence, osds, findings, listing };
        let (cell, listing) = send(&self.peers, &self.config, heartbeat).await?;
        self.config.board.answered(&collected, cell, listing);
        Ok(())
    }
}
