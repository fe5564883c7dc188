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
/// Records in one extent: a footer that names them all is one record, and an extent of 1 GiB is full before with records
/// of 16 KiB or more.
pub const EXTENT_RECORDS_MAX: u32 = 65_536;

/// A disk too small for this many extents of the default size gets smaller ones.
pub const EXTENT_SLOTS_MIN: u32 = 8;
/// Zones reserved on every disk for the metadata journal, written ping-pong.
pub const JOURNAL_ZONES: u32 = 2;
/// One batch of the metadata journal, so that reading it back takes bounded memory.
pub const JOURNAL_BATCH_BYTES_MAX: u32 = 64 * KIB as u32;
/// News a journal zone takes after its snapshot before the other zone's turn comes: what start-up reads.
pub const JOURNAL_NEWS_BYTES_MAX: u64 = 4 * MIB;

/// Records one OSD has accepted and not yet answered; more are told to slow down.
pub const OSD_QUEUE_RECORDS_MAX: usize = 1024;
/// Small records waiting for one extent are appended together: records up to this size, up to so many bytes. Larger ones
/// fill the device by themselves.
pub const GATHERED_RECORD_BYTES_MAX: u64 = 256 * KIB;
pub const GATHERED_APPEND_BYTES_MAX: u64 = MIB;
/// Reads of one class that one OSD has in flight; more are told to slow down.
pub const OSD_READS_MAX: usize = 128;
/// Transfers of one class that wait for their turn at one disk: its reads, and one append of every active extent.
pub const OSD_CLASS_QUEUE_MAX: usize = 1024;
/// Extents of one disk that are written to at once, whatever the device allows.
pub const OSD_ACTIVE_EXTENTS_MAX: usize = 512;
/// A class's share of a disk; shares are 1 at least, so that no class starves.
pub const OSD_SHARE_MAX: u32 = 1000;
/// Findings of one shard that control has not acknowledged; damage beyond that is found again at its next read.
pub const SHARD_FINDINGS_MAX: usize = 1024;
/// Findings in one heartbeat.
pub const HEARTBEAT_FINDINGS_MAX: usize = 64;
/// Extents named in one heartbeat, those that are gone included: about 80 bytes each. A host with more tells of them in
/// several heartbeats. Also the extents named in the answer to a host's status.
pub const HEARTBEAT_EXTENTS_MAX: usize = 8192;
/// Extents of one OSD that control keeps: 64 TB of 1 GiB extents is half of it. More are not listed.
pub const OSD_EXTENTS_MAX: usize = 131_072;
/// Findings that a look at one disk lists; the rest are counted. More than that nobody reads one by one.
pub const INSPECT_FINDINGS_MAX: usize = 10_000;
/// Bytes a recovery scan reads at once when it looks for headers.
pub const SCAN_WINDOW_BYTES: u32 = 64 * KIB as u32;
/// Bytes a scrub reads at once, a larger record aside: 33 ms of a disk that reads 126 MB/s.
pub const SCRUB_READ_BYTES: u64 = 4 * MIB;
/// How often a disk's extents are walked over for the sums that its heartbeats tell of the scrub.
pub const SCRUB_SUM_MS: u64 = 5_000;
/// Extents of one answer to who asks how old they are: about 100 bytes each.
pub const EXTENT_AGES_MAX: usize = 8192;
/// What a caller that was told to slow down is advised to wait.
pub const BUSY_WAIT_MS: u64 = 50;

/// Copies of a block in a replicated volume, on as many different hosts.
pub const COPIES: usize = 4;
/// Volumes a put may try before the client is told to slow down: the first and two more.
pub const PUT_VOLUMES_MAX: usize = 3;

