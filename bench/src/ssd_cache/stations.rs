//! How busy every part of a host was: what bounds it, and by how much.

use serde::Serialize;
use shingle_hw::model::profile::Media;

use super::parameters::Parameters;

/// What the parts of a host have been given to do since its start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    pub network_ns: u64,
    pub ssd_written_bytes: u64,
    pub ssd_read_bytes: u64,
    pub positioning_ns: u64,
    pub transfer_ns: u64,
}

/// Busy parts of the measured time; above 1 where work was piling up. Of the disks' arms the mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Stations {
    pub network: f64,
    /// Of what the SSD's flash can take.
    pub ssd_flash: f64,
    pub ssd_wire: f64,
    /// Seeks and turns.
    pub arms_positioning: f64,
    pub arms_transfer: f64,
}

impl Work {
    /// The work since an earlier moment, as parts of so many seconds.
    pub fn since(&self, before: &Self, parameters: &Parameters, seconds: f64) -> Stations {
        let flash_mb_s = match &parameters.ssd.media {
            Media::Flash(flash) => flash.write_mb_s,
            Media::Disk(_) => f64::INFINITY,
        };
        let written_mb = (self.ssd_written_bytes - before.ssd_written_bytes) as f64 / 1e6;
        let read_mb = (self.ssd_read_bytes - before.ssd_read_bytes) as f64 / 1e6;
        let ns = |now: u64, before: u64| (now - before) as f64 / 1e9 / seconds;
        let disks = parameters.disks as f64;
        Stations {
            network: ns(self.network_ns, before.network_ns),
            ssd_flash: written_mb / flash_mb_s / seconds,
            ssd_wire: (written_mb + read_mb) / parameters.ssd.interface.mb_s / seconds,
            arms_positioning: ns(self.positioning_ns, before.positioning_ns) / disks,
            arms_transfer: ns(self.transfer_ns, before.transfer_ns) / disks,
        }
    }
}

impl Stations {
    /// Of the disks' arms, everything.
    pub fn arms(&self) -> f64 {
        self.arms_positioning + self.arms_transfer
    }

    /// The busiest part and how busy it was.
    pub fn busiest(&self) -> (&'static str, f64) {
        let all = [
            ("the network", self.network),
            ("the SSD's flash", self.ssd_flash),
            ("the SSD's wire", self.ssd_wire),
            ("the disks' arms", self.arms()),
        ];
        all.into_iter().max_by(|one, other| one.1.total_cmp(&other.1)).unwrap_or(("nothing", 0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_part_is_what_has_the_least_left() {
        let before = Work { network_ns: 5, ..Work::default() };
        let now = Work {
            network_ns: 5 + 400_000_000,
            ssd_written_bytes: 2_000_000_000,
            ssd_read_bytes: 1_000_000_000,
            positioning_ns: 30_000_000_000,
            transfer_ns: 20_000_000_000,
        };
        let stations = now.since(&before, &Parameters::default(), 1.0);
        assert!((stations.network - 0.4).abs() < 1e-9 && (stations.arms() - 0.5).abs() < 1e-9, "{stations:?}");
        assert_eq!(stations.busiest().0, "the SSD's flash");
        assert!((0.9..1.0).contains(&stations.busiest().1));
    }
}
