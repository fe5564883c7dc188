//! What the user asked `up` for, held against what the directory already is: pure decisions, each refusal explained.

use crate::config::sections::UpSection;
use crate::failure::Failure;
use crate::units::ByteSize;
use crate::up::cell_file::{CellFile, Ports};

/// Copies of a block, on as many different hosts.
const HOSTS_MIN: u32 = shingle_proto::limits::COPIES as u32;
/// A disk needs room for several extents of four zones besides its conventional ones.
const ZONES_MIN: u64 = 32;
/// Zones must hold a few of the largest records.
const ZONE_BYTES_MIN: u64 = 16 << 20;
/// Keeps names, ports and processes within what one machine can run.
const HOSTS_MAX: u32 = 64;
const DISKS_MAX: u32 = 256;

const DEFAULT_HOSTS: u32 = 5;
const DEFAULT_DISKS: u32 = 2;
const DEFAULT_DISK: ByteSize = ByteSize(64 << 30);
const DEFAULT_ZONE: ByteSize = ByteSize(256 << 20);

/// The shape of the cell that is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub hosts: u32,
    pub disks: u32,
    pub disk_size: ByteSize,
    pub zone_size: ByteSize,
}

impl Shape {
    /// The shape of a cell: the wish, completed by what is there already, by defaults otherwise.
    pub fn decide(wish: &UpSection, existing: Option<&CellFile>) -> Result<Self, Failure> {
        let had = existing.map(|cell| &cell.shape);
        let shape = Self {
            hosts: wish.hosts.or(had.map(|had| had.hosts)).unwrap_or(DEFAULT_HOSTS),
            disks: wish.disks.or(had.map(|had| had.disks)).unwrap_or(DEFAULT_DISKS),
            disk_size: wish.disk_size.or(had.map(|had| had.disk_size)).unwrap_or(DEFAULT_DISK),
            zone_size: wish.zone_size.or(had.map(|had| had.zone_size)).unwrap_or(DEFAULT_ZONE),
        };
        shape.check()?;
        if let Some(had) = had {
            shape.check_against(had)?;
        }
        Ok(shape)
    }

    fn check(&self) -> Result<(), Failure> {
        let Self { hosts, disks, disk_size, zone_size } = *self;
        let refuse = |what: String, advice: &str| Err(Failure::usage(what, advice));
        if hosts < HOSTS_MIN {
            return refuse(
                format!("{hosts} hosts are too few: every block is stored on {HOSTS_MIN} different hosts"),
                "use --hosts 5 or more: with 4 nothing can be written while one is down",
            );
        }
        if hosts > HOSTS_MAX || !(1..=DISKS_MAX).contains(&disks) {
            return refuse(
                format!("{hosts} hosts with {disks} disks each"),
                "one machine runs up to 64 hosts (--hosts) with 1 to 256 disks each (--disks)",
            );
        }
        if zone_size.0 < ZONE_BYTES_MIN || !zone_size.0.is_power_of_two() {
            return refuse(
                format!("zones of {zone_size}"),
                "--zone-size must be a power of two and 16MiB at least; SMR disks have 256MiB",
            );
        }
        if disk_size.0 / zone_size.0 < ZONES_MIN || !disk_size.0.is_multiple_of(zone_size.0) {
            return refuse(
                format!("a disk of {disk_size} with zones of {zone_size}"),
                "--disk-size must be a multiple of --zone-size, 32 zones at least; \
                 a small cell: --disk-size 4GiB --zone-size 64MiB",
            );
        }
        Ok(())
    }

    fn check_against(&self, had: &Self) -> Result<(), Failure> {
        let shrunk = |what: &str, now: u32, had: u32| {
            Failure::unfit(
                format!("the cell has {had} {what}; starting it with {now} would take away disks that hold data"),
                format!("leave --{what} out, or give {had} or more"),
            )
        };
        if self.hosts < had.hosts {
            return Err(shrunk("hosts", self.hosts, had.hosts));
        }
        if self.disks < had.disks {
            return Err(shrunk("disks", self.disks, had.disks));
        }
        if (self.disk_size, self.zone_size) != (had.disk_size, had.zone_size) {
            return Err(Failure::unfit(
                format!(
                    "the cell's disks have {} in zones of {}, not {} in zones of {}",
                    had.disk_size, had.zone_size, self.disk_size, self.zone_size
                ),
                "leave --disk-size and --zone-size out, or start another cell with --dir",
            ));
        }
        Ok(())
    }
}