/// Body of a frame: the largest is a batch of Block Index rows or a heartbeat of a large host.
pub const FRAME_BODY_BYTES_MAX: u32 = 4 * MIB as u32;
/// Payload of a frame: one sealed block.
pub const FRAME_PAYLOAD_BYTES_MAX: u32 = SEALED_BYTES_MAX;
/// Body of HELLO and its answer: versions, role, a process name. All that an unknown peer can make us allocate.
pub const HELLO_BODY_BYTES_MAX: u32 = 4 * KIB as u32;
/// Requests in flight on one connection.
pub const CONNECTION_REQUESTS_MAX: usize = 256;
/// Request bodies of one connection that are decoded and not yet answered: two of the largest.
pub const CONNECTION_BODIES_BYTES_MAX: u32 = 2 * FRAME_BODY_BYTES_MAX;
/// Connections one listener keeps open.
pub const LISTENER_CONNECTIONS_MAX: usize = 1024;
/// Addresses one process remembers connections, or failures to connect, for.
pub const PEERS_MAX: usize = 4096;
/// TCP connect and HELLO together.
pub const HANDSHAKE_DEADLINE_MS: u64 = 5_000;
/// A frame that has begun and makes no end of itself within this time loses its connection: 4 MiB at 140 KB/s.
pub const FRAME_STALL_MS: u64 = 30_000;
/// First and longest pause between attempts to connect to one peer.
pub const RECONNECT_MS_MIN: u64 = 10;
pub const RECONNECT_MS_MAX: u64 = 1_000;
/// Timed-out calls in a row with nothing received in between after which a connection is given up as half open.
pub const SILENT_TIMEOUTS_MAX: u32 = 3;
/// A peer answers every request by its deadline, if only to say that it has passed. One that was sent a request and has
/// said nothing at all for this long after the request's deadline is gone or hangs.
pub const SILENCE_AFTER_DEADLINE_MS: u64 = 2_000;
/// TCP on links between processes: probes of an idle connection, and how long anything sent may go unacknowledged.
pub const KEEPALIVE_IDLE_MS: u64 = 4_000;
pub const KEEPALIVE_INTERVAL_MS: u64 = 2_000;
pub const KEEPALIVE_PROBES: u32 = 3;
pub const TCP_UNANSWERED_MS: u32 = 10_000;
/// Jobs waiting for one CPU pool, beyond the ones running.
pub const CPU_QUEUE_MAX: usize = 64;

/// Byte budget of one shard of a host: payloads received and not yet durable, and reads not yet sent.
pub const SHARD_BUDGET_BYTES_DEFAULT: u64 = 128 * MIB;
/// Credit a connection is given at HELLO: enough for a window of blocks, small enough that many gateways fit.
pub const CONNECTION_CREDIT_BYTES: u32 = 32 * MIB as u32;
/// Of that, what one gateway has on its way to one OSD: four blocks. What its disk does not take leaves others as much.
pub const OSD_IN_FLIGHT_BYTES: u64 = 4 * (BLOCK_BYTES_MAX as u64 + KIB);
/// Byte budget of a gateway: plain blocks, sealed blocks and blocks being read, all together.
pub const GATEWAY_BUDGET_BYTES_DEFAULT: u64 = 256 * MIB;
/// Blocks of one object in flight in a gateway at once: four for the interleaved hash, four being sealed and sent.
pub const PUT_WINDOW_BLOCKS: usize = 8;
/// Requests waiting for the gateway's core.
pub const CORE_QUEUE_MAX: usize = 256;
/// Requests a gateway's core works on at once; more wait in its queue.
pub const CORE_REQUESTS_MAX: usize = 1024;
/// A client that sends no byte of its body for this long is given up.
pub const BODY_IDLE_MS: u64 = 60_000;
/// A request that got no share of the byte budget within this time is told to slow down.
pub const BUDGET_WAIT_MS: u64 = 30_000;
/// Blocks of one download read ahead of its client.
pub const READ_WINDOW_BLOCKS: usize = 4;
/// Blocks planned at once for a download: one page of Block Index rows.
pub const PLAN_BLOCKS: u32 = 256;
/// Byte budget for the reading side of copies that cannot be done by references (a part copied from inside a block).
pub const COPY_BUDGET_BYTES: u64 = 32 * MIB;
/// Parts of an upload whose blocks are listed side by side when it is completed.
pub const COMPLETE_LISTS_MAX: usize = 8;

/// Volumes that turned out full or closed a block may run into before its put is told to slow down; nobody is blamed.
pub const PUT_FULL_VOLUMES_MAX: usize = 8;
/// A gateway's view of the open volumes: renewed in the background at this age, waited for at the next.
pub const VOLUMES_REFRESH_MS: u64 = 1_000;
pub const VOLUMES_STALE_MS: u64 = 5_000;
/// How long a block waits for an open volume that can take it, while the master makes new ones.
pub const VOLUMES_WAIT_MS: u64 = 5_000;

