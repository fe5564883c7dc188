//! The metadata journal: what it saves, and that losing, mixing up or damaging it costs a scan and never more.

use std::rc::Rc;

use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::device::ZonedDevice;
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::ZoneId;
use shingle_node::extent::journal::log::{journal_zones, room_bytes};
use shingle_node::extent::journal::replay::JournalFound;
use shingle_node::osd::extent::State;
use shingle_node::osd::refusal::Refusal;
use shingle_node::osd::store::Osd;
use shingle_proto::ids::{ExtentId, Generation};
use shingle_proto::message::FindingKind;
use shingle_seam::World;

use crate::rig::{self, Mounted, assert_stored, block, geometry, get, memory, new_extent, put, start};

/// Extent n begins at zone 3 + 2n.
fn first_zone(mounted: &Mounted, extent: u128) -> ZoneId {
    let layout = mounted.osd.label.layout;
    layout.zone(mounted.osd.extent(ExtentId(extent)).unwrap().header.slot, 0)
}

fn state(osd: &Osd, extent: u128) -> State {
    osd.extent(ExtentId(extent)).unwrap().state.get()
}

async fn close(osd: &Rc<Osd>, extent: u128) {
    osd.close_extent(ExtentId(extent), Generation(0)).await.unwrap();
}

/// Extents 1 and 2 closed with blocks, 3 open with one.
async fn filled(world: &World, shape: Geometry) -> MemoryDevice {
    let device = MemoryDevice::new(shape, "serial-1");
    let mounted = start(world, Rc::new(device.clone())).await.unwrap();
    for extent in 1..=3 {
        mounted.osd.create_extent(new_extent(extent)).await.unwrap();
        for number in 0..5 {
            put(&mounted.osd, extent, block(10 * extent as u64 + number, 60_000)).await.unwrap();
        }
        if extent < 3 {
            close(&mounted.osd, extent).await;
        }
    }
    device.power_cycle();
    device
}

async fn assert_whole(osd: &Rc<Osd>) {
    for extent in 1..=3 {
        for number in 0..5 {
            assert_stored(osd, extent, block(10 * extent as u64 + number, 60_000)).await;
        }
    }
}

async fn restart(world: &World, device: &MemoryDevice) -> Mounted {
    let mounted = start(world, Rc::new(device.clone())).await.unwrap();
    assert_whole(&mounted.osd).await;
    assert_eq!((state(&mounted.osd, 1), state(&mounted.osd, 2)), (State::Closed, State::Closed));
    assert_eq!(put(&mounted.osd, 1, block(99, 100)).await, Err(Refusal::ExtentClosed));
    mounted
}

/// Loses both zones of the journal.
async fn lose_journal(device: &MemoryDevice) {
    for zone in journal_zones() {
        if zone.0 < device.geometry().conventional_zones {
            let mut buffer = device.alloc_buffer(65_536);
            buffer.fill(0);
            device.write(zone, 0, buffer, 0..65_536).await.0.unwrap();
        } else {
            device.reset(zone).await.unwrap();
        }
    }
    device.power_cycle();
}

fn shapes() -> [Geometry; 4] {
    [0, 1, 2, 3].map(|conventional_zones| Geometry { conventional_zones, ..geometry() })
}

#[test]
fn closed_extents_are_known_from_their_footers() {
    rig::run(async |world| {
        for shape in shapes() {
            let device = filled(&world, shape).await;
            for _ in 0..4 {
                let mounted = restart(&world, &device).await;
                assert_eq!((mounted.report.journal, mounted.report.by_footer), (JournalFound::Whole, 2));
                assert_eq!(mounted.osd.extent(ExtentId(1)).unwrap().header.member, 2);
                assert!(mounted.findings.is_empty());
                device.crash(3);
            }
        }
    });
}

#[test]
fn lost_journal_costs_a_scan_and_no_data() {
    rig::run(async |world| {
        for shape in shapes() {
            let device = filled(&world, shape).await;
            lose_journal(&device).await;
            let mounted = restart(&world, &device).await;
            assert_eq!((mounted.report.journal, mounted.report.by_footer), (JournalFound::Absent, 0));
            assert!(mounted.findings.is_empty());
            put(&mounted.osd, 3, block(50, 100)).await.unwrap();
            device.power_cycle();
            let mounted = restart(&world, &device).await;
            assert_eq!((mounted.report.journal, mounted.report.by_footer), (JournalFound::Whole, 2), "written anew");
        }
    });
}

