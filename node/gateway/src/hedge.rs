//! Reads one block: from the member with least to do, from a second one when it is late, from the others when it
//! fails. Whatever a member sends is opened and held against the block's name; wrong bytes are never returned, they
//! become a finding (invariant 10) and the next member is asked. What a member knows to be damaged it tells of itself.
//! Losers are cancelled by being dropped.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use shingle_codec::key::{self, BlockKey};
use shingle_codec::seal::{self, OpenError, SealParams};
use shingle_proto::ids::{BlockHash, KekVersion, OsdId, PutId};
use shingle_proto::limits::{HOST_SUSPECT_MS, READ_PATIENCE_MS};
use shingle_proto::message::{BlockRow, ErrorCode, Finding, FindingKind, ReadBlock, ReportFinding, Request, Response};
use shingle_seam::clock::Monotonic;
use shingle_seam::rpc::{CallMeta, Reply, RpcError};
use shingle_seam::tasks::{LocalFuture, on_cpu};

use crate::core::Core;
use crate::placement::spread::{Placed, Target};
use crate::request::GatewayError;

/// Why a block was not read.
#[derive(Debug)]
pub enum Unread {
    /// At least one member says that the plan is out of date, and none had the block: plan again.
    Stale,
    /// Every member failed.
    Nowhere,
    /// Nothing a member could help with.
    Fatal(GatewayError),
}

/// What one member did wrong.
#[derive(Debug)]
enum Miss {
    /// Moved on: another generation, another extent.
    Stale,
    /// Its answer was that it cannot, or none came.
    Absent(String),
    /// It cannot read this block, and has told of that itself, more exactly than it told us.
    Told(String),
    /// It lost the bytes or their order and does not know: a finding.
    Damaged(FindingKind, String),
}

/// Races in a row after whose loss an OSD is asked last. One happens to everybody: hedges start at the p95.
const LOSSES_MAX: u32 = 2;

/// OSDs that failed lately or keep losing races: asked last for `HOST_SUSPECT_MS`.
#[derive(Default)]
pub struct Shunned {
    marks: RefCell<BTreeMap<OsdId, Mark>>,
}

/// How often an OSD lost since it last won, and when.
#[derive(Clone, Copy)]
struct Mark {
    losses: u32,
    last: Monotonic,
}

impl Shunned {
    fn lost(&self, osd: OsdId, now: Monotonic) {
        let mut marks = self.marks.borrow_mut();
        let losses = marks.get(&osd).map_or(0, |mark| mark.losses);
        marks.insert(osd, Mark { losses: losses.saturating_add(1), last: now });
    }

    fn failed(&self, osd: OsdId, now: Monotonic) {
        self.marks.borrow_mut().insert(osd, Mark { losses: LOSSES_MAX, last: now });
    }

    fn won(&self, osd: OsdId) {
        self.marks.borrow_mut().remove(&osd);
    }

    fn contains(&self, osd: OsdId, now: Monotonic) -> bool {
        let mark = self.marks.borrow().get(&osd).copied();
        mark.is_some_and(|mark| mark.losses >= LOSSES_MAX && now - mark.last < Duration::from_millis(HOST_SUSPECT_MS))
    }
}

/// One block's read.
pub struct BlockRead<'a> {
    core: &'a Core,
    row: &'a BlockRow,
    volume: &'a Placed,
    /// Of the user's request that needs the block.
    trace: u64,
    params: SealParams,
}

/// A member's answer and when it was asked.
struct Attempt<'a> {
    member: &'a Target,
    started: Monotonic,
    result: Result<Vec<u8>, Miss>,
}

/// The members of one read: who still can be asked, who was, whose answers are awaited.
struct Race<'a> {
    read: &'a BlockRead<'a>,
    key: Arc<BlockKey>,
    waiting: VecDeque<&'a Target>,
    asked: Vec<(OsdId, Monotonic)>,
    running: FuturesUnordered<LocalFuture<'a, Attempt<'a>>>,
}

impl<'a> Race<'a> {
    /// Asks the next member, if one is left.
    fn start_next(&mut self) -> Option<OsdId> {
        let member = self.waiting.pop_front()?;
        let started = self.read.core.world.clock.now();
        self.asked.push((member.osd, started));
        let (read, key) = (self.read, self.key.clone());
        self.running.push(Box::pin(async move {
            let result = read.fetch(member, started, key).await;
            Attempt { member, started, result }
        }));
        Some(member.osd)
    }
}

impl<'a> BlockRead<'a> {
    pub fn new(core: &'a Core, row: &'a BlockRow, volume: &'a Placed, trace: u64) -> Self {
        let params = SealParams {
            hash: BlockHash::from(&row.hash),
            put_id: PutId(row.put_id),
            plain_bytes: row.plain_bytes,
            compression: row.compression,
            crc32c: row.sealed_crc32c,
        };
        Self { core, row, volume, trace, params }
    }

