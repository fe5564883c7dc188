//! What the master decides while it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use shingle_control::master::health::{HeartbeatRefused, Liveness};
use shingle_control::master::problems::problems;
use shingle_control::master::step::{Order, step};
use shingle_control::master::view::CloseReason;
use shingle_control::master::volumes::lack;
use shingle_proto::ids::{ExtentId, OsdId};
use shingle_proto::limits::{
    GIB, HOST_SUSPECT_MS, OSD_OPEN_EXTENTS_MAX, SUSPECT_MEMORY_MS, SUSPECT_QUARANTINE_MS, VOLUME_FREE_BYTES_MIN,
};
use shingle_proto::message::{ExtentState, Heartbeat, Lack, OsdState, Problem, ProblemKind};

use crate::imagined::{COPIES, Cell, DISKS, osd};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_host_can_be_avoided_and_there_is_one_volume_to_spare() {
    for hosts in 5..=12 {
        let cell = Cell::settled(hosts);
        assert!((1..=hosts).all(|host| cell.avoidable(host)), "{hosts} hosts: {:?}", cell.offered());
        let spare = |without: usize| {
            let mut offered = cell.offered();
            offered.remove(without);
            (1..=hosts).all(|host| offered.iter().any(|hosts| !hosts.contains(&host)))
        };
        assert!((0..cell.offered().len()).any(spare), "{hosts} hosts: {:?}", cell.offered());
        assert!(cell.view.ready(cell.now));
    }
    assert_eq!(Cell::settled(5).offered().len(), 6, "with one host more than copies each volume avoids one host");
}

#[test]
fn as_many_hosts_as_copies_keep_two_volumes_and_fewer_none() {
    let cell = Cell::settled(COPIES as u32);
    assert_eq!(cell.offered().len(), 2);
    assert!(cell.view.ready(cell.now));
    assert_eq!(lack(&cell.view, cell.now), Lack::Nothing);
    let cell = Cell::settled(COPIES as u32 - 1);
    assert_eq!(cell.offered().len(), 0);
    assert_eq!(lack(&cell.view, cell.now), Lack::Hosts);
    assert!(!cell.view.ready(cell.now));
}

#[test]
fn after_any_single_failure_writes_go_on_and_every_other_host_is_avoidable_again() {
    for hosts in 5..=8 {
        for failed in 1..=hosts {
            let mut cell = Cell::settled(hosts);
            assert!(cell.avoidable(failed), "before the failure is even noticed");
            cell.alive.remove(&failed);
            cell.pass(Duration::from_millis(HOST_SUSPECT_MS) + SECOND);
            assert!(!cell.offered().is_empty());
            assert!(cell.offered().iter().all(|hosts| !hosts.contains(&failed)), "{hosts} hosts, {failed} failed");
            if hosts as usize > COPIES + 1 {
                let left = (1..=hosts).filter(|host| *host != failed);
                assert!(left.into_iter().all(|host| cell.avoidable(host)), "{hosts} hosts, {failed} failed");
            } else {
                assert!(cell.offered().len() >= 2);
            }
        }
    }
}

#[test]
fn a_host_that_comes_back_is_used_again_and_its_left_over_extents_are_closed() {
    let mut cell = Cell::settled(5);
    cell.alive.remove(&3);
    cell.pass(Duration::from_millis(HOST_SUSPECT_MS) + SECOND);
    let left_over = |cell: &Cell| {
        let disks = cell.disks.values().filter(|disk| disk.host == 3);
        disks.flat_map(|disk| disk.extents.values()).filter(|(state, _)| *state == ExtentState::Open).count()
    };
    let open = left_over(&cell);
    assert!(open > 0, "a dead host closes nothing");
    cell.alive.insert(3);
    cell.beat();
    cell.obey();
    assert!(cell.offered().iter().all(|hosts| !hosts.contains(&3)), "not before it has proved itself");
    cell.pass(Duration::from_millis(SUSPECT_QUARANTINE_MS) + SECOND);
    assert!((1..=5).all(|host| cell.avoidable(host)));
    assert!(cell.offered().iter().any(|hosts| hosts.contains(&3)));
    let ended = cell.done.iter().filter(|order| matches!(order, Order::EndExtent { .. })).count();
    assert_eq!(ended, open);
}

