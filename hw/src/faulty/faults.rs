//! Which faults a device has: set and cleared while it runs.
//!
//! Invariant: an armed fault strikes exactly once, on the command it was armed for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use crate::draw::Draw;
use crate::error::DeviceError;
use crate::zone::{ZoneCondition, ZoneId};

/// A device's commands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CommandKind {
    Report,
    Append,
    Write,
    Read,
    Flush,
    Open,
    Close,
    Finish,
    Reset,
}

/// A fault that strikes one command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The command does nothing and answers this.
    Error { command: CommandKind, error: DeviceError },
    /// An append writes only some of its first sectors (perhaps none) and fails with EIO.
    TornAppend,
    /// A flush answers well and does nothing.
    LostFlush,
    /// A read delivers the bytes of another place in the zone.
    MisdirectedRead,
    /// A read delivers one flipped bit; the medium is well.
    FlippedRead,
}

impl Fault {
    fn strikes(&self, kind: CommandKind) -> bool {
        match self {
            Self::Error { command, .. } => *command == kind,
            Self::TornAppend => kind == CommandKind::Append,
            Self::LostFlush => kind == CommandKind::Flush,
            Self::MisdirectedRead | Self::FlippedRead => kind == CommandKind::Read,
        }
    }
}

/// The control of one device's faults. Clones control the same device.
#[derive(Clone)]
pub struct Faults {
    plan: Rc<RefCell<Plan>>,
}

struct Plan {
    draw: Draw,
    armed: Vec<Armed>,
    delays: BTreeMap<CommandKind, RangeInclusive<Duration>>,
    rot: BTreeMap<(ZoneId, u64), u8>,
    /// Offsets of sectors that cannot be read.
    unreadable: BTreeSet<(ZoneId, u64)>,
    conditions: BTreeMap<ZoneId, ZoneCondition>,
    seen: BTreeMap<CommandKind, u64>,
    lose_flushes: bool,
    stalled: bool,
    dead: bool,
    room_bytes: Option<u64>,
}

