//! Stores one block: seals it and appends it to every member of an open volume, another volume when one fails.
//! It counts as stored only when all members answered that it is durable (invariant 2); copies on abandoned volumes
//! are garbage that no row names.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use shingle_codec::key::{self, BlockKey};
use shingle_codec::seal::{self, Sealed};
use shingle_proto::ids::{BlockHash, BucketId, OsdId, PutId, VolumeId};
use shingle_proto::limits::{PUT_FULL_VOLUMES_MAX, PUT_VOLUMES_MAX};
use shingle_proto::message::{Append, BlockRow, ErrorCode, ReportSuspect, Request, Response, SuspectReason};
use shingle_seam::rpc::{CallMeta, Reply, RpcError, SharedPayload};
use shingle_seam::tasks::on_cpu;

use crate::catalog::Origin;
use crate::core::Core;
use crate::placement::spread::{Avoid, Placed, Target};
use crate::request::GatewayError;
use crate::window::{PlainBlock, Room};

/// Pauses after a host said that it is busy.
const BUSY_PAUSE_MS: std::ops::RangeInclusive<u64> = 5..=500;

/// How one member's part in an append ended.
enum Outcome {
    Durable,
    /// Full, closed or gone: the volume takes no more, and that is nobody's fault.
    NoRoom,
    /// Busy until the deadline: overloaded, not broken.
    Busy,
    /// Another block's put has failed on it meanwhile.
    Blamed,
    Failed(SuspectReason),
}

/// How an append to a whole volume ended, unless all members have it.
enum Refusal {
    NoRoom(OsdId),
    Busy,
    Blamed(Target),
    Failed(Target, SuspectReason),
}

/// A member that is busy wants to be asked again.
struct Again {
    after_ms: u64,
}

/// A block on all members of a volume, ready to be committed.
#[derive(Debug)]
pub struct StoredBlock {
    pub offset_bytes: u64,
    pub row: BlockRow,
    pub room: Room,
}

/// Seals `block` under a fresh key and stores it.
pub async fn store(
    core: &Core,
    origin: Origin,
    hash: BlockHash,
    block: PlainBlock,
) -> Result<StoredBlock, GatewayError> {
    let PlainBlock { offset_bytes, bytes: plain, mut room } = block;
    let plain_bytes = plain.len() as u32;
    let put_id = PutId(core.world.entropy.u64());
    let block_key = BlockKey::generate(|bytes| core.world.entropy.fill(bytes));
    let kek_version = core.keys.current();
    let kek = core.keys.kek(kek_version).ok_or(GatewayError::KeyUnavailable { version: kek_version.0 })?;
    let wrapped_key = key::wrap(&kek.0, &block_key).to_vec();
    let sealed = on_cpu(&core.world.tasks, move || seal::seal(&plain, hash, put_id, &block_key)).await;
    let Sealed { bytes, compression, crc32c } = sealed;
    let sealed_bytes = bytes.len() as u32;
    // The plain bytes are gone; only the sealed ones are kept until every member has them.
    room.charge.shrink_to(u64::from(sealed_bytes));
    let append = Append { hash: hash.into(), put_id: put_id.0, plain_bytes, ..Append::default() };
    let bucket = Appender { core, origin, append, sealed: SharedPayload::summed(bytes, crc32c) }.place().await?;
    let row = BlockRow {
        hash: hash.into(),
        put_id: put_id.0,
        plain_bytes,
        sealed_bytes,
        sealed_crc32c: crc32c,
        compression,
        kek_version: kek_version.0,
        wrapped_key,
        bucket: bucket.0,
    };
    Ok(StoredBlock { offset_bytes, row, room })
}

/// One sealed block on its way to a volume.
struct Appender<'a> {
    core: &'a Core,
    origin: Origin,
    /// Everything but the extent and the bucket.
    append: Append,
    sealed: SharedPayload,
}