#[test]
fn a_suspect_osd_loses_exactly_its_volumes_at_once_and_gets_no_new_ones() {
    let mut cell = Cell::settled(6);
    let blamed = osd(2, 1);
    let (with, without): (Vec<_>, Vec<_>) =
        cell.view.volumes.iter().partition(|(_, volume)| volume.row.members.iter().any(|m| m.osd == blamed));
    let with: Vec<_> = with.into_iter().map(|(id, _)| *id).collect();
    let without: Vec<_> = without.into_iter().map(|(id, _)| *id).collect();
    assert!(!with.is_empty() && !without.is_empty());
    assert!(cell.view.health.suspect(cell.now, blamed));
    assert_eq!(cell.offered_ids(), without, "not offered even before the row is closed");
    cell.obey();
    let closed = cell.done.iter().filter_map(|order| match order {
        Order::Close { volume, reason } => Some((*volume, *reason)),
        _ => None,
    });
    let expected: Vec<_> = with.iter().map(|id| (*id, CloseReason::MemberSuspect(blamed))).collect();
    assert_eq!(closed.collect::<Vec<_>>(), expected);
    assert!((1..=6).all(|host| cell.avoidable(host)), "replaced at once");
    let on_blamed = |cell: &Cell| cell.view.volumes.values().any(|v| v.row.members.iter().any(|m| m.osd == blamed));
    assert!(!on_blamed(&cell));
    assert_eq!(cell.view.health.liveness(blamed, cell.now), Liveness::Suspect);
    cell.pass(Duration::from_millis(SUSPECT_QUARANTINE_MS));
    assert_eq!(cell.view.health.liveness(blamed, cell.now), Liveness::Healthy);
    assert!(!cell.view.health.suspect(cell.now, OsdId(999_999)), "an unknown OSD is nobody");
}

#[test]
fn an_osd_that_was_suspect_lately_is_taken_last() {
    let mut cell = Cell::settled(5);
    let blamed = osd(2, 1);
    cell.view.health.suspect(cell.now, blamed);
    cell.pass(Duration::from_millis(SUSPECT_QUARANTINE_MS) + SECOND);
    assert_eq!(cell.view.health.liveness(blamed, cell.now), Liveness::Healthy);
    let replace_all = |cell: &mut Cell| {
        cell.view.volumes.values_mut().for_each(|volume| volume.reported_full = true);
        cell.pass(SECOND);
        assert!((1..=5).all(|host| cell.avoidable(host)));
        cell.view.volumes.values().flat_map(|volume| &volume.row.members).filter(|m| m.osd == blamed).count()
    };
    assert_eq!(replace_all(&mut cell), 0, "its host has another disk");
    cell.disks.get_mut(&osd(2, 0)).unwrap().free = 0;
    let needed = replace_all(&mut cell);
    assert!(needed > 0, "where nothing else makes every host avoidable it is taken all the same");
    cell.pass(Duration::from_millis(SUSPECT_MEMORY_MS));
    assert!(replace_all(&mut cell) >= needed, "forgotten");
}

#[test]
fn a_disk_that_comes_and_goes_does_not_open_and_close_volumes_for_ever() {
    let mut cell = Cell::settled(5);
    let minutes = 5;
    let mut blamed_times = 0;
    for _ in 0..minutes * 60 * 2 {
        let blamed = osd(1, 0);
        if cell.view.volumes.values().any(|volume| volume.row.members.iter().any(|m| m.osd == blamed)) {
            cell.view.health.suspect(cell.now, blamed);
            blamed_times += 1;
        }
        cell.pass(Duration::from_millis(500));
    }
    assert!(blamed_times <= 3 + minutes * 4, "blamed {blamed_times} times: the quarantine does not grow");
    assert!(cell.closed() <= 8 * blamed_times);
}

#[test]
fn a_quarantine_is_short_again_after_a_long_good_time() {
    let mut cell = Cell::settled(5);
    let blamed = osd(1, 0);
    for _ in 0..3 {
        cell.view.health.suspect(cell.now, blamed);
        cell.pass(Duration::from_secs(16));
    }
    cell.view.health.suspect(cell.now, blamed);
    cell.pass(Duration::from_millis(2 * SUSPECT_QUARANTINE_MS));
    assert_eq!(cell.view.health.liveness(blamed, cell.now), Liveness::Suspect);
    cell.pass(Duration::from_millis(SUSPECT_MEMORY_MS));
    cell.view.health.suspect(cell.now, blamed);
    cell.pass(Duration::from_millis(SUSPECT_QUARANTINE_MS));
    assert_eq!(cell.view.health.liveness(blamed, cell.now), Liveness::Healthy);
}

