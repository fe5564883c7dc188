//! Frames: the fixed header before every body and payload on a connection (WIRE.md). Pure bytes, no socket.
//!
//! Everything a peer sends is judged here before it costs anything: magic, checksum, version, kind and lengths are
//! checked before a byte of body or payload is allocated or read (invariants 9 and 11).

use crc_fast::{CrcAlgorithm, Digest, checksum as crc};

use crate::ids::{Generation, PutToken};
use crate::limits::{FRAME_BODY_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX, HELLO_BODY_BYTES_MAX};

/// First bytes of every frame, of every version.
pub const MAGIC: [u8; 4] = *b"SHNG";
/// Length of the header; frozen for all versions together with the places of magic, version and header checksum.
pub const HEADER_BYTES: usize = 72;
/// The version HELLO, its answer and REJECT are written in, whatever is negotiated later.
pub const HELLO_VERSION: u16 = 1;
/// The versions this build speaks: first and last.
pub const VERSIONS: (u16, u16) = (1, 1);

/// Whose work a frame is; lower numbers go first where work is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    Client = 0,
    Repair = 1,
    Scrub = 2,
    Compaction = 3,
}

impl Class {
    pub const ALL: [Self; 4] = [Self::Client, Self::Repair, Self::Scrub, Self::Compaction];

    fn from_wire(byte: u8) -> Result<Self, FrameError> {
        Self::ALL.into_iter().find(|class| *class as u8 == byte).ok_or(FrameError::UnknownClass { found: byte })
    }
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The connecting side's first frame; body: `Hello`.
    Hello = 1,
    /// Its answer; body: `HelloReply`.
    HelloReply = 2,
    /// Body: `Request`; payload: the sealed block, if the request carries one.
    Request = 3,
    /// The one answer every request gets; body: `Response`; returns the credit its request's payload took.
    Response = 4,
    /// The caller does not want the answer any more; the answer comes all the same, without payload.
    Cancel = 5,
    /// More credit for request payloads.
    Credit = 6,
    /// Why the sender closes the connection; body: [`Reject`].
    Reject = 7,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Hello, Self::HelloReply, Self::Request, Self::Response, Self::Cancel, Self::Credit, Self::Reject];

    fn from_wire(byte: u8) -> Result<Self, FrameError> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte).ok_or(FrameError::UnknownKind { found: byte })
    }

    /// Longest body of a frame of this kind, in bytes.
    pub const fn body_bytes_max(self) -> u32 {
        match self {
            Self::Hello | Self::HelloReply => HELLO_BODY_BYTES_MAX,
            Self::Request | Self::Response => FRAME_BODY_BYTES_MAX,
            Self::Cancel | Self::Credit => 0,
            Self::Reject => REJECT_BYTES as u32,
        }
    }

    /// Longest payload of a frame of this kind, in bytes.
    pub const fn payload_bytes_max(self) -> u32 {
        match self {
            Self::Request | Self::Response => FRAME_PAYLOAD_BYTES_MAX,
            _ => 0,
        }
    }

    /// Whether frames of this kind are written in [`HELLO_VERSION`] for ever.
    pub const fn is_frozen(self) -> bool {
        matches!(self, Self::Hello | Self::HelloReply | Self::Reject)
    }
}

/// What is wrong with a frame, with the offending values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("not a Shingle frame: it begins with {found:02x?}")]
    BadMagic { found: [u8; 4] },
    #[error("header checksum is {computed:08x}, the header says {stored:08x}")]
    HeaderChecksum { stored: u32, computed: u32 },
    #[error("frame of version {found}, {expected} was agreed on")]
    WrongVersion { found: u16, expected: u16 },
    #[error("unknown frame kind {found}")]
    UnknownKind { found: u8 },
    #[error("unknown class {found}")]
    UnknownClass { found: u8 },
    #[error("reserved bytes hold {found:08x}")]
    ReservedNotZero { found: u32 },
    #[error("body of {bytes} bytes in a {kind:?} frame, at most {max} are allowed")]
    BodyTooLarge { kind: Kind, bytes: u32, max: u32 },
    #[error("payload of {bytes} bytes in a {kind:?} frame, at most {max} are allowed")]
    PayloadTooLarge { kind: Kind, bytes: u32, max: u32 },
    #[error("body checksum is {computed:08x}, the header says {stored:08x}")]
    BodyChecksum { stored: u32, computed: u32 },
    #[error("payload checksum is {computed:08x}, the header says {stored:08x}")]
    PayloadChecksum { stored: u32, computed: u32 },
    #[error("unknown reason {found} in a REJECT")]
    UnknownReason { found: u16 },
    #[error("a REJECT body of {bytes} bytes")]
    RejectLength { bytes: u32 },
}

