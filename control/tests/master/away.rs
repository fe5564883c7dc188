//! Hosts whose process is gone for a moment: their volumes wait for them, once, and not for long.

use std::time::Duration;

use shingle_control::master::health::Liveness;
use shingle_proto::ids::VolumeId;
use shingle_proto::limits::{HOST_SUSPECT_MS, SUSPECT_MEMORY_MS, SUSPECT_QUARANTINE_MS};
use shingle_proto::message::{ExtentState, OsdState};

use crate::imagined::{Cell, osd};

const SECOND: Duration = Duration::from_secs(1);
const QUARANTINE: Duration = Duration::from_millis(SUSPECT_QUARANTINE_MS);

/// The open volumes with a member on a host.
fn volumes_of(cell: &Cell, host: u32) -> Vec<VolumeId> {
    let on_host =
        cell.view.volumes.iter().filter(|(_, v)| v.row.members.iter().any(|m| m.osd.0 / 100 == u64::from(host)));
    on_host.map(|(id, _)| *id).collect()
}

/// A cell one of whose hosts dies; a gateway sees it.
fn without(host: u32, hosts: u32) -> (Cell, Vec<VolumeId>) {
    let mut cell = Cell::settled(hosts);
    cell.alive.remove(&host);
    let waiting = volumes_of(&cell, host);
    assert!(!waiting.is_empty());
    assert!(cell.view.health.connection_lost(cell.now, osd(host, 0)));
    cell.obey();
    (cell, waiting)
}

#[test]
fn a_host_that_starts_again_at_once_keeps_its_volumes() {
    for hosts in 5..=8 {
        let (mut cell, waiting) = without(2, hosts);
        assert_eq!(cell.view.health.liveness(osd(2, 1), cell.now), Liveness::Away, "all disks of a process");
        assert!(cell.offered().iter().all(|members| !members.contains(&2)), "nothing is offered on it meanwhile");
        assert!(!cell.offered().is_empty());
        let others = (1..=hosts).filter(|host| *host != 2);
        // With as many living hosts as copies nobody can be avoided.
        assert!(hosts == 5 || others.clone().all(|host| cell.avoidable(host)), "{hosts} hosts: {:?}", cell.offered());
        cell.pass(SECOND);
        cell.restart_host(2);
        cell.pass(QUARANTINE);
        assert_eq!(cell.closed(), 0, "nothing was closed");
        assert!(waiting.iter().all(|volume| cell.offered_ids().contains(volume)), "offered again");
        assert!((1..=hosts).all(|host| cell.avoidable(host)));
    }
}

#[test]
fn a_host_that_stays_away_loses_its_volumes_when_it_is_suspect() {
    let (mut cell, waiting) = without(2, 6);
    cell.pass(Duration::from_millis(HOST_SUSPECT_MS) - SECOND);
    assert_eq!(cell.closed(), 0);
    assert_eq!(cell.view.health.liveness(osd(2, 0), cell.now), Liveness::Away, "longer than a quarantine");
    cell.pass(2 * SECOND);
    assert_eq!(volumes_of(&cell, 2), [], "{waiting:?} are closed");
    cell.restart_host(2);
    cell.beat();
    assert!(cell.view.health.liveness(osd(2, 0), cell.now) == Liveness::Suspect, "and it has to prove itself");
}

#[test]
fn a_volume_whose_extent_did_not_come_back_is_closed() {
    for lost in [true, false] {
        let (mut cell, waiting) = without(2, 6);
        let volume = waiting[0];
        let member = *cell.view.volumes[&volume].row.members.iter().find(|m| m.osd.0 / 100 == 2).unwrap();
        let disk = cell.disks.get_mut(&member.osd).unwrap();
        if lost {
            disk.extents.remove(&member.extent);
        } else {
            disk.extents.get_mut(&member.extent).unwrap().0 = ExtentState::Failed;
        }
        cell.restart_host(2);
        cell.pass(Duration::from_millis(HOST_SUSPECT_MS) + SECOND);
        assert!(!volumes_of(&cell, 2).contains(&volume));
        assert_eq!(cell.closed(), 1, "the others stay");
    }
}

#[test]
fn a_second_loss_within_the_minute_closes_the_volumes() {
    let (mut cell, _) = without(2, 6);
    // Other puts run into it, and other gateways a little later.
    cell.pass(SECOND);
    assert!(cell.view.health.connection_lost(cell.now, osd(2, 1)));
    assert!(cell.view.health.connection_lost(cell.now, osd(2, 0)));
    cell.restart_host(2);
    cell.pass(QUARANTINE);
    assert_eq!((cell.closed(), cell.view.health.liveness(osd(2, 0), cell.now)), (0, Liveness::Healthy));
    assert!(cell.view.health.connection_lost(cell.now, osd(2, 0)));
    cell.obey();
    assert_eq!(volumes_of(&cell, 2), []);
    assert_eq!(cell.view.health.liveness(osd(2, 0), cell.now), Liveness::Suspect);
    cell.pass(Duration::from_millis(SUSPECT_MEMORY_MS) + 4 * SECOND);
    let closed = cell.closed();
    assert!(cell.view.health.connection_lost(cell.now, osd(2, 0)));
    cell.pass(4 * SECOND);
    assert_eq!(cell.closed(), closed, "forgiven after a long good time");
}

#[test]
fn a_failure_while_a_host_is_away_counts_as_one() {
    let (mut cell, _) = without(2, 6);
    cell.restart_host(2);
    cell.disks.get_mut(&osd(2, 1)).unwrap().state = OsdState::Failed;
    cell.pass(QUARANTINE + SECOND);
    let left = cell.view.volumes.values().flat_map(|volume| &volume.row.members);
    assert!(left.into_iter().all(|member| member.osd != osd(2, 1)), "the failed disk's volumes are closed");
    assert_eq!(cell.view.health.liveness(osd(2, 0), cell.now), Liveness::Healthy);
}

#[test]
fn a_process_that_is_still_reading_its_disks_keeps_their_volumes() {
    let mut cell = Cell::settled(6);
    let waiting = volumes_of(&cell, 2);
    let missing = |cell: &mut Cell, disk, missing| cell.disks.get_mut(&osd(2, disk)).unwrap().missing = missing;
    (0..2).for_each(|disk| missing(&mut cell, disk, true));
    cell.restart_host(2);
    cell.pass(2 * SECOND);
    assert_eq!((cell.closed(), cell.view.health.liveness(osd(2, 1), cell.now)), (0, Liveness::Away));
    missing(&mut cell, 0, false);
    cell.pass(2 * SECOND);
    let back = waiting.iter().filter(|volume| cell.offered_ids().contains(volume)).count();
    assert!(back > 0 && back < waiting.len(), "those of the first disk: {back} of {}", waiting.len());
    cell.pass(2 * SECOND);
    let lost = cell.closed();
    assert!(lost > 0 && back + lost == waiting.len(), "the other one took too long: {lost} closed");
    missing(&mut cell, 1, false);
    cell.pass(QUARANTINE + SECOND);
    assert_eq!(cell.view.health.liveness(osd(2, 1), cell.now), Liveness::Healthy);
    // A disk that goes away under a process that had it is no restart.
    missing(&mut cell, 1, true);
    cell.beat();
    assert_eq!(cell.view.health.liveness(osd(2, 1), cell.now), Liveness::Suspect);
}