    /// The block's plain bytes, proven to be the named ones.
    pub async fn run(&'a self) -> Result<Vec<u8>, Unread> {
        let core = self.core;
        core.cohorts.earn();
        let key = Arc::new(self.key().map_err(Unread::Fatal)?);
        let (waiting, running) = (self.order(), FuturesUnordered::new());
        let mut race = Race { read: self, key, waiting, asked: Vec::new(), running };
        let Some(first) = race.start_next() else { return Err(Unread::Stale) };
        let bytes = self.row.sealed_bytes;
        let mates = self.volume.members.iter().map(|member| (member.osd, member.late(bytes)));
        let delay = core.cohorts.delay(first, mates, bytes);
        let mut late = core.world.tasks.sleep(delay);
        let (mut hedged, mut stale) = (false, false);
        loop {
            tokio::select! {
                biased;
                attempt = race.running.next() => match attempt {
                    Some(Attempt { member, started, result: Ok(plain) }) => {
                        self.learn(member, started, &race.asked);
                        return Ok(plain);
                    }
                    Some(Attempt { member, result: Err(miss), .. }) => {
                        stale |= self.missed(member, miss);
                        race.start_next();
                    }
                    None => return Err(if stale { Unread::Stale } else { Unread::Nowhere }),
                },
                () = &mut late => {
                    // First at the cohort's p95, if the budget allows; later because patience has an end.
                    if hedged || core.cohorts.spend() {
                        race.start_next();
                    }
                    hedged = true;
                    late = core.world.tasks.sleep(Duration::from_millis(READ_PATIENCE_MS));
                }
            }
        }
    }

    /// Members by what is on its way to them, ties at random; those that failed lately last.
    fn order(&self) -> VecDeque<&'a Target> {
        let now = self.core.world.clock.now();
        let mut members: Vec<_> = self
            .volume
            .members
            .iter()
            .map(|member| {
                let shunned = self.core.shunned.contains(member.osd, now);
                ((shunned, self.core.load.bytes(member.osd), self.core.world.entropy.u64()), member)
            })
            .collect();
        members.sort_by_key(|(rank, _)| *rank);
        members.into_iter().map(|(_, member)| member).collect()
    }

    fn key(&self) -> Result<BlockKey, GatewayError> {
        let version = self.row.kek_version;
        let kek = self.core.keys.kek(KekVersion(version)).ok_or(GatewayError::KeyUnavailable { version })?;
        key::unwrap(&kek.0, &self.row.wrapped_key).map_err(|error| {
            tracing::error!(hash = %self.params.hash, version, %error, "block's key cannot be unwrapped");
            GatewayError::KeyUnavailable { version }
        })
    }

    async fn fetch(&self, member: &Target, started: Monotonic, key: Arc<BlockKey>) -> Result<Vec<u8>, Miss> {
        let _in_flight = self.core.load.begin(member.osd, u64::from(self.row.sealed_bytes));
        let read = ReadBlock { extent: member.extent.into(), hash: self.row.hash.clone(), put_id: self.row.put_id };
        let meta = CallMeta {
            generation: self.volume.generation,
            trace: self.trace,
            ..CallMeta::client(self.core.config.read_deadline)
        };
        let result = self.core.peers.call(member.address, &meta, Request::ReadBlock(Box::new(read)), None).await;
        let sealed = sealed_bytes(result)?;
        self.core.cohorts.note(member.osd, self.row.sealed_bytes, self.core.world.clock.now() - started);
        let params = self.params.clone();
        let opened = on_cpu(&self.core.world.tasks, move || seal::open(sealed, &params, &key)).await;
        opened.map_err(|error| Miss::Damaged(kind_of(error), error.to_string()))
    }

    /// A good answer clears its member; who was asked before it and is still silent was at least this slow.
    fn learn(&self, winner: &Target, started: Monotonic, asked: &[(OsdId, Monotonic)]) {
        self.core.shunned.won(winner.osd);
        let now = self.core.world.clock.now();
        for (osd, since) in asked.iter().filter(|(osd, since)| *osd != winner.osd && *since < started) {
            self.core.cohorts.note(*osd, self.row.sealed_bytes, now - *since);
            self.core.shunned.lost(*osd, now);
        }
    }

    /// A bad answer; true when it says that the plan is out of date.
    fn missed(&self, member: &Target, miss: Miss) -> bool {
        match miss {
            Miss::Stale => return true,
            Miss::Absent(detail) => {
                tracing::debug!(osd = %member.osd, hash = %self.params.hash, detail, "member cannot serve a block");
                self.core.shunned.failed(member.osd, self.core.world.clock.now());
            }
            Miss::Told(detail) => {
                tracing::debug!(osd = %member.osd, hash = %self.params.hash, detail, "member has told of a block");
            }
            Miss::Damaged(kind, detail) => self.report(member, kind, detail),
        }
        false
    }

    fn report(&self, member: &Target, kind: FindingKind, detail: String) {
        tracing::warn!(osd = %member.osd, extent = %member.extent, hash = %self.params.hash, ?kind, detail, "finding");
        let finding = Finding {
            kind,
            osd: member.osd.0,
            extent: member.extent.into(),
            hash: Some(self.row.hash.clone()),
            put_id: self.row.put_id,
            detail,
        };
        self.core.report_finding(ReportFinding { finding: Box::new(finding) });
    }
}

/// The sealed bytes of a member's answer.
fn sealed_bytes(result: Result<Reply, RpcError>) -> Result<Vec<u8>, Miss> {
    match result {
        Ok(Reply { response: Response::BlockRead(_), payload }) => Ok(payload),
        Ok(Reply { response, .. }) => Err(Miss::Absent(format!("an answer of the wrong kind: {response:?}"))),
        Err(RpcError::Refused(refusal)) => Err(match refusal.code {
            ErrorCode::StaleGeneration | ErrorCode::UnknownExtent | ErrorCode::UnknownOsd => Miss::Stale,
            ErrorCode::RecordDamaged => Miss::Told(refusal.message),
            ErrorCode::BlockNotFound => Miss::Damaged(FindingKind::RecordMissing, refusal.message),
            _ => Miss::Absent(refusal.message),
        }),
        Err(error) => Err(Miss::Absent(error.to_string())),
    }
}

fn kind_of(error: OpenError) -> FindingKind {
    match error {
        OpenError::Name => FindingKind::HashMismatch,
        _ => FindingKind::RecordDamaged,
    }
}
