//! Why an OSD does not do what it was asked, one variant per reaction of the caller.

use shingle_proto::ids::Generation;
use shingle_proto::limits::{BUSY_WAIT_MS, SEALED_BYTES_MAX};
use shingle_proto::message::{ErrorCode, ErrorReply};

/// A refusal; it becomes the request's error answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("this shard serves no such OSD")]
    UnknownOsd,
    #[error("no such extent here")]
    UnknownExtent,
    /// Nothing was written.
    #[error("the extent has {free_bytes} bytes left")]
    ExtentFull { free_bytes: u64 },
    #[error("the extent is closed")]
    ExtentClosed,
    #[error("an extent of this name exists and belongs to another volume, bucket or member")]
    ExtentExists,
    #[error("no extent can be created: {0}")]
    NoFreeExtent(&'static str),
    #[error("a payload of {bytes} bytes exceeds the limit of {SEALED_BYTES_MAX} or the size of a zone")]
    RecordTooLarge { bytes: u64 },
    #[error("no such record in the extent")]
    BlockNotFound,
    #[error("the volume has generation {}", .0.0)]
    StaleGeneration(Generation),
    /// A command failed, now or before: the extent or the whole OSD has ended.
    #[error("{0}")]
    DeviceFailed(String),
    /// It cannot be read or is wrong. The OSD has told of it: nobody else has to.
    #[error("the record is damaged: {0}")]
    RecordDamaged(&'static str),
    #[error("{0}: slow down")]
    Busy(&'static str),
    #[error("{0}")]
    Malformed(&'static str),
    #[error("a host does not serve this request")]
    Unsupported,
}

impl From<Refusal> for ErrorReply {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let (code, number) = match refusal {
            Refusal::UnknownOsd => (ErrorCode::UnknownOsd, 0),
            Refusal::UnknownExtent => (ErrorCode::UnknownExtent, 0),
            Refusal::ExtentFull { free_bytes } => (ErrorCode::ExtentFull, free_bytes),
            Refusal::ExtentClosed => (ErrorCode::ExtentClosed, 0),
            Refusal::ExtentExists => (ErrorCode::ExtentExists, 0),
            Refusal::NoFreeExtent(_) => (ErrorCode::NoFreeExtent, 0),
            Refusal::RecordTooLarge { bytes } => (ErrorCode::RecordTooLarge, bytes),
            Refusal::BlockNotFound => (ErrorCode::BlockNotFound, 0),
            Refusal::StaleGeneration(generation) => (ErrorCode::StaleGeneration, generation.0),
            Refusal::DeviceFailed(_) => (ErrorCode::DeviceFailed, 0),
            Refusal::RecordDamaged(_) => (ErrorCode::RecordDamaged, 0),
            Refusal::Busy(_) => (ErrorCode::Busy, BUSY_WAIT_MS),
            Refusal::Malformed(_) => (ErrorCode::Malformed, 0),
            Refusal::Unsupported => (ErrorCode::Unsupported, 0),
        };
        Self::new(code, number, message)
    }
}
