//! Looking at disks: what the engine wrote is told as it is, every kind of damage by its name and place, and nothing a
//! disk holds can end the look.

use std::rc::Rc;

use futures_util::FutureExt;
use shingle_codec::checksum::crc32c;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::device::ZonedDevice;
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::ZoneId;
use shingle_node::extent::label::LabelCopy;
use shingle_node::inspect::{CopyState, ExtentContents, Finding, FindingName, Severity, Survey, VerifyReport, ZoneUse};
use shingle_proto::ids::{ExtentId, Generation};
use shingle_seam::World;

use crate::rig::{self, Block, append_key, block, geometry, new_extent, put, start};

const CLOSED: u128 = 0x1111;
const OPEN: u128 = 0x2222;
const EMPTY: u128 = 0x3333;

/// The records of each extent: closed, open.
fn blocks() -> [Vec<Block>; 2] {
    [
        (1..8).map(|number| block(number, 3000 * number as u32)).collect(),
        (20..24).map(|number| block(number, 9000)).collect(),
    ]
}

/// A disk with a closed extent in slot 0, an open one in slot 1, an empty one in slot 2.
async fn disk(world: &World) -> MemoryDevice {
    let device = MemoryDevice::new(geometry(), "serial-1");
    let mounted = start(world, Rc::new(device.clone())).await.unwrap();
    for (extent, blocks) in [CLOSED, OPEN].into_iter().zip(blocks()) {
        mounted.osd.create_extent(new_extent(extent)).await.unwrap();
        for block in blocks {
            put(&mounted.osd, extent, block).await.unwrap();
        }
    }
    mounted.osd.create_extent(new_extent(EMPTY)).await.unwrap();
    mounted.osd.close_extent(ExtentId(CLOSED), Generation(0)).await.unwrap();
    // The journal is behind by a moment, unless it is asked.
    drop(mounted);
    device.power_cycle();
    let mounted = start(world, Rc::new(device.clone())).await.unwrap();
    drop(mounted);
    device.power_cycle();
    device
}

async fn verify(device: &dyn ZonedDevice) -> (VerifyReport, Vec<Finding>) {
    let mut survey = Survey::of(device).await.unwrap();
    let report = survey.verify(false, &mut |_| {}).await;
    (report, survey.findings.list)
}

fn bad(findings: &[Finding]) -> Vec<FindingName> {
    let bad = findings.iter().filter(|finding| finding.severity == Severity::Bad);
    bad.map(|finding| finding.name).collect()
}

async fn contents(device: &dyn ZonedDevice, extent: u128) -> (ExtentContents, Vec<Finding>) {
    let mut survey = Survey::of(device).await.unwrap();
    let named = survey.slots_named(&ExtentId(extent).to_string()).await;
    let contents = survey.extent(named[0].slot).await.unwrap();
    (contents, survey.findings.list)
}

async fn sector(device: &MemoryDevice, zone: ZoneId) -> Vec<u8> {
    let (read, buffer) = device.read(zone, 0, device.alloc_buffer(4096), 0..4096).await;
    read.unwrap();
    buffer[..4096].to_vec()
}

