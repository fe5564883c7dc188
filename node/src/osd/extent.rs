//! One extent in memory: its state, its queue of things to append, and who waits for what.
//!
//! Only the extent's own append task writes to its zones, one item after the other, so the plan made when an item was
//! accepted is where it lands.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

use local_sync::oneshot;
use shingle_hw::buffer::Buffer;
use shingle_proto::frame::Class;
use shingle_proto::ids::{BlockHash, Generation, PutId};
use shingle_proto::message::{Appended, ExtentClosed, ExtentReport, ExtentState};
use shingle_seam::clock::Monotonic;

use super::budget::Grant;
use super::refusal::Refusal;
use crate::extent::footer::TocEntry;
use crate::extent::header::ExtentHeader;
use crate::extent::journal::FooterPlace;
use crate::extent::layout::Layout;
use crate::extent::placement::{Placement, Spot};
use crate::extent::record::Record;
use crate::extent::recover::Recovered;
use crate::extent::toc::Toc;

/// What an extent is going through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its header is not durable yet.
    Creating,
    Open,
    /// Fenced: nothing is accepted; the closing record is not durable yet.
    Closing,
    Closed,
    /// An append or flush failed: what it holds can be read, nothing is accepted.
    Failed,
}

/// Who waits for an outcome, several for one.
pub type Waiters<T> = Vec<oneshot::Sender<Result<T, Refusal>>>;

/// A waiter that has gone is no error: callers cancel.
pub fn answer<T: Clone>(waiters: Waiters<T>, outcome: &Result<T, Refusal>) {
    for waiter in waiters {
        drop(waiter.send(outcome.clone()));
    }
}

/// What an item in the queue is.
pub enum Work {
    Header,
    Record {
        record: Record,
        grant: Grant,
    },
    /// The closing record; its footer is made when its turn has come.
    Close(Record),
    /// The end of a failed extent: its zones are finished, so that a restart sees that nothing may follow.
    Seal,
}

/// Something to be appended.
pub struct Item {
    pub ticket: u64,
    /// Whose work it is.
    pub class: Class,
    pub spot: Spot,
    /// The whole record in its buffer; for `Seal`, none.
    pub buffer: Option<Buffer>,
    pub bytes: u64,
    pub work: Work,
    pub accepted: Monotonic,
}

/// One extent of an OSD.
pub struct Extent {
    pub header: ExtentHeader,
    pub state: Cell<State>,
    /// The highest generation any request has named.
    generation: Cell<Generation>,
    pub placement: RefCell<Placement>,
    pub queue: RefCell<VecDeque<Item>>,
    /// Whether the append task runs.
    pub appending: Cell<bool>,
    /// Where the last append ended.
    pub tail: Cell<Spot>,
    pub next_sequence: Cell<u64>,
    pub life_sequence: u64,
    pub durable_sequence: Cell<u64>,
    pub toc: RefCell<Toc>,
    pub records: Cell<u32>,
    pub record_bytes: Cell<u64>,
    /// Records appended, and their bytes: durable or not yet.
    pub written: Cell<(u64, u64)>,
    /// Every record appended, for the footer; empty once nothing is appended any more.
    pub entries: RefCell<Vec<TocEntry>>,
    /// Where the footer is, once it is written.
    pub footer: Cell<Option<FooterPlace>>,
    /// Milliseconds since 1970 when every record was last read back and found good; 0: never.
    pub verified_ms: Cell<u64>,
    /// A failed extent whose end is on disk.
    pub sealed: Cell<bool>,
    /// Whether one of its zones holds, or may come to hold, resources of the device.
    pub holds_zone: Cell<bool>,
    pub creating: RefCell<Waiters<u64>>,
    pub closing: RefCell<Waiters<ExtentClosed>>,
    /// Records accepted and not yet durable.
    pub waiting: RefCell<BTreeMap<(BlockHash, PutId), Waiters<Appended>>>,
}

