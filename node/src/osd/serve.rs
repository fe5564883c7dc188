//! The host's requests: each goes to the OSD that owns the extent it names.
//!
//! A handler may be dropped at any await. What it asked for then still happens or not as a whole: the work itself
//! belongs to the OSD's own tasks.

use std::rc::Rc;

use shingle_proto::ids::{BlockHash, BucketId, ExtentId, OsdId, PutId, VolumeId};
use shingle_proto::message::{
    Append, BlockRead, ErrorReply, ExtentCreated, HostStatusReply, ReadBlock, Request, Response,
};
use shingle_seam::rpc::{Answer, Call, Service};
use shingle_seam::tasks::LocalFuture;

use super::budget::RecordBuffer;
use super::fetch::ReadKey;
use super::refusal::Refusal;
use super::shard::Shard;
use super::store::{AppendKey, NewExtent, Osd};

type Outcome = Result<Answer<RecordBuffer>, Refusal>;

impl Service for Shard {
    type Buffer = RecordBuffer;

    fn process(&self) -> String {
        self.process_name()
    }

    fn buffer(self: &Rc<Self>, request: &Request, bytes: u32) -> Result<RecordBuffer, ErrorReply> {
        let Request::Append(append) = request else {
            return Err(Refusal::Malformed("only a put has a payload").into());
        };
        let extent = ExtentId::from(&append.extent);
        self.osd_of(extent).and_then(|osd| osd.receive_buffer(extent, bytes)).map_err(ErrorReply::from)
    }

    fn handle(
        self: Rc<Self>,
        call: Call,
        request: Request,
        payload: Option<RecordBuffer>,
    ) -> LocalFuture<'static, Answer<RecordBuffer>> {
        Box::pin(async move {
            match self.answer(&call, request, payload).await {
                Ok(answer) => answer,
                Err(refusal) => ErrorReply::from(refusal).into(),
            }
        })
    }
}

impl Shard {
    async fn answer(&self, call: &Call, request: Request, payload: Option<RecordBuffer>) -> Outcome {
        match request {
            Request::Append(append) => {
                let payload = payload.ok_or(Refusal::Malformed("a put needs a payload"))?;
                self.append(call, &append, payload).await
            }
            Request::ReadBlock(read) => self.read_block(call, &read).await,
            Request::CreateExtent(create) => {
                let new = NewExtent {
                    extent: ExtentId::from(&create.extent),
                    volume: VolumeId(create.volume),
                    bucket: BucketId(create.bucket),
                    member: create.member,
                };
                let osd = self.osd(OsdId(create.osd)).ok_or(Refusal::UnknownOsd)?;
                if self.osd_of(new.extent).is_ok_and(|owner| !Rc::ptr_eq(&owner, &osd)) {
                    return Err(Refusal::ExtentExists);
                }
                let payload_bytes = osd.create_extent(new).await?;
                Ok(Response::ExtentCreated(Box::new(ExtentCreated { payload_bytes })).into())
            }
            Request::CloseExtent(close) => {
                let extent = ExtentId::from(&close.extent);
                let closed = self.osd_of(extent)?.close_extent(extent, call.generation).await?;
                Ok(Response::ExtentClosed(Box::new(closed)).into())
            }
            Request::HostStatus(_) => {
                let (host, boot) = self.host_and_boot();
                let status = HostStatusReply { host: host.0, boot: boot.0, osds: self.reports() };
                Ok(Response::HostStatusReply(Box::new(status)).into())
            }
            Request::ListExtents(list) => {
                let osd = self.osd(OsdId(list.osd)).ok_or(Refusal::UnknownOsd)?;
                let after = (list.after_known_ms, ExtentId::from(&list.after));
                let ages = osd.extent_ages(after, usize::try_from(list.limit).unwrap_or(usize::MAX));
                Ok(Response::ExtentAges(Box::new(ages)).into())
            }
            _ => Err(Refusal::Unsupported),
        }
    }

    async fn append(&self, call: &Call, append: &Append, payload: RecordBuffer) -> Outcome {
        let key = AppendKey {
            extent: ExtentId::from(&append.extent),
            hash: BlockHash::from(&append.hash),
            put_id: PutId(append.put_id),
            bucket: BucketId(append.bucket),
            plain_bytes: append.plain_bytes,
            generation: call.generation,
            class: call.class,
        };
        let appended = self.osd_of(key.extent)?.append(key, payload).await?;
        Ok(Response::Appended(Box::new(appended)).into())
    }

    async fn read_block(&self, call: &Call, read: &ReadBlock) -> Outcome {
        let key = ReadKey {
            extent: ExtentId::from(&read.extent),
            hash: BlockHash::from(&read.hash),
            put_id: PutId(read.put_id),
            generation: call.generation,
            class: call.class,
        };
        let (record, buffer) = self.osd_of(key.extent)?.read_block(key).await?;
        let response = Response::BlockRead(Box::new(BlockRead { plain_bytes: record.plain_bytes }));
        Ok(Answer { response, payload: Some(buffer) })
    }

    fn osd_of(&self, extent: ExtentId) -> Result<Rc<Osd>, Refusal> {
        self.osds().iter().find(|osd| osd.extent(extent).is_some()).cloned().ok_or(Refusal::UnknownExtent)
    }
}
