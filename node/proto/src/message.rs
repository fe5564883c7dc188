//! Bodies of the wire protocol as plain Rust values, and their flatbuffers encoding.
//!
//! The types are generated from `schema/shingle.fbs`; this file gives them their names and the two checked
//! directions. Decoding verifies every offset before anything is read, so a hostile body costs an error, no more.

use flatbuffers::{FlatBufferBuilder, InvalidFlatbuffer};

use crate::generated::shingle::wire;

pub use wire::{
    AbortIntentT as AbortIntent, AbortUploadT as AbortUpload, AppendT as Append, AppendedT as Appended,
    BlockListT as BlockList, BlockNameT as BlockName, BlockReadT as BlockRead, BlockRowT as BlockRow,
    BlocksClaimedT as BlocksClaimed, BlocksCommittedT as BlocksCommitted, BlocksCopiedT as BlocksCopied,
    CellStatusT as CellStatus, ChecksumType, ClaimBlocksT as ClaimBlocks, CloseExtentT as CloseExtent,
    CommitBlocksT as CommitBlocks, CompleteUploadT as CompleteUpload, CopyBlocksT as CopyBlocks,
    CreateExtentT as CreateExtent, CreateS3BucketT as CreateS3Bucket, CreateUploadT as CreateUpload,
    DeleteObjectT as DeleteObject, DeleteS3BucketT as DeleteS3Bucket, DoneT as Done, ErrorReplyT as ErrorReply,
    ExtentAgeT as ExtentAge, ExtentAgesT as ExtentAges, ExtentClosedT as ExtentClosed, ExtentCreatedT as ExtentCreated,
    ExtentReportT as ExtentReport, FindingCountT as FindingCount, FindingListT as FindingList,
    FindingRecordT as FindingRecord, FindingT as Finding, FinishObjectT as FinishObject, FinishPartT as FinishPart,
    GetStatusT as GetStatus, GetVolumesT as GetVolumes, Hash256T as Hash256, HeadObjectT as HeadObject,
    HeadS3BucketT as HeadS3Bucket, HeartbeatReplyT as HeartbeatReply, HeartbeatT as Heartbeat,
    HelloReplyT as HelloReply, HelloT as Hello, HostReportT as HostReport, HostStatusReplyT as HostStatusReply,
    HostStatusT as HostStatus, Id128T as Id128, IntentOpenedT as IntentOpened, Lack, ListBlocksT as ListBlocks,
    ListExtentsT as ListExtents, ListFindingsT as ListFindings, ListObjectsT as ListObjects, ListPartsT as ListParts,
    ListS3BucketsT as ListS3Buckets, ListUploadsT as ListUploads, MemberT as Member, NewBlockT as NewBlock,
    ObjectFinishedT as ObjectFinished, ObjectHeadT as ObjectHead, ObjectHeadersT as ObjectHeaders,
    ObjectListT as ObjectList, ObjectRowT as ObjectRow, OpenIntentT as OpenIntent, OsdReportT as OsdReport,
    PartNameT as PartName, PartRowT as PartRow, PartsT as Parts, PlanReadT as PlanRead, PlannedBlockT as PlannedBlock,
    PreconditionT as Precondition, ProblemT as Problem, ReadBlockT as ReadBlock, ReadPlanT as ReadPlan,
    ReadTimesT as ReadTimes, RenewIntentT as RenewIntent, ReportFindingT as ReportFinding,
    ReportSuspectT as ReportSuspect, S3BucketT as S3Bucket, S3BucketsT as S3Buckets, ScrubStatusT as ScrubStatus,
    UploadCreatedT as UploadCreated, UploadRowT as UploadRow, UploadsT as Uploads, UserMetadataT as UserMetadata,
    VolumeT as Volume, VolumesT as Volumes,
};
pub use wire::{
    Compression, ErrorCode, ExtentState, FindingKind, FindingOwner, FindingState, OsdState, ProblemKind, Role,
    SuspectReason,
};
pub use wire::{RequestBodyT as Request, ResponseBodyT as Response};

/// A body that does not decode.
#[derive(Debug, thiserror::Error)]
pub enum MalformedBody {
    #[error("not a valid flatbuffer: {0}")]
    Invalid(#[from] InvalidFlatbuffer),
    #[error("the union names a type this version does not know")]
    UnknownType,
}

/// Encodes one request's body.
pub fn encode_request(request: Request) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::with_capacity(256);
    let root = wire::RequestT { body: request }.pack(&mut builder);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

/// Decodes one request's body, checking it first.
pub fn decode_request(body: &[u8]) -> Result<Request, MalformedBody> {
    match flatbuffers::root::<wire::Request<'_>>(body)?.unpack().body {
        Request::NONE => Err(MalformedBody::UnknownType),
        request => Ok(request),
    }
}

/// Encodes one response's body.
pub fn encode_response(response: Response) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::with_capacity(256);
    let root = wire::ResponseT { body: response }.pack(&mut builder);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

/// Decodes one response's body, checking it first.
pub fn decode_response(body: &[u8]) -> Result<Response, MalformedBody> {
    match flatbuffers::root::<wire::Response<'_>>(body)?.unpack().body {
        Response::NONE => Err(MalformedBody::UnknownType),
        response => Ok(response),
    }
}

/// Encodes the body of a HELLO.
pub fn encode_hello(hello: &Hello) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::with_capacity(128);
    let root = hello.pack(&mut builder);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

/// Decodes the body of a HELLO.
pub fn decode_hello(body: &[u8]) -> Result<Hello, MalformedBody> {
    Ok(flatbuffers::root::<wire::Hello<'_>>(body)?.unpack())
}

/// Encodes the body of a HELLO's answer.
pub fn encode_hello_reply(reply: &HelloReply) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::with_capacity(128);
    let root = reply.pack(&mut builder);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

/// Decodes the body of a HELLO's answer.
pub fn decode_hello_reply(body: &[u8]) -> Result<HelloReply, MalformedBody> {
    Ok(flatbuffers::root::<wire::HelloReply<'_>>(body)?.unpack())
}

impl ErrorReply {
    /// An error answer; `number` is the offending value.
    pub fn new(code: ErrorCode, number: u64, message: impl Into<String>) -> Self {
        Self { code, number, message: message.into() }
    }
}

impl From<ErrorReply> for Response {
    fn from(error: ErrorReply) -> Self {
        Self::ErrorReply(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_survives_the_wire() {
        let request = Request::Append(Box::new(Append {
            extent: Id128 { hi: 1, lo: 2 },
            hash: Hash256 { bytes: [7; 32] },
            put_id: 3,
            bucket: 4,
            plain_bytes: 5,
        }));
        let body = encode_request(request.clone());
        assert_eq!(decode_request(&body).unwrap(), request);
    }

    #[test]
    fn every_truncation_of_a_body_is_refused_without_a_panic() {
        let body = encode_response(ErrorReply::new(ErrorCode::Busy, 50, "queue full").into());
        for length in 0..body.len() {
            let cut = body[..length].to_vec();
            assert!(decode_response(&cut).is_err() || length + 8 > body.len(), "cut at {length}");
        }
    }

    #[test]
    fn a_union_member_of_a_later_version_is_refused() {
        let mut body = encode_request(Request::GetStatus(Box::new(GetStatus {})));
        let kind = wire::RequestBody::GetStatus.0;
        let at = body.iter().rposition(|byte| *byte == kind).expect("the body names its type");
        body[at] = u8::MAX;
        assert!(matches!(decode_request(&body), Err(MalformedBody::UnknownType)));
    }
}
