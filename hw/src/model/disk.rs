//! The time of a disk: a queue the drive reorders, a write cache it empties when it likes, arms that do one thing at a
//! time.
//!
//! Invariants: an arm does one thing at a time; nobody waits longer than the starvation bound plus what is under way
//! while a younger command of the same arm is chosen; a flush ends after every write submitted before it is on the medium.

use std::collections::{BTreeMap, VecDeque};

use super::head::{Arm, Place, Platters};
use super::profile::{Disk, DriveProfile, Interface, WriteCache, ZoneCommands};
use super::service_time::{ArmTime, Progress, Ticket, Work, micros, transfer_ns};
use crate::draw::Draw;

/// Unit in which places of the medium are slow, in bytes.
const SPOT_BYTES: u64 = 64 * 1024;

/// A disk under way.
pub struct DiskTime {
    platters: Platters,
    interface: Interface,
    cache: WriteCache,
    zone_commands: ZoneCommands,
    arms: Vec<ArmState>,
    /// Commands that wait for an arm.
    queue: Vec<Request>,
    /// Unwritten data, oldest first.
    dirty: VecDeque<Run>,
    dirty_bytes: u64,
    /// Writes that found the cache full, in order.
    blocked: VecDeque<Request>,
    /// Flushes that wait, with the last write they cover.
    flushes: Vec<(u64, u64)>,
    /// When commands end, as soon as that is known.
    ends: BTreeMap<u64, u64>,
    wire_free_ns: u64,
    controller_free_ns: u64,
    now_ns: u64,
    next: u64,
    writes: u64,
    retries: u64,
    arm_time: ArmTime,
    draw: Draw,
    seed: u64,
}

struct ArmState {
    arm: Arm,
    doing: Option<Doing>,
    next_background_ns: u64,
    /// The cache had the arm last.
    destaged: bool,
}

/// What an arm is doing.
struct Doing {
    ends_ns: u64,
    what: What,
}

enum What {
    Command(u64),
    Destage { bytes: u64 },
    Background,
}

#[derive(Clone, Copy)]
struct Request {
    id: u64,
    arrived_ns: u64,
    read: bool,
    zone: u32,
    offset_bytes: u64,
    bytes: u64,
}

/// Contiguous unwritten data.
struct Run {
    zone: u32,
    offset_bytes: u64,
    bytes: u64,
    /// The oldest write in it: a flush waits for the whole run once it waits for a part of it.
    write: u64,
}

impl DiskTime {
    pub(super) fn new(profile: &DriveProfile, disk: &Disk, seed: u64) -> Self {
        let platters = Platters::new(disk, &profile.geometry());
        let first_ns = (disk.background.period_ms * 1e6) as u64;
        let arm = || ArmState {
            arm: Arm::new(&platters),
            doing: None,
            next_background_ns: if first_ns == 0 { u64::MAX } else { first_ns },
            destaged: false,
        };
        Self {
            arms: (0..disk.actuators.max(1)).map(|_| arm()).collect(),
            platters,
            interface: profile.interface.clone(),
            cache: profile.cache.clone(),
            zone_commands: profile.zone_commands.clone(),
            queue: Vec::new(),
            dirty: VecDeque::new(),
            dirty_bytes: 0,
            blocked: VecDeque::new(),
            flushes: Vec::new(),
            ends: BTreeMap::new(),
            wire_free_ns: 0,
            controller_free_ns: 0,
            now_ns: 0,
            next: 0,
            writes: 0,
            retries: 0,
            arm_time: ArmTime::default(),
            draw: Draw::new(seed),
            seed,
        }
    }

    pub(super) fn submit(&mut self, now_ns: u64, work: Work) -> Ticket {
        self.advance(now_ns);
        self.next += 1;
        let id = self.next;
        let request =
            |zone, offset_bytes, bytes, read| Request { id, arrived_ns: now_ns, read, zone, offset_bytes, bytes };
        match work {
            Work::Read { zone, offset_bytes, bytes } => {
                if bytes == 0 || self.cached(zone, offset_bytes, bytes) {
                    let ends_ns = self.over_the_wire(now_ns, bytes);
                    self.ends.insert(id, ends_ns);
                } else {
                    self.queue.push(request(zone, offset_bytes, bytes, true));
                }
            }
            Work::Write { zone, offset_bytes, bytes } if self.cache.enabled => {
                self.blocked.push_back(request(zone, offset_bytes, bytes, false));
                self.admit(now_ns);
            }
            Work::Write { zone, offset_bytes, bytes } => self.queue.push(request(zone, offset_bytes, bytes, false)),
            Work::Flush => self.flush(id, now_ns),
            Work::Report { zones } => self.control(id, now_ns, f64::from(zones) * self.zone_commands.report_us),
            Work::Open => self.control(id, now_ns, self.zone_commands.open_us),
            Work::Close => self.control(id, now_ns, self.zone_commands.close_us),
            Work::Finish { .. } => self.control(id, now_ns, self.zone_commands.finish_us),
            Work::Reset { zone } => {
                self.drop_dirty(zone);
                self.control(id, now_ns, self.zone_commands.reset_us);
            }
        }
        self.start_arms(now_ns);
        Ticket(id)
    }

