//! A control plane in memory: the promises of the catalog a gateway relies on, without store or time.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use shingle_proto::ids::{BlockHash, ManifestId};
use shingle_proto::message::*;
use shingle_seam::World;
use shingle_seam::rpc::{Answer, Call, Service};
use shingle_seam::tasks::LocalFuture;

type Blocks = BTreeMap<u64, (BlockHash, u32)>;

/// Everything it knows.
#[derive(Default)]
pub struct Tables {
    pub objects: BTreeMap<String, ObjectRow>,
    pub manifests: BTreeMap<ManifestId, Blocks>,
    pub intents: BTreeSet<ManifestId>,
    pub rows: BTreeMap<BlockHash, BlockRow>,
    pub parts: BTreeMap<u32, PartRow>,
    pub volumes: Vec<Volume>,
    /// Of the one upload there is.
    pub upload_headers: ObjectHeaders,
    pub checksum_type: ChecksumType,
    /// What the next view says is lacking.
    pub lack: Lack,
    pub suspects: Vec<ReportSuspect>,
    pub findings: Vec<Finding>,
    pub aborted: usize,
    pub renewed: usize,
    /// How often a download said that it goes on.
    pub holds: usize,
    pub lost_races: usize,
    completed: bool,
    next: u64,
}

/// A fake control plane.
pub struct FakeControl {
    pub world: World,
    pub tables: RefCell<Tables>,
    pub lease: Cell<Duration>,
    /// Claims answer this much later, so that racing puts all see "unknown".
    pub claim_delay: Cell<Duration>,
    /// Plans in a row in which only this many members of a volume have an address: hosts not heard of yet.
    pub unheard: Cell<(u32, usize)>,
    /// Every intent is expired.
    pub expired: Cell<bool>,
    /// The object's row flips to this version right after its next head.
    pub replace_after_head: RefCell<Option<ObjectRow>>,
}

fn refuse<T>(code: ErrorCode) -> Result<T, ErrorReply> {
    Err(ErrorReply::new(code, 0, format!("{code:?}")))
}

impl FakeControl {
    pub fn new(world: World, volumes: Vec<Volume>) -> Rc<Self> {
        Rc::new(Self {
            world,
            tables: RefCell::new(Tables { volumes, ..Tables::default() }),
            lease: Cell::new(Duration::from_secs(60)),
            claim_delay: Cell::new(Duration::ZERO),
            unheard: Cell::default(),
            expired: Cell::new(false),
            replace_after_head: RefCell::new(None),
        })
    }

    async fn answer(&self, request: Request) -> Result<Response, ErrorReply> {
        if matches!(request, Request::ClaimBlocks(_)) {
            self.world.tasks.sleep(self.claim_delay.get()).await;
        }
        let mut tables = self.tables.borrow_mut();
        let response = match request {
            Request::GetVolumes(_) => tables.get_volumes(),
            Request::ReportSuspect(report) => {
                tables.suspects.push(*report);
                Response::Done(Box::new(Done {}))
            }
            Request::ReportFinding(report) => {
                tables.findings.push(*report.finding);
                Response::Done(Box::new(Done {}))
            }
            Request::OpenIntent(_) => tables.open_intent(self.lease.get()),
            Request::RenewIntent(_) if self.expired.get() => return refuse(ErrorCode::IntentExpired),
            Request::RenewIntent(_) => {
                tables.renewed += 1;
                Response::Done(Box::new(Done {}))
            }
            Request::AbortIntent(abort) => {
                tables.aborted += 1;
                tables.intents.remove(&ManifestId::from(&abort.manifest));
                tables.manifests.remove(&ManifestId::from(&abort.manifest));
                Response::Done(Box::new(Done {}))
            }
            Request::ClaimBlocks(claim) => tables.claim(&claim)?,
            Request::CommitBlocks(commit) => tables.commit(*commit)?,
            Request::CopyBlocks(copy) => tables.copy(&copy)?,
            Request::FinishObject(finish) => tables.finish(*finish)?,
            Request::HeadObject(head) => {
                let Some(row) = tables.objects.get(&head.key).cloned() else { return refuse(ErrorCode::NoSuchKey) };
                if let Some(new) = self.replace_after_head.borrow_mut().take() {
                    tables.manifests.remove(&ManifestId::from(&row.manifest));
                    tables.objects.insert(head.key, new);
                }
                Response::ObjectHead(Box::new(ObjectHead { row: Box::new(row), part_offset_bytes: 0, part_bytes: 0 }))
            }
            Request::PlanRead(plan) if plan.length_bytes == 0 => {
                tables.holds += 1;
                tables.plan(&plan, 0)?
            }
            Request::PlanRead(plan) => {
                let (left, most) = self.unheard.get();
                self.unheard.set((left.saturating_sub(1), most));
                tables.plan(&plan, if left > 0 { most } else { usize::MAX })?
            }
            Request::ListBlocks(list) => tables.list(&list)?,
            Request::FinishPart(finish) => {
                tables.parts.insert(finish.part.number, *finish.part);
                Response::Done(Box::new(Done {}))
            }
            Request::ListParts(_) if tables.completed => return refuse(ErrorCode::NoSuchUpload),
            Request::ListParts(list) => tables.list_parts(&list),
            Request::CompleteUpload(complete) => tables.complete(*complete)?,
            other => return Err(ErrorReply::new(ErrorCode::Unsupported, 0, format!("{other:?}"))),
        };
        Ok(response)
    }
}