/// CRC32C, the checksum of header, body and payload.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// The checksum of bytes that come piece by piece.
pub struct Checksum(Digest);

impl Default for Checksum {
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }
}

impl Checksum {
    /// Goes on with these bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of all bytes so far.
    pub fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}

/// The header of a frame. [`WIRE.md`](../WIRE.md) gives every byte's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub version: u16,
    pub kind: Kind,
    pub class: Class,
    /// Chosen by the caller, unique among the requests it has in flight on the connection; zero where there is none.
    pub request_id: u64,
    /// Ties together what one user request causes anywhere.
    pub trace_id: u64,
    /// The volume generation the sender acts upon; zero where there is none.
    pub generation: Generation,
    /// Proof of a live upload intent; zero where there is none.
    pub put_token: PutToken,
    /// Milliseconds the caller will still wait, at the time of sending.
    pub deadline_ms: u32,
    /// Payload bytes the receiver may send again.
    pub credit_bytes: u32,
    pub body_bytes: u32,
    pub payload_bytes: u32,
    pub body_crc: u32,
    pub payload_crc: u32,
}

impl Header {
    /// A header of `kind` for this body and payload, everything else zero.
    ///
    /// # Errors
    /// `BodyTooLarge`, `PayloadTooLarge`: nothing that the receiver would refuse is ever built.
    pub fn new(kind: Kind, version: u16, body: &[u8], payload: &[u8]) -> Result<Self, FrameError> {
        Self::summed(kind, version, body, (payload.len(), checksum(payload)))
    }

    /// As `new`, of a payload's length and its checksum, which somebody has computed already.
    ///
    /// # Errors
    /// As `new`.
    pub fn summed(kind: Kind, version: u16, body: &[u8], payload: (usize, u32)) -> Result<Self, FrameError> {
        let (payload_bytes, payload_crc) = payload;
        let header = Self {
            version,
            kind,
            class: Class::Client,
            request_id: 0,
            trace_id: 0,
            generation: Generation(0),
            put_token: PutToken(0),
            deadline_ms: 0,
            credit_bytes: 0,
            body_bytes: u32::try_from(body.len()).unwrap_or(u32::MAX),
            payload_bytes: u32::try_from(payload_bytes).unwrap_or(u32::MAX),
            body_crc: checksum(body),
            payload_crc,
        };
        header.check_lengths()?;
        Ok(header)
    }

    /// The header as it travels.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC);
        put(&self.version.to_le_bytes());
        put(&[self.kind as u8, self.class as u8]);
        put(&self.request_id.to_le_bytes());
        put(&self.trace_id.to_le_bytes());
        put(&self.generation.0.to_le_bytes());
        put(&self.put_token.0.to_le_bytes());
        put(&self.deadline_ms.to_le_bytes());
        put(&self.credit_bytes.to_le_bytes());
        put(&self.body_bytes.to_le_bytes());
        put(&self.payload_bytes.to_le_bytes());
        put(&self.body_crc.to_le_bytes());
        put(&self.payload_crc.to_le_bytes());
        put(&[0; 4]);
        assert_eq!(at, HEADER_BYTES - 4, "the checksum is the header's last field");
        let crc = checksum(&out[..HEADER_BYTES - 4]);
        out[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads and judges a header. `version` is the agreed one; frames that are frozen are expected in [`HELLO_VERSION`].
    ///
    /// # Errors
    /// Every check of the header, in the order of the header's own trustworthiness: magic, checksum, version, fields,
    /// lengths.
    pub fn decode(bytes: &[u8; HEADER_BYTES], version: u16) -> Result<Self, FrameError> {
        let mut fields = Fields { rest: bytes };
        let magic = fields.take::<4>();
        if magic != MAGIC {
            return Err(FrameError::BadMagic { found: magic });
        }
        let (covered, stored) = bytes.split_at(HEADER_BYTES - 4);
        let stored = Fields { rest: stored }.u32();
        let computed = checksum(covered);
        if stored != computed {
            return Err(FrameError::HeaderChecksum { stored, computed });
        }
        let found = fields.u16();
        let [kind, class] = fields.take::<2>();
        let kind = Kind::from_wire(kind)?;
        let expected = if kind.is_frozen() { HELLO_VERSION } else { version };
        if found != expected {
            return Err(FrameError::WrongVersion { found, expected });
        }
        let header = Self {
            version: found,
            kind,
            class: Class::from_wire(class)?,
            request_id: fields.u64(),
            trace_id: fields.u64(),
            generation: Generation(fields.u64()),
            put_token: PutToken(fields.u64()),
            deadline_ms: fields.u32(),
            credit_bytes: fields.u32(),
            body_bytes: fields.u32(),
            payload_bytes: fields.u32(),
            body_crc: fields.u32(),
            payload_crc: fields.u32(),
        };
        match fields.u32() {
            0 => header.check_lengths().map(|()| header),
            found => Err(FrameError::ReservedNotZero { found }),
        }
    }

    fn check_lengths(&self) -> Result<(), FrameError> {
        let (kind, max) = (self.kind, self.kind.body_bytes_max());
        if self.body_bytes > max {
            return Err(FrameError::BodyTooLarge { kind, bytes: self.body_bytes, max });
        }
        let max = kind.payload_bytes_max();
        if self.payload_bytes > max {
            return Err(FrameError::PayloadTooLarge { kind, bytes: self.payload_bytes, max });
        }
        Ok(())
    }

    /// Holds a received body against the header's checksum.
    pub fn check_body(&self, body: &[u8]) -> Result<(), FrameError> {
        match checksum(body) {
            computed if computed == self.body_crc => Ok(()),
            computed => Err(FrameError::BodyChecksum { stored: self.body_crc, computed }),
        }
    }

    /// Holds a received payload's checksum against the header's.
    pub fn check_payload(&self, computed: u32) -> Result<(), FrameError> {
        match computed {
            computed if computed == self.payload_crc => Ok(()),
            computed => Err(FrameError::PayloadChecksum { stored: self.payload_crc, computed }),
        }
    }
}

/// Takes little-endian fields off the front; what is missing reads as zero, but all callers bring enough.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        if let Some((head, rest)) = self.rest.split_at_checked(N) {
            out.copy_from_slice(head);
            self.rest = rest;
        }
        out
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

