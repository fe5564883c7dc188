//! Loss of power and of processes: what a flush covered survives, and nothing else is claimed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use shingle_hw::backend::file;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::device::ZonedDevice;
use shingle_hw::geometry::Geometry;
use shingle_hw::ring::block_on;
use shingle_hw::zone::{ZoneCondition, ZoneId};

use crate::emulated::{FileRig, directory, geometries, open_file};
use crate::rig::{Rig, filled, new_ring, pattern};

const SECTOR: usize = 4096;

#[test]
fn what_was_not_flushed_is_gone_after_a_drop() {
    for geometry in geometries() {
        let (zone, sector) = (geometry.conventional_zones, geometry.sector_bytes as usize);
        let data = pattern(1, 4 * sector);
        let rig = FileRig::new(&geometry);
        rig.append(zone, &data).expect("appends");
        rig.append(zone + 1, &data).expect("appends");
        rig.flush().expect("flushes");
        rig.append(zone, &data).expect("appends");
        rig.append(zone + 2, &data).expect("appends");
        rig.run(rig.device.finish(ZoneId(zone + 1))).expect("finishes");
        let rig = rig.reopen();
        let found = rig.zone(zone);
        assert_eq!((found.condition, found.write_pointer_bytes), (ZoneCondition::Closed, data.len() as u64));
        assert_eq!(rig.zone(zone + 1).condition, ZoneCondition::Closed);
        assert_eq!(rig.zone(zone + 2).condition, ZoneCondition::Empty);
        let mut expected = data.clone();
        expected.resize(5 * sector, 0);
        assert_eq!(
            rig.read(zone, 0, 5 * sector).expect("reads"),
            expected,
            "what lies behind the pointer is not shown"
        );
        rig.append(zone, &data[sector..2 * sector]).expect("goes on at the pointer");
        rig.flush().expect("flushes");
        let rig = rig.reopen().reopen();
        expected[4 * sector..].copy_from_slice(&data[sector..2 * sector]);
        assert_eq!(rig.read(zone, 0, 5 * sector).expect("reads"), expected);
    }
}

#[test]
fn full_finished_and_reset_zones_survive() {
    let geometry = geometries().swap_remove(0);
    let rig = FileRig::new(&geometry);
    let data = pattern(2, 256 * 1024);
    for zone in 1..4 {
        for _ in 0..4 {
            rig.append(zone, &data).expect("fills the zone");
        }
    }
    rig.append(4, &data).expect("appends");
    rig.run(rig.device.finish(ZoneId(4))).expect("finishes");
    rig.run(rig.device.open(ZoneId(5))).expect("opens");
    rig.write(0, 8192, &data[..4096]).expect("writes");
    rig.flush().expect("flushes");
    rig.reset(2).expect("resets");
    let allocated = |rig: &FileRig| {
        use std::os::unix::fs::MetadataExt;
        rig.path().metadata().expect("exists").blocks() * 512
    };
    let before = allocated(&rig);
    rig.reset(3).expect("resets");
    assert!(allocated(&rig) + (1 << 20) <= before + 65536, "a reset gives the space back, but for file system blocks");
    let rig = rig.reopen();
    use ZoneCondition::{Empty, Full};
    let conditions: Vec<_> = (1..6).map(|zone| rig.zone(zone).condition).collect();
    assert_eq!(conditions, [Full, Empty, Empty, Full, Empty]);
    assert_eq!(rig.read(1, 3 * data.len() as u64, data.len()).expect("reads"), data);
    assert!(rig.read(2, 0, 4096).expect("reads").iter().all(|byte| *byte == 0));
    assert_eq!(rig.read(4, 0, 4096).expect("reads"), data[..4096]);
    assert_eq!(rig.read(0, 8192, 4096).expect("reads"), data[..4096]);
}

/// What a zone must hold: bytes by the latest ended flush, and bytes that may be there too.
#[derive(Clone, Default)]
struct Expected {
    flushed: Vec<u8>,
    written: Vec<u8>,
}

type Zones = BTreeMap<u32, Expected>;

/// Checks a recovered drive against what must and what may be there.
fn verify(rig: &Rig, zones: &Zones) {
    for (zone, expected) in zones {
        let found = rig.zone(*zone);
        let written = match found.condition {
            ZoneCondition::Empty | ZoneCondition::Closed => found.write_pointer_bytes as usize,
            ZoneCondition::Full => found.capacity_bytes as usize,
            other => panic!("zone {zone} is {other:?}"),
        };
        assert!(written >= expected.flushed.len(), "zone {zone}: flushed bytes are lost");
        assert!(written <= expected.written.len(), "zone {zone}: the pointer claims bytes never written");
        for at in (0..written).step_by(SECTOR) {
            assert_eq!(rig.read(*zone, at as u64, SECTOR).expect("reads"), expected.written[at..at + SECTOR]);
        }
    }
}