#[test]
fn a_disk_its_host_calls_unwell_or_no_longer_names_is_suspect() {
    let mut cell = Cell::settled(5);
    cell.disks.get_mut(&osd(1, 0)).unwrap().state = OsdState::Failed;
    let gone = cell.disks.remove(&osd(2, 1)).unwrap();
    cell.beat();
    assert_eq!(cell.view.health.liveness(osd(1, 0), cell.now), Liveness::Suspect);
    assert_eq!(cell.view.health.liveness(osd(2, 1), cell.now), Liveness::Suspect);
    assert_eq!(cell.view.health.liveness(osd(1, 1), cell.now), Liveness::Healthy);
    cell.disks.insert(osd(2, 1), gone);
    cell.pass(Duration::from_secs(10));
    assert_eq!(cell.view.health.liveness(osd(2, 1), cell.now), Liveness::Healthy);
    assert!((1..=5).all(|host| cell.avoidable(host)), "each host has another disk");
}

#[test]
fn full_volumes_close_without_blame_and_are_replaced() {
    let mut cell = Cell::settled(5);
    let ids = cell.offered_ids();
    cell.view.volumes.get_mut(&ids[0]).unwrap().reported_full = true;
    let member = cell.view.volumes[&ids[1]].row.members[2];
    let extents = &mut cell.disks.get_mut(&member.osd).unwrap().extents;
    extents.insert(member.extent, (ExtentState::Open, VOLUME_FREE_BYTES_MIN - 1));
    cell.pass(SECOND);
    let closed: Vec<_> = cell.done.iter().filter(|order| matches!(order, Order::Close { .. })).collect();
    let full = |volume| Order::Close { volume, reason: CloseReason::Full };
    assert_eq!(closed, [&full(ids[0]), &full(ids[1])]);
    assert_eq!(cell.offered().len(), 6);
    assert!(cell.disks.keys().all(|id| cell.view.health.liveness(*id, cell.now) == Liveness::Healthy));
}

#[test]
fn a_volume_whose_extent_ended_or_vanished_closes() {
    for vanish in [false, true] {
        let mut cell = Cell::settled(5);
        cell.pass(Duration::from_millis(HOST_SUSPECT_MS));
        let id = cell.offered_ids()[0];
        let member = cell.view.volumes[&id].row.members[0];
        let extents = &mut cell.disks.get_mut(&member.osd).unwrap().extents;
        match vanish {
            true => drop(extents.remove(&member.extent)),
            false => drop(extents.insert(member.extent, (ExtentState::Failed, GIB))),
        }
        cell.pass(SECOND);
        let close = Order::Close { volume: id, reason: CloseReason::MemberEnded(member.osd) };
        assert!(cell.done.contains(&close), "vanished: {vanish}, {:?}", cell.done);
    }
}

#[test]
fn an_extent_without_a_volume_is_closed_but_not_one_in_the_making() {
    let mut cell = Cell::settled(5);
    let (stray, young) = (ExtentId(1 << 100), ExtentId(1 << 101));
    let extents = &mut cell.disks.get_mut(&osd(4, 0)).unwrap().extents;
    extents.insert(stray, (ExtentState::Open, GIB));
    extents.insert(young, (ExtentState::Open, GIB));
    let member = |extent| shingle_control::tables::replication::Member { osd: osd(4, 0), extent };
    cell.view.opening.insert(7, vec![member(young)]);
    cell.beat();
    let end = Order::EndExtent { osd: osd(4, 0), extent: stray };
    assert_eq!(step(&cell.view, cell.now), std::slice::from_ref(&end));
    cell.view.ending.insert(stray);
    assert_eq!(step(&cell.view, cell.now), [], "an order is given once");
    cell.view.ending.clear();
    cell.obey();
    cell.view.opening.clear();
    cell.obey();
    assert_eq!(cell.done, [end, Order::EndExtent { osd: osd(4, 0), extent: young }]);
}

