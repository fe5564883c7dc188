//! Scrub: every record of the disk read back and checked once a sweep, evenly paced, in its own class.
//!
//! An extent counts as verified when all of it was read and found good; then the journal remembers it. What is not good
//! is a finding with its exact place, and the extent's age grows until somebody has repaired it (invariant 10).

mod ages;
mod plan;
mod read_back;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use shingle_proto::frame::Class;
use shingle_proto::ids::ExtentId;
use shingle_proto::message::OsdState;
use shingle_seam::clock::Monotonic;

use self::ages::Sum;
use self::plan::{Due, due_ms, pace};
use self::read_back::{Interrupted, Pass};
use super::extent::{Extent, State};
use super::store::Osd;
use crate::extent::format::SECTOR_BYTES;

/// How often the scrub looks whether something more urgent has come up, and how long it waits when a disk does not
/// answer.
const RECHECK: Duration = Duration::from_secs(600);

/// What one OSD's scrub remembers while it runs.
#[derive(Default)]
pub struct Scrub {
    /// Milliseconds since 1970 at which extents were read back whole, good or not.
    checked_ms: RefCell<BTreeMap<ExtentId, u64>>,
    /// When the host began to watch over extents that do not say how old they are.
    began_ms: Cell<u64>,
    bytes: Cell<u64>,
    records: Cell<u64>,
    flaws: Cell<u64>,
    pace: Cell<u64>,
    sum: Cell<Option<Sum>>,
}

/// What an OSD's scrub has done since the start, and how long ago its extents were verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    pub bytes: u64,
    pub records: u64,
    /// Parts of extents that were not what was written.
    pub flaws: u64,
    /// Bytes a second at which it reads now.
    pub pace_bytes: u64,
    /// Since extents were last verified, or else since they were created: the middle and the oldest one.
    pub age_p50_ms: u64,
    pub age_p100_ms: u64,
    /// All there is to verify, and what was not verified since its extent was closed, or not within a sweep.
    pub held_bytes: u64,
    pub left_bytes: u64,
}

/// The time the next read has to wait.
pub(super) struct Pace {
    /// Bytes to be read next that are not yet paid for with time.
    debt_bytes: f64,
    since: Monotonic,
}

impl Osd {
    /// Reads the disk back for ever, or until it fails.
    pub async fn run_scrub(self: Rc<Self>) {
        self.scrub.began_ms.set(self.world.clock.unix_ms());
        let mut pace = Pace { debt_bytes: 0.0, since: self.world.clock.now() };
        while self.state() != OsdState::Failed {
            let Some(extent) = self.most_urgent() else {
                self.world.tasks.sleep(RECHECK).await;
                pace.since = self.world.clock.now();
                continue;
            };
            let started_ms = self.world.clock.unix_ms();
            let id = extent.header.extent;
            let mut pass = Pass::new(&extent, self.bytes_of(&extent));
            if let Err(Interrupted) = self.read_back(&mut pass, &mut pace).await {
                self.world.tasks.sleep(RECHECK).await;
                continue;
            }
            let good = pass.good;
            if self.is_current(&extent) {
                self.scrub.checked_ms.borrow_mut().insert(id, started_ms);
                if good {
                    self.record_verified(id, started_ms);
                }
            }
            self.scrub.checked_ms.borrow_mut().retain(|id, _| self.extents.borrow().contains_key(id));
        }
        self.scrub.pace.set(0);
    }

    /// Whether the extent is still this disk's: its slot may have been given to another one meanwhile.
    fn is_current(&self, extent: &Rc<Extent>) -> bool {
        self.extent(extent.header.extent).is_some_and(|current| Rc::ptr_eq(&current, extent))
    }

    fn due_of(&self, extent: &Extent) -> Option<Due> {
        if extent.state.get() == State::Creating {
            return None;
        }
        let settled_ms = self.settled_ms(extent);
        let checked_ms = self.scrub.checked_ms.borrow().get(&extent.header.extent).copied().unwrap_or(0);
        let last_ms = match settled_ms {
            // One that was never read back is due soon, however old it is.
            Some(_) => extent.verified_ms.get().max(checked_ms),
            None => self.known_good_ms(extent).max(checked_ms),
        };
        let due_ms = due_ms(last_ms, settled_ms, self.budgets.disk.sweep());
        (extent.records.get() > 0).then(|| Due { due_ms, bytes: self.bytes_of(extent) })
    }

    fn bytes_of(&self, extent: &Extent) -> u64 {
        let closing = extent.footer.get().map_or(0, |footer| footer.bytes);
        SECTOR_BYTES as u64 + extent.record_bytes.get() + closing
    }

    fn most_urgent(&self) -> Option<Rc<Extent>> {
        let extents = self.extents.borrow();
        let dues = extents.values().filter_map(|extent| Some((self.due_of(extent)?.due_ms, extent)));
        dues.min_by_key(|(due_ms, extent)| (*due_ms, extent.header.extent)).map(|(_, extent)| extent.clone())
    }

    /// Bytes a second that make everything in time when `first_bytes` of one extent come first, at most scrub's share of
    /// the disk.
    fn pace_now(&self, first_bytes: u64, first: &Rc<Extent>) -> u64 {
        let disk = &self.budgets.disk;
        let most = disk.shares.part_of(Class::Scrub, disk.bandwidth_bytes).max(1);
        let extents = self.extents.borrow();
        let others = extents.values().filter(|extent| !Rc::ptr_eq(extent, first));
        let mut dues: Vec<Due> = others.filter_map(|extent| self.due_of(extent)).collect();
        let now_ms = self.world.clock.unix_ms();
        let own = self.due_of(first).map(|due| Due { bytes: 0, ..due });
        dues.extend(own);
        let pace = pace(now_ms, first_bytes, &mut dues, most).max(1);
        self.scrub.pace.set(pace);
        pace
    }

    /// Waits until `bytes` are paid for with time; then they may be read.
    async fn keep_pace(&self, pace: &mut Pace, pass: &Pass<'_>, bytes: u64) {
        pace.debt_bytes += bytes as f64;
        loop {
            let per_second = self.pace_now(pass.left_bytes + pace.debt_bytes as u64, pass.extent) as f64;
            let now = self.world.clock.now();
            pace.debt_bytes -= (now - pace.since).as_secs_f64() * per_second;
            pace.since = now;
            if pace.debt_bytes <= 0.0 {
                // Time that was not used is not saved up.
                pace.debt_bytes = 0.0;
                return;
            }
            let wait = Duration::from_secs_f64((pace.debt_bytes / per_second).min(RECHECK.as_secs_f64()));
            self.world.tasks.sleep(wait + Duration::from_micros(1)).await;
        }
    }
}