/// Changes some bytes of a label and makes its checksum right again.
async fn forge_label(device: &MemoryDevice, zone: ZoneId, at: usize, bytes: &[u8]) {
    let mut label = sector(device, zone).await;
    label[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c(&label[..4092]);
    label[4092..].copy_from_slice(&crc.to_le_bytes());
    place(device, zone, &label).await;
}

/// Puts a sector where a label is.
async fn place(device: &MemoryDevice, zone: ZoneId, bytes: &[u8]) {
    let mut buffer = device.alloc_buffer(4096);
    buffer[..4096].copy_from_slice(bytes);
    if zone.0 < device.geometry().conventional_zones {
        device.write(zone, 0, buffer, 0..4096).await.0.unwrap();
    } else {
        device.reset(zone).await.unwrap();
        device.append(zone, buffer, 0..4096).await.0.unwrap();
    }
    device.power_cycle();
}

#[test]
fn sound_disk_is_told_as_it_is() {
    rig::run(async |world| {
        let device = disk(&world).await;
        let mut survey = Survey::of(&device).await.unwrap();
        assert!(survey.labels.agree && survey.labels.not_the_device.is_empty());
        assert_eq!(survey.journal.as_ref().unwrap().state, "whole");
        let slots = survey.slots().await;
        let states: Vec<_> = slots.iter().take(4).map(|slot| slot.state).collect();
        assert_eq!(states, ["closed", "open", "open", "free"]);
        let [closed, open] = blocks();
        assert_eq!((slots[0].records, slots[1].records), (closed.len() as u32, open.len() as u32));
        assert_eq!((slots[0].known_from, slots[1].known_from), (Some("journal, footer"), Some("scan")));
        let zones = survey.zone_reports(&slots);
        assert_eq!(zones[0].used_for, ZoneUse::Label { copy: "first" });
        assert_eq!(zones[19].used_for, ZoneUse::Label { copy: "last" });
        let current = zones.iter().filter(|zone| matches!(zone.used_for, ZoneUse::Journal { current: true, .. }));
        assert_eq!(current.count(), 1);
        assert!(matches!(zones[4].used_for, ZoneUse::Extent { slot: 0, zone_in_extent: 1, state: "closed", .. }));
        assert_eq!(bad(&survey.findings.list), []);
        let (report, findings) = verify(&device).await;
        assert_eq!(bad(&findings), []);
        assert_eq!((report.records, report.records_sound), (11, 11));
        assert_eq!((report.extents, report.headers_sound, report.footers_sound, report.labels), (3, 3, 1, 2));
    });
}

#[test]
fn extent_shows_every_record_with_its_name() {
    rig::run(async |world| {
        let device = disk(&world).await;
        for (extent, blocks) in [CLOSED, OPEN].into_iter().zip(blocks()) {
            let (contents, _) = contents(&device, extent).await;
            let mut named: Vec<_> = contents.records.iter().map(|record| record.block.clone()).collect();
            let mut expected: Vec<_> = blocks.iter().map(|block| block.hash().to_string()).collect();
            named.sort();
            expected.sort();
            assert_eq!(named, expected);
            assert!(contents.records.iter().all(|record| record.verdict == "sound" && record.sequence.is_some()));
            assert_eq!(contents.footer.as_ref().map(|footer| footer.sound), (extent == CLOSED).then_some(true));
            assert!(contents.header.sound);
        }
    });
}

#[test]
fn record_is_found_by_the_beginning_of_its_name() {
    rig::run(async |world| {
        let device = disk(&world).await;
        let wanted = block(21, 9000);
        for digits in [8, 64] {
            let mut survey = Survey::of(&device).await.unwrap();
            let search = survey.find(&wanted.hash().to_string()[..digits]).await;
            let [hit] = &search.records[..] else { panic!("{search:?}") };
            assert_eq!((hit.verdict, hit.extent.clone()), ("sound", ExtentId(OPEN).to_string()));
            let fields = hit.fields.as_ref().unwrap();
            assert_eq!(fields.get("payload_crc").unwrap().to_string(), hit.payload_crc_computed.clone().unwrap());
        }
        let mut survey = Survey::of(&device).await.unwrap();
        assert!(survey.find("00000000ff").await.records.is_empty());
    });
}

#[test]
fn flipped_bits_are_named_by_what_they_hit() {
    rig::run(async |world| {
        let device = disk(&world).await;
        let (closed, _) = contents(&device, CLOSED).await;
        let (record, footer) = (closed.records[2].clone(), closed.footer.clone().unwrap());
        let journal = Survey::of(&device).await.unwrap().journal.unwrap().zone.unwrap();
        // Footers of this disk lie in the zone of their records.
        let footer_zone = ZoneId(closed.slot.first_zone + (footer.offset_bytes / (256 << 10)) as u32);
        let footer_at = footer.offset_bytes % (256 << 10);
        let (zone, at) = (ZoneId(record.zone), record.zone_offset_bytes);
        let header_zone = ZoneId(closed.slot.first_zone);
        let cases = [
            (ZoneId(0), 60, FindingName::LabelDamaged),
            (ZoneId(19), 4093, FindingName::LabelDamaged),
            (zone, at + 20, FindingName::RecordHeaderDamaged),
            (zone, at + 128 + 17, FindingName::RecordDamaged),
            (zone, at + record.bytes - 1, FindingName::RecordDamaged),
            (header_zone, 100, FindingName::ExtentHeaderDamaged),
            (footer_zone, footer_at + 30, FindingName::ClosingRecordDamaged),
            (footer_zone, footer_at + 128 + 60, FindingName::FooterDamaged),
            (ZoneId(journal), 30, FindingName::JournalDamaged),
        ];
        for (zone, offset, name) in cases {
            device.flip(zone, offset, 0x04);
            let (_, findings) = verify(&device).await;
            device.flip(zone, offset, 0x04);
            let found = findings.iter().find(|finding| finding.name == name);
            let found = found.unwrap_or_else(|| panic!("{zone:?} {offset} {name:?}: {findings:#?}"));
            assert!(found.offset_bytes.is_some() && !found.value.is_empty(), "{found:?}");
            if matches!(name, FindingName::RecordDamaged | FindingName::RecordHeaderDamaged) {
                assert_eq!((found.zone, found.offset_bytes), (Some(record.zone), Some(record.zone_offset_bytes)));
                assert_eq!(found.block.as_ref(), Some(&record.block));
            }
        }
        assert_eq!(bad(&verify(&device).await.1), []);
    });
}

#[test]
fn labels_of_other_versions_and_other_devices_are_told_field_by_field() {
    rig::run(async |world| {
        let device = disk(&world).await;
        forge_label(&device, ZoneId(0), 8, &3u16.to_le_bytes()).await;
        let survey = Survey::of(&device).await.unwrap();
        assert_eq!(survey.labels.copies[0].state, CopyState::Newer);
        assert_eq!(bad(&survey.findings.list), [FindingName::LabelNewer]);
        forge_label(&device, ZoneId(0), 8, &2u16.to_le_bytes()).await;
        forge_label(&device, ZoneId(0), 32, &77u64.to_le_bytes()).await;
        let survey = Survey::of(&device).await.unwrap();
        assert!(!survey.labels.agree);
        let fields: Vec<_> = survey.labels.disagreements.iter().map(|difference| difference.field).collect();
        assert_eq!(fields, ["osd"]);
        // A copy of a disk names the disk it was copied from.
        let clone = disk(&world).await;
        for zone in [0, 19] {
            forge_label(&clone, ZoneId(zone), 48, b"serial-2").await;
        }
        let survey = Survey::of(&clone).await.unwrap();
        let [difference] = &survey.labels.not_the_device[..] else { panic!("{:?}", survey.labels) };
        assert_eq!((difference.field, difference.label.to_string()), ("serial", "serial-2".to_owned()));
        assert_eq!(bad(&survey.findings.list), [FindingName::LabelOtherSerial]);
    });
}

#[test]
fn without_a_label_journal_and_extents_tell_whose_disk_it_is() {
    rig::run(async |world| {
        let device = disk(&world).await;
        device.flip(ZoneId(0), 60, 1);
        device.flip(ZoneId(19), 60, 1);
        let (report, findings) = verify(&device).await;
        assert!(findings.iter().any(|finding| finding.name == FindingName::IdentityAssumed));
        assert_eq!(bad(&findings), [FindingName::LabelDamaged, FindingName::LabelDamaged]);
        assert_eq!((report.records_sound, report.journal), (11, Some("whole")));
    });
}

#[test]
fn blank_disk_and_garbage_are_told_apart() {
    rig::run(async |_world| {
        let device = MemoryDevice::new(geometry(), "serial-1");
        let (report, findings) = verify(&device).await;
        assert_eq!((bad(&findings), report.labels), (vec![], 0));
        assert_eq!(findings[0].name, FindingName::BlankDisk);
        for zone in [0, 3, 19] {
            let mut buffer = device.alloc_buffer(8192);
            buffer.fill(0xa5);
            if zone == 0 {
                device.write(ZoneId(zone), 0, buffer, 0..8192).await.0.unwrap();
            } else {
                device.append(ZoneId(zone), buffer, 0..8192).await.0.unwrap();
            }
        }
        let (_, findings) = verify(&device).await;
        assert_eq!(bad(&findings), [FindingName::LabelAbsent, FindingName::LabelAbsent]);
    });
}

#[test]
fn torn_tails_are_outcomes_and_no_damage() {
    rig::run(async |world| {
        let mut met = 0;
        for (polls, seed) in (0..16).flat_map(|polls| (0..6).map(move |seed| (polls, seed))) {
            let device = disk(&world).await;
            let mounted = start(&world, Rc::new(device.clone())).await.unwrap();
            // The executor runs its tasks many times between two polls of the test: commands take longer than that.
            device.yield_up_to(300, seed + 1);
            let torn = block(90, 60_000);
            let mut buffer = mounted.osd.receive_buffer(ExtentId(OPEN), torn.bytes).unwrap();
            buffer.as_mut().copy_from_slice(&torn.payload());
            {
                let mut append = Box::pin(mounted.osd.append(append_key(OPEN, torn), buffer));
                // As far as the flush, which power does not wait for.
                for _ in 0..polls {
                    if append.as_mut().now_or_never().is_some() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            device.crash(seed);
            let (contents, findings) = contents(&device, OPEN).await;
            met += usize::from(!contents.slot.outcomes.is_empty());
            assert_eq!(bad(&findings), [], "{polls} {seed}: {findings:#?}");
            assert_eq!(bad(&verify(&device).await.1), [], "{polls} {seed}");
        }
        assert!(met > 0, "some crash tears the tail");
    });
}

#[test]
fn unreadable_sectors_and_lost_zones_are_told_with_their_extents() {
    rig::run(async |world| {
        let device = disk(&world).await;
        let (closed, _) = contents(&device, CLOSED).await;
        let record = closed.records.last().unwrap();
        device.set_unreadable(ZoneId(record.zone), record.zone_offset_bytes + 4096);
        let (report, findings) = verify(&device).await;
        let found = findings.iter().find(|finding| finding.name == FindingName::RecordUnreadable).expect("found");
        assert_eq!(found.offset_bytes, Some(record.zone_offset_bytes + 4096));
        assert_eq!((report.records, report.records_sound), (11, 10));
        let device = disk(&world).await;
        device.set_offline(ZoneId(3));
        let (_, findings) = verify(&device).await;
        let offline = findings.iter().find(|finding| finding.name == FindingName::ZoneOffline).expect("found");
        assert_eq!((offline.zone, offline.slot), (Some(3), Some(0)));
    });
}

#[test]
fn nothing_a_disk_holds_ends_the_look() {
    rig::run(async |world| {
        let mut state = 0x9e37_79b9_u64;
        let mut next = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for round in 0..40 {
            let device = disk(&world).await;
            for _ in 0..=round {
                // Structures stand at the starts of zones and of their sectors.
                let (zone, sector) = (ZoneId(next(20) as u32), next(24) * 4096);
                device.flip(zone, sector + next(160), 1 << next(8));
            }
            match next(6) {
                0 => device.set_offline(ZoneId(next(20) as u32)),
                1 => device.set_read_only(ZoneId(next(20) as u32)),
                2 => device.set_unreadable(ZoneId(next(20) as u32), next(8) * 4096),
                _ => {}
            }
            let mut survey = Survey::of(&device).await.unwrap();
            let slots = survey.slots().await;
            assert_eq!(survey.zone_reports(&slots).len(), 20);
            for slot in 0..slots.len() as u32 {
                drop(survey.extent(slot).await);
            }
            drop(survey.find("00000000").await);
            drop(verify(&device).await);
        }
        // A label that claims a larger disk than there is.
        let small = disk(&world).await;
        let shape = Geometry { zones: 30, ..geometry() };
        let larger = MemoryDevice::new(shape, "serial-1");
        let mounted = start(&world, Rc::new(larger.clone())).await.unwrap();
        place(&small, ZoneId(0), &mounted.osd.label.encode(LabelCopy::First)).await;
        let (_, findings) = verify(&small).await;
        assert!(bad(&findings).contains(&FindingName::LabelOtherGeometry), "{findings:#?}");
    });
}

#[test]
fn names_of_findings_are_unique_and_kebab_case() {
    let names: std::collections::BTreeSet<_> = FindingName::ALL.iter().map(|name| name.name()).collect();
    assert_eq!(names.len(), FindingName::ALL.len());
    assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
}
