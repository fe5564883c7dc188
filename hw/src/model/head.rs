//! Where a disk's heads are, and what it takes to bring them elsewhere: seek, rotation, radius, laser.
//!
//! Invariant: geometry and time alone decide; nothing here is drawn.

use super::profile::Disk;
use super::service_time::micros;
use crate::geometry::Geometry;

/// A pause up to which the next sector still comes under the head without a turn.
const STREAMING_NS: u64 = 20_000;

/// A missed sector this close behind the head is not missed: a part of a revolution.
const ANGLE_SLACK: f64 = 0.002;

/// Mean of the square root of the distance between two random points of a line of length 1.
const MEAN_ROOT: f64 = 8.0 / 15.0;

/// A place on the platters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub zone: u32,
    pub head: u32,
    /// Bytes from the device's start.
    pub byte: u64,
    /// 0 at the outer diameter, 1 at the inner one.
    pub radius: f64,
    /// Part of a revolution at which the byte passes the head.
    pub angle: f64,
}

/// The platters: fixed for a drive.
#[derive(Clone, Debug)]
pub(super) struct Platters {
    pub disk: Disk,
    pub revolution_ns: f64,
    zones: u32,
    zone_bytes: u64,
}

impl Platters {
    pub fn new(disk: &Disk, geometry: &Geometry) -> Self {
        Self {
            disk: disk.clone(),
            revolution_ns: 60e9 / disk.rpm,
            zones: geometry.zones.max(1),
            zone_bytes: geometry.zone_bytes,
        }
    }

    pub fn head_of(&self, zone: u32) -> u32 {
        zone % self.disk.heads.max(1)
    }

    pub fn arm_of(&self, zone: u32) -> usize {
        let arms = u64::from(self.disk.actuators.max(1));
        (u64::from(zone.min(self.zones - 1)) * arms / u64::from(self.zones)) as usize
    }

    /// 10^6 bytes per second in a zone.
    pub fn rate_mb_s(&self, zone: u32) -> f64 {
        self.disk.outer_mb_s + (self.disk.inner_mb_s - self.disk.outer_mb_s) * self.radius(zone)
    }

    fn radius(&self, zone: u32) -> f64 {
        f64::from(zone) / f64::from(self.zones)
    }

    pub fn place(&self, zone: u32, offset_bytes: u64) -> Place {
        let track_bytes = self.rate_mb_s(zone) * self.revolution_ns / 1e3;
        // Where a zone starts on its first track differs from zone to zone: the golden ratio spreads them evenly.
        let start = f64::from(zone) * 0.618_033_988_749_895;
        let angle = (start + offset_bytes as f64 / track_bytes).fract();
        let byte = u64::from(zone) * self.zone_bytes + offset_bytes;
        Place { zone, head: self.head_of(zone), byte, radius: self.radius(zone), angle }
    }

    fn seek_ns(&self, from: &Place, to: &Place) -> u64 {
        let distance = (from.radius - to.radius).abs();
        let switch_us = if from.head == to.head { 0.0 } else { self.disk.head_switch_us };
        if distance == 0.0 {
            let same_track = from.head == to.head && from.byte.abs_diff(to.byte) < 1 << 20;
            return micros(if same_track { 0.0 } else { switch_us.max(self.disk.seek_track_us) });
        }
        let slope = (self.disk.seek_average_us - self.disk.seek_track_us) / MEAN_ROOT;
        micros((self.disk.seek_track_us + slope * distance.sqrt()).max(switch_us))
    }

    /// Time until the byte passes under a head that is on its track at `at_ns`.
    fn turn_ns(&self, at_ns: u64, to: &Place) -> u64 {
        let angle = (at_ns as f64 / self.revolution_ns).fract();
        let part = (to.angle - angle).rem_euclid(1.0);
        if part > 1.0 - ANGLE_SLACK { 0 } else { (part * self.revolution_ns) as u64 }
    }
}

/// One arm with its heads.
#[derive(Clone, Debug)]
pub(super) struct Arm {
    /// The byte behind the last one that passed the head.
    pub at: Place,
    /// When it passed.
    pub ended_ns: u64,
    /// When a write last ended, and in which zone.
    pub written_ns: u64,
    written_zone: u32,
    last_was_read: bool,
}

