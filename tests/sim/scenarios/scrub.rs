//! Two weeks of a disk in virtual time: everything is read back evenly, young extents first, rot is found, and clients
//! keep their share.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::device::ZonedDevice;
use shingle_hw::faulty::{CommandKind, Faults, FaultyDevice};
use shingle_hw::geometry::Geometry;
use shingle_node::extent::placement::Spot;
use shingle_node::osd::budget::Budgets;
use shingle_node::osd::fetch::ReadKey;
use shingle_node::osd::findings::Findings;
use shingle_node::osd::mount::{Disk, mount, read_label, write_label};
use shingle_node::osd::policy::DiskPolicy;
use shingle_node::osd::store::{AppendKey, NewExtent, Osd};
use shingle_proto::frame::Class;
use shingle_proto::ids::{BlockHash, BucketId, CellId, ExtentId, Generation, PutId, VolumeId};
use shingle_proto::message::FindingKind;
use shingle_seam::World;
use shingle_tests::sim::executor::{Executor, ProcessId};
use shingle_tests::sim::net::Network;
use shingle_tests::sim::process::world;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const LIMIT: Duration = Duration::from_secs(60 * 24 * 3600);
const HOST: ProcessId = ProcessId(100);
const RECORD_BYTES: u32 = 20_000;

/// 127 extents of 1 GiB, of which next to nothing is written.
fn geometry() -> Geometry {
    Geometry {
        zones: 512,
        zone_bytes: 256 << 20,
        zone_capacity_bytes: 256 << 20,
        conventional_zones: 1,
        sector_bytes: 4096,
        open_zones_max: 8,
        active_zones_max: 8,
        transfer_bytes_max: 1 << 20,
    }
}

struct Rig {
    executor: Executor,
    world: World,
    device: MemoryDevice,
    faulty: Rc<FaultyDevice>,
    faults: Faults,
    findings: Rc<Findings>,
    disk: DiskPolicy,
}

impl Rig {
    fn new(executor: &Executor, disk: DiskPolicy) -> Self {
        let network = Network::new(executor);
        let world = world(executor, &network, HOST);
        let device = MemoryDevice::new(geometry(), "scrubbed");
        let timer = executor.clone();
        let sleep = Rc::new(move |duration| -> shingle_hw::device::Command<()> { Box::pin(timer.sleep(duration)) });
        let faulty = Rc::new(FaultyDevice::new(Rc::new(device.clone()), sleep, 1));
        let faults = faulty.faults();
        Self { executor: executor.clone(), world, device, faulty, faults, findings: Rc::default(), disk }
    }

    /// Mounts the disk and scrubs it.
    async fn start(&self) -> Rc<Osd> {
        let disk = Disk::from(self.faulty.clone() as Rc<dyn ZonedDevice>);
        let label = match read_label(&disk).await.unwrap() {
            Some(label) => label,
            None => write_label(&self.world, &disk, CellId(1)).await.unwrap(),
        };
        let budgets = Budgets::shared(64 << 20, 1, self.disk).remove(0);
        let (osd, _) = mount(self.world.clone(), disk, label, self.findings.clone(), budgets).await.unwrap();
        self.world.tasks.spawn("scrub", Box::pin(osd.clone().run_scrub()));
        osd
    }

    async fn sleep(&self, duration: Duration) {
        self.executor.sleep(duration).await;
    }

    /// A closed extent of four records.
    async fn fill(&self, osd: &Rc<Osd>, number: u64) {
        self.fill_with(osd, number, &[RECORD_BYTES; 4]).await;
    }