impl Tables {
    fn get_volumes(&self) -> Response {
        let shut = |volume: &&Volume| {
            !self.suspects.iter().any(|suspect| {
                let blamed = suspect.reason != SuspectReason::ExtentFull;
                suspect.volume == volume.id || (blamed && volume.members.iter().any(|member| member.osd == suspect.osd))
            })
        };
        let volumes = self.volumes.iter().filter(shut).cloned().collect();
        Response::Volumes(Box::new(Volumes { version: 1, copies: 4, volumes, lack: self.lack }))
    }

    fn open_intent(&mut self, lease: Duration) -> Response {
        self.next += 1;
        let manifest = ManifestId(u128::from(self.next));
        self.intents.insert(manifest);
        self.manifests.insert(manifest, Blocks::new());
        Response::IntentOpened(Box::new(IntentOpened {
            manifest: manifest.into(),
            put_token: self.next,
            lease_ms: lease.as_millis() as u64,
        }))
    }

    fn blocks_of(&mut self, manifest: &Id128) -> Result<&mut Blocks, ErrorReply> {
        let manifest = ManifestId::from(manifest);
        match self.intents.contains(&manifest) {
            true => Ok(self.manifests.entry(manifest).or_default()),
            false => refuse(ErrorCode::IntentExpired),
        }
    }

    fn claim(&mut self, claim: &ClaimBlocks) -> Result<Response, ErrorReply> {
        let mut known = Vec::new();
        for block in &claim.blocks {
            let hash = BlockHash::from(&block.hash);
            let here = self.rows.contains_key(&hash);
            if here {
                self.blocks_of(&claim.manifest)?.insert(block.offset_bytes, (hash, block.plain_bytes));
            }
            known.push(here);
        }
        Ok(Response::BlocksClaimed(Box::new(BlocksClaimed { known })))
    }

    fn commit(&mut self, commit: CommitBlocks) -> Result<Response, ErrorReply> {
        let mut inserted = Vec::new();
        for block in commit.blocks {
            let hash = BlockHash::from(&block.row.hash);
            let plain_bytes = block.row.plain_bytes;
            self.blocks_of(&commit.manifest)?.insert(block.offset_bytes, (hash, plain_bytes));
            let new = !self.rows.contains_key(&hash);
            self.lost_races += usize::from(!new);
            self.rows.entry(hash).or_insert(*block.row);
            inserted.push(new);
        }
        Ok(Response::BlocksCommitted(Box::new(BlocksCommitted { inserted })))
    }

    /// Copies two blocks at a time, so that callers have to come again.
    fn copy(&mut self, copy: &CopyBlocks) -> Result<Response, ErrorReply> {
        let Some(source) = self.manifests.get(&ManifestId::from(&copy.source)) else {
            return refuse(ErrorCode::BlockMissing);
        };
        let end = copy.source_offset_bytes + copy.length_bytes;
        let range = source.range(copy.source_offset_bytes..end).take(2);
        let blocks: Vec<_> = range.map(|(offset, block)| (*offset, *block)).collect();
        let mut copied_bytes = 0;
        for (offset, block) in blocks {
            let target = copy.offset_bytes + offset - copy.source_offset_bytes;
            self.blocks_of(&copy.manifest)?.insert(target, block);
            copied_bytes += u64::from(block.1);
        }
        Ok(Response::BlocksCopied(Box::new(BlocksCopied { copied_bytes })))
    }

    fn finish(&mut self, finish: FinishObject) -> Result<Response, ErrorReply> {
        let blocks = self.blocks_of(&finish.manifest)?;
        let bytes: u64 = blocks.values().map(|(_, bytes)| u64::from(*bytes)).sum();
        assert_eq!((bytes, blocks.len() as u64), (finish.size_bytes, finish.blocks), "a finished object is whole");
        self.intents.remove(&ManifestId::from(&finish.manifest));
        let row = ObjectRow {
            key: finish.key.clone(),
            manifest: finish.manifest,
            size_bytes: finish.size_bytes,
            etag: finish.etag,
            modified_ms: 1,
            blocks: finish.blocks,
            headers: finish.headers,
            parts: 0,
        };
        self.objects.insert(finish.key, row.clone());
        Ok(Response::ObjectFinished(Box::new(ObjectFinished { row: Box::new(row) })))
    }