/// The ports of the cell: the wish, then what was used before; what is still 0 is picked by `free`.
pub fn decide_ports(
    wish: &UpSection,
    hosts: u32,
    existing: Option<&CellFile>,
    mut free: impl FnMut() -> Result<u16, Failure>,
) -> Result<Ports, Failure> {
    let had = existing.map(|cell| &cell.ports);
    let mut one = |wish: Option<u16>, had: Option<u16>| match wish.filter(|port| *port != 0).or(had) {
        Some(port) => Ok(port),
        None => free(),
    };
    let s3 = one(wish.s3_port, had.map(|had| had.s3))?;
    let control = one(wish.control_port, had.map(|had| had.control))?;
    let mut list = Vec::new();
    for index in 0..hosts as usize {
        let first = wish.host_port.filter(|port| *port != 0);
        let wished = first.map(|first| u16::try_from(usize::from(first) + index));
        let wished =
            wished.transpose().map_err(|_| Failure::usage("the hosts' ports go beyond 65535", "--host-port lower"))?;
        let had = had.and_then(|had| had.hosts.get(index).copied());
        list.push(one(wished, had)?);
    }
    let ports = Ports { s3, control, hosts: list };
    let mut all = ports.all();
    all.sort_by_key(|(port, _)| *port);
    for pair in all.windows(2) {
        if let [(port, one), (same, other)] = pair
            && port == same
        {
            return Err(Failure::usage(
                format!("port {port} is given to both --{one} and --{other}"),
                "use different ports",
            ));
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> UpSection {
        UpSection::default()
    }

    fn cell() -> CellFile {
        CellFile {
            shape: Shape::decide(&wish(), None).unwrap(),
            ports: Ports { s3: 1, control: 2, hosts: vec![3, 4, 5, 6, 7] },
            access_key: "a".into(),
            secret_key: "s".into(),
        }
    }

    #[test]
    fn the_default_cell_has_five_hosts_with_two_disks() {
        let shape = cell().shape;
        assert_eq!((shape.hosts, shape.disks, shape.disk_size.0, shape.zone_size.0), (5, 2, 64 << 30, 256 << 20));
    }

    #[test]
    fn shapes_that_cannot_work_are_refused_with_advice() {
        for (hosts, disks, disk, zone, word) in [
            (3, 2, "4GiB", "64MiB", "4 different hosts"),
            (5, 0, "4GiB", "64MiB", "0 disks"),
            (5, 2, "1GiB", "64MiB", "1GiB"),
            (5, 2, "4GiB", "60MiB", "60MiB"),
            (5, 2, "4GiB", "8MiB", "8MiB"),
        ] {
            let wish = UpSection {
                hosts: Some(hosts),
                disks: Some(disks),
                disk_size: Some(disk.parse().unwrap()),
                zone_size: Some(zone.parse().unwrap()),
                ..wish()
            };
            let failure = Shape::decide(&wish, None).unwrap_err();
            assert!(failure.to_string().contains(word), "{failure}");
            assert!(!failure.advice().is_empty());
        }
        let small = UpSection { disk_size: Some(ByteSize(4 << 30)), zone_size: Some(ByteSize(64 << 20)), ..wish() };
        assert!(Shape::decide(&small, None).is_ok());
    }

    #[test]
    fn an_existing_cell_keeps_its_shape_and_may_only_grow() {
        let cell = cell();
        let decide = |wish: UpSection| Shape::decide(&wish, Some(&cell));
        assert_eq!(decide(wish()).unwrap(), cell.shape);
        assert_eq!(decide(UpSection { hosts: Some(6), ..wish() }).unwrap().hosts, 6);
        assert!(decide(UpSection { hosts: Some(4), ..wish() }).unwrap_err().to_string().contains("5 hosts"));
        let failure = decide(UpSection { disk_size: Some(ByteSize(128 << 30)), ..wish() }).unwrap_err();
        assert!(failure.to_string().contains("64GiB in zones of 256MiB"), "{failure}");
    }

    #[test]
    fn ports_are_kept_unless_a_flag_changes_them() {
        let none = || -> Result<u16, Failure> { panic!("no free port is needed") };
        assert_eq!(decide_ports(&wish(), 5, Some(&cell()), none).unwrap(), cell().ports);
        let wish = UpSection { s3_port: Some(9000), host_port: Some(9100), ..wish() };
        let ports = decide_ports(&wish, 5, Some(&cell()), none).unwrap();
        assert_eq!((ports.s3, ports.control, ports.hosts), (9000, 2, vec![9100, 9101, 9102, 9103, 9104]));
        let mut next = 20_000;
        let free = || {
            next += 1;
            Ok(next)
        };
        assert_eq!(decide_ports(&UpSection::default(), 6, Some(&cell()), free).unwrap().hosts, [3, 4, 5, 6, 7, 20_001]);
    }

    #[test]
    fn one_port_for_two_listeners_is_refused() {
        let wish = UpSection { s3_port: Some(7101), control_port: Some(7001), host_port: Some(7100), ..wish() };
        let failure = decide_ports(&wish, 5, None, || Ok(1)).unwrap_err();
        assert!(failure.to_string().contains("7101"), "{failure}");
    }
}