#[test]
fn orders_under_way_are_not_given_twice() {
    let mut cell = Cell::new(5);
    cell.now = cell.now + SECOND;
    cell.beat();
    let orders = step(&cell.view, cell.now);
    assert_eq!(orders.len(), 6);
    for (number, order) in (0..).zip(&orders) {
        let Order::Open { members } = order else { panic!("{order:?}") };
        let member = |osd: &OsdId| shingle_control::tables::replication::Member {
            osd: *osd,
            extent: ExtentId(u128::from(osd.0) << 64 | number as u128),
        };
        cell.view.opening.insert(number, members.iter().map(member).collect());
    }
    assert_eq!(step(&cell.view, cell.now), []);
    cell.view.opening.remove(&2);
    assert_eq!(step(&cell.view, cell.now).len(), 1, "one failed and is tried again");
}

#[test]
fn open_extents_are_spread_and_never_exceed_their_limit() {
    let mut cell = Cell::new(5);
    cell.disks.get_mut(&osd(1, 0)).unwrap().free = 1;
    cell.disks.get_mut(&osd(2, 0)).unwrap().free = 0;
    cell.pass(SECOND);
    let mut open: BTreeMap<OsdId, usize> = BTreeMap::new();
    for member in cell.view.volumes.values().flat_map(|volume| &volume.row.members) {
        *open.entry(member.osd).or_default() += 1;
    }
    assert!(!open.contains_key(&osd(2, 0)));
    assert!(open.values().all(|open| *open <= OSD_OPEN_EXTENTS_MAX));
    let spread = (3..=5).flat_map(|host| (0..DISKS).map(move |disk| osd(host, disk))).map(|osd| open[&osd]);
    assert!(spread.clone().max().unwrap() - spread.min().unwrap() <= 1, "{open:?}");
    assert!((1..=5).all(|host| cell.avoidable(host)));
}

#[test]
fn a_cell_without_free_extents_comes_to_rest_without_volumes() {
    let mut cell = Cell::new(5);
    cell.disks.values_mut().for_each(|disk| disk.free = 0);
    cell.pass(SECOND);
    assert_eq!(cell.done, []);
    assert!(!cell.view.ready(cell.now));
    assert_eq!(lack(&cell.view, cell.now), Lack::Room);
}

#[test]
fn hosts_without_room_do_not_make_the_others_open_more_and_more() {
    let mut cell = Cell::new(5);
    (0..DISKS).for_each(|disk| cell.disks.get_mut(&osd(5, disk)).unwrap().free = 0);
    cell.pass(Duration::from_secs(5));
    assert_eq!(cell.offered().len(), 2, "{:?}", cell.offered());
    (0..DISKS).for_each(|disk| cell.disks.get_mut(&osd(5, disk)).unwrap().free = 60);
    cell.pass(SECOND);
    assert!((1..=5).all(|host| cell.avoidable(host)));
}

#[test]
fn a_master_that_was_absent_blames_nobody_for_the_silence() {
    let mut cell = Cell::settled(5);
    let gap = Duration::from_secs(3600);
    cell.now = cell.now + gap;
    cell.view.health.absent_for(gap);
    assert_eq!(step(&cell.view, cell.now), []);
    cell.pass(SECOND);
    assert_eq!(cell.done, []);
}

#[test]
fn a_late_heartbeat_changes_nothing_and_a_new_boot_starts_over() {
    let mut cell = Cell::settled(5);
    let beat = |boot, sequence| Heartbeat { host: 1, boot, sequence, ..Heartbeat::default() };
    assert_eq!(cell.view.health.heard(cell.now, beat(1, 1)), Err(HeartbeatRefused::Late));
    assert_eq!(cell.view.health.liveness(osd(1, 0), cell.now), Liveness::Healthy);
    cell.now = cell.now + SECOND;
    assert!(cell.view.health.heard(cell.now, beat(2, 1)).is_ok());
    assert_eq!(
        cell.view.health.liveness(osd(1, 0), cell.now),
        Liveness::Away,
        "it came back and has not read its disks yet"
    );
    assert_eq!(cell.hosts_heard().len(), 5);
}

fn problems_of(cell: &Cell) -> Vec<Problem> {
    let members = cell.table.values().flat_map(|row| row.members.iter().map(|member| member.osd));
    problems(&cell.view, members, cell.now)
}

fn told(cell: &Cell) -> Vec<ProblemKind> {
    problems_of(cell).into_iter().map(|problem| problem.kind).collect()
}