/// One request to the control plane; the store gives a transaction no longer.
pub const CONTROL_DEADLINE_MS: u64 = TRANSACTION_LIFE_MS;
/// Requests that are many transactions: finishing an object or an upload, copying references.
pub const CONTROL_LONG_DEADLINE_MS: u64 = 120_000;
/// A control plane that is away for longer fails the request; until then it is asked again.
pub const CONTROL_RETRY_MS: u64 = 15_000;

/// Reads that may be sent to a second member because the first is slow, per hundred reads.
pub const HEDGE_PERCENT: u64 = 5;
/// Hedges saved up at most: what a burst may take at once.
pub const HEDGE_SAVED_MAX: u64 = 16;
/// A read's hedge delay before enough reads were seen to know the cohort's p95.
pub const HEDGE_DELAY_DEFAULT_MS: u64 = 100;
/// A member silent for this long does not hold a read up any more: the next member is asked, hedge budget or not.
pub const READ_PATIENCE_MS: u64 = 1_000;

/// Blocks named, committed, copied or planned in one request to the control plane.
pub const BLOCKS_PER_REQUEST_MAX: usize = 1024;
/// A transaction's keys and values (DESIGN section 9, FoundationDB's advice is 1 MB; its limit 10 MB).
pub const TRANSACTION_BYTES_MAX: usize = 1_000_000;
/// A transaction's life from its first read (FoundationDB's limit).
pub const TRANSACTION_LIFE_MS: u64 = 5_000;
/// One key and one value of the store (FoundationDB's limits).
pub const STORE_KEY_BYTES_MAX: usize = 10_000;
pub const STORE_VALUE_BYTES_MAX: usize = 100_000;
/// Keys of recent commits the store remembers to find conflicts: about 50 MB. More commits within a transaction's life
/// shorten the life instead.
pub const STORE_CONFLICT_KEYS_MAX: usize = 262_144;
/// Bytes of transactions waiting for the store's committer, or inside one fsync of it.
pub const STORE_COMMIT_QUEUE_BYTES_MAX: usize = 16 * MIB as usize;
/// Threads that read ranges of the embedded store, and ranges that wait for them or are being read.
pub const STORE_READERS: usize = 4;
pub const STORE_READS_MAX: usize = 256;
/// Tries of one transaction before its conflict is the caller's problem.
pub const TRANSACTION_TRIES_MAX: u32 = 24;
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

/// Connections the S3 listener keeps open; more wait in the kernel's queue. With the bounds below, uploads that wait
/// for the core hold less than 128 MiB.
pub const S3_CONNECTIONS_MAX: usize = 256;
/// Request line and headers together, and the largest piece of a body read at once. A key is at most 3 KiB when
/// escaped, metadata 2 KiB: S3's own limit on headers is 8 KiB.
pub const S3_HEADER_BYTES_MAX: usize = 64 * KIB as usize;
/// Pieces of one upload's body between the S3 server and the core.
pub const S3_BODY_PIECES_MAX: usize = 8;
/// One PutObject or UploadPart (S3's limit).
pub const S3_PUT_BYTES_MAX: u64 = 5 * GIB;
/// A signed chunk of an aws-chunked body: it is held whole until its signature was checked. SDKs send 64 or 128 KiB.
pub const S3_SIGNED_CHUNK_BYTES_MAX: u64 = MIB;
/// An XML body: DeleteObjects with 1,000 escaped keys and CompleteMultipartUpload with 10,000 parts fit.
pub const S3_XML_BYTES_MAX: usize = 8 * MIB as usize;
/// The answer to `x-shingle-pieces`: bytes of the header, and pages of block names read for it.
pub const S3_PIECES_BYTES_MAX: usize = 4 * KIB as usize;
pub const S3_PIECES_PAGES_MAX: usize = 64;
/// Body read and dropped after a put failed early, so that the client reads the answer instead of a reset.
pub const S3_DRAIN_BYTES_MAX: u64 = 16 * MIB;
pub const S3_DRAIN_MS: u64 = 5_000;
/// What comes behind that is dropped for this long once the answer is out, unless the client falls silent: a connection
/// that is closed on bytes nobody read takes its answer with it.
pub const S3_LINGER_MS: u64 = 60_000;
pub const S3_LINGER_IDLE_MS: u64 = 5_000;
/// A presigned URL's life (S3's limit: 7 days).
pub const S3_PRESIGNED_SECONDS_MAX: u64 = 7 * 24 * 3600;
/// A clock difference that signatures may have (S3's limit: 15 minutes).
pub const S3_CLOCK_SKEW_SECONDS_MAX: u32 = 900;
/// A client that takes longer to send a request's head, or is idle between requests, is disconnected.
pub const S3_HEAD_TIMEOUT_MS: u64 = 60_000;
/// A client that neither sends the body it announced nor reads its answer for this long is disconnected.
pub const S3_STALL_TIMEOUT_MS: u64 = 60_000;
/// Requests in progress may take this long after a stop.
pub const S3_SHUTDOWN_MS: u64 = 10_000;
/// Keys of one DeleteObjects deleted at a time.
pub const S3_DELETES_AT_ONCE: usize = 32;

