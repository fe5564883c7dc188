//! What a planted drive is slow with: bugs of time, told apart from the drive's own time by what they depend on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::{Clock, VirtualClock};
use crate::zone::ZoneId;

/// A pause after which the head writes badly.
const PAUSE: Duration = Duration::from_millis(50);
/// What it writes badly then: the first sectors.
const WEAK_BYTES: u64 = 16 << 10;
/// Two turns at 7200 rpm.
const TWO_TURNS: Duration = Duration::from_micros(16_667);
/// A transfer of as much is part of a stream.
const STREAM_BYTES: u64 = 32 << 10;
/// A stream goes on when its last transfer began so short ago.
const STREAM_GOES_ON: Duration = Duration::from_secs(1);
/// What other reads wait for it.
const BEHIND_STREAM: Duration = Duration::from_millis(300);

#[derive(Default)]
struct Memory {
    written_ns: u64,
    /// What was written badly, by zone.
    weak: BTreeMap<ZoneId, Vec<Range<u64>>>,
    /// When the last long transfer began.
    streamed_ns: Option<u64>,
}

/// What a drive remembers of when and where it was busy. Clones share it.
#[derive(Clone)]
pub(super) struct Slowness {
    clock: Rc<VirtualClock>,
    memory: Rc<RefCell<Memory>>,
}

impl Slowness {
    pub fn new(clock: Rc<VirtualClock>) -> Self {
        Self { clock, memory: Rc::default() }
    }

    /// An append has landed.
    pub fn appended(&self, zone: ZoneId, at: Range<u64>) {
        let now_ns = self.clock.now_ns();
        {
            let memory = &mut *self.memory.borrow_mut();
            let weak = memory.weak.entry(zone).or_default();
            if at.start == 0 {
                weak.clear();
            }
            if now_ns.saturating_sub(memory.written_ns) >= PAUSE.as_nanos() as u64 {
                weak.push(at.start..at.start + WEAK_BYTES);
            }
            memory.written_ns = now_ns;
        }
        self.streams(&at);
    }

    /// Whether a transfer is part of a stream, which goes on then.
    fn streams(&self, at: &Range<u64>) -> bool {
        let long = at.end - at.start >= STREAM_BYTES;
        if long {
            self.memory.borrow_mut().streamed_ns = Some(self.clock.now_ns());
        }
        long
    }

    /// What a read of weak sectors takes longer.
    pub fn of_weak_places(&self, zone: ZoneId, at: &Range<u64>) -> Option<Duration> {
        let memory = self.memory.borrow();
        let hit = memory.weak.get(&zone)?.iter().any(|weak| weak.start < at.end && at.start < weak.end);
        hit.then_some(TWO_TURNS)
    }

    /// What a read waits for a stream that it is no part of.
    pub fn of_streams(&self, at: &Range<u64>) -> Option<Duration> {
        if self.streams(at) {
            return None;
        }
        let streamed_ns = self.memory.borrow().streamed_ns?;
        let goes_on = self.clock.now_ns().saturating_sub(streamed_ns) < STREAM_GOES_ON.as_nanos() as u64;
        goes_on.then_some(BEHIND_STREAM)
    }

    pub async fn wait(&self, delay: Duration) {
        let at_ns = self.clock.now_ns() + delay.as_nanos() as u64;
        self.clock.sleep_until(at_ns).await;
    }
}
