//! What a master decides that has just started on a table full of volumes.

use std::time::Duration;

use shingle_control::master::step::Order;
use shingle_control::master::step::step;
use shingle_control::master::view::CloseReason;
use shingle_proto::limits::HOST_SUSPECT_MS;

use crate::imagined::{Cell, osd};

#[test]
fn volumes_are_not_offered_before_all_their_members_are_heard_of() {
    let mut cell = Cell::settled(5);
    let before = cell.offered_ids();
    cell.restart_master();
    assert_eq!(cell.offered_ids(), []);
    assert_eq!(step(&cell.view, cell.now), [], "nothing is closed or opened in ignorance");
    for host in 1..=5 {
        cell.beat_of(host);
        assert!(cell.offered().iter().all(|hosts| hosts.iter().all(|member| *member <= host)));
        assert_eq!(step(&cell.view, cell.now), [], "{host} of 5 hosts heard");
    }
    assert_eq!(cell.offered_ids(), before);
    cell.pass(Duration::from_secs(60));
    assert_eq!(cell.done, [], "a restart alone changes nothing");
}

#[test]
fn volumes_of_a_host_that_died_meanwhile_close_after_a_grace_time() {
    let mut cell = Cell::settled(5);
    cell.alive.remove(&2);
    cell.restart_master();
    cell.pass(Duration::from_millis(HOST_SUSPECT_MS - 1000));
    assert_eq!(cell.closed(), 0);
    assert!(!cell.offered().is_empty(), "the volume that avoids the host serves meanwhile");
    cell.pass(Duration::from_secs(2));
    assert!(cell.closed() > 0);
    assert!(cell.done.iter().all(|order| match order {
        Order::Close { reason: CloseReason::MemberSuspect(member), .. } => [osd(2, 0), osd(2, 1)].contains(member),
        Order::Open { .. } => true,
        _ => false,
    }));
    assert!(cell.offered().len() >= 2);
}

#[test]
fn a_master_killed_between_extents_and_rows_leaves_nothing_open() {
    let mut cell = Cell::settled(5);
    let rows = cell.table.len();
    // It had made the extents of a volume and died before the rows.
    let id = *cell.table.keys().next_back().unwrap();
    let lost = cell.table.remove(&id).unwrap();
    cell.restart_master();
    cell.pass(Duration::from_secs(3));
    for member in &lost.members {
        let end = Order::EndExtent { osd: member.osd, extent: member.extent };
        assert!(cell.done.contains(&end), "{end:?}");
    }
    assert_eq!(cell.table.len(), rows, "another volume took its place");
    assert!((1..=5).all(|host| cell.avoidable(host)));
}

#[test]
fn a_master_killed_between_closing_extents_and_the_row_closes_the_row() {
    let mut cell = Cell::settled(5);
    let id = cell.offered_ids()[0];
    let member = cell.table[&id].members[0];
    let extent = cell.disks.get_mut(&member.osd).unwrap().extents.get_mut(&member.extent).unwrap();
    extent.0 = shingle_proto::message::ExtentState::Closed;
    cell.restart_master();
    cell.pass(Duration::from_secs(1));
    let close = Order::Close { volume: id, reason: CloseReason::MemberEnded(member.osd) };
    assert_eq!(cell.done[0], close);
}
