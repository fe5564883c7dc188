//! The control process on an embedded store, with hosts that answer over the loopback network.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use shingle_control::config::ControlConfig;
use shingle_control::process;
use shingle_proto::ids::ExtentId;
use shingle_proto::message::{
    CellStatus, CloseExtent, ErrorCode, Finding, FindingKind, FindingOwner, FindingRecord, FindingState, GetStatus,
    GetVolumes, Hash256, Heartbeat, Id128, ListFindings, ReportFinding, ReportSuspect, Request, Response, Role,
    SuspectReason, Volumes,
};
use shingle_seam::World;
use shingle_seam::on_tokio;
use shingle_seam::rpc::{CallMeta, Peers, RpcError};
use shingle_seam::stop::Stop;

use crate::hosts::Host;

/// A control process in a thread of its own.
struct Control {
    stop: Stop,
    thread: JoinHandle<()>,
}

impl Control {
    fn start(listen: SocketAddr, dir: PathBuf) -> Self {
        let stop = Stop::new().unwrap();
        let config = ControlConfig { listen, dir, ..ControlConfig::default() };
        let told = stop.clone();
        let thread = std::thread::spawn(move || process::run(config, told).unwrap());
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.trigger();
        self.thread.join().unwrap();
    }
}

struct Rig {
    world: World,
    control: SocketAddr,
    dir: tempfile::TempDir,
    hosts: Vec<Rc<Host>>,
    peers: Peers,
}

impl Rig {
    fn new(hosts: u32) -> Self {
        let world = on_tokio::world(1);
        let control = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let hosts = (1..=hosts).map(|number| Host::start(&world, number, control)).collect();
        let peers = Peers::new(world.clone(), Role::Gateway, "test".to_string());
        Self { world, control, dir: tempfile::tempdir().unwrap(), hosts, peers }
    }

    fn start_control(&self) -> Control {
        Control::start(self.control, self.dir.path().join("store"))
    }

    async fn ask(&self, request: Request) -> Result<Response, RpcError> {
        let meta = CallMeta::client(Duration::from_secs(5));
        self.peers.call(self.control, &meta, request, None).await.map(|reply| reply.response)
    }

    async fn volumes(&self) -> Volumes {
        match self.ask(Request::GetVolumes(Box::new(GetVolumes {}))).await {
            Ok(Response::Volumes(volumes)) => *volumes,
            Err(RpcError::Refused(reply)) => panic!("{reply:?}"),
            _ => Volumes::default(), // control is not up yet
        }
    }

