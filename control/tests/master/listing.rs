//! The listing of a host's extents: told in pages, then by changes, and begun anew when it cannot be trusted.

use shingle_control::master::health::{Health, HeartbeatRefused};
use shingle_proto::ids::{ExtentId, OsdId};
use shingle_proto::limits::{FRAME_BODY_BYTES_MAX, HEARTBEAT_EXTENTS_MAX, HEARTBEAT_FINDINGS_MAX};
use shingle_proto::message::{
    ExtentReport, ExtentState, Finding, Hash256, Heartbeat, OsdReport, Request, encode_request,
};
use shingle_seam::clock::Monotonic;

const OSD: OsdId = OsdId(7);

fn extents(numbers: impl IntoIterator<Item = u128>) -> Vec<ExtentReport> {
    let extent = |number| ExtentReport {
        extent: ExtentId(number).into(),
        state: ExtentState::Closed,
        volume: u64::MAX,
        bucket: u64::MAX,
        member: 1,
        records: 2,
        record_bytes: u64::MAX,
        free_bytes: u64::MAX,
    };
    numbers.into_iter().map(extent).collect()
}

fn report(extents: Vec<ExtentReport>, gone: &[u128], listed: bool) -> OsdReport {
    let gone = gone.iter().map(|number| ExtentId(*number).into()).collect();
    OsdReport { osd: OSD.0, address: "127.0.0.1:7101".into(), extents, gone, listed, ..OsdReport::default() }
}

/// A host that beats, with the listing it was last given.
struct Host {
    number: u32,
    boot: u64,
    sequence: u64,
    listing: u64,
}

impl Host {
    fn new(number: u32, boot: u64) -> Self {
        Self { number, boot, sequence: 0, listing: 0 }
    }

    /// True if the listing goes on, so that what was told counts.
    fn beat(&mut self, health: &mut Health, report: OsdReport) -> bool {
        self.sequence += 1;
        let (host, boot, sequence, listing) = (self.number, self.boot, self.sequence, self.listing);
        let heartbeat = Heartbeat { host, boot, sequence, osds: vec![report], findings: Vec::new(), listing };
        self.listing = health.heard(Monotonic(sequence), heartbeat).unwrap();
        self.listing == listing
    }
}

fn known(health: &Health) -> (usize, bool) {
    let osd = &health.osds()[&OSD];
    (osd.extents.len(), osd.listed)
}

#[test]
fn twenty_five_thousand_extents_are_known_after_a_few_heartbeats_and_gone_ones_go() {
    let mut health = Health::new(Monotonic::default());
    let mut host = Host::new(1, 1);
    let all: Vec<u128> = (0..25_000).collect();
    assert!(!host.beat(&mut health, report(extents([1, 2, 3]), &[], true)), "no listing was given yet");
    assert_eq!(known(&health), (0, false), "what belongs to no listing is not mixed in");
    for page in all.chunks(HEARTBEAT_EXTENTS_MAX) {
        assert!(!known(&health).1);
        let last = page.last() == all.last();
        assert!(host.beat(&mut health, report(extents(page.iter().copied()), &[], last)));
    }
    assert_eq!(known(&health), (25_000, true));
    assert!(host.beat(&mut health, report(extents([7, 90_000]), &[8, 9], true)));
    assert_eq!(known(&health), (24_999, true));
    assert_eq!(health.osds()[&OSD].extents[&ExtentId(7)].volume.0, u64::MAX);
}

#[test]
fn a_new_boot_and_a_new_control_begin_anew() {
    let mut health = Health::new(Monotonic::default());
    let mut host = Host::new(1, 1);
    host.beat(&mut health, report(Vec::new(), &[], false));
    assert!(host.beat(&mut health, report(extents(0..10), &[], true)));
    let mut rebooted = Host { listing: host.listing, ..Host::new(1, 2) };
    assert!(
        !rebooted.beat(&mut health, report(extents([99]), &[], true)),
        "another process has forgotten what it told"
    );
    assert_eq!(known(&health), (0, false));
    assert!(rebooted.beat(&mut health, report(extents(0..9), &[], true)));
    assert_eq!(known(&health), (9, true));
    let mut restarted = Health::new(Monotonic::default());
    restarted.number_listings_from(1 << 40);
    assert!(!rebooted.beat(&mut restarted, report(Vec::new(), &[], true)), "nothing changed, but who is this");
    assert_eq!(known(&restarted), (0, false));
    assert!(rebooted.beat(&mut restarted, report(extents(0..9), &[], true)));
    assert_eq!(known(&restarted), (9, true));
}

#[test]
fn a_disk_that_moves_is_listed_by_its_new_host() {
    let mut health = Health::new(Monotonic::default());
    let (mut old, mut new) = (Host::new(1, 1), Host::new(2, 1));
    for host in [&mut old, &mut new] {
        host.beat(&mut health, OsdReport { osd: u64::from(host.number), ..report(Vec::new(), &[], true) });
    }
    assert!(old.beat(&mut health, report(extents(0..10), &[], true)));
    assert!(!new.beat(&mut health, report(extents([99]), &[], true)), "it may have told of this disk before");
    assert_eq!(known(&health), (0, false));
    assert!(new.beat(&mut health, report(extents(0..10), &[], true)));
    assert_eq!(known(&health), (10, true));
}

#[test]
fn a_late_heartbeat_does_not_touch_the_listing() {
    let mut health = Health::new(Monotonic::default());
    let mut host = Host::new(1, 1);
    host.beat(&mut health, report(Vec::new(), &[], false));
    host.beat(&mut health, report(extents(0..10), &[], true));
    let (listing, osds) = (host.listing, vec![report(Vec::new(), &[3], true)]);
    let late = Heartbeat { host: 1, boot: 1, sequence: 1, osds, findings: Vec::new(), listing };
    assert_eq!(health.heard(Monotonic(9), late), Err(HeartbeatRefused::Late));
    assert_eq!(known(&health), (10, true));
}

#[test]
fn the_largest_heartbeat_fits_its_frame() {
    let host_of_200_disks = |number: u64| OsdReport {
        osd: number,
        path: "/dev/disk/by-id/".repeat(8),
        serial: "S".repeat(64),
        ..report(Vec::new(), &[], true)
    };
    let mut osds: Vec<OsdReport> = (0..200).map(host_of_200_disks).collect();
    osds[0].extents = extents(0..HEARTBEAT_EXTENTS_MAX as u128);
    let finding = Finding { hash: Some(Hash256::default()), detail: "d".repeat(500), ..Finding::default() };
    let findings = vec![finding; HEARTBEAT_FINDINGS_MAX];
    let heartbeat = Heartbeat { host: 1, boot: 1, sequence: 1, osds, findings, listing: 1 };
    let bytes = encode_request(Request::Heartbeat(Box::new(heartbeat))).len();
    assert!(bytes < FRAME_BODY_BYTES_MAX as usize / 2, "{bytes}");
}