/// Length of a REJECT's body.
pub const REJECT_BYTES: usize = 16;

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum RejectReason {
    /// No version is in both ranges.
    NoCommonVersion = 1,
    /// A checksum of header, body or payload does not fit.
    Checksum = 2,
    /// A length above its limit; `number` is the length.
    Oversize = 3,
    /// Anything else that breaks the protocol.
    Malformed = 4,
    /// Too many connections, or the byte budget is handed out.
    Busy = 5,
}

impl RejectReason {
    pub const ALL: [Self; 5] = [Self::NoCommonVersion, Self::Checksum, Self::Oversize, Self::Malformed, Self::Busy];
}

impl From<&FrameError> for RejectReason {
    fn from(error: &FrameError) -> Self {
        match error {
            FrameError::HeaderChecksum { .. }
            | FrameError::BodyChecksum { .. }
            | FrameError::PayloadChecksum { .. } => Self::Checksum,
            FrameError::BodyTooLarge { .. } | FrameError::PayloadTooLarge { .. } => Self::Oversize,
            FrameError::BadMagic { .. }
            | FrameError::WrongVersion { .. }
            | FrameError::UnknownKind { .. }
            | FrameError::UnknownClass { .. }
            | FrameError::ReservedNotZero { .. }
            | FrameError::UnknownReason { .. }
            | FrameError::RejectLength { .. } => Self::Malformed,
        }
    }
}

/// The last frame before a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    pub reason: RejectReason,
    /// The versions the sender speaks: first and last.
    pub versions: (u16, u16),
    /// The offending value, or for `Busy` the milliseconds after which to try again.
    pub number: u64,
}

impl Reject {
    /// The body as it travels.
    pub fn encode(&self) -> [u8; REJECT_BYTES] {
        let mut out = [0; REJECT_BYTES];
        out[0..2].copy_from_slice(&(self.reason as u16).to_le_bytes());
        out[2..4].copy_from_slice(&self.versions.0.to_le_bytes());
        out[4..6].copy_from_slice(&self.versions.1.to_le_bytes());
        out[8..16].copy_from_slice(&self.number.to_le_bytes());
        out
    }

    /// Reads a REJECT's body.
    pub fn decode(body: &[u8]) -> Result<Self, FrameError> {
        if body.len() != REJECT_BYTES {
            return Err(FrameError::RejectLength { bytes: u32::try_from(body.len()).unwrap_or(u32::MAX) });
        }
        let mut fields = Fields { rest: body };
        let code = fields.u16();
        let reason = RejectReason::ALL
            .into_iter()
            .find(|reason| *reason as u16 == code)
            .ok_or(FrameError::UnknownReason { found: code })?;
        let versions = (fields.u16(), fields.u16());
        fields.u16();
        Ok(Self { reason, versions, number: fields.u64() })
    }
}

/// The highest version in both ranges.
pub fn common_version(ours: (u16, u16), theirs: (u16, u16)) -> Option<u16> {
    let highest = ours.1.min(theirs.1);
    (highest >= ours.0.max(theirs.0)).then_some(highest)
}