    async fn status(&self) -> CellStatus {
        match self.ask(Request::GetStatus(Box::new(GetStatus {}))).await.unwrap() {
            Response::CellStatus(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the offered volumes to become as wanted.
    async fn volumes_when(&self, what: &str, wanted: impl Fn(&Volumes) -> bool) -> Volumes {
        for _ in 0..300 {
            let volumes = self.volumes().await;
            if wanted(&volumes) {
                return volumes;
            }
            self.world.tasks.sleep(Duration::from_millis(50)).await;
        }
        panic!("not within 15 s: {what}; {:#?}", self.volumes().await);
    }

    /// The offered volumes once no more are opened: on all hosts, or on those that were heard of first.
    async fn settled_volumes(&self) -> Volumes {
        let mut before = self.volumes_when("volumes", |volumes| !volumes.volumes.is_empty()).await;
        loop {
            self.world.tasks.sleep(Duration::from_secs(1)).await;
            let now = self.volumes().await;
            if extents(&now) == extents(&before) {
                return now;
            }
            before = now;
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

fn extents(volumes: &Volumes) -> BTreeSet<ExtentId> {
    volumes.volumes.iter().flat_map(|volume| &volume.members).map(|member| ExtentId::from(&member.extent)).collect()
}

fn hosts(volumes: &Volumes) -> BTreeSet<u32> {
    volumes.volumes.iter().flat_map(|volume| &volume.members).map(|member| member.host).collect()
}

fn all_avoidable(volumes: &Volumes) -> bool {
    let avoids = |host| volumes.volumes.iter().any(|volume| volume.members.iter().all(|member| member.host != host));
    (1..=5).all(avoids)
}

#[test]
fn volumes_open_on_all_members_and_survive_a_restart_of_control() {
    run(async {
        let rig = Rig::new(5);
        let control = rig.start_control();
        let before = rig.volumes_when("six volumes", |volumes| volumes.volumes.len() == 6).await;
        assert!(all_avoidable(&before));
        assert_eq!(before.copies, 4);
        let held: BTreeSet<ExtentId> = rig.hosts.iter().flat_map(|host| host.open_extents()).collect();
        assert_eq!(held, extents(&before), "every extent exists and no other does");
        let status = rig.status().await;
        assert!(status.ready && status.commits > 0 && status.syncs > 0);
        assert_eq!((status.hosts.len(), status.volumes_open, status.volumes_closed), (5, 6, 0));
        assert!(status.hosts.iter().all(|host| host.alive && host.osds.len() == 2));
        control.stop();

        let control = rig.start_control();
        let after = rig.volumes_when("the same volumes", |volumes| volumes.volumes.len() == 6).await;
        assert_eq!(extents(&after), extents(&before));
        assert_eq!(rig.status().await.cell, status.cell, "the cell is drawn once");
        let first = |volumes: &Volumes| volumes.volumes.iter().map(|volume| volume.id).max();
        assert_eq!(first(&before), first(&after));
        control.stop();
    });
}

#[test]
fn a_reported_suspect_is_replaced_at_once_and_its_extents_are_closed_first() {
    run(async {
        let rig = Rig::new(6);
        let control = rig.start_control();
        let before = rig.settled_volumes().await;
        let dead = &rig.hosts[before.volumes[0].members[0].host as usize - 1];
        dead.dead.set(true);
        for osd in dead.osds() {
            let volume = before.volumes[0].id;
            let report = ReportSuspect { osd: osd.0, volume, reason: SuspectReason::PutTimeout };
            rig.ask(Request::ReportSuspect(Box::new(report))).await.unwrap();
        }
        let number = dead.number;
        let wanted = |volumes: &Volumes| volumes.volumes.len() >= 3 && !hosts(volumes).contains(&number);
        let after = rig.volumes_when("others take over", wanted).await;
        let lost: Vec<_> =
            before.volumes.iter().filter(|volume| volume.members.iter().any(|member| member.host == number)).collect();
        assert!(after.volumes.iter().all(|volume| lost.iter().all(|lost| lost.id != volume.id)));
        for _ in 0..200 {
            if rig.status().await.volumes_closed >= lost.len() as u64 {
                break;
            }
            rig.world.tasks.sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(rig.status().await.volumes_closed, lost.len() as u64);
        // A volume that is just being opened has its extents before it is offered.
        let others = || rig.hosts.iter().filter(|host| host.number != number);
        let settled = |volumes: &Volumes| {
            extents(volumes) == others().flat_map(|host| host.open_extents()).collect::<BTreeSet<_>>()
        };
        rig.volumes_when("the lost volumes' extents on living hosts are closed", settled).await;

        assert!(!dead.open_extents().is_empty());
        dead.dead.set(false);
        for _ in 0..200 {
            let offered = extents(&rig.volumes().await);
            if dead.open_extents().iter().all(|extent| offered.contains(extent)) {
                return control.stop();
            }
            rig.world.tasks.sleep(Duration::from_millis(50)).await;
        }
        panic!("what the host had open before is not closed: {:?}", dead.open_extents());
    });
}

#[test]
fn a_host_without_room_leaves_no_half_made_volume() {
    run(async {
        let rig = Rig::new(5);
        rig.hosts[4].no_room.set(true);
        let control = rig.start_control();
        rig.volumes_when("volumes without it", |volumes| volumes.volumes.len() >= 2).await;
        let tidy = |rig: &Rig, volumes: &Volumes| {
            let held: BTreeSet<ExtentId> = rig.hosts.iter().flat_map(|host| host.open_extents()).collect();
            held == extents(volumes)
        };
        let made: u32 = rig.hosts.iter().map(|host| host.created.get()).sum();
        assert!(made > 8, "some extents were made for volumes that never came to be");
        rig.hosts[4].no_room.set(false);
        let volumes = rig.volumes_when("all five, and tidy", |volumes| all_avoidable(volumes) && tidy(&rig, volumes));
        assert_eq!(hosts(&volumes.await).len(), 5);
        control.stop();
    });
}

fn finding(kind: FindingKind, put_id: u64, detail: &str) -> Finding {
    let hash = (put_id > 0).then_some(Hash256 { bytes: [7; 32] });
    Finding { kind, osd: 100, extent: Id128 { hi: 1, lo: 2 }, hash, put_id, detail: detail.to_string() }
}

async fn all_findings(rig: &Rig) -> Vec<FindingRecord> {
    let mut found: Vec<FindingRecord> = Vec::new();
    loop {
        let after_id = found.last().map_or(0, |record| record.id);
        let list = Request::ListFindings(Box::new(ListFindings { after_id, limit: 2 }));
        let Ok(Response::FindingList(page)) = rig.ask(list).await else { panic!("no list") };
        assert!(page.findings.len() <= 2);
        found.extend(page.findings);
        if page.end {
            return found;
        }
    }
}

#[test]
fn findings_outlive_the_control_process_and_the_same_damage_is_one() {
    run(async {
        let rig = Rig::new(5);
        let control = rig.start_control();
        rig.volumes_when("some volumes", |volumes| !volumes.volumes.is_empty()).await;
        let damaged = finding(FindingKind::RecordDamaged, 3, "the payload's checksum is wrong");
        let found = [
            damaged.clone(),
            finding(FindingKind::RecordDamaged, 4, "the payload's checksum is wrong"),
            finding(FindingKind::UnreadableSector, 0, "unreadable, at offset 4096 of the extent"),
            finding(FindingKind::UnreadableSector, 0, "unreadable, at offset 8192 of the extent"),
        ];
        // With a heartbeat, twice, and by a gateway in other words.
        let listing = 0;
        for sequence in 1..=2 {
            let findings = found.to_vec();
            let beat = Heartbeat { host: 9, boot: 1, sequence, osds: Vec::new(), findings, listing };
            rig.ask(Request::Heartbeat(Box::new(beat))).await.unwrap();
        }
        let by_gateway = Finding { detail: "not what was written".into(), ..damaged.clone() };
        rig.ask(Request::ReportFinding(Box::new(ReportFinding { finding: Box::new(by_gateway) }))).await.unwrap();
        let told = all_findings(&rig).await;
        assert_eq!(told.iter().map(|record| (*record.finding).clone()).collect::<Vec<_>>(), found);
        assert_eq!(told.iter().map(|record| record.count).collect::<Vec<_>>(), [3, 2, 2, 2]);
        let open = (FindingOwner::Repair, FindingState::Open);
        assert!(told.iter().all(|record| (record.owner, record.state) == open && record.found_ms > 0));
        control.stop();

        let control = rig.start_control();
        rig.volumes_when("it is back", |volumes| !volumes.volumes.is_empty()).await;
        let after = all_findings(&rig).await;
        let lasting = |record: &FindingRecord| (record.id, record.found_ms, record.state, record.finding.clone());
        assert_eq!(after.iter().map(lasting).collect::<Vec<_>>(), told.iter().map(lasting).collect::<Vec<_>>());
        let status = rig.status().await;
        assert_eq!((status.findings, status.findings_open, status.recent_findings.len()), (4, 4, 4));
        let counts: Vec<_> = status.finding_counts.iter().map(|count| (count.kind, count.open, count.total)).collect();
        assert_eq!(counts, [(FindingKind::RecordDamaged, 2, 2), (FindingKind::UnreadableSector, 2, 2)]);
        // The same damage is still the same one.
        rig.ask(Request::ReportFinding(Box::new(ReportFinding { finding: Box::new(damaged) }))).await.unwrap();
        assert_eq!(rig.status().await.findings, 4);
        control.stop();
    });
}

#[test]
fn full_volumes_close_and_foreign_requests_are_refused() {
    run(async {
        let rig = Rig::new(5);
        let control = rig.start_control();
        let before = rig.volumes_when("six volumes", |volumes| volumes.volumes.len() == 6).await;
        let full = before.volumes[0].id;
        let report =
            ReportSuspect { osd: before.volumes[0].members[0].osd, volume: full, reason: SuspectReason::ExtentFull };
        rig.ask(Request::ReportSuspect(Box::new(report))).await.unwrap();
        let replaced = |volumes: &Volumes| volumes.volumes.len() == 6 && volumes.volumes.iter().all(|v| v.id != full);
        rig.volumes_when("the full volume is replaced", replaced).await;

        let foreign = Request::CloseExtent(Box::new(CloseExtent { extent: Id128 { hi: 1, lo: 2 } }));
        let refused = rig.ask(foreign).await;
        assert!(matches!(refused, Err(RpcError::Refused(reply)) if reply.code == ErrorCode::Unsupported));
        control.stop();
    });
}