#[test]
fn hosts_that_no_volume_avoids_are_named_until_there_is_room_elsewhere() {
    let mut cell = Cell::new(5);
    (0..DISKS).for_each(|disk| cell.disks.get_mut(&osd(5, disk)).unwrap().free = 0);
    cell.pass(SECOND);
    let lacking: Vec<_> = problems_of(&cell).into_iter().map(|problem| (problem.kind, problem.host)).collect();
    assert_eq!(lacking, [1, 2, 3, 4].map(|host| (ProblemKind::VolumesLacking, host)), "host 5 has no room for them");
    assert!(!cell.view.ready(cell.now));
    cell.view.opening.insert(1, Vec::new());
    assert_eq!(told(&cell), [], "while a volume is being opened that is how it has to be");
    cell.view.opening.clear();
    (0..DISKS).for_each(|disk| cell.disks.get_mut(&osd(5, disk)).unwrap().free = 60);
    cell.pass(SECOND);
    assert_eq!(told(&cell), []);
    assert!(cell.view.ready(cell.now));
}

#[test]
fn a_disk_whose_sweep_is_late_is_named_while_its_host_lives() {
    let mut cell = Cell::settled(5);
    cell.disks.get_mut(&osd(3, 1)).unwrap().scrub_age_ms = 1_000;
    cell.beat();
    assert_eq!(told(&cell), [], "as old as the sweep is in time");
    cell.disks.get_mut(&osd(3, 1)).unwrap().scrub_age_ms = 1_001;
    cell.beat();
    let late = problems_of(&cell);
    assert_eq!((late.len(), late[0].kind, late[0].host, late[0].osd), (1, ProblemKind::ScrubLate, 3, osd(3, 1).0));
    assert!(cell.view.ready(cell.now), "it serves all the same");
    cell.disks.get_mut(&osd(3, 1)).unwrap().state = OsdState::Failed;
    cell.pass(SECOND);
    assert_eq!(told(&cell), [ProblemKind::OsdFailed], "a failed disk is not swept any more");
    cell.alive.remove(&3);
    cell.pass(Duration::from_millis(HOST_SUSPECT_MS) + SECOND);
    assert_eq!(told(&cell), [ProblemKind::HostSilent]);
}

#[test]
fn a_cell_is_healthy_only_while_nobody_is_missing_or_unwell() {
    let mut cell = Cell::settled(6);
    assert_eq!(told(&cell), []);
    cell.disks.get_mut(&osd(2, 1)).unwrap().state = OsdState::Failed;
    cell.pass(SECOND);
    assert_eq!(told(&cell), [ProblemKind::OsdFailed]);
    cell.alive.remove(&2);
    cell.pass(Duration::from_millis(HOST_SUSPECT_MS) + SECOND);
    assert_eq!(told(&cell), [ProblemKind::HostSilent]);
    cell.restart_master();
    assert_eq!(told(&cell), [], "nobody was heard yet, which speaks against nobody");
    cell.pass(Duration::from_millis(HOST_SUSPECT_MS) + SECOND);
    let kinds = told(&cell);
    assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == ProblemKind::OsdUnheard), "{kinds:?}");
}

#[test]
fn disks_without_space_are_named_and_a_cell_of_them_lacks_room_not_hosts() {
    let told =
        |cell: &Cell| problems(&cell.view, [], cell.now).into_iter().map(|problem| problem.kind).collect::<Vec<_>>();
    let mut cell = Cell::settled(6);
    cell.disks.get_mut(&osd(2, 1)).unwrap().state = OsdState::NoSpace;
    cell.pass(SECOND);
    assert_eq!(told(&cell), [ProblemKind::OsdNoSpace]);
    assert_eq!(lack(&cell.view, cell.now), Lack::Nothing);
    let mut members = cell.view.volumes.values().flat_map(|volume| &volume.row.members);
    assert!(members.all(|member| member.osd != osd(2, 1)), "its volumes are closed");
    // On one machine all disks share a file system.
    cell.disks.values_mut().for_each(|disk| disk.state = OsdState::NoSpace);
    cell.pass(SECOND);
    assert_eq!(lack(&cell.view, cell.now), Lack::Room);
    cell.alive.retain(|host| *host > 3);
    cell.pass(Duration::from_millis(HOST_SUSPECT_MS) + SECOND);
    assert_eq!(lack(&cell.view, cell.now), Lack::Hosts);
}
