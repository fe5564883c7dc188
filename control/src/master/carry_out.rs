//! Carries the master's orders out: calls to hosts, then the table transaction.
//!
//! Opening: all extents, then the rows. Closing: the extents that can be reached, then the row (invariant 6). What fails
//! in between leaves extents that no open volume has; hosts report them and the master closes them, so there is one way
//! to clean up and it survives a restart. The view changes only after the tables did.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use shingle_proto::frame::Class;
use shingle_proto::ids::{BucketId, ExtentId, Generation, OsdId, VolumeId};
use shingle_proto::limits::{EXTENT_ORDER_DEADLINE_MS, MASTER_RETRY_MS};
use shingle_proto::message::{CloseExtent, CreateExtent, ErrorCode, ExtentState, Request, Response};
use shingle_seam::rpc::{CallMeta, RpcError};

use super::Master;
use super::step::Order;
use super::view::CloseReason;
use crate::store::StoreError;
use crate::tables::replication::{Member, Volume, VolumeState, close_volume, draw_numbers, insert_volume};
use crate::tables::work::{TableError, Work};

/// Every volume begins with this generation.
const FIRST_GENERATION: Generation = Generation(1);

/// Why a volume was not opened; its extents are cleaned up by the next steps.
#[derive(Debug, thiserror::Error)]
enum OpenFailed {
    #[error("a member made no extent")]
    Member,
    #[error(transparent)]
    Tables(#[from] TableError),
}

/// Why an extent was not made or closed.
#[derive(Debug, thiserror::Error)]
enum OrderFailed {
    #[error("the OSD's address is not known")]
    Unheard,
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error("the host answered something else")]
    OtherAnswer,
}

impl Master {
    /// Notes the order in the view, so that it is not given again, and starts carrying it out.
    pub(super) fn give(self: &Rc<Self>, order: Order) {
        match order {
            Order::Open { members } => self.give_open(members),
            Order::Close { volume, reason } => self.give_close(volume, reason),
            Order::EndExtent { osd, extent } => self.give_end(Member { osd, extent }),
        }
    }

    fn give_open(self: &Rc<Self>, osds: Vec<OsdId>) {
        let draw = |osd| Member { osd, extent: ExtentId(self.world.entropy.u128()) };
        let members: Vec<Member> = osds.into_iter().map(draw).collect();
        let number = self.orders.replace(self.orders.get() + 1);
        self.view.borrow_mut().opening.insert(number, members.clone());
        let master = self.clone();
        let task = async move {
            match master.open(&members).await {
                Ok(()) => {}
                Err(OpenFailed::Member) => tracing::info!("a volume was not opened"),
                Err(OpenFailed::Tables(error)) => {
                    tracing::error!(%error, "a volume was not opened");
                    master.world.tasks.sleep(Duration::from_millis(MASTER_RETRY_MS)).await;
                }
            }
            master.view.borrow_mut().opening.remove(&number);
            master.changed.notify_one();
        };
        self.world.tasks.spawn("open volume", Box::pin(task));
    }

    async fn open(&self, members: &[Member]) -> Result<(), OpenFailed> {
        let (id, bucket) = self.tables.run(async |work: &Work| draw_numbers(work).await).await?;
        let index = (0..=u8::MAX).zip(members);
        let made = join_all(index.map(|(index, member)| self.create_extent(*member, id, bucket, index))).await;
        let made: Option<Vec<u64>> = made.into_iter().collect();
        let capacity_bytes = made.and_then(|made| made.into_iter().min()).ok_or(OpenFailed::Member)?;
        let row = Volume { bucket, state: VolumeState::Open, generation: FIRST_GENERATION, members: members.to_vec() };
        self.insist(async |work: &Work| insert_volume(work, id, &row).await).await?;
        let osds: Vec<OsdId> = members.iter().map(|member| member.osd).collect();
        tracing::info!(volume = %id, %bucket, ?osds, capacity_bytes, "volume opened");
        let now = self.now();
        self.view.borrow_mut().opened(id, row, now, Some(capacity_bytes));
        Ok(())
    }

    /// The bytes the new extent takes; `None` when it was not made, for which the OSD is shunned or suspect.
    async fn create_extent(&self, member: Member, volume: VolumeId, bucket: BucketId, index: u8) -> Option<u64> {
        let request = Request::CreateExtent(Box::new(CreateExtent {
            osd: member.osd.0,
            extent: member.extent.into(),
            volume: volume.0,
            bucket: bucket.0,
            member: index,
        }));
        let error = match self.ask(member.osd, request).await {
            Ok(Response::ExtentCreated(created)) => return Some(created.payload_bytes),
            Ok(_) => OrderFailed::OtherAnswer,
            Err(error) => error,
        };
        tracing::warn!(osd = %member.osd, %error, "an OSD made no extent");
        self.shun(member.osd);
        let now = self.now();
        let health = &mut self.view.borrow_mut().health;
        match &error {
            OrderFailed::Rpc(RpcError::Refused(reply)) if reply.code != ErrorCode::DeviceFailed => {}
            OrderFailed::Rpc(RpcError::Connect(..) | RpcError::Lost) => {
                health.connection_lost(now, member.osd);
            }
            _ => {
                health.suspect(now, member.osd);
            }
        }
        None
    }

