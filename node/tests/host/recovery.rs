//! Each outcome of a scan by its name, and damage told from torn tails.

use std::rc::Rc;
use std::time::Duration;

use crate::rig;
use crate::rig::{assert_stored, block, get, memory, new_extent, put, start};
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::device::ZonedDevice;
use shingle_hw::error::DeviceError;
use shingle_hw::faulty::{CommandKind, Fault, FaultyDevice};
use shingle_hw::zone::ZoneId;
use shingle_node::extent::scan::Outcomes;
use shingle_node::osd::extent::State;
use shingle_node::osd::mount::MountError;
use shingle_node::osd::refusal::Refusal;
use shingle_proto::ids::ExtentId;
use shingle_proto::message::FindingKind;
use shingle_seam::World;

/// The zone where the first extent begins.
const ZONE: ZoneId = ZoneId(3);
/// Behind header and the four records of `filled`, of two units each.
const TAIL_BYTES: u64 = 4096 + 4 * 8192;

/// An extent with four records, each durable before the next was written.
async fn filled(world: &World) -> MemoryDevice {
    let device = memory();
    let mounted = start(world, Rc::new(device.clone())).await.unwrap();
    mounted.osd.create_extent(new_extent(1)).await.unwrap();
    for number in 1..=4 {
        put(&mounted.osd, 1, block(number, 6000)).await.unwrap();
    }
    device
}

/// Appends bytes behind the last record, as a crash may leave them.
async fn leave(device: &MemoryDevice, bytes: &[u8]) {
    let mut buffer = device.alloc_buffer(bytes.len());
    buffer[..bytes.len()].copy_from_slice(bytes);
    let (landed, _) = device.append(ZONE, buffer, 0..bytes.len()).await;
    assert_eq!(landed, Ok(TAIL_BYTES));
    device.power_cycle();
}

/// The bytes of the last record.
async fn last_record(device: &MemoryDevice) -> Vec<u8> {
    let (read, buffer) = device.read(ZONE, TAIL_BYTES - 8192, device.alloc_buffer(8192), 0..8192).await;
    read.unwrap();
    buffer[..8192].to_vec()
}

/// Starts again; the extent must go on, with nothing lost and nothing found.
async fn assert_goes_on(world: &World, device: &MemoryDevice) -> Outcomes {
    let mounted = start(world, Rc::new(device.clone())).await.unwrap();
    assert!(mounted.findings.is_empty(), "{:?}", mounted.findings.batch());
    for number in 1..=4 {
        assert_stored(&mounted.osd, 1, block(number, 6000)).await;
    }
    assert_eq!(mounted.osd.extent(ExtentId(1)).unwrap().records.get(), 4);
    put(&mounted.osd, 1, block(5, 6000)).await.unwrap();
    device.power_cycle();
    let again = start(world, Rc::new(device.clone())).await.unwrap();
    assert!(again.findings.is_empty());
    assert_stored(&again.osd, 1, block(5, 6000)).await;
    assert_eq!(again.report.outcomes.whole, 5);
    mounted.report.outcomes
}

#[test]
fn whole_records_are_trusted_but_for_the_last() {
    rig::run(async |world| {
        let outcomes = assert_goes_on(&world, &filled(&world).await).await;
        assert_eq!(outcomes, Outcomes { whole: 4, checked: 1, ..Outcomes::default() });
    });
}

#[test]
fn torn_header_is_skipped() {
    rig::run(async |world| {
        let device = filled(&world).await;
        let mut bytes = last_record(&device).await;
        bytes[88] ^= 1;
        leave(&device, &bytes[..4096]).await;
        let outcomes = assert_goes_on(&world, &device).await;
        assert_eq!(outcomes.torn_header, 1);
    });
}

#[test]
fn zeroes_and_strange_bytes_behind_the_tail_are_skipped() {
    rig::run(async |world| {
        let device = filled(&world).await;
        leave(&device, &[0; 12_288]).await;
        assert_eq!(assert_goes_on(&world, &device).await.pointer_ahead, 1);
        let device = filled(&world).await;
        leave(&device, &[0xee; 12_288]).await;
        assert_eq!(assert_goes_on(&world, &device).await.stray, 1);
        let device = filled(&world).await;
        let older = last_record(&device).await;
        leave(&device, &older).await;
        assert_eq!(assert_goes_on(&world, &device).await.stray, 1, "a header whose turn is over");
    });
}

