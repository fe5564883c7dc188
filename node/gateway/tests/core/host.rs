//! A host in memory that can be told to misbehave.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use shingle_proto::ids::BlockHash;
use shingle_proto::message::{Appended, BlockRead, ErrorCode, ErrorReply, Request, Response};
use shingle_seam::rpc::{Answer, Call, Service};
use shingle_seam::tasks::LocalFuture;

/// What a host does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Works,
    /// Never answers.
    Stalls,
    Refuses(ErrorCode),
    /// Refuses as busy this many times, then works.
    Busy(u32),
    /// Sends blocks with a flipped bit.
    Corrupts,
}

type Records = BTreeMap<(BlockHash, u64), Vec<u8>>;

/// One fake host with one disk.
pub struct FakeHost {
    pub appends: Cell<Mode>,
    pub reads: Cell<Mode>,
    /// Appends to extents of this volume are never answered: one disk of the host's has stalled.
    pub stalled_volume: Cell<Option<u64>>,
    pub appends_started: Cell<u32>,
    pub records: RefCell<BTreeMap<(u64, u64), Records>>,
    pub reads_started: Cell<u32>,
    /// Requests that were dropped before they were answered.
    pub cancelled: Cell<u32>,
}

/// Counts a handler that is dropped half-way.
struct Unfinished<'a> {
    cancelled: &'a Cell<u32>,
    finished: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.cancelled.set(self.cancelled.get() + 1);
        }
    }
}

impl FakeHost {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            appends: Cell::new(Mode::Works),
            reads: Cell::new(Mode::Works),
            stalled_volume: Cell::new(None),
            appends_started: Cell::new(0),
            records: RefCell::default(),
            reads_started: Cell::new(0),
            cancelled: Cell::new(0),
        })
    }

    pub fn record_count(&self) -> usize {
        self.records.borrow().values().map(BTreeMap::len).sum()
    }

    pub fn sealed_bytes(&self) -> Vec<Vec<u8>> {
        self.records.borrow().values().flat_map(|records| records.values().cloned()).collect()
    }

    async fn behave(&self, mode: &Cell<Mode>) -> Result<bool, ErrorReply> {
        match mode.get() {
            Mode::Works => Ok(false),
            Mode::Corrupts => Ok(true),
            Mode::Stalls => std::future::pending().await,
            Mode::Refuses(code) => Err(ErrorReply::new(code, 0, "told to refuse")),
            Mode::Busy(0) => Ok(false),
            Mode::Busy(times) => {
                mode.set(Mode::Busy(times - 1));
                Err(ErrorReply::new(ErrorCode::Busy, 10, "told to be busy"))
            }
        }
    }

    async fn answer(&self, request: Request, payload: Option<Vec<u8>>) -> Result<Answer<Vec<u8>>, ErrorReply> {
        match request {
            Request::Append(append) => {
                self.appends_started.set(self.appends_started.get() + 1);
                if self.stalled_volume.get() == Some(append.extent.hi) {
                    std::future::pending::<()>().await;
                }
                self.behave(&self.appends).await?;
                let mut records = self.records.borrow_mut();
                let extent = records.entry((append.extent.hi, append.extent.lo)).or_default();
                let record = ((&append.hash).into(), append.put_id);
                extent.insert(record, payload.expect("an append carries its block"));
                Ok(Response::Appended(Box::new(Appended { offset_bytes: 0, free_bytes: 1 << 30 })).into())
            }
            Request::ReadBlock(read) => {
                self.reads_started.set(self.reads_started.get() + 1);
                let corrupt = self.behave(&self.reads).await?;
                let records = self.records.borrow();
                let extent = records.get(&(read.extent.hi, read.extent.lo));
                let extent = extent.ok_or_else(|| ErrorReply::new(ErrorCode::UnknownExtent, 0, "no such extent"))?;
                let record = extent.get(&((&read.hash).into(), read.put_id));
                let mut bytes =
                    record.ok_or_else(|| ErrorReply::new(ErrorCode::BlockNotFound, 0, "no such block"))?.clone();
                if corrupt {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                }
                Ok(Answer {
                    response: Response::BlockRead(Box::new(BlockRead { plain_bytes: 0 })),
                    payload: Some(bytes),
                })
            }
            other => Err(ErrorReply::new(ErrorCode::Unsupported, 0, format!("{other:?}"))),
        }
    }
}

impl Service for FakeHost {
    type Buffer = Vec<u8>;

    fn process(&self) -> String {
        "fake host".to_owned()
    }

    fn buffer(self: &Rc<Self>, _request: &Request, bytes: u32) -> Result<Vec<u8>, ErrorReply> {
        Ok(vec![0; bytes as usize])
    }

    fn handle(
        self: Rc<Self>,
        _call: Call,
        request: Request,
        payload: Option<Vec<u8>>,
    ) -> LocalFuture<'static, Answer<Vec<u8>>> {
        Box::pin(async move {
            let mut unfinished = Unfinished { cancelled: &self.cancelled, finished: false };
            let answer = self.answer(request, payload).await.unwrap_or_else(Answer::from);
            unfinished.finished = true;
            answer
        })
    }
}