/// An image that a loss of power between two images can leave: of every sector that differs, one or the other.
fn mix(before: &[u8], after: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let bias = random.random_range(0.0..=1.0);
    let table = random.random_bool(0.3);
    let mut image = before.to_vec();
    let data_start = 1 << 20;
    for (index, (to, from)) in image.chunks_mut(512).zip(after.chunks(512)).enumerate() {
        let chosen = if index * 512 < data_start { table || random.random_bool(0.5) } else { random.random_bool(bias) };
        if chosen && to != from {
            to.copy_from_slice(from);
        }
    }
    image
}

fn check_image(path: &Path, image: &[u8], zones: &Zones) -> Vec<u8> {
    std::fs::write(path, image).expect("writes the image");
    let ring = new_ring();
    let device: Rc<dyn ZonedDevice> = Rc::new(open_file(path, &ring).expect("opens after a loss of power"));
    verify(&Rig::with(device, ring), zones);
    std::fs::read(path).expect("reads the image")
}

#[test]
fn any_mix_of_sectors_around_a_flush_recovers_to_flushed_bytes() {
    let geometry = Geometry {
        zones: 250,
        zone_bytes: 4 * SECTOR as u64,
        zone_capacity_bytes: 4 * SECTOR as u64,
        conventional_zones: 1,
        sector_bytes: SECTOR as u32,
        open_zones_max: 0,
        active_zones_max: 0,
        transfer_bytes_max: 4 * SECTOR as u32,
    };
    let random = &mut SmallRng::seed_from_u64(11);
    let rig = FileRig::new(&geometry);
    let copies = directory();
    let copy = copies.path().join("copy");
    let mut zones = Zones::new();
    let mut before = std::fs::read(rig.path()).expect("reads");
    for round in 0..20u64 {
        for index in 0..random.random_range(1..12) {
            // Zones of all three table pages, a few of them again and again.
            let zone = [1, 2, 119, 120, 121, 239, 240, 249][random.random_range(0..8)];
            let expected = zones.entry(zone).or_default();
            let room = geometry.zone_capacity_bytes as usize - expected.written.len();
            let data = pattern(round * 100 + index, random.random_range(1..4) * SECTOR);
            if data.len() <= room {
                rig.append(zone, &data).expect("appends");
                expected.written.extend(&data);
            }
        }
        rig.flush().expect("flushes");
        let after = std::fs::read(rig.path()).expect("reads");
        for _ in 0..4 {
            let image = mix(&before, &after, random);
            let recovered = check_image(&copy, &image, &zones);
            // Power is lost again while the drive is being opened.
            let again = mix(&image, &recovered, random);
            check_image(&copy, &again, &zones);
        }
        zones.values_mut().for_each(|expected| expected.flushed = expected.written.clone());
        check_image(&copy, &after, &zones);
        before = after;
        if round % 4 == 3 {
            let zone = *zones.keys().next().expect("some zone was written");
            rig.reset(zone).expect("resets");
            zones.remove(&zone);
            before = std::fs::read(rig.path()).expect("reads");
            check_image(&copy, &before, &zones);
        }
    }
}

#[test]
fn the_memory_device_keeps_what_was_flushed_and_a_prefix_of_the_rest() {
    let geometry = geometries().swap_remove(0);
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let device = MemoryDevice::new(geometry.clone(), "m");
        let rig = Rig::with(Rc::new(device.clone()), new_ring());
        let data = pattern(seed, 8 * SECTOR);
        rig.append(1, &data[..3 * SECTOR]).expect("appends");
        rig.write(0, 0, &data[..2 * SECTOR]).expect("writes");
        rig.flush().expect("flushes");
        rig.append(1, &data[3 * SECTOR..6 * SECTOR]).expect("appends");
        rig.write(0, 0, &data[2 * SECTOR..4 * SECTOR]).expect("writes");
        let in_flight = rig.device.append(ZoneId(1), filled(&*rig.device, &data[6 * SECTOR..]), 0..2 * SECTOR);
        device.crash(seed);
        assert!(rig.run(in_flight).0.is_err(), "the answer was lost with the power");
        let written = rig.zone(1).write_pointer_bytes as usize;
        assert!((3 * SECTOR..=8 * SECTOR).contains(&written));
        assert_eq!(rig.read(1, 0, written).expect("reads"), data[..written]);
        for sector in 0..2 {
            let found = rig.read(0, (sector * SECTOR) as u64, SECTOR).expect("reads");
            let place = |half: usize| &data[(2 * half + sector) * SECTOR..(2 * half + sector + 1) * SECTOR];
            assert!(found == place(0) || found == place(1), "a sector is the old one or the new one");
        }
        outcomes.insert(written);
        device.crash(seed + 1);
        assert_eq!(rig.zone(1).write_pointer_bytes as usize, written, "what survived one crash survives the next");
    }
    assert_eq!(outcomes.len(), 6, "every length is possible");
}

