//! What only our own NVMe driver does: controllers change hands, interrupts wake who waits, failures end a device.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shingle_hw::backend::vfio::{self, Address, BindingError, OpenError};
use shingle_hw::backend::{self, open};
use shingle_hw::error::DeviceError;
use shingle_hw::geometry::Geometry;
use shingle_hw::ring::Ring;
use shingle_hw::zone::ZoneId;

use crate::claims::Shared::{Zns512, Zns4096, ZnsVfio};
use crate::claims::claim;
use crate::conforming::{self, ZNS_512, ZNS_4096, conforms, empty, pool};
use crate::devices::{nvme_address, wait_for, zns_generic};
use crate::rig::{Rig, filled, new_ring, pattern};

const SERIAL: &str = "zns-vfio";

/// Where the controller is that tests take for good; nobody finds it by its serial number afterwards.
static TAKEN: Mutex<Option<Address>> = Mutex::new(None);

fn take(serial: &str) -> Address {
    let address = Address::parse(&nvme_address(serial)).expect("an address");
    wait_for("vfio-pci", || fs::exists("/sys/bus/pci/drivers/vfio-pci").ok().filter(|there| *there));
    // The kernel may still be looking at the drive's zones.
    wait_for("the controller", || vfio::take(&address).ok());
    address
}

fn taken() -> Address {
    TAKEN.lock().expect("no test failed").get_or_insert_with(|| take(SERIAL)).clone()
}

fn device_name(address: &Address) -> PathBuf {
    format!("{}{address}", vfio::PREFIX).into()
}

fn rig() -> Rig {
    let ring = new_ring();
    let rig = Rig::with(open(&device_name(&taken()), Rc::clone(&ring), pool()).expect("opens"), ring);
    empty(&rig);
    rig
}

fn is_readable(ring: &Ring, within: Duration) -> bool {
    let event = ring.event_fd();
    let within = Timespec { tv_sec: within.as_secs() as i64, tv_nsec: i64::from(within.subsec_nanos()) };
    poll(&mut [PollFd::new(&event, PollFlags::IN)], Some(&within)).expect("polls") == 1
}

/// Empties the ring's event.
fn drain(ring: &Ring) {
    while is_readable(ring, Duration::ZERO) {
        rustix::io::read(ring.event_fd().as_fd(), &mut [0; 8]).expect("reads");
    }
}

/// Interrupts of the controller so far, over all processors.
fn interrupts(address: &Address) -> u64 {
    let table = fs::read_to_string("/proc/interrupts").expect("reads");
    let line = table.lines().find(|line| line.contains("vfio-msix") && line.contains(address.as_str()));
    let counts = line.expect("has a line").split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok());
    counts.sum()
}

#[test]
fn zns_by_vfio() {
    let _claim = claim(&[ZnsVfio]);
    let name = device_name(&taken());
    let expected = Geometry { zone_bytes: 4 << 20, zone_capacity_bytes: 3 << 20, ..ZNS_4096 };
    conforms(&expected, |ring| open(&name, ring, pool()).expect("opens"));
}

#[test]
fn zns_with_small_sectors_by_vfio_and_back_with_the_kernel() {
    let _claim = claim(&[Zns512]);
    let ring = new_ring();
    let rig = Rig::with(conforming::open(&zns_generic("zns-512"), Rc::clone(&ring)), ring);
    empty(&rig);
    let identity = rig.device.identity().clone();
    let address = Address::parse(&nvme_address("zns-512")).expect("an address");
    assert!(matches!(vfio::take(&address), Err(BindingError::InUse { .. })));
    drop(rig);
    let name = device_name(&take("zns-512"));
    conforms(&ZNS_512, |ring| open(&name, ring, pool()).expect("opens"));
    let data = pattern(3, 8192);
    let ring = new_ring();
    let rig = Rig::with(open(&name, Rc::clone(&ring), pool()).expect("opens"), ring);
    empty(&rig);
    assert_eq!(rig.device.identity(), &identity);
    rig.append(4, &data).expect("appends");
    drop(rig);
    vfio::give_back(&address).expect("the kernel takes it");
    let ring = new_ring();
    let rig = Rig::with(conforming::open(&zns_generic("zns-512"), Rc::clone(&ring)), ring);
    assert_eq!(rig.read(4, 0, data.len()).expect("reads"), data);
}