    pub(super) fn progress(&mut self, now_ns: u64, ticket: Ticket) -> Progress {
        self.advance(now_ns);
        let waits = self.queue.iter().chain(&self.blocked).any(|request| request.id == ticket.0)
            || self.flushes.iter().any(|(id, _)| *id == ticket.0)
            || self.arms.iter().any(|state| state.does(ticket.0));
        match self.ends.get(&ticket.0) {
            Some(at_ns) => Progress::Ends { at_ns: *at_ns },
            None if !waits => Progress::Ends { at_ns: self.now_ns },
            None => Progress::Waits { until_ns: self.next_event_ns().unwrap_or(now_ns).max(now_ns + 1) },
        }
    }

    pub(super) fn forget(&mut self, ticket: Ticket) {
        self.ends.remove(&ticket.0);
    }

    pub(super) fn power_cut(&mut self, now_ns: u64) {
        self.advance(now_ns);
        self.queue.clear();
        self.blocked.clear();
        self.dirty.clear();
        self.flushes.clear();
        self.ends.clear();
        self.dirty_bytes = 0;
        (self.wire_free_ns, self.controller_free_ns) = (now_ns, now_ns);
        self.arms.iter_mut().for_each(|state| state.doing = None);
    }

    pub(super) fn retries(&self) -> u64 {
        self.retries
    }

    pub(super) fn arm_time(&self) -> ArmTime {
        self.arm_time
    }

    /// An arm is busy for so long, of which so much with bytes under the head.
    fn count_arm(&mut self, busy_ns: u64, transfer_ns: u64) {
        let transfer_ns = transfer_ns.min(busy_ns);
        self.arm_time.transfer_ns += transfer_ns;
        self.arm_time.positioning_ns += busy_ns - transfer_ns;
    }

    fn next_event_ns(&self) -> Option<u64> {
        self.arms.iter().filter_map(|state| state.doing.as_ref()).map(|doing| doing.ends_ns).min()
    }

    /// Lives through everything that ends up to `now_ns`.
    fn advance(&mut self, now_ns: u64) {
        while let Some(at_ns) = self.next_event_ns().filter(|at_ns| *at_ns <= now_ns) {
            self.now_ns = self.now_ns.max(at_ns);
            for index in 0..self.arms.len() {
                let state = &mut self.arms[index];
                if state.doing.as_ref().is_some_and(|doing| doing.ends_ns <= at_ns)
                    && let Some(doing) = state.doing.take()
                {
                    self.done(doing, at_ns);
                }
            }
            self.start_arms(at_ns);
        }
        self.now_ns = self.now_ns.max(now_ns);
    }

    fn done(&mut self, doing: Doing, at_ns: u64) {
        match doing.what {
            What::Command(id) => {
                self.ends.insert(id, at_ns);
            }
            What::Destage { bytes } => {
                self.dirty_bytes = self.dirty_bytes.saturating_sub(bytes);
                self.settle_flushes(at_ns);
                self.admit(at_ns);
            }
            What::Background => {}
        }
    }

    fn start_arms(&mut self, now_ns: u64) {
        for index in 0..self.arms.len() {
            if self.arms[index].doing.is_none() {
                self.arms[index].doing = self.background(index, now_ns).or_else(|| self.choose(index, now_ns));
            }
        }
    }