#[test]
fn a_flush_or_reset_cut_off_by_a_crash_promises_nothing() {
    let geometry = geometries().swap_remove(0);
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..64 {
        let device = MemoryDevice::new(geometry.clone(), "m");
        let rig = Rig::with(Rc::new(device.clone()), new_ring());
        let data = pattern(seed, SECTOR);
        rig.append(1, &data).expect("appends");
        rig.flush().expect("flushes");
        let reset = rig.device.reset(ZoneId(1));
        rig.append(2, &data).expect("appends");
        let flush = rig.device.flush();
        device.crash(seed);
        assert!(rig.run(flush).is_err() && rig.run(reset).is_err());
        match rig.zone(1).write_pointer_bytes {
            0 => lost += 1,
            _ => {
                assert_eq!(rig.read(1, 0, SECTOR).expect("reads"), data);
                kept += 1;
            }
        }
    }
    assert!(kept > 0 && lost > 0, "a reset in flight happens or does not");
}

#[test]
fn an_orderly_power_cycle_loses_nothing() {
    let device = MemoryDevice::new(geometries().swap_remove(0), "m");
    let rig = Rig::with(Rc::new(device.clone()), new_ring());
    let data = pattern(9, SECTOR);
    rig.append(1, &data).expect("appends");
    device.power_cycle();
    assert_eq!(rig.zone(1).condition, ZoneCondition::Closed);
    device.crash(1);
    assert_eq!(rig.read(1, 0, SECTOR).expect("reads"), data);
    rig.reset(1).expect("resets");
    assert_eq!(device.memory_bytes(), 0, "the medium is sparse");
}

const CHILD: &str = "SHINGLE_TEST_DISK";

/// Not a test of its own: the process that is killed.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let ring = new_ring();
    let device: Rc<dyn ZonedDevice> = Rc::new(open_file(Path::new(&path), &ring).expect("opens"));
    let rig = Rig::with(device, ring);
    let mut out = std::io::stdout();
    for zone in (1..12).cycle().take(2000) {
        let state = rig.zone(zone);
        if state.condition == ZoneCondition::Full {
            continue;
        }
        let at = state.write_pointer_bytes;
        let data = pattern(u64::from(zone) << 32 | at, 16 * SECTOR);
        let (append, flush) =
            (rig.device.append(ZoneId(zone), filled(&*rig.device, &data), 0..data.len()), rig.device.flush());
        block_on(&rig.ring, append).0.expect("appends");
        block_on(&rig.ring, flush).expect("flushes");
        rig.flush().expect("flushes");
        writeln!(out, "\nack {zone} {}", at as usize + data.len()).expect("the parent listens");
        out.flush().expect("the parent listens");
    }
}

#[test]
fn a_killed_process_loses_nothing_it_was_told_is_durable() {
    let directory = directory();
    let path = directory.path().join("disk");
    file::create(&path, &geometries()[0], "killed").expect("creates");
    let mut acknowledged: BTreeMap<u32, u64> = BTreeMap::new();
    for round in 1..5 {
        let mut child = Command::new(std::env::current_exe().expect("known"))
            .args(["--exact", "crash::child_that_appends_until_it_is_killed", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            let mut words = line.split_whitespace();
            if words.next() == Some("ack") {
                let mut number = || words.next().expect("two numbers").parse::<u64>().expect("a number");
                acknowledged.insert(number() as u32, number());
                seen += 1;
            }
            if seen == 7 * round {
                std::thread::sleep(Duration::from_micros(137 * round));
                child.kill().expect("kills");
            }
        }
        child.wait().expect("ends");
        let ring = new_ring();
        let device: Rc<dyn ZonedDevice> = Rc::new(open_file(&path, &ring).expect("opens"));
        let rig = Rig::with(device, ring);
        for (zone, end) in &acknowledged {
            let found = rig.zone(*zone);
            assert!(found.write_pointer_bytes >= *end, "zone {zone} lost acknowledged bytes");
            for at in (0..found.write_pointer_bytes.min(found.capacity_bytes)).step_by(16 * SECTOR) {
                let expected = pattern(u64::from(*zone) << 32 | at, 16 * SECTOR);
                assert_eq!(rig.read(*zone, at, 16 * SECTOR).expect("reads"), expected);
            }
        }
    }
    assert!(acknowledged.len() > 3);
}