impl Extent {
    /// A new extent; its header goes to the start of its first zone.
    pub fn create(header: ExtentHeader, layout: &Layout, header_bytes: u64) -> Self {
        let next = Spot { zone: 0, offset_bytes: header_bytes };
        let start = Spot { zone: 0, offset_bytes: 0 };
        Self::new(header, State::Creating, Placement::new(*layout, next, 0), start, 1, Toc::new())
    }

    /// An extent found at start-up. What it holds has been flushed since.
    pub fn recovered(found: Recovered, layout: &Layout) -> Self {
        let state = match found.state {
            ExtentState::Open => State::Open,
            ExtentState::Closed => State::Closed,
            _ => State::Failed,
        };
        let placement = Placement::new(*layout, found.next, found.records);
        let extent = Self::new(found.header, state, placement, found.next, found.next_sequence, found.toc);
        extent.durable_sequence.set(found.next_sequence - 1);
        extent.records.set(found.records);
        extent.record_bytes.set(found.record_bytes);
        extent.written.set((u64::from(found.records), found.record_bytes));
        extent.sealed.set(state == State::Failed);
        extent.holds_zone.set(state == State::Open);
        extent.entries.replace(found.entries);
        extent.footer.set(found.footer);
        extent
    }

    fn new(header: ExtentHeader, state: State, placement: Placement, tail: Spot, next_sequence: u64, toc: Toc) -> Self {
        Self {
            header,
            state: Cell::new(state),
            generation: Cell::default(),
            placement: RefCell::new(placement),
            queue: RefCell::default(),
            appending: Cell::new(false),
            tail: Cell::new(tail),
            next_sequence: Cell::new(next_sequence),
            life_sequence: next_sequence,
            durable_sequence: Cell::new(0),
            toc: RefCell::new(toc),
            records: Cell::new(0),
            record_bytes: Cell::new(0),
            written: Cell::default(),
            entries: RefCell::default(),
            footer: Cell::default(),
            verified_ms: Cell::default(),
            sealed: Cell::new(false),
            holds_zone: Cell::new(true),
            creating: RefCell::default(),
            closing: RefCell::default(),
            waiting: RefCell::default(),
        }
    }

    /// Refuses callers that act upon an older generation of the volume than one already seen. 0 claims none.
    pub fn check_generation(&self, generation: Generation) -> Result<(), Refusal> {
        let seen = self.generation.get();
        if generation.0 != 0 && generation < seen {
            return Err(Refusal::StaleGeneration(seen));
        }
        self.generation.set(seen.max(generation));
        Ok(())
    }

    /// Whether records may be added.
    pub fn check_open(&self) -> Result<(), Refusal> {
        match self.state.get() {
            State::Open => Ok(()),
            State::Creating => Err(Refusal::UnknownExtent),
            State::Closing | State::Closed => Err(Refusal::ExtentClosed),
            State::Failed => Err(self.failed()),
        }
    }

    /// The refusal of a failed extent.
    pub fn failed(&self) -> Refusal {
        Refusal::DeviceFailed(format!("extent {} has ended after a failed append or flush", self.header.extent))
    }

    pub fn closed_answer(&self) -> ExtentClosed {
        ExtentClosed { records: self.records.get(), record_bytes: self.record_bytes.get() }
    }

    pub fn report(&self) -> ExtentReport {
        ExtentReport {
            extent: self.header.extent.into(),
            state: match self.state.get() {
                State::Creating | State::Open => ExtentState::Open,
                State::Closing | State::Closed => ExtentState::Closed,
                State::Failed => ExtentState::Failed,
            },
            volume: self.header.volume.0,
            bucket: self.header.bucket.0,
            member: self.header.member,
            records: self.records.get(),
            record_bytes: self.record_bytes.get(),
            free_bytes: match self.state.get() {
                State::Creating | State::Open => self.placement.borrow().free_bytes(),
                State::Closing | State::Closed | State::Failed => 0,
            },
        }
    }
}