/// The bytes of a fifth record of eight units, as it would follow those of `filled`.
async fn fifth_record(world: &World) -> Vec<u8> {
    let device = filled(world).await;
    let mounted = start(world, Rc::new(device.clone())).await.unwrap();
    put(&mounted.osd, 1, block(9, 8 * 4096 - 128)).await.unwrap();
    let (read, buffer) = device.read(ZONE, TAIL_BYTES, device.alloc_buffer(32_768), 0..32_768).await;
    read.unwrap();
    buffer[..32_768].to_vec()
}

#[test]
fn torn_payload_is_dropped_however_much_of_it_survived() {
    rig::run(async |world| {
        let record = fifth_record(&world).await;
        for kept in (4096..32_768).step_by(4096) {
            let device = filled(&world).await;
            leave(&device, &record[..kept]).await;
            let outcomes = assert_goes_on(&world, &device).await;
            assert_eq!(outcomes, Outcomes { whole: 4, checked: 2, pointer_behind: 1, ..Outcomes::default() }, "{kept}");
            let device = filled(&world).await;
            let mut torn = record.clone();
            torn[kept..].fill(0);
            leave(&device, &torn).await;
            let outcomes = assert_goes_on(&world, &device).await;
            assert_eq!(outcomes, Outcomes { whole: 4, checked: 2, torn_payload: 1, ..Outcomes::default() }, "{kept}");
        }
        let device = filled(&world).await;
        leave(&device, &record).await;
        let mounted = start(&world, Rc::new(device)).await.unwrap();
        assert_stored(&mounted.osd, 1, block(9, 8 * 4096 - 128)).await;
    });
}

#[test]
fn zeroes_before_a_record_are_a_lost_flush() {
    rig::run(async |world| {
        let device = filled(&world).await;
        let bytes = [vec![0; 8192], fifth_record(&world).await].concat();
        leave(&device, &bytes).await;
        let mounted = start(&world, Rc::new(device)).await.unwrap();
        assert_eq!(mounted.report.outcomes, Outcomes { whole: 5, checked: 2, lost_flush: 1, ..Outcomes::default() });
        assert_stored(&mounted.osd, 1, block(9, 8 * 4096 - 128)).await;
    });
}

#[test]
fn torn_append_ends_the_extent_for_good() {
    rig::run(async |world| {
        for seed in 1..=7 {
            let device = filled(&world).await;
            let lost = block(9, 30_000 - 4096);
            let faulty = FaultyDevice::new(Rc::new(device.clone()), Rc::new(|_| Box::pin(async {})), seed);
            let faults = faulty.faults();
            let mounted = start(&world, Rc::new(faulty)).await.unwrap();
            faults.arm(1, Fault::TornAppend);
            assert!(put(&mounted.osd, 1, lost).await.is_err());
            world.tasks.sleep(Duration::from_millis(1)).await;
            device.power_cycle();
            let mounted = start(&world, Rc::new(device)).await.unwrap();
            assert_eq!(get(&mounted.osd, 1, lost).await, Err(Refusal::BlockNotFound));
            assert_eq!(mounted.osd.extent(ExtentId(1)).unwrap().state.get(), State::Failed, "the journal remembers");
            assert!(mounted.findings.is_empty());
            for number in 1..=4 {
                assert_stored(&mounted.osd, 1, block(number, 6000)).await;
            }
        }
    });
}

/// Damages a filled disk at rest and starts from it.
async fn damaged(world: &World, flips: &[(ZoneId, u64)]) -> rig::Mounted {
    let device = filled(world).await;
    flips.iter().for_each(|(zone, offset_bytes)| device.flip(*zone, *offset_bytes, 0x40));
    start(world, Rc::new(device)).await.unwrap()
}

fn kinds(mounted: &rig::Mounted) -> Vec<FindingKind> {
    mounted.findings.batch().0.iter().map(|finding| finding.kind).collect()
}