impl Arm {
    pub fn new(platters: &Platters) -> Self {
        let at = platters.place(0, 0);
        Self { at, ended_ns: 0, written_ns: 0, written_zone: u32::MAX, last_was_read: false }
    }

    /// Time from `now_ns` until a read's first byte, and how many of its first bytes are in the read-ahead buffer.
    pub fn reach_read(&self, platters: &Platters, now_ns: u64, to: &Place) -> (u64, u64) {
        if (to.zone, to.byte) == (self.at.zone, self.at.byte) && self.last_was_read {
            let gap_ns = now_ns.saturating_sub(self.ended_ns);
            let ahead = gap_ns as f64 * platters.rate_mb_s(to.zone) / 1e3;
            return (0, (ahead as u64).min(platters.disk.read_ahead_bytes));
        }
        let seek_ns = platters.seek_ns(&self.at, to);
        (seek_ns + platters.turn_ns(now_ns + seek_ns, to), 0)
    }

    /// Time from `now_ns` until a write's first byte.
    pub fn reach_write(&self, platters: &Platters, now_ns: u64, to: &Place) -> u64 {
        let laser = &platters.disk.laser;
        let cold = laser.warm_up_us > 0.0 && now_ns.saturating_sub(self.written_ns) as f64 >= laser.idle_gap_ms * 1e6;
        let switched = to.zone != self.written_zone;
        let mut laser_us = if cold { laser.warm_up_us } else { 0.0 };
        laser_us += if switched { laser.zone_switch_us } else { 0.0 };
        let streaming = (to.zone, to.byte) == (self.at.zone, self.at.byte)
            && !self.last_was_read
            && now_ns.saturating_sub(self.ended_ns) <= STREAMING_NS;
        if streaming && laser_us == 0.0 {
            return 0;
        }
        let settle_us = if streaming { 0.0 } else { platters.disk.write_settle_us };
        let moved_ns = if streaming { 0 } else { platters.seek_ns(&self.at, to) };
        let ready_ns = moved_ns + micros(settle_us + laser_us);
        ready_ns + platters.turn_ns(now_ns + ready_ns, to)
    }

    /// The arm has passed `bytes` from a place on.
    pub fn passed(&mut self, platters: &Platters, from: &Place, bytes: u64, ended_ns: u64, read: bool) {
        let offset_bytes = from.byte - u64::from(from.zone) * platters.zone_bytes + bytes;
        self.at = platters.place(from.zone, offset_bytes);
        self.ended_ns = ended_ns;
        self.last_was_read = read;
        if !read {
            (self.written_ns, self.written_zone) = (ended_ns, from.zone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::profile::DriveProfile;

    fn platters() -> Platters {
        Platters::new(&Disk::default(), &DriveProfile::default().geometry())
    }

    #[test]
    fn random_seeks_take_the_average_of_the_data_sheet() {
        let platters = platters();
        let mut draw = crate::draw::Draw::new(3);
        let mut total_ns = 0;
        for _ in 0..20_000 {
            let [from, to] = [(); 2].map(|()| platters.place(draw.below(4096) as u32, 0));
            total_ns += platters.seek_ns(&from, &to);
        }
        let mean_us = total_ns as f64 / 20_000.0 / 1e3;
        assert!((7_300.0..7_500.0).contains(&mean_us), "{mean_us}");
    }

    #[test]
    fn a_turn_is_never_longer_than_a_revolution() {
        let platters = platters();
        for at_ns in (0..50_000_000).step_by(77_777) {
            assert!(platters.turn_ns(at_ns, &platters.place(9, 123 * 4096)) as f64 <= platters.revolution_ns);
        }
    }

    #[test]
    fn a_cold_laser_costs_its_warm_up() {
        let hamr = DriveProfile::built_in("hamr").expect("exists");
        let crate::model::profile::Media::Disk(disk) = &hamr.media else { panic!("a disk") };
        let platters = Platters::new(disk, &hamr.geometry());
        let mut arm = Arm::new(&platters);
        let from = platters.place(7, 0);
        arm.passed(&platters, &from, 4096, 1_000_000_000, false);
        let next = platters.place(7, 4096);
        assert_eq!(arm.reach_write(&platters, 1_000_000_000, &next), 0, "streaming is free");
        let cold_ns = arm.reach_write(&platters, 1_100_000_000, &next);
        assert!(cold_ns as f64 >= disk.laser.warm_up_us * 1e3);
    }
}
