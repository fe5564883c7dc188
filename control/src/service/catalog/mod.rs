//! The catalog: S3 buckets, objects, uploads and the Block Index, as gateways ask for them.
//!
//! Every request is one or a few transactions on the tables. A transaction on behalf of an upload reads the upload's
//! intent, so an upload whose lease is over cannot commit anything; and a reference is written only in a transaction
//! that saw or made the block's row (invariant 12).

mod blocks;
mod check;
mod complete;
mod copy;
mod finish;
mod holds;
mod intents;
mod list;
mod locate;
mod objects;
mod read;
mod s3_buckets;
mod uploads;

use std::rc::Rc;

use shingle_proto::message::{Done, ErrorCode, ErrorReply, Request, Response};
use shingle_seam::World;

pub use self::holds::ReadHolds;
pub(crate) use self::intents::end_intent;
pub use self::locate::Locate;
pub(crate) use self::uploads::drop_upload;
use crate::store::Store;
use crate::tables::Tables;
use crate::tables::tally::Tally;
use crate::tables::work::TableError;

/// The catalog of one cell.
pub struct Catalog {
    tables: Tables,
    locate: Rc<dyn Locate>,
    holds: Rc<ReadHolds>,
}

impl Catalog {
    pub fn new(world: World, store: Rc<dyn Store>, locate: Rc<dyn Locate>) -> Self {
        let holds = Rc::new(ReadHolds::new(world.clone()));
        Self { tables: Tables::new(world, store), locate, holds }
    }

    /// Counts what the tables hold; to be called once, before requests are served.
    pub async fn start(&self) -> Result<(), TableError> {
        self.tables.count_rows().await
    }

    /// The tables, with the counters the catalog keeps: reclaim works through these.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What is being read: reclaim leaves it alone.
    pub fn holds(&self) -> Rc<ReadHolds> {
        self.holds.clone()
    }

    /// Objects, blocks, references and so on, as of now.
    pub fn counts(&self) -> Tally {
        self.tables.counts()
    }

    /// Is this request the catalog's to answer?
    pub fn serves(request: &Request) -> bool {
        matches!(
            request,
            Request::CreateS3Bucket(_)
                | Request::DeleteS3Bucket(_)
                | Request::HeadS3Bucket(_)
                | Request::ListS3Buckets(_)
                | Request::OpenIntent(_)
                | Request::RenewIntent(_)
                | Request::AbortIntent(_)
                | Request::ClaimBlocks(_)
                | Request::CommitBlocks(_)
                | Request::CopyBlocks(_)
                | Request::FinishObject(_)
                | Request::HeadObject(_)
                | Request::DeleteObject(_)
                | Request::ListObjects(_)
                | Request::PlanRead(_)
                | Request::ListBlocks(_)
                | Request::CreateUpload(_)
                | Request::FinishPart(_)
                | Request::ListParts(_)
                | Request::ListUploads(_)
                | Request::AbortUpload(_)
                | Request::CompleteUpload(_)
        )
    }

    /// Answers one request. Dropping the future is safe: what it has committed by then stays, and a repeat goes on.
    pub async fn handle(&self, request: Request) -> Response {
        match self.answer(request).await {
            Ok(response) => response,
            Err(error) => {
                match &error {
                    TableError::Refused(reply) => tracing::debug!(code = ?reply.code, "{}", reply.message),
                    TableError::Store(error) => tracing::warn!("the store did not serve a request: {error}"),
                    TableError::Damaged(error) => tracing::error!("{error}"),
                }
                error.reply().into()
            }
        }
    }

    async fn answer(&self, request: Request) -> Result<Response, TableError> {
        match request {
            Request::CreateS3Bucket(request) => self.create_s3_bucket(*request).await,
            Request::DeleteS3Bucket(request) => self.delete_s3_bucket(*request).await,
            Request::HeadS3Bucket(request) => self.head_s3_bucket(*request).await,
            Request::ListS3Buckets(_) => self.list_s3_buckets().await,
            Request::OpenIntent(request) => self.open_intent(*request).await,
            Request::RenewIntent(request) => self.renew_intent(*request).await,
            Request::AbortIntent(request) => self.abort_intent(*request).await,
            Request::ClaimBlocks(request) => self.claim_blocks(*request).await,
            Request::CommitBlocks(request) => self.commit_blocks(*request).await,
            Request::CopyBlocks(request) => self.copy_blocks(*request).await,
            Request::FinishObject(request) => self.finish_object(*request).await,
            Request::HeadObject(request) => self.head_object(*request).await,
            Request::DeleteObject(request) => self.delete_object(*request).await,
            Request::ListObjects(request) => self.list_objects(*request).await,
            Request::PlanRead(request) => self.plan_read(*request).await,
            Request::ListBlocks(request) => self.list_blocks(*request).await,
            Request::CreateUpload(request) => self.create_upload(*request).await,
            Request::FinishPart(request) => self.finish_part(*request).await,
            Request::ListParts(request) => self.list_parts(*request).await,
            Request::ListUploads(request) => self.list_uploads(*request).await,
            Request::AbortUpload(request) => self.abort_upload(*request).await,
            Request::CompleteUpload(request) => self.complete_upload(*request).await,
            _ => Err(TableError::Refused(ErrorReply::new(
                ErrorCode::Unsupported,
                0,
                "the catalog does not serve this request",
            ))),
        }
    }

    /// Unix milliseconds: leases, creation and modification times.
    fn now_ms(&self) -> u64 {
        self.tables.world().clock.unix_ms()
    }
}

fn done() -> Response {
    Response::Done(Box::new(Done {}))
}
