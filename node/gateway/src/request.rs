//! What the gateway's core is asked through its bounded channel: by the S3 server on its own threads, and by the
//! simulation, which enters here. Everything in it is `Send`.

use bytes::Bytes;
use shingle_proto::ids::ManifestId;
use shingle_proto::message::{
    ChecksumType, ErrorCode, ErrorReply, ObjectHeaders, ObjectRow, PartRow, Precondition, Request, Response,
};
use tokio::sync::{mpsc, oneshot};

/// The way into a core; bounded by `CORE_QUEUE_MAX`.
pub type CoreSender = mpsc::Sender<CoreRequest>;

/// The answer's way back.
pub type ReplyTo<T> = oneshot::Sender<Result<T, GatewayError>>;

/// What went wrong, one variant per reaction of the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// The control plane refused: no such key, precondition failed, ... ; `code` says what.
    #[error("{message}")]
    Refused { code: ErrorCode, number: u64, message: String },
    /// Budget spent, queues full or no volume took the put: try again later.
    #[error("the cell is busy: {0}")]
    SlowDown(&'static str),
    /// Too few disks have a free extent: waiting does not help, deleting or adding disks does.
    #[error("the cell is full: too few disks have room for another extent")]
    Full,
    /// The control plane cannot be reached.
    #[error("the control plane does not answer")]
    ControlUnavailable,
    /// The client went away or sent a body that broke a promise; nothing was stored.
    #[error("the request's body ended early or did not match what was declared")]
    BodyAborted,
    /// What the client claims of the object's bytes is not so.
    #[error("{0}")]
    BadDigest(String),
    /// What the client asks for cannot be.
    #[error("{0}")]
    InvalidRequest(String),
    /// No source had the right bytes of a block.
    #[error("block {hash} cannot be read from any of its members")]
    BlockUnreadable { hash: String },
    /// The key-encryption key of a block is not here.
    #[error("key-encryption key {version} is not available")]
    KeyUnavailable { version: u32 },
    /// The range begins behind the object's end.
    #[error("the range begins at or behind the object's end ({size_bytes} bytes)")]
    RangeNotSatisfiable { size_bytes: u64 },
}

impl From<ErrorReply> for GatewayError {
    fn from(error: ErrorReply) -> Self {
        match error.code {
            ErrorCode::Busy => Self::SlowDown("a queue of the control plane is full"),
            code => Self::Refused { code, number: error.number, message: error.message },
        }
    }
}

/// One piece of an upload's body. A channel that closes before `End` is an aborted upload.
#[derive(Debug)]
pub enum BodyPiece {
    Chunk(Bytes),
    /// All bytes came and every declared checksum was verified; the checksum to remember, if the client sent one.
    End {
        checksum: Option<Checksum>,
    },
}

/// A verified client checksum: S3's name of the algorithm ("CRC32", "CRC64NVME", ...) and its base64 value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    pub algorithm: String,
    pub value: String,
}

/// A part that an upload is completed with, as the client names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedPart {
    pub number: u32,
    pub etag: String,
    /// Must be the stored part's, if it is given.
    pub checksum: Option<Checksum>,
}

/// What a client claims of the object it completes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    pub checksum: Option<Checksum>,
    pub checksum_type: ChecksumType,
}

/// Where an upload's bytes come from.
#[derive(Debug)]
pub struct Body {
    pub pieces: mpsc::Receiver<BodyPiece>,
    /// The decoded length, when the client declared one; a body of another length is aborted.
    pub declared_bytes: Option<u64>,
}

/// Which bytes of an object: HTTP's three forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// `bytes=first-last`, inclusive, cut at the object's end.
    FromTo {
        first: u64,
        last: u64,
    },
    From {
        first: u64,
    },
    /// The last `bytes` bytes.
    Last {
        bytes: u64,
    },
}

/// A started download: the object as it was when it started, the bytes that follow, and the bytes themselves.
#[derive(Debug)]
pub struct Download {
    pub row: ObjectRow,
    pub first: u64,
    pub length_bytes: u64,
    /// Verified plain bytes in order; an error ends it. Closed early by the reader: the reads behind it are cancelled.
    pub pieces: mpsc::Receiver<Result<Bytes, GatewayError>>,
}

/// An object's place in the name space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    pub s3_bucket: String,
    pub key: String,
}

/// Everything the core does.
#[derive(Debug)]
pub enum CoreRequest {
    Put {
        name: ObjectName,
        headers: ObjectHeaders,
        precondition: Option<Precondition>,
        body: Body,
        reply: ReplyTo<ObjectRow>,
    },
    PutPart {
        name: ObjectName,
        upload: ManifestId,
        number: u32,
        body: Body,
        reply: ReplyTo<PartRow>,
    },
    /// `range` is resolved against the object's size; `if_match` pins the version to be read.
    Get {
        name: ObjectName,
        range: Option<ByteRange>,
        if_match: Option<String>,
        reply: ReplyTo<Download>,
    },
    /// References only, no block moves. `headers` replaces the source's when given. `source_if_match` pins the source.
    Copy {
        source: ObjectName,
        source_if_match: Option<String>,
        name: ObjectName,
        headers: Option<ObjectHeaders>,
        precondition: Option<Precondition>,
        reply: ReplyTo<ObjectRow>,
    },
    CopyPart {
        source: ObjectName,
        source_if_match: Option<String>,
        range: Option<ByteRange>,
        name: ObjectName,
        upload: ManifestId,
        number: u32,
        reply: ReplyTo<PartRow>,
    },
    /// Computes the ETag over all parts' blocks and the checksum over all parts' checksums, then flips the object's row.
    Complete {
        name: ObjectName,
        upload: ManifestId,
        parts: Vec<CompletedPart>,
        claim: Claim,
        precondition: Option<Precondition>,
        reply: ReplyTo<ObjectRow>,
    },
    /// Anything the control plane answers alone: S3 buckets, head, delete, listings, uploads, status.
    Catalog {
        request: Box<Request>,
        reply: ReplyTo<Response>,
    },
}
