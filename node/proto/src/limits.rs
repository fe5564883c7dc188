//! Every bound of the system, named once; relations between them are asserted at compile time (invariant 9).

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;
pub const GIB: u64 = 1024 * MIB;

/// A block's plain bytes (DESIGN, first paragraph).
pub const BLOCK_BYTES_MAX: u32 = 4 * MIB as u32;
/// AES-256-GCM's tag: all that sealing may add to a block, since a block that does not shrink is stored as it is.
pub const SEAL_OVERHEAD_BYTES: u32 = 16;
/// A sealed block: the payload of one record.
pub const SEALED_BYTES_MAX: u32 = BLOCK_BYTES_MAX + SEAL_OVERHEAD_BYTES;

/// Records and headers start on this boundary; also the logical sector that direct I/O needs.
pub const RECORD_ALIGN_BYTES: u32 = 4 * KIB as u32;
/// An extent of the default geometry: four 256 MiB zones.
pub const EXTENT_BYTES_DEFAULT: u64 = GIB;
/// Records in one extent: 1 GiB of the smallest records.
pub const EXTENT_RECORDS_MAX: u32 = (EXTENT_BYTES_DEFAULT / RECORD_ALIGN_BYTES as u64) as u32;

/// Copies of a block in a replicated volume, on as many different hosts.
pub const COPIES: usize = 4;
/// Volumes a put may try before the client is told to slow down: the first and two more.
pub const PUT_VOLUMES_MAX: usize = 3;

/// Body of a frame: the largest is a batch of Block Index rows or a heartbeat with every extent of a host.
pub const FRAME_BODY_BYTES_MAX: u32 = 4 * MIB as u32;
/// Payload of a frame: one sealed block.
pub const FRAME_PAYLOAD_BYTES_MAX: u32 = SEALED_BYTES_MAX;
/// Requests in flight on one connection.
pub const CONNECTION_REQUESTS_MAX: usize = 256;
/// Connections one listener keeps open.
pub const LISTENER_CONNECTIONS_MAX: usize = 1024;

/// Byte budget of one shard of a host: payloads received and not yet durable, and reads not yet sent.
pub const SHARD_BUDGET_BYTES_DEFAULT: u64 = 128 * MIB;
/// Credit a connection is given at HELLO: enough for a window of blocks, small enough that many gateways fit.
pub const CONNECTION_CREDIT_BYTES: u32 = 32 * MIB as u32;
/// Byte budget of a gateway: plain blocks, sealed blocks and blocks being read, all together.
pub const GATEWAY_BUDGET_BYTES_DEFAULT: u64 = 256 * MIB;
/// Blocks of one object in flight in a gateway at once: four for the interleaved hash, four being sealed and sent.
pub const PUT_WINDOW_BLOCKS: usize = 8;
/// Requests waiting for the gateway's core.
pub const CORE_QUEUE_MAX: usize = 256;

/// Blocks named, committed, copied or planned in one request to the control plane.
pub const BLOCKS_PER_REQUEST_MAX: usize = 1024;
/// A transaction's keys and values (DESIGN section 9, FoundationDB's advice is 1 MB; its limit 10 MB).
pub const TRANSACTION_BYTES_MAX: usize = 1_000_000;
/// A transaction's life from its first read (FoundationDB's limit).
pub const TRANSACTION_LIFE_MS: u64 = 5_000;
/// One key and one value of the store (FoundationDB's limits).
pub const STORE_KEY_BYTES_MAX: usize = 10_000;
pub const STORE_VALUE_BYTES_MAX: usize = 100_000;
/// Blocks in one manifest chunk: 512 x (32 + 4) bytes stay well under a store value.
pub const CHUNK_BLOCKS_MAX: usize = 512;

/// S3's limits: object key, parts of an upload, smallest part that is not the last, page of a listing, metadata.
pub const S3_KEY_BYTES_MAX: usize = 1024;
pub const S3_PARTS_MAX: u32 = 10_000;
pub const S3_PART_BYTES_MIN: u64 = 5 * MIB;
pub const S3_OBJECT_BYTES_MAX: u64 = 5 * 1024 * GIB;
pub const S3_LIST_MAX: u32 = 1000;
pub const S3_METADATA_BYTES_MAX: usize = 2 * 1024;
pub const S3_BUCKETS_MAX: usize = 1000;
pub const S3_DELETE_OBJECTS_MAX: usize = 1000;

/// A put's member that is silent for longer is suspect. 10 s on emulated disks, whose flush shares one real disk; 5 s on real ones.
pub const PUT_DEADLINE_MS: u64 = 10_000;
pub const READ_DEADLINE_MS: u64 = 10_000;
/// An upload intent, and the put token with it, lives this long without renewal.
pub const INTENT_LEASE_MS: u64 = 60_000;
pub const HEARTBEAT_INTERVAL_MS: u64 = 500;
/// A host that misses this many heartbeats gets no new writes until it is heard again.
pub const HOST_SUSPECT_MS: u64 = 5_000;

const _: () = assert!(BLOCK_BYTES_MAX.is_multiple_of(RECORD_ALIGN_BYTES));
const _: () = assert!(EXTENT_BYTES_DEFAULT > 64 * SEALED_BYTES_MAX as u64);
const _: () = assert!(CONNECTION_CREDIT_BYTES >= 2 * FRAME_PAYLOAD_BYTES_MAX);
const _: () = assert!(SHARD_BUDGET_BYTES_DEFAULT >= 2 * CONNECTION_CREDIT_BYTES as u64);
const _: () = assert!(GATEWAY_BUDGET_BYTES_DEFAULT >= 3 * PUT_WINDOW_BLOCKS as u64 * BLOCK_BYTES_MAX as u64);
const _: () = assert!(CHUNK_BLOCKS_MAX * 48 < STORE_VALUE_BYTES_MAX);
const _: () = assert!(STORE_VALUE_BYTES_MAX < TRANSACTION_BYTES_MAX);
const _: () = assert!(INTENT_LEASE_MS > PUT_VOLUMES_MAX as u64 * PUT_DEADLINE_MS);
const _: () = assert!(HOST_SUSPECT_MS >= 4 * HEARTBEAT_INTERVAL_MS);