struct Armed {
    fault: Fault,
    /// Commands of its kind that still pass before it strikes.
    passes: u64,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        let plan = Plan {
            draw: Draw::new(seed),
            armed: Vec::new(),
            delays: BTreeMap::new(),
            rot: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            conditions: BTreeMap::new(),
            seen: BTreeMap::new(),
            lose_flushes: false,
            stalled: false,
            dead: false,
            room_bytes: None,
        };
        Self { plan: Rc::new(RefCell::new(plan)) }
    }

    /// Arms a fault for the `nth` command of its kind from now on; 1 is the next one.
    pub fn arm(&self, nth: u64, fault: Fault) {
        self.plan.borrow_mut().armed.push(Armed { fault, passes: nth.saturating_sub(1) });
    }

    /// Faults armed that have not struck yet.
    pub fn armed(&self) -> usize {
        self.plan.borrow().armed.len()
    }

    /// Commands of a kind seen so far.
    pub fn seen(&self, kind: CommandKind) -> u64 {
        self.plan.borrow().seen.get(&kind).copied().unwrap_or(0)
    }

    /// Delays every answer to commands of a kind by a time in this range, drawn for each. The command itself starts as
    /// always. `None` ends it.
    pub fn set_delay(&self, kind: CommandKind, delay: Option<RangeInclusive<Duration>>) {
        let delays = &mut self.plan.borrow_mut().delays;
        match delay {
            Some(delay) => delays.insert(kind, delay),
            None => delays.remove(&kind),
        };
    }

    /// From now on every flush answers well and does nothing, or no longer.
    pub fn set_lose_flushes(&self, lose: bool) {
        self.plan.borrow_mut().lose_flushes = lose;
    }

    /// Commands that begin from now on never answer, or do again. They happen all the same.
    pub fn set_stalled(&self, stalled: bool) {
        self.plan.borrow_mut().stalled = stalled;
    }

    /// Every command from now on fails with ENODEV and does nothing, or no longer.
    pub fn set_dead(&self, dead: bool) {
        self.plan.borrow_mut().dead = dead;
    }

    /// From now on the device says it has this much room below it; `None`: what it has.
    pub fn set_room(&self, room_bytes: Option<u64>) {
        self.plan.borrow_mut().room_bytes = room_bytes;
    }

    /// Damage at rest: from now on the bits of `mask` in this byte read flipped, until the zone is reset.
    pub fn flip_at_rest(&self, zone: ZoneId, offset_bytes: u64, mask: u8) {
        *self.plan.borrow_mut().rot.entry((zone, offset_bytes)).or_default() ^= mask;
    }

    /// The sector that starts at this offset cannot be read any more, until the zone is reset.
    pub fn set_unreadable(&self, zone: ZoneId, offset_bytes: u64) {
        self.plan.borrow_mut().unreadable.insert((zone, offset_bytes));
    }

    /// The zone can no longer be written.
    pub fn set_read_only(&self, zone: ZoneId) {
        self.plan.borrow_mut().conditions.insert(zone, ZoneCondition::ReadOnly);
    }

    /// The zone can no longer be read or written.
    pub fn set_offline(&self, zone: ZoneId) {
        self.plan.borrow_mut().conditions.insert(zone, ZoneCondition::Offline);
    }

    /// Ends every fault, also the armed ones.
    pub fn clear(&self) {
        let plan = &mut *self.plan.borrow_mut();
        plan.armed.clear();
        plan.delays.clear();
        plan.rot.clear();
        plan.unreadable.clear();
        plan.conditions.clear();
        (plan.lose_flushes, plan.stalled, plan.dead) = (false, false, false);
        plan.room_bytes = None;
    }

    /// Counts a command; the fault that strikes it, if one does.
    pub(super) fn next(&self, kind: CommandKind) -> Option<Fault> {
        let plan = &mut *self.plan.borrow_mut();
        *plan.seen.entry(kind).or_default() += 1;
        let mut struck = None;
        plan.armed.retain_mut(|armed| {
            let due = armed.fault.strikes(kind) && armed.passes == 0 && struck.is_none();
            if due {
                struck = Some(armed.fault.clone());
            } else if armed.fault.strikes(kind) {
                armed.passes = armed.passes.saturating_sub(1);
            }
            !due
        });
        struck
    }

    /// A number below `bound`; 0 when there is none.
    pub(super) fn draw(&self, bound: u64) -> u64 {
        self.plan.borrow_mut().draw.below(bound)
    }

    pub(super) fn delay(&self, kind: CommandKind) -> Option<Duration> {
        let plan = &mut *self.plan.borrow_mut();
        let range = plan.delays.get(&kind)?;
        let spread = u64::try_from(range.end().saturating_sub(*range.start()).as_nanos()).unwrap_or(u64::MAX);
        Some(*range.start() + Duration::from_nanos(plan.draw.below(spread.saturating_add(1))))
    }

    pub(super) fn condition(&self, zone: ZoneId) -> Option<ZoneCondition> {
        self.plan.borrow().conditions.get(&zone).copied()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.plan.borrow().dead
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.plan.borrow().stalled
    }

    pub(super) fn room(&self) -> Option<u64> {
        self.plan.borrow().room_bytes
    }

    pub(super) fn loses_flushes(&self) -> bool {
        self.plan.borrow().lose_flushes
    }

    /// Damages bytes that were read.
    pub(super) fn rot(&self, zone: ZoneId, offset_bytes: u64, data: &mut [u8]) {
        let plan = self.plan.borrow();
        let end = offset_bytes.saturating_add(data.len() as u64);
        for ((_, at), mask) in plan.rot.range((zone, offset_bytes)..(zone, end)) {
            if let Some(byte) = data.get_mut((at - offset_bytes) as usize) {
                *byte ^= mask;
            }
        }
    }

    /// The first unreadable byte of a read.
    pub(super) fn unreadable(&self, zone: ZoneId, offset_bytes: u64, length: u64) -> Option<u64> {
        let plan = self.plan.borrow();
        plan.unreadable
            .range((zone, offset_bytes)..(zone, offset_bytes.saturating_add(length)))
            .next()
            .map(|(_, at)| *at)
    }

    pub(super) fn forget_rot(&self, zone: ZoneId) {
        let plan = &mut *self.plan.borrow_mut();
        plan.rot.retain(|(rotten, _), _| *rotten != zone);
        plan.unreadable.retain(|(rotten, _)| *rotten != zone);
    }
}