    /// Work of the drive's own that was due: it has the arm before anything else.
    fn background(&mut self, index: usize, now_ns: u64) -> Option<Doing> {
        let background = &self.platters.disk.background;
        let (period_ns, duration_ns) = ((background.period_ms * 1e6) as u64, (background.duration_ms * 1e6) as u64);
        let state = &mut self.arms[index];
        while state.next_background_ns <= now_ns {
            let began_ns = state.next_background_ns.max(state.arm.ended_ns);
            state.next_background_ns += period_ns.max(1);
            let ends_ns = began_ns + duration_ns;
            state.arm.ended_ns = ends_ns;
            if ends_ns > now_ns {
                return Some(Doing { ends_ns, what: What::Background });
            }
        }
        None
    }

    /// What an idle arm does next.
    fn choose(&mut self, index: usize, now_ns: u64) -> Option<Doing> {
        let mine = |platters: &Platters, zone: u32| platters.arm_of(zone) == index;
        let command = self.pick_command(index, now_ns);
        let run = self.dirty.iter().position(|run| mine(&self.platters, run.zone));
        let pressing =
            !self.flushes.is_empty() || !self.blocked.is_empty() || self.dirty_bytes > self.cache.bytes / 4 * 3;
        let destage_first = pressing && !self.arms[index].destaged;
        match (command, run) {
            (Some(_), Some(run)) if destage_first => Some(self.destage(index, run, now_ns)),
            (Some(command), _) => {
                self.arms[index].destaged = false;
                Some(self.serve(index, command, now_ns))
            }
            (None, Some(run)) => Some(self.destage(index, run, now_ns)),
            (None, None) => None,
        }
    }

    /// The command that is reached soonest, where waiting makes near: at the starvation bound nothing is nearer.
    fn pick_command(&self, index: usize, now_ns: u64) -> Option<usize> {
        let starve_ns = (self.platters.disk.starve_ms * 1e6).max(1.0);
        let arm = &self.arms[index].arm;
        let cost = |request: &Request| {
            let place = self.platters.place(request.zone, request.offset_bytes);
            let reach_ns = if request.read {
                arm.reach_read(&self.platters, now_ns, &place).0
            } else {
                arm.reach_write(&self.platters, now_ns, &place)
            };
            let waited = (now_ns.saturating_sub(request.arrived_ns) as f64 / starve_ns).min(1.0);
            (reach_ns as f64 * (1.0 - waited)) as u64
        };
        let mine = self.queue.iter().enumerate().filter(|(_, request)| self.platters.arm_of(request.zone) == index);
        mine.min_by_key(|(_, request)| (cost(request), request.id)).map(|(at, _)| at)
    }

    fn serve(&mut self, index: usize, at: usize, now_ns: u64) -> Doing {
        let request = self.queue.remove(at);
        let place = self.platters.place(request.zone, request.offset_bytes);
        let began_ns = now_ns + micros(self.interface.overhead_us);
        let rate = self.platters.rate_mb_s(request.zone);
        let arm = &self.arms[index].arm;
        let ends_ns = if request.read {
            let (reach_ns, ahead_bytes) = arm.reach_read(&self.platters, began_ns, &place);
            let from_medium_ns = transfer_ns(request.bytes.saturating_sub(ahead_bytes), rate);
            let wire_ns = transfer_ns(request.bytes, self.interface.mb_s);
            began_ns + reach_ns + self.retry_ns(&place) + from_medium_ns.max(wire_ns)
        } else {
            let reach_ns = arm.reach_write(&self.platters, began_ns, &place);
            began_ns + reach_ns + transfer_ns(request.bytes, rate)
        };
        self.arms[index].arm.passed(&self.platters, &place, request.bytes, ends_ns, request.read);
        self.count_arm(ends_ns - now_ns, transfer_ns(request.bytes, rate));
        Doing { ends_ns, what: What::Command(request.id) }
    }

    fn destage(&mut self, index: usize, at: usize, now_ns: u64) -> Doing {
        let destage_bytes = self.cache.destage_bytes.max(1);
        let (zone, offset_bytes, bytes) = {
            let run = &mut self.dirty[at];
            let bytes = run.bytes.min(destage_bytes);
            let taken = (run.zone, run.offset_bytes, bytes);
            run.offset_bytes += bytes;
            run.bytes -= bytes;
            taken
        };
        if self.dirty[at].bytes == 0 {
            self.dirty.remove(at);
        }
        let place = self.platters.place(zone, offset_bytes);
        let reach_ns = self.arms[index].arm.reach_write(&self.platters, now_ns, &place);
        let under_ns = transfer_ns(bytes, self.platters.rate_mb_s(zone));
        let ends_ns = now_ns + reach_ns + under_ns;
        self.count_arm(ends_ns - now_ns, under_ns);
        self.arms[index].arm.passed(&self.platters, &place, bytes, ends_ns, false);
        self.arms[index].destaged = true;
        Doing { ends_ns, what: What::Destage { bytes } }
    }