/// What `shingle up` wants to stay free on the file system of the cell's directory: this much, on small ones this part.
pub const HOST_FS_RESERVE_BYTES: u64 = 2 * GIB;
pub const HOST_FS_RESERVE_PERCENT: u64 = 5;

/// What hosts leave free on a file system that holds emulated disks: the control plane's store and the logs are often on
/// it too, and a control plane that cannot write cannot delete either.
pub const DISK_ROOM_RESERVE_BYTES: u64 = 256 * MIB;
/// What one disk takes before its host looks again how much room there is. All disks of a cell may take as much at once.
pub const DISK_ROOM_STEP_BYTES: u64 = 8 * MIB;

/// A put's member that is silent for longer is suspect. 10 s on emulated disks, whose flush shares one real disk; 5 s on real ones.
pub const PUT_DEADLINE_MS: u64 = 10_000;
pub const READ_DEADLINE_MS: u64 = 10_000;
/// An upload intent, and the put token with it, lives this long without renewal.
pub const INTENT_LEASE_MS: u64 = 60_000;
pub const HEARTBEAT_INTERVAL_MS: u64 = 500;
/// A host that misses this many heartbeats gets no new writes until it is heard again.
pub const HOST_SUSPECT_MS: u64 = 5_000;
/// A suspect OSD gets new writes again after good heartbeats for this long; longer, up to the second number, when it was
/// suspect before within the third.
pub const SUSPECT_QUARANTINE_MS: u64 = 2_000;
pub const SUSPECT_QUARANTINE_MAX_MS: u64 = 16_000;
pub const SUSPECT_MEMORY_MS: u64 = 60_000;
/// Hosts and OSDs of a cell: 50 PB raw is 2,500 disks of 20 TB.
pub const HOSTS_MAX: usize = 1_000;
pub const OSDS_MAX: usize = 10_000;
/// Extents of open volumes on one OSD: open streams cost seeks and open zones.
pub const OSD_OPEN_EXTENTS_MAX: usize = 8;
/// A volume with less room in a member is closed: it may not fit two more records of the largest size.
pub const VOLUME_FREE_BYTES_MIN: u64 = 2 * (SEALED_BYTES_MAX as u64 + 2 * RECORD_ALIGN_BYTES as u64);
/// How often the master looks at the cell when nothing wakes it, and how long it waits before it tries again what failed.
pub const MASTER_STEP_MS: u64 = 250;
pub const MASTER_RETRY_MS: u64 = 2_000;
/// A master that did not run for longer (stopped, starved) does not blame hosts for the silence it made itself.
pub const MASTER_ABSENT_MS: u64 = 4 * MASTER_STEP_MS;
/// A host's answer to the master: creating or closing an extent.
pub const EXTENT_ORDER_DEADLINE_MS: u64 = 5_000;
/// Findings that control keeps, in the store and in memory: about 1 KB each. Of one disk as many as its shard holds back,
/// so that a disk that is all damage leaves room for others. What finds no room is found again by the next scrub.
pub const FINDINGS_KEPT_MAX: usize = 16_384;
pub const FINDINGS_OSD_MAX: usize = SHARD_FINDINGS_MAX;
/// The finder's words, in a finding's row.
pub const FINDING_DETAIL_BYTES_MAX: usize = 512;
/// Damage that is told again and again changes its row this often.
pub const FINDING_SAVE_MS: u64 = 60_000;
/// Findings written in one transaction, listed in one answer, and named in the cell's status.
pub const FINDINGS_PER_TRANSACTION_MAX: usize = 256;
pub const FINDINGS_ANSWER_MAX: usize = 1024;
pub const STATUS_FINDINGS_MAX: usize = 16;
/// Extents listed one by one in the cell's status; a larger cell's status has their sums only.
pub const STATUS_EXTENTS_MAX: usize = 10_000;