    fn give_close(self: &Rc<Self>, id: VolumeId, reason: CloseReason) {
        let members = match self.view.borrow_mut().volumes.get_mut(&id) {
            Some(volume) => {
                volume.closing = true;
                volume.row.members.clone()
            }
            None => return,
        };
        tracing::info!(volume = %id, ?reason, "closing a volume");
        let master = self.clone();
        let task = async move {
            let closed = match master.close(id, &members).await {
                Ok(closed) => closed,
                Err(error) => {
                    tracing::error!(volume = %id, %error, "a volume's row was not closed");
                    false
                }
            };
            if !closed {
                let close_after = master.now() + Duration::from_millis(MASTER_RETRY_MS);
                if let Some(volume) = master.view.borrow_mut().volumes.get_mut(&id) {
                    volume.closing = false;
                    volume.close_after = close_after;
                }
            }
            master.changed.notify_one();
        };
        self.world.tasks.spawn("close volume", Box::pin(task));
    }

    /// False if no member could be fenced: then a put could still be acknowledged, and the row must not say otherwise.
    async fn close(&self, id: VolumeId, members: &[Member]) -> Result<bool, TableError> {
        let fenced = join_all(members.iter().map(|member| self.close_extent(*member))).await;
        if !fenced.contains(&true) {
            tracing::warn!(volume = %id, "no member of a volume can be fenced");
            return Ok(false);
        }
        self.insist(async |work: &Work| close_volume(work, id).await).await?;
        let mut view = self.view.borrow_mut();
        if let Some(volume) = view.volumes.get(&id) {
            let row = Volume { state: VolumeState::Closed, ..volume.row.clone() };
            self.closed.borrow_mut().insert(row.bucket, (id, row));
        }
        view.closed(id);
        tracing::info!(volume = %id, fenced = fenced.iter().filter(|fenced| **fenced).count(), "volume closed");
        Ok(true)
    }

    fn give_end(self: &Rc<Self>, member: Member) {
        self.view.borrow_mut().ending.insert(member.extent);
        let master = self.clone();
        let task = async move {
            if !master.close_extent(member).await {
                master.shun(member.osd);
            }
            master.view.borrow_mut().ending.remove(&member.extent);
        };
        self.world.tasks.spawn("end extent", Box::pin(task));
    }

    /// True if the extent takes no appends any more, durably. A failed disk takes none now, but it cannot write that down:
    /// after a restart of its host the extent may be open again, so it fences nothing.
    async fn close_extent(&self, member: Member) -> bool {
        let request = Request::CloseExtent(Box::new(CloseExtent { extent: member.extent.into() }));
        let (state, fenced) = match self.ask(member.osd, request).await {
            Ok(Response::ExtentClosed(_)) => (ExtentState::Closed, true),
            Err(OrderFailed::Rpc(RpcError::Refused(reply))) if reply.code == ErrorCode::ExtentClosed => {
                (ExtentState::Closed, true)
            }
            Err(OrderFailed::Rpc(RpcError::Refused(reply))) if reply.code == ErrorCode::DeviceFailed => {
                (ExtentState::Failed, false)
            }
            other => {
                let problem = other.err().unwrap_or(OrderFailed::OtherAnswer);
                tracing::info!(osd = %member.osd, extent = %member.extent, %problem, "an extent was not closed");
                return false;
            }
        };
        self.view.borrow_mut().health.extent_ended(member.osd, member.extent, state);
        fenced
    }

    async fn ask(&self, osd: OsdId, request: Request) -> Result<Response, OrderFailed> {
        let address = self.view.borrow().health.osds().get(&osd).map(|osd| osd.address);
        let address = address.ok_or(OrderFailed::Unheard)?;
        let deadline = Duration::from_millis(EXTENT_ORDER_DEADLINE_MS);
        let meta = CallMeta { class: Class::Client, generation: FIRST_GENERATION, ..CallMeta::client(deadline) };
        Ok(self.peers.call(address, &meta, request, None).await?.response)
    }

    fn shun(&self, osd: OsdId) {
        let until = self.now() + Duration::from_millis(MASTER_RETRY_MS);
        let mut view = self.view.borrow_mut();
        let now = self.now();
        view.shunned.retain(|_, until| *until > now);
        view.shunned.insert(osd, until);
    }

    /// Runs a transaction that may run twice until its result is known, unless the store has failed for good.
    async fn insist(&self, body: impl AsyncFn(&Work) -> Result<(), TableError>) -> Result<(), TableError> {
        loop {
            match self.tables.run(&body).await {
                Err(TableError::Store(error)) if !matches!(error, StoreError::Failed(_)) => {
                    tracing::warn!(%error, "a transaction of the master is tried again");
                    self.world.tasks.sleep(Duration::from_millis(MASTER_RETRY_MS)).await;
                }
                result => return result,
            }
        }
    }
}