    fn plan(&mut self, plan: &PlanRead, heard: usize) -> Result<Response, ErrorReply> {
        let Some(manifest) = self.manifests.get(&ManifestId::from(&plan.manifest)) else {
            return refuse(ErrorCode::NoSuchKey);
        };
        let end = plan.offset_bytes + plan.length_bytes;
        let wanted = manifest
            .iter()
            .filter(|(offset, (_, bytes))| **offset < end && **offset + u64::from(*bytes) > plan.offset_bytes);
        let mut blocks = Vec::new();
        let mut next_offset_bytes = plan.offset_bytes;
        for (offset, (hash, bytes)) in wanted.take(plan.max_blocks as usize) {
            let Some(row) = self.rows.get(hash) else { return refuse(ErrorCode::BlockMissing) };
            let volume = self.volumes.iter().position(|volume| volume.bucket == row.bucket).expect("a known bucket");
            blocks.push(PlannedBlock { offset_bytes: *offset, row: Box::new(row.clone()), volume: volume as u32 });
            next_offset_bytes = offset + u64::from(*bytes);
        }
        let mut volumes = self.volumes.clone();
        let unheard = volumes.iter_mut().flat_map(|volume| volume.members.iter_mut().skip(heard));
        unheard.for_each(|member| member.address.clear());
        Ok(Response::ReadPlan(Box::new(ReadPlan { blocks, volumes, next_offset_bytes })))
    }

    /// Three blocks a page.
    fn list(&mut self, list: &ListBlocks) -> Result<Response, ErrorReply> {
        let Some(manifest) = self.manifests.get(&ManifestId::from(&list.manifest)) else {
            return refuse(ErrorCode::NoSuchKey);
        };
        let mut rest =
            manifest.iter().filter(|(offset, (_, bytes))| **offset + u64::from(*bytes) > list.offset_bytes).peekable();
        let mut blocks = Vec::new();
        while let Some((offset, (hash, plain_bytes))) = rest.next_if(|_| blocks.len() < 3) {
            blocks.push(BlockName { offset_bytes: *offset, hash: (*hash).into(), plain_bytes: *plain_bytes });
        }
        let end = rest.peek().is_none();
        let next_offset_bytes = blocks.last().map_or(0, |last| last.offset_bytes + u64::from(last.plain_bytes));
        Ok(Response::BlockList(Box::new(BlockList { blocks, next_offset_bytes, end })))
    }

    fn list_parts(&self, list: &ListParts) -> Response {
        let mut rest = self.parts.range(list.after_number + 1..).map(|(_, part)| part.clone());
        let parts: Vec<_> = rest.by_ref().take(2).collect();
        let end = rest.next().is_none();
        Response::Parts(Box::new(Parts {
            parts,
            end,
            headers: Box::new(self.upload_headers.clone()),
            checksum_type: self.checksum_type,
        }))
    }

    fn complete(&mut self, complete: CompleteUpload) -> Result<Response, ErrorReply> {
        let mut whole = Blocks::new();
        let mut at = 0;
        for part in &complete.parts {
            let row = &self.parts[&part.number];
            let blocks = self.manifests[&ManifestId::from(&row.manifest)].clone();
            whole.extend(blocks.into_iter().map(|(offset, block)| (at + offset, block)));
            at += row.size_bytes;
        }
        let blocks = whole.len() as u64;
        let upload = ManifestId::from(&complete.upload);
        self.intents.insert(upload);
        self.manifests.insert(upload, whole);
        self.completed = true;
        self.finish(FinishObject {
            key: complete.key,
            manifest: complete.upload,
            size_bytes: at,
            blocks,
            etag: complete.etag,
            headers: Box::new(ObjectHeaders {
                checksum_algorithm: complete.checksum_algorithm,
                checksum_value: complete.checksum_value,
                ..ObjectHeaders::default()
            }),
            ..FinishObject::default()
        })
    }
}

impl Service for FakeControl {
    type Buffer = Vec<u8>;

    fn process(&self) -> String {
        "fake control".to_owned()
    }

    fn buffer(self: &Rc<Self>, _request: &Request, _bytes: u32) -> Result<Vec<u8>, ErrorReply> {
        refuse(ErrorCode::Malformed)
    }

    fn handle(
        self: Rc<Self>,
        _call: Call,
        request: Request,
        _payload: Option<Vec<u8>>,
    ) -> LocalFuture<'static, Answer<Vec<u8>>> {
        Box::pin(async move {
            match self.answer(request).await {
                Ok(response) => response.into(),
                Err(error) => error.into(),
            }
        })
    }
}