/// Problems told in the cell's status; the others are only counted.
pub const STATUS_PROBLEMS_MAX: usize = 100;

/// Blocks claimed, committed or copied in one transaction of the catalog: about 70 KB of writes at most.
pub const BLOCKS_PER_TRANSACTION_MAX: usize = 256;
/// Chunks that one transaction of a finishing upload folds: 4 x 512 entries, under 150 KB of writes.
pub const FOLD_CHUNKS_MAX: usize = 4;
/// A block's key wrapped under a KEK: 32 bytes of key, nonce and tag, with room for a longer wrapping.
pub const WRAPPED_KEY_BYTES_MAX: usize = 256;
/// An ETag, as text.
pub const ETAG_BYTES_MAX: usize = 128;
/// A checksum's algorithm and value, as texts: the longest is SHA-256 in base64 with the number of parts.
pub const CHECKSUM_BYTES_MAX: usize = 128;
/// Everything an object's headers may hold beside the user's metadata (S3 allows 8 KB of headers).
pub const S3_HEADERS_BYTES_MAX: usize = 8 * 1024;
/// An S3 bucket's name.
pub const S3_BUCKET_NAME_BYTES_MIN: usize = 3;
pub const S3_BUCKET_NAME_BYTES_MAX: usize = 63;
/// Rows of one listing's page, as stored: leaves half a frame for their encoding.
pub const LIST_PAGE_BYTES_MAX: usize = FRAME_BODY_BYTES_MAX as usize / 2;

/// References, parts or segments that one transaction of reclaim gives back: under 500 bytes of keys and values each.
pub const RECLAIM_ROWS_MAX: usize = 512;
/// Manifests that one transaction of reclaim takes apart, when they are small, and intents that it ends.
pub const RECLAIM_MANIFESTS_MAX: usize = 32;
/// Transactions of reclaim at once.
pub const RECLAIM_LANES: usize = 4;
/// Shortest rest of a lane between two transactions; otherwise it rests for as long as the last one took.
pub const RECLAIM_PAUSE_MS: u64 = 2;
/// How often reclaim looks for expired intents and new work when it has none.
pub const RECLAIM_INTERVAL_MS: u64 = 1_000;
/// Downloads that began before an object was deleted or replaced may plan reads for this long.
pub const RECLAIM_GRACE_MS: u64 = 5_000;
/// A download holds its manifest for this long each time it plans or says that it goes on, which it does three times as
/// often. Reclaim leaves what is held, but not for longer than the second after the deletion, and not more than so many.
pub const READ_HOLD_MS: u64 = 12_000;
pub const READ_HOLD_MAX_MS: u64 = 6 * 3_600_000;
pub const READ_HOLDS_MAX: usize = 65_536;
/// A multipart upload neither completed nor aborted for 7 days is aborted.
pub const UPLOAD_ABANDONED_MS: u64 = 7 * 24 * 3_600_000;