#[test]
fn a_controller_that_is_not_ours_to_drive_is_refused() {
    let _claim = claim(&[Zns4096, ZnsVfio]);
    let refusal = |name: &PathBuf| match open(name, new_ring(), pool()) {
        Err(backend::OpenError::Vfio(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("{} was opened", name.display()),
    };
    let kernel = Address::parse(&nvme_address("zns-4096")).expect("an address");
    let error = refusal(&device_name(&kernel));
    assert!(
        matches!(&error, OpenError::Binding { cause: BindingError::OtherDriver { driver }, .. } if driver == "nvme"),
        "{error}"
    );
    let nobody = refusal(&"vfio:0000:00:1e.7".into());
    assert!(matches!(nobody, OpenError::Binding { cause: BindingError::Missing, .. }));
    assert!(matches!(refusal(&"vfio:nonsense".into()), OpenError::Name { .. }));
    let rig = rig();
    assert!(matches!(refusal(&device_name(&taken())), OpenError::Held { .. }));
    drop(rig);
    let second = format!("{}/2", device_name(&taken()).display()).into();
    assert!(matches!(refusal(&second), OpenError::NotZoned { .. }));
}

#[test]
fn one_command_moves_more_than_a_page_of_a_list_names() {
    let _claim = claim(&[ZnsVfio]);
    let rig = rig();
    let data = pattern(5, 3 << 20);
    assert_eq!(rig.append(1, &data), Ok(0));
    assert_eq!(rig.read(1, 0, data.len()).expect("reads"), data);
    assert_eq!(rig.read(1, 4096, 2 << 20).expect("reads"), data[4096..4096 + (2 << 20)]);
    // A buffer from elsewhere is shown to the device for one command.
    let buffer = shingle_hw::buffer::Buffer::new_unpooled(3 << 20);
    let (outcome, buffer) = rig.run(rig.device.read(ZoneId(1), 8192, buffer, 4096..1 << 20));
    assert_eq!(outcome, Ok(()));
    assert_eq!(buffer[4096..1 << 20], data[8192..8192 + (1 << 20) - 4096]);
}

#[test]
fn many_appends_to_one_zone_land_wherever_they_land() {
    let _claim = claim(&[ZnsVfio]);
    let rig = rig();
    let count = u64::from(rig.device.appends_per_zone());
    let commands: Vec<_> = (0..count)
        .map(|index| rig.device.append(ZoneId(3), filled(&*rig.device, &pattern(index, 8192)), 0..8192))
        .collect();
    let mut landed = Vec::new();
    for (index, command) in (0..).zip(commands) {
        let at = rig.run(command).0.expect("appends");
        assert_eq!(rig.read(3, at, 8192).expect("reads"), pattern(index, 8192));
        landed.push(at);
    }
    landed.sort_unstable();
    assert_eq!(landed, (0..count).map(|index| index * 8192).collect::<Vec<_>>());
}

#[test]
fn an_interrupt_wakes_who_waits_and_an_idle_device_wakes_nobody() {
    let _claim = claim(&[ZnsVfio]);
    let rig = rig();
    rig.append(2, &pattern(1, 4096)).expect("appends");
    // Let the last tick pass.
    std::thread::sleep(Duration::from_millis(600));
    rig.ring.poll();
    drain(&rig.ring);
    assert!(!is_readable(&rig.ring, Duration::from_millis(600)), "nothing happens while nothing is asked");
    let address = taken();
    let before = interrupts(&address);
    let read = rig.device.read(ZoneId(2), 0, rig.device.alloc_buffer(4096), 0..4096);
    assert!(is_readable(&rig.ring, Duration::from_secs(10)), "the completion signals the event");
    wait_for("an interrupt", || (interrupts(&address) > before).then_some(()));
    while rig.ring.pending() > 0 {
        rig.ring.poll();
    }
    let (outcome, buffer) = rig.run(read);
    assert_eq!((outcome, &buffer[..]), (Ok(()), &pattern(1, 4096)[..]));
}

#[test]
fn a_controller_reset_under_way_ends_the_device_and_what_was_flushed_is_there() {
    let _claim = claim(&[ZnsVfio]);
    let data = pattern(9, 16 << 10);
    let rig = rig();
    rig.append(6, &data).expect("appends");
    rig.flush().expect("flushes");
    let commands: Vec<_> =
        (0..40).map(|_| rig.device.append(ZoneId(7), filled(&*rig.device, &data), 0..data.len())).collect();
    fs::write(format!("/sys/bus/pci/devices/{}/reset", taken()), "1").expect("resets");
    let since = Instant::now();
    assert!(matches!(rig.flush(), Err(DeviceError::Failed { .. })));
    let mut landed = Vec::new();
    for command in commands {
        match rig.run(command).0 {
            Ok(at) => landed.push(at),
            Err(DeviceError::Failed { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(since.elapsed() < Duration::from_secs(20), "no command waits for its time to run out");
    assert!(matches!(rig.append(6, &data), Err(DeviceError::Failed { .. })), "the device stays ended");
    assert!(matches!(rig.read(6, 0, data.len()), Err(DeviceError::Failed { .. })));
    drop(rig);
    let ring = new_ring();
    let rig = Rig::with(open(&device_name(&taken()), Rc::clone(&ring), pool()).expect("opens"), ring);
    assert_eq!(rig.read(6, 0, data.len()).expect("reads"), data);
    for at in landed {
        assert_eq!(rig.read(7, at, data.len()).expect("reads"), data, "at {at}");
    }
}