    /// Revolutions lost to weak places, which stay weak, and to chance.
    fn retry_ns(&mut self, place: &Place) -> u64 {
        let disk = &self.platters.disk;
        let spot = Draw::new(self.seed ^ (place.byte / SPOT_BYTES).wrapping_mul(0x9e37_79b9)).below(1_000_000);
        let mut turns = u64::from(spot < u64::from(disk.slow_spot_ppm));
        if self.draw.below(1_000_000) < u64::from(disk.retry_ppm) {
            turns += 1;
            while turns < 8 && self.draw.coin() {
                turns += 1;
            }
        }
        self.retries += u64::from(turns > 0);
        turns * self.platters.revolution_ns as u64
    }

    /// Lets blocked writes into the cache as far as there is room.
    fn admit(&mut self, now_ns: u64) {
        while let Some(request) = self.blocked.front().copied() {
            let fits = self.dirty_bytes + request.bytes <= self.cache.bytes || self.dirty_bytes == 0;
            if !fits {
                return;
            }
            self.blocked.pop_front();
            let ends_ns = self.over_the_wire(now_ns, request.bytes);
            self.ends.insert(request.id, ends_ns);
            self.writes += 1;
            self.dirty_bytes += request.bytes;
            let follows =
                |run: &&mut Run| run.zone == request.zone && run.offset_bytes + run.bytes == request.offset_bytes;
            if let Some(run) = self.dirty.iter_mut().find(follows) {
                run.bytes += request.bytes;
            } else {
                let Request { id: write, zone, offset_bytes, bytes, .. } = request;
                self.dirty.push_back(Run { zone, offset_bytes, bytes, write });
            }
        }
    }

    fn flush(&mut self, id: u64, now_ns: u64) {
        self.flushes.push((id, id));
        self.settle_flushes(now_ns);
    }

    /// Ends the flushes with nothing left that they cover.
    fn settle_flushes(&mut self, now_ns: u64) {
        let destaging =
            self.arms.iter().any(|state| matches!(&state.doing, Some(Doing { what: What::Destage { .. }, .. })));
        let ends_ns = now_ns + micros(self.cache.flush_us + self.interface.overhead_us);
        let (dirty, blocked, ends) = (&self.dirty, &self.blocked, &mut self.ends);
        let oldest = dirty.iter().map(|run| run.write).chain(blocked.iter().map(|r| r.id)).min();
        self.flushes.retain(|(id, covers)| {
            let waits = destaging || oldest.is_some_and(|write| write < *covers);
            if !waits {
                ends.insert(*id, ends_ns);
            }
            waits
        });
    }

    /// A command of the controller, one after the other.
    fn control(&mut self, id: u64, now_ns: u64, cost_us: f64) {
        self.controller_free_ns = self.controller_free_ns.max(now_ns) + micros(self.interface.overhead_us + cost_us);
        self.ends.insert(id, self.controller_free_ns);
    }

    /// When `bytes` sent now have passed the wire, one transfer after the other.
    fn over_the_wire(&mut self, now_ns: u64, bytes: u64) -> u64 {
        self.wire_free_ns = self.wire_free_ns.max(now_ns) + transfer_ns(bytes, self.interface.mb_s);
        self.wire_free_ns + micros(self.interface.overhead_us)
    }

    fn cached(&self, zone: u32, offset_bytes: u64, bytes: u64) -> bool {
        let inside = |run: &Run| {
            run.zone == zone && run.offset_bytes <= offset_bytes && offset_bytes + bytes <= run.offset_bytes + run.bytes
        };
        self.dirty.iter().any(inside)
    }

    /// What a reset zone held in the cache is not written any more.
    fn drop_dirty(&mut self, zone: u32) {
        let dropped: u64 = self.dirty.iter().filter(|run| run.zone == zone).map(|run| run.bytes).sum();
        self.dirty.retain(|run| run.zone != zone);
        self.dirty_bytes = self.dirty_bytes.saturating_sub(dropped);
    }
}

impl ArmState {
    fn does(&self, id: u64) -> bool {
        matches!(&self.doing, Some(Doing { what: What::Command(other), .. }) if *other == id)
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