const _: () = assert!(BLOCK_BYTES_MAX.is_multiple_of(RECORD_ALIGN_BYTES));
const _: () = assert!(16 * DISK_ROOM_STEP_BYTES <= DISK_ROOM_RESERVE_BYTES / 2);
const _: () = assert!(HOST_FS_RESERVE_BYTES > DISK_ROOM_RESERVE_BYTES);
const _: () = assert!(OSD_CLASS_QUEUE_MAX > OSD_READS_MAX + OSD_ACTIVE_EXTENTS_MAX);
const _: () = assert!(EXTENT_BYTES_DEFAULT > 64 * SEALED_BYTES_MAX as u64);
const _: () = assert!(CONNECTION_CREDIT_BYTES >= 2 * FRAME_PAYLOAD_BYTES_MAX);
const _: () = assert!(BLOCK_BYTES_MAX as u64 + KIB >= SEALED_BYTES_MAX as u64);
const _: () = assert!(CONNECTION_CREDIT_BYTES as u64 - OSD_IN_FLIGHT_BYTES >= 3 * SEALED_BYTES_MAX as u64);
const _: () = assert!(CONNECTION_BODIES_BYTES_MAX >= FRAME_BODY_BYTES_MAX);
const _: () = assert!(RECONNECT_MS_MIN < RECONNECT_MS_MAX);
const _: () = assert!(SHARD_BUDGET_BYTES_DEFAULT >= 2 * CONNECTION_CREDIT_BYTES as u64);
const _: () = assert!(GATEWAY_BUDGET_BYTES_DEFAULT >= 3 * PUT_WINDOW_BLOCKS as u64 * BLOCK_BYTES_MAX as u64);
const _: () = assert!(S3_CONNECTIONS_MAX * S3_BODY_PIECES_MAX * S3_HEADER_BYTES_MAX <= 128 * MIB as usize);
const _: () = assert!(CHUNK_BLOCKS_MAX * 48 < STORE_VALUE_BYTES_MAX);
const _: () = assert!(STORE_VALUE_BYTES_MAX < TRANSACTION_BYTES_MAX);
const _: () = assert!(STORE_COMMIT_QUEUE_BYTES_MAX > 2 * TRANSACTION_BYTES_MAX);
const _: () = assert!(STORE_CONFLICT_KEYS_MAX > TRANSACTION_BYTES_MAX / 8);
const _: () = assert!(INTENT_LEASE_MS > PUT_VOLUMES_MAX as u64 * PUT_DEADLINE_MS);
// Who begins to read just before a deletion has a hold when the grace is over.
const _: () = assert!(READ_HOLD_MS / 3 < RECLAIM_GRACE_MS);
const _: () = assert!(COPY_BUDGET_BYTES >= 2 * SEALED_BYTES_MAX as u64);
const _: () = assert!(READ_PATIENCE_MS < READ_DEADLINE_MS && HEDGE_DELAY_DEFAULT_MS < READ_PATIENCE_MS);
// A heartbeat also has up to a few hundred OSDs of under 500 bytes and its findings.
const _: () = assert!(HEARTBEAT_EXTENTS_MAX * 128 <= FRAME_BODY_BYTES_MAX as usize / 2);
const _: () = assert!(FINDINGS_PER_TRANSACTION_MAX * 3 * (FINDING_DETAIL_BYTES_MAX + 128) < TRANSACTION_BYTES_MAX);
const _: () = assert!(FINDINGS_ANSWER_MAX * 2 * (FINDING_DETAIL_BYTES_MAX + 256) < FRAME_BODY_BYTES_MAX as usize);
const _: () = assert!(2 * FINDING_DETAIL_BYTES_MAX + 64 < STORE_KEY_BYTES_MAX);
const _: () = assert!(EXTENT_AGES_MAX * 256 <= FRAME_BODY_BYTES_MAX as usize);
const _: () = assert!(EXTENT_BYTES_DEFAULT > 8 * VOLUME_FREE_BYTES_MIN);
const _: () = assert!(HOST_SUSPECT_MS >= 4 * HEARTBEAT_INTERVAL_MS);
const _: () = assert!(BLOCKS_PER_REQUEST_MAX.is_multiple_of(BLOCKS_PER_TRANSACTION_MAX));
const _: () = assert!(BLOCKS_PER_TRANSACTION_MAX * (WRAPPED_KEY_BYTES_MAX + 256) < TRANSACTION_BYTES_MAX);
const _: () = assert!((RECLAIM_ROWS_MAX + RECLAIM_MANIFESTS_MAX) * 1000 < TRANSACTION_BYTES_MAX);
const _: () = assert!(FOLD_CHUNKS_MAX * CHUNK_BLOCKS_MAX * 100 < TRANSACTION_BYTES_MAX);
const _: () = assert!(S3_HEADERS_BYTES_MAX + S3_METADATA_BYTES_MAX + S3_KEY_BYTES_MAX < STORE_VALUE_BYTES_MAX);
const _: () = assert!(2 * (S3_KEY_BYTES_MAX + S3_BUCKET_NAME_BYTES_MAX) + 64 < STORE_KEY_BYTES_MAX);