#[test]
fn without_a_journal_only_a_clean_end_proves_an_extent_open() {
    rig::run(async |world| {
        for lose in [false, true] {
            let device = filled(&world, geometry()).await;
            let tail = device.report(ZoneId(7), 2).await.unwrap();
            let zone = tail.iter().rfind(|zone| zone.write_pointer_bytes > 0).unwrap();
            let mut buffer = device.alloc_buffer(4096);
            buffer[..4096].fill(0xee);
            device.append(zone.id, buffer, 0..4096).await.0.unwrap();
            device.power_cycle();
            if lose {
                lose_journal(&device).await;
            }
            let mounted = restart(&world, &device).await;
            assert_eq!(mounted.report.outcomes.stray, 1);
            let expected = if lose { State::Failed } else { State::Open };
            assert_eq!(state(&mounted.osd, 3), expected, "what stands there may have been a closing record");
            assert_eq!(put(&mounted.osd, 3, block(50, 100)).await.is_ok(), !lose);
        }
    });
}

#[test]
fn journal_of_another_disk_is_not_used() {
    rig::run(async |world| {
        for shape in [geometry(), Geometry { conventional_zones: 3, ..geometry() }] {
            let (ours, other) = (filled(&world, shape.clone()).await, filled(&world, shape.clone()).await);
            lose_journal(&ours).await;
            for zone in journal_zones() {
                let (read, buffer) = other.read(zone, 0, other.alloc_buffer(65_536), 0..65_536).await;
                read.unwrap();
                if zone.0 < shape.conventional_zones {
                    ours.write(zone, 0, buffer, 0..65_536).await.0.unwrap();
                } else {
                    ours.append(zone, buffer, 0..65_536).await.0.unwrap();
                }
            }
            ours.power_cycle();
            let mounted = restart(&world, &ours).await;
            assert_eq!((mounted.report.journal, mounted.report.by_footer), (JournalFound::Foreign, 0));
        }
    });
}

#[test]
fn damaged_journal_is_told_from_a_torn_one() {
    rig::run(async |world| {
        let mut found = Vec::new();
        for unit in 0..10 {
            let device = filled(&world, geometry()).await;
            for zone in journal_zones() {
                device.flip(zone, unit * 4096 + 50, 1);
            }
            found.push(restart(&world, &device).await.report.journal);
        }
        use JournalFound::{Damaged, Stale, Whole};
        // A snapshot, three creations, two closings; the last one was durable by nothing written later.
        assert_eq!(found, [Damaged, Stale, Stale, Stale, Stale, Whole, Whole, Whole, Whole, Whole], "{found:?}");
    });
}

#[test]
fn journal_changes_zones_when_one_is_full() {
    rig::run(async |world| {
        for shape in shapes() {
            let device = MemoryDevice::new(shape.clone(), "serial-1");
            let mut mounted = start(&world, Rc::new(device.clone())).await.unwrap();
            let batches = room_bytes(&mounted.osd.label.layout) / 4096;
            mounted.osd.create_extent(new_extent(1)).await.unwrap();
            put(&mounted.osd, 1, block(1, 500)).await.unwrap();
            close(&mounted.osd, 1).await;
            for number in 0..u128::from(2 * batches) {
                mounted.osd.create_extent(new_extent(100 + number)).await.unwrap();
                close(&mounted.osd, 100 + number).await;
                let zones = device.report(ZoneId(0), 20).await.unwrap();
                let active = zones.iter().filter(|zone| shingle_node::extent::scan::pointer_counts(zone)).count();
                assert!(active <= 1, "the journal's zone only: {active}");
                if number % 37 == 0 {
                    device.crash(number as u64);
                    mounted = start(&world, Rc::new(device.clone())).await.unwrap();
                    assert_eq!(mounted.report.journal, JournalFound::Whole, "{shape:?} {number}");
                    assert_stored(&mounted.osd, 1, block(1, 500)).await;
                }
            }
        }
    });
}