#[test]
fn durable_record_with_a_broken_header_is_missing() {
    rig::run(async |world| {
        let mounted = damaged(&world, &[(ZONE, 4096 + 8192 + 50)]).await;
        assert_eq!(kinds(&mounted), [FindingKind::RecordMissing]);
        assert_eq!((mounted.report.outcomes.missing, mounted.report.outcomes.whole), (1, 3));
        assert_eq!(mounted.osd.extent(ExtentId(1)).unwrap().state.get(), State::Failed, "closed to writes");
        for number in [1, 3, 4] {
            assert_stored(&mounted.osd, 1, block(number, 6000)).await;
        }
    });
}

#[test]
fn durable_record_with_a_broken_payload_is_refused_at_its_read() {
    rig::run(async |world| {
        let mounted = damaged(&world, &[(ZONE, 4096 + 8192 + 5000)]).await;
        assert!(mounted.findings.is_empty(), "start-up does not read payloads that are not in doubt");
        assert!(matches!(get(&mounted.osd, 1, block(2, 6000)).await, Err(Refusal::RecordDamaged(_))));
        assert_eq!(kinds(&mounted), [FindingKind::RecordDamaged]);
        assert_stored(&mounted.osd, 1, block(3, 6000)).await;
    });
}

#[test]
fn lost_extent_header_costs_no_block() {
    rig::run(async |world| {
        let mounted = damaged(&world, &[(ZONE, 100)]).await;
        assert_eq!(kinds(&mounted), [FindingKind::RecordDamaged]);
        for number in 1..=4 {
            assert_stored(&mounted.osd, 1, block(number, 6000)).await;
        }
        let extent = mounted.osd.extent(ExtentId(1)).unwrap();
        assert_eq!(
            (extent.state.get(), extent.header.volume, extent.header.member),
            (State::Failed, new_extent(1).volume, 2)
        );
    });
}

#[test]
fn slot_without_anything_sound_is_left_alone() {
    rig::run(async |world| {
        let headers = (0..4).map(|record| (ZONE, 4096 + record * 8192 + 50));
        let flips: Vec<_> = headers.chain([(ZONE, 100)]).collect();
        let mounted = damaged(&world, &flips).await;
        assert_eq!((mounted.report.retired, mounted.report.free), (1, 7));
        assert_eq!(mounted.findings.len(), 1);
        mounted.osd.create_extent(new_extent(9)).await.unwrap();
        assert_eq!(mounted.osd.extent(ExtentId(9)).unwrap().header.slot, 1);
    });
}

#[test]
fn torn_creation_gives_its_zones_back() {
    rig::run(async |world| {
        let device = memory();
        start(&world, Rc::new(device.clone())).await.unwrap();
        let mut buffer = device.alloc_buffer(4096);
        buffer[..4096].fill(0);
        let (landed, _) = device.append(ZONE, buffer, 0..4096).await;
        landed.unwrap();
        device.power_cycle();
        let mounted = start(&world, Rc::new(device)).await.unwrap();
        assert_eq!((mounted.report.torn_creations, mounted.report.free), (1, 8));
        mounted.osd.create_extent(new_extent(1)).await.unwrap();
        put(&mounted.osd, 1, block(1, 100)).await.unwrap();
    });
}

#[test]
fn unreadable_sector_is_found_and_skipped() {
    rig::run(async |world| {
        let device = filled(&world).await;
        let faulty = FaultyDevice::new(Rc::new(device), Rc::new(|_| Box::pin(async {})), 1);
        let faults = faulty.faults();
        let faulty: Rc<dyn ZonedDevice> = Rc::new(faulty);
        let error = DeviceError::Unreadable { zone: ZONE, offset_bytes: 0 };
        let probe = start(&world, faulty.clone()).await.unwrap();
        let reads = faults.seen(CommandKind::Read);
        drop(probe);
        // One window and then one unit cannot be read; each read of the start is tried.
        let mut unreadable = 0;
        for nth in 1..reads {
            faults.arm(nth, Fault::Error { command: CommandKind::Read, error: error.clone() });
            faults.arm(nth, Fault::Error { command: CommandKind::Read, error: error.clone() });
            match start(&world, faulty.clone()).await {
                Ok(mounted) => unreadable += mounted.report.outcomes.unreadable,
                Err(refused) => assert!(matches!(refused, MountError::LabelDamaged { .. }), "{refused}"),
            }
            faults.clear();
        }
        assert!(unreadable > 0);
    });
}