    /// A closed extent of records of so many bytes.
    async fn fill_with(&self, osd: &Rc<Osd>, number: u64, payloads_bytes: &[u32]) {
        let extent = ExtentId(u128::from(number));
        let new = NewExtent { extent, volume: VolumeId(number), bucket: BucketId(number), member: 0 };
        osd.create_extent(new).await.unwrap();
        for (record, payload_bytes) in (0..).zip(payloads_bytes.iter().copied()) {
            let (hash, put_id) = name(number, record);
            let mut buffer = osd.receive_buffer(extent, payload_bytes).unwrap();
            buffer.as_mut().fill(record as u8);
            let key = AppendKey {
                extent,
                hash,
                put_id,
                bucket: BucketId(number),
                plain_bytes: payload_bytes,
                generation: Generation(0),
                class: Class::Client,
            };
            osd.append(key, buffer).await.unwrap();
        }
        osd.close_extent(extent, Generation(0)).await.unwrap();
    }
}

fn name(extent: u64, record: u64) -> (BlockHash, PutId) {
    let mut hash = [record as u8; 32];
    hash[..8].copy_from_slice(&(extent.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ record).to_le_bytes());
    (BlockHash(hash), PutId(extent << 8 | record))
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

#[test]
fn a_disk_is_read_back_evenly_in_its_sweep_and_young_extents_within_a_day() {
    let executor = Executor::new(7);
    let rig = Rig::new(&executor, DiskPolicy::default());
    executor.clone().run(LIMIT, async move {
        let osd = rig.start().await;
        // Ten days of a slow writer: four extents a day.
        for number in 1..=40 {
            rig.fill(&osd, number).await;
            rig.sleep(DAY / 4).await;
            let now_ms = rig.world.clock.unix_ms();
            for extent in (1..=number).filter_map(|number| osd.extent(ExtentId(number.into()))) {
                let created_ms = extent.header.created_ms;
                assert!(now_ms - created_ms < ms(DAY) || extent.verified_ms.get() >= created_ms, "not within a day");
            }
        }
        // A sweep later nothing is older than a sweep, and every day had about its part of the work.
        rig.sleep(14 * DAY).await;
        let stored: u64 = 40 * (4 * 20_480 + 2 * 4096);
        let mut last = osd.scrub_report().bytes;
        let mut days = Vec::new();
        for _ in 0..14 {
            rig.sleep(DAY).await;
            let report = osd.scrub_report();
            assert!(report.age_p100_ms <= ms(14 * DAY), "{report:?}");
            assert!(report.age_p50_ms <= report.age_p100_ms && report.age_p50_ms > ms(DAY), "{report:?}");
            days.push(report.bytes - last);
            last = report.bytes;
        }
        let sum: u64 = days.iter().sum();
        assert!(sum >= stored && sum <= stored * 3 / 2, "{sum} of {stored}");
        let most = days.iter().max().copied().unwrap_or(0);
        assert!(most <= 3 * stored / 14, "the busiest day read {most} of {stored}: {days:?}");
        assert!(rig.findings.is_empty(), "{:?}", rig.findings.batch());
        assert_eq!(osd.scrub_report().flaws, 0);
    });
}

#[test]
fn ages_survive_a_restart() {
    let executor = Executor::new(8);
    let rig = Rig::new(&executor, DiskPolicy::default());
    executor.clone().run(LIMIT, async move {
        let osd = rig.start().await;
        for number in 1..=5 {
            rig.fill(&osd, number).await;
        }
        rig.sleep(2 * DAY).await;
        let verified = |osd: &Osd, number| osd.extent(ExtentId(number)).unwrap().verified_ms.get();
        let before: Vec<u64> = (1..=5).map(|number| verified(&osd, number)).collect();
        assert!(before.iter().all(|ms| *ms > 0), "{before:?}");
        drop(osd);
        rig.executor.kill(HOST);
        rig.device.power_cycle();
        let osd = rig.start().await;
        let after: Vec<u64> = (1..=5).map(|number| verified(&osd, number)).collect();
        assert_eq!(after, before);
        rig.sleep(HOUR).await;
        assert_eq!(osd.scrub_report().records, 0, "nothing is due again");
        assert!(osd.scrub_report().age_p100_ms > ms(DAY));
    });
}

#[test]
fn rot_is_found_within_the_sweep_with_its_exact_place_and_name() {
    let executor = Executor::new(9);
    let rig = Rig::new(&executor, DiskPolicy::default());
    executor.clone().run(LIMIT, async move {
        let osd = rig.start().await;
        for number in 1..=20 {
            rig.fill(&osd, number).await;
        }
        rig.sleep(2 * DAY).await;
        assert!(rig.findings.is_empty());
        // A payload bit of one record, a header bit of another, a bit of a footer and one of an extent header.
        let at = |number: u64, offset: u64, mask: u8| {
            let spot = Spot::at(offset, &osd.label.layout).unwrap();
            let slot = osd.extent(ExtentId(number.into())).unwrap().header.slot;
            rig.device.flip(osd.label.layout.zone(slot, spot.zone), spot.offset_bytes, mask);
        };
        let record = |number: u64| 4096 + number * 20_480;
        let footer = |number: u64| osd.extent(ExtentId(number.into())).unwrap().footer.get().unwrap().offset_in_extent;
        at(3, record(1) + 9000, 4);
        at(5, record(0) + 20, 1);
        at(8, footer(8) + 200, 128);
        at(11, 70, 2);
        let planted = rig.world.clock.unix_ms();
        while rig.findings.len() < 4 {
            rig.sleep(HOUR).await;
            assert!(rig.world.clock.unix_ms() - planted <= ms(14 * DAY), "{:?}", rig.findings.batch());
        }
        let (found, _) = rig.findings.batch();
        let of = |number: u64| found.iter().find(|finding| ExtentId::from(&finding.extent).0 == u128::from(number));
        for (number, part, offset) in
            [(3, Some(1), record(1)), (5, Some(0), record(0)), (8, None, footer(8)), (11, None, 0)]
        {
            let finding = of(number).unwrap_or_else(|| panic!("extent {number}: {found:?}"));
            assert_eq!(finding.kind, FindingKind::RecordDamaged);
            let expected = part.map(|part| name(number, part));
            assert_eq!(finding.hash.as_ref().map(BlockHash::from), expected.map(|(hash, _)| hash), "{finding:?}");
            assert_eq!(finding.put_id, expected.map_or(0, |(_, put_id)| put_id.0));
            assert!(finding.detail.contains(&format!("at offset {offset} of the extent")), "{finding:?}");
        }
        // Damage does not count as verified: its age grows, and it is looked at once a sweep, not again and again.
        rig.sleep(10 * DAY).await;
        let report = osd.scrub_report();
        assert!(report.age_p100_ms > ms(10 * DAY) && report.flaws <= 8, "{report:?}");
    });
}

#[test]
fn rot_anywhere_in_a_record_that_is_checked_in_slices_is_found() {
    for offset in [128, 256 << 10, 999_999 + 128] {
        let executor = Executor::new(12);
        let rig = Rig::new(&executor, DiskPolicy::default());
        executor.clone().run(LIMIT, async move {
            let osd = rig.start().await;
            rig.fill_with(&osd, 1, &[RECORD_BYTES, 1_000_000, RECORD_BYTES]).await;
            let slot = osd.extent(ExtentId(1)).unwrap().header.slot;
            rig.device.flip(osd.label.layout.zone(slot, 0), 4096 + 20_480 + offset, 8);
            rig.sleep(2 * DAY).await;
            let (found, _) = rig.findings.batch();
            let named: Vec<u64> = found.iter().map(|finding| finding.put_id).collect();
            assert_eq!((osd.scrub_report().flaws, named), (1, vec![name(1, 1).1.0]), "a flip at {offset}");
        });
    }
}

#[test]
fn what_is_told_of_the_scrub_names_how_old_and_which_extents_are() {
    let executor = Executor::new(11);
    let rig = Rig::new(&executor, DiskPolicy::default());
    executor.clone().run(LIMIT, async move {
        let osd = rig.start().await;
        for number in 1..=20 {
            rig.fill(&osd, number).await;
            rig.sleep(Duration::from_secs(60)).await;
        }
        let young = osd.scrub_status();
        assert_eq!(young.sweep_ms, ms(14 * DAY));
        assert_eq!((young.held_bytes, young.left_bytes), (osd.scrub_report().held_bytes, young.held_bytes));
        assert!(young.held_bytes >= 20 * 4 * 20_480 && young.pace_bytes > 0, "{young:?}");
        rig.sleep(DAY).await;
        let verified = osd.scrub_status();
        assert_eq!((verified.held_bytes, verified.left_bytes), (young.held_bytes, 0));
        // The first ones were verified while the last ones were still being filled.
        let oldest = DAY + Duration::from_secs(20 * 60);
        assert!(verified.age_p100_ms <= ms(oldest) && verified.records >= 80 && verified.flaws == 0, "{verified:?}");
        // Pages of any size are the whole list, the oldest first.
        let whole = osd.extent_ages((0, ExtentId(0)), usize::MAX);
        assert!(whole.end && whole.extents.is_sorted_by_key(|age| age.known_ms));
        assert!(whole.extents.iter().all(|age| age.verified_ms == age.known_ms && age.due_ms > whole.now_ms));
        let (mut paged, mut after) = (Vec::new(), (0, ExtentId(0)));
        loop {
            let page = osd.extent_ages(after, 7);
            paged.extend(page.extents);
            let last = paged.last().unwrap();
            after = (last.known_ms, ExtentId::from(&last.extent));
            if page.end {
                break;
            }
        }
        assert_eq!((paged.len(), &paged), (20, &whole.extents));
        // What is damaged cannot be verified: it grows older than the sweep, and everybody can see which one it is.
        let slot = osd.extent(ExtentId(7)).unwrap().header.slot;
        rig.device.flip(osd.label.layout.zone(slot, 0), 70, 2);
        rig.sleep(16 * DAY).await;
        let late = osd.scrub_status();
        assert!(late.age_p100_ms > late.sweep_ms && late.age_p50_ms < late.sweep_ms, "{late:?}");
        assert_eq!(late.left_bytes * 20, late.held_bytes, "one of twenty of the same size");
        assert_eq!(ExtentId::from(&osd.extent_ages((0, ExtentId(0)), 1).extents[0].extent), ExtentId(7));
    });
}

#[test]
fn a_scrub_in_arrears_stays_within_its_share_while_clients_are_busy() {
    let executor = Executor::new(10);
    let disk = DiskPolicy { bandwidth_bytes: 10_000, queue_depth: 2, ..DiskPolicy::default() };
    let rig = Rig::new(&executor, disk);
    executor.clone().run(LIMIT, async move {
        let osd = rig.start().await;
        for number in 1..=100 {
            rig.fill(&osd, number).await;
        }
        // Nobody scrubs for two days, and then all of it is late: 9 MB within an hour are more than the share.
        rig.executor.kill(HOST);
        drop(osd);
        rig.device.power_cycle();
        rig.sleep(2 * DAY).await;
        let osd = rig.start().await;
        rig.faults.set_delay(CommandKind::Read, Some(Duration::from_millis(5)..=Duration::from_millis(15)));
        let over = Rc::new(Cell::new(false));
        for reader in 0..8 {
            let (osd, over) = (osd.clone(), over.clone());
            let busy = async move {
                while !over.get() {
                    let (hash, put_id) = name(1 + reader, 2);
                    let (extent, generation) = (ExtentId(u128::from(1 + reader)), Generation(0));
                    let key = ReadKey { extent, hash, put_id, generation, class: Class::Client };
                    osd.read_block(key).await.map(drop).unwrap();
                }
            };
            rig.world.tasks.spawn("client", Box::pin(busy));
        }
        let (started, before) = (rig.executor.now(), osd.scrub_report().bytes);
        rig.sleep(HOUR / 3).await;
        let seconds = (rig.executor.now() - started).as_secs();
        let (share, read) = (1500, osd.scrub_report().bytes - before);
        assert!(read <= share * seconds + (1 << 17), "{read} bytes in {seconds} s, {share} a second are its share");
        assert!(read >= share * seconds * 8 / 10, "{read} bytes in {seconds} s: it uses its share");
        assert_eq!(osd.scrub_report().pace_bytes, share);
        over.set(true);
    });
}