#[test]
fn damaged_footer_costs_a_scan_and_stays_closed() {
    rig::run(async |world| {
        let device = filled(&world, geometry()).await;
        let mounted = restart(&world, &device).await;
        let footer = mounted.osd.extent(ExtentId(1)).unwrap().footer.get().unwrap();
        let zone = ZoneId(first_zone(&mounted, 1).0 + (footer.offset_in_extent / (256 << 10)) as u32);
        device.flip(zone, footer.offset_in_extent % (256 << 10) + 300, 1);
        let mounted = restart(&world, &device).await;
        assert_eq!(mounted.report.by_footer, 1);
        let (findings, _) = mounted.findings.batch();
        assert_eq!(findings.iter().map(|finding| finding.kind).collect::<Vec<_>>(), [FindingKind::RecordDamaged]);
        device.power_cycle();
        lose_journal(&device).await;
        let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
        assert_whole(&mounted.osd).await;
        assert!(put(&mounted.osd, 1, block(99, 100)).await.is_err(), "its zones say that it has ended");
    });
}

#[test]
fn footer_names_the_block_whose_header_is_lost() {
    rig::run(async |world| {
        let device = filled(&world, geometry()).await;
        let mounted = restart(&world, &device).await;
        let lost = block(11, 60_000);
        let place = put(&mounted.osd, 3, block(70, 16)).await.map(|_| 4096 + 15 * 4096).unwrap();
        device.flip(first_zone(&mounted, 1), place + 20, 1);
        device.power_cycle();
        lose_journal(&device).await;
        let mounted = start(&world, Rc::new(device)).await.unwrap();
        let (findings, _) = mounted.findings.batch();
        assert!(
            findings.iter().any(|finding| finding.kind == FindingKind::RecordMissing
                && finding.hash == Some(lost.hash().into())
                && finding.put_id == lost.put_id().0),
            "{findings:?}"
        );
        let read = get(&mounted.osd, 1, lost).await;
        assert!(matches!(read, Err(Refusal::RecordDamaged(_))), "known, and not to be had: {read:?}");
    });
}

#[test]
fn verification_times_survive_restarts() {
    rig::run(async |world| {
        let device = filled(&world, geometry()).await;
        let mounted = restart(&world, &device).await;
        mounted.osd.record_verified(ExtentId(1), 1_234_567);
        mounted.osd.record_verified(ExtentId(99), 7);
        for _ in 0..3 {
            world.tasks.sleep(std::time::Duration::from_millis(1)).await;
            device.power_cycle();
            let mounted = restart(&world, &device).await;
            let verified = |extent| mounted.osd.extent(ExtentId(extent)).unwrap().verified_ms.get();
            assert_eq!((verified(1), verified(2)), (1_234_567, 0));
        }
    });
}

#[test]
fn journal_goes_on_in_one_zone_and_ends_without_any() {
    rig::run(async |world| {
        let device = filled(&world, geometry()).await;
        device.set_read_only(ZoneId(1));
        device.power_cycle();
        // What stands in a zone that can no longer be written may be of the past.
        for found in [JournalFound::Stale, JournalFound::Whole, JournalFound::Whole] {
            let mounted = restart(&world, &device).await;
            assert_eq!((mounted.report.journal, mounted.report.by_footer), (found, 2));
            device.power_cycle();
        }
        device.set_offline(ZoneId(2));
        device.power_cycle();
        for _ in 0..2 {
            let mounted = restart(&world, &device).await;
            assert_eq!(mounted.report.journal, JournalFound::Stale);
            put(&mounted.osd, 3, block(60, 100)).await.unwrap();
            device.power_cycle();
        }
    });
}

#[test]
fn extent_closed_again_and_again_runs_out_of_footers_and_still_closes() {
    rig::run(async |world| {
        // Crashes that lose only the closing record: the room behind is gone, bit by bit.
        let device = memory();
        let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
        mounted.osd.create_extent(new_extent(1)).await.unwrap();
        let mut number = 0;
        while put(&mounted.osd, 1, block(number, 900)).await.is_ok() {
            number += 1;
        }
        device.power_cycle();
        let layout = mounted.osd.label.layout;
        let mut junk = layout.reserve_bytes - 4096;
        while junk > 0 {
            let mut buffer = device.alloc_buffer(4096);
            buffer.fill(0xee);
            device.append(ZoneId(4), buffer, 0..4096).await.0.unwrap();
            junk -= 4096;
        }
        device.power_cycle();
        for round in 0..2 {
            let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
            if round == 0 {
                close(&mounted.osd, 1).await;
            }
            assert_eq!(state(&mounted.osd, 1), State::Closed);
            assert_eq!(mounted.report.by_footer, 0, "it has no footer");
            assert!(mounted.findings.is_empty());
            for number in 0..number {
                assert_stored(&mounted.osd, 1, block(number, 900)).await;
            }
            device.power_cycle();
        }
    });
}