impl Appender<'_> {
    /// Tries volumes until one has the block on all members.
    async fn place(&self) -> Result<BucketId, GatewayError> {
        let mut avoid = Avoid::default();
        let (mut failures, mut full) = (0, 0);
        loop {
            let volume = self.core.placement.choose(&avoid, self.sealed.len() as u64).await?;
            let Err(refusal) = self.append_to(&volume).await else { return Ok(volume.bucket) };
            avoid.volumes.insert(volume.id);
            match refusal {
                Refusal::NoRoom(osd) => {
                    full += 1;
                    if self.core.placement.distrust(volume.id, None) {
                        self.report(volume.id, osd, SuspectReason::ExtentFull).await;
                    }
                }
                Refusal::Busy => failures += 1,
                Refusal::Blamed(member) => {
                    failures += 1;
                    avoid.osds.insert(member.osd);
                    avoid.hosts.insert(member.host);
                    // Who ran into it first has reported it.
                    self.core.placement.distrust(volume.id, None);
                }
                Refusal::Failed(member, reason) => {
                    failures += 1;
                    avoid.osds.insert(member.osd);
                    avoid.hosts.insert(member.host);
                    self.blame(&volume, &member, reason).await;
                }
            }
            if failures >= PUT_VOLUMES_MAX || full >= PUT_FULL_VOLUMES_MAX {
                return Err(self.core.placement.refusal("no volume took the block"));
            }
        }
    }

    /// Sends to all members at once; ends with the last one's success or the first one's refusal.
    async fn append_to(&self, volume: &Placed) -> Result<(), Refusal> {
        let appends = volume.members.iter().map(|member| async move {
            let outcome = self.append_to_member(volume, member).await;
            (member, outcome)
        });
        let mut running: FuturesUnordered<_> = appends.collect();
        let mut durable = 0;
        while let Some((member, outcome)) = running.next().await {
            match outcome {
                Outcome::Durable => durable += 1,
                Outcome::NoRoom => return Err(Refusal::NoRoom(member.osd)),
                Outcome::Busy => return Err(Refusal::Busy),
                Outcome::Blamed => return Err(Refusal::Blamed(member.clone())),
                // When nobody at all has answered, the trouble is more likely on this side: no member is blamed for it.
                Outcome::Failed(SuspectReason::PutTimeout) if durable == 0 => return Err(Refusal::Busy),
                Outcome::Failed(reason) => return Err(Refusal::Failed(member.clone(), reason)),
            }
        }
        Ok(())
    }

    async fn append_to_member(&self, volume: &Placed, member: &Target) -> Outcome {
        let append = Append { extent: member.extent.into(), bucket: volume.bucket.0, ..self.append.clone() };
        let clock = &self.core.world.clock;
        let _in_flight = self.core.load.begin(member.osd, self.sealed.len() as u64);
        let queued = clock.now();
        let _place = self.core.sending.place(member.osd, member.address, self.sealed.len()).await;
        if self.core.placement.blamed_since(member.osd, queued) {
            return Outcome::Blamed;
        }
        let until = clock.now() + self.core.config.put_deadline;
        loop {
            let left = until - clock.now();
            if left.is_zero() {
                return Outcome::Busy;
            }
            let meta = CallMeta {
                generation: volume.generation,
                put_token: self.origin.put_token,
                trace: self.origin.trace,
                ..CallMeta::client(left)
            };
            let request = Request::Append(Box::new(append.clone()));
            let call = self.core.peers.call(member.address, &meta, request, Some(self.sealed.clone()));
            let result = tokio::select! {
                biased;
                result = call => result,
                () = self.core.placement.until_blamed(member.osd, queued) => {
                    return Outcome::Blamed;
                }
            };
            match judge(&result) {
                Ok(outcome) => return outcome,
                Err(Again { after_ms }) => {
                    let jitter_ms = self.core.world.entropy.below(after_ms / 2 + 1);
                    let pause = Duration::from_millis(after_ms + jitter_ms);
                    self.core.world.tasks.sleep(pause.min(until - clock.now())).await;
                }
            }
        }
    }

    /// Makes the member suspect, once per failure however many blocks ran into it.
    async fn blame(&self, volume: &Placed, member: &Target, reason: SuspectReason) {
        if self.core.placement.distrust(volume.id, Some(member.osd)) {
            tracing::warn!(osd = %member.osd, host = %member.host, volume = %volume.id, ?reason, "append failed");
            self.report(volume.id, member.osd, reason).await;
        }
    }

    async fn report(&self, volume: VolumeId, osd: OsdId, reason: SuspectReason) {
        let report = ReportSuspect { osd: osd.0, volume: volume.0, reason };
        self.core.control.tell(Request::ReportSuspect(Box::new(report))).await;
    }
}

/// What a member's answer means.
fn judge(result: &Result<Reply, RpcError>) -> Result<Outcome, Again> {
    let outcome = match result {
        Ok(Reply { response: Response::Appended(_), .. }) => Outcome::Durable,
        Ok(_) => Outcome::Failed(SuspectReason::PutFailed),
        Err(RpcError::Refused(refusal)) => match refusal.code {
            ErrorCode::Busy => {
                return Err(Again { after_ms: refusal.number.clamp(*BUSY_PAUSE_MS.start(), *BUSY_PAUSE_MS.end()) });
            }
            ErrorCode::ExtentFull
            | ErrorCode::ExtentClosed
            | ErrorCode::UnknownExtent
            | ErrorCode::UnknownOsd
            | ErrorCode::StaleGeneration => Outcome::NoRoom,
            ErrorCode::DeadlineExceeded => Outcome::Failed(SuspectReason::PutTimeout),
            _ => Outcome::Failed(SuspectReason::PutFailed),
        },
        Err(RpcError::Deadline) => Outcome::Failed(SuspectReason::PutTimeout),
        Err(RpcError::Connect(..) | RpcError::Lost) => Outcome::Failed(SuspectReason::ConnectionLost),
        Err(_) => Outcome::Failed(SuspectReason::PutFailed),
    };
    Ok(outcome)
}
