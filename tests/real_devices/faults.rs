//! Zones and sectors that fail under a whole cell, by null_blk: what is hit is told exactly, block by block, and comes
//! from the other copy; what has no other copy is declared lost; nothing else suffers.
//!
//! What is hit is known from the disks themselves, read past the cell before anything fails.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use shingle_codec::hash::sha256;
use shingle_proto::ids::{BlockHash, ExtentId, OsdId};
use shingle_proto::limits::FINDINGS_ANSWER_MAX;
use shingle_proto::message::{
    CellStatus, Finding, FindingKind, GetStatus, GetVolumes, ListFindings, OsdState, Request, Response, Role,
};
use shingle_seam::on_tokio;
use shingle_seam::rpc::{CallMeta, Peers};
use tokio::task::LocalSet;

use crate::cell::{Cell, logs};
use crate::content::{content, is_large};
use crate::devices::NullBlk;
use crate::disks::{Lying, records};
use crate::files;
use crate::thread_host::ThreadHost;

const MIB: u64 = 1 << 20;
/// Small, so that little has to be stored until an extent is in its second zone; files of several MiB are left out.
const ZONE_MIB: u32 = 2;
/// Eight extents of eight zones, in each of which a volume is not soon full; label and journal.
const ZONES: u32 = 68;
const ZONE_BYTES: u64 = ZONE_MIB as u64 * MIB;
/// The kernel counts in these, whatever a device's sectors are.
const KERNEL_SECTOR_BYTES: u64 = 512;
/// How long until everything that is to be told was told.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

/// A cell of two hosts with a null_blk each, and two copies of every block.
struct Pair {
    cell: Cell,
    hosts: Vec<ThreadHost>,
    disks: Vec<NullBlk>,
}

impl Pair {
    fn start(name: &str) -> Self {
        let zones = [("size", ZONES * ZONE_MIB), ("blocksize", 4096), ("zone_size", ZONE_MIB)];
        let disks: Vec<NullBlk> = (1..=2).map(|disk| NullBlk::zoned(&format!("{name}-{disk}"), &zones)).collect();
        let folder = PathBuf::from(format!("/tmp/{name}"));
        let cell = Cell::start(&folder, disks.len(), &[]);
        let start = |(number, disk): (u32, &NullBlk)| ThreadHost::start(number, &disk.node, cell.control());
        let hosts = (1..).zip(&disks).map(start).collect();
        let pair = Self { cell, hosts, disks };
        pair.cell.wait_until_writable();
        pair
    }

    /// Stops the first host and starts it again: it learns everything from its disk.
    fn restart_first(&mut self) {
        drop(self.hosts.remove(0));
        self.hosts.insert(0, ThreadHost::start(1, &self.disks[0].node, self.cell.control()));
    }

    fn store(&self, numbers: std::ops::Range<u64>) {
        files::make(Path::new("/tmp/new"), numbers.filter(|number| !is_large(*number)));
        self.cell.copy("/tmp/new", "sh://faults/");
    }

    fn records(&self, disk: usize) -> Vec<Lying> {
        records(&self.disks[disk].node, ZONE_BYTES)
    }

    /// Reads everything back; the files that could not be read. What is lost stays lost, so it is not asked for often.
    fn unreadable(&self) -> BTreeSet<u64> {
        let folder = Path::new("/tmp/faults-back");
        let copied = self.cell.start_copy_with(&["--retries", "2"], "sh://faults/", "/tmp/faults-back");
        let copied: Vec<_> = copied.collect();
        let failed: BTreeSet<u64> =
            copied.iter().filter(|copied| !copied.done).map(|copied| files::number(&copied.name)).collect();
        let whole = files::take_whole(folder);
        assert_eq!(copied.len(), whole.len() + failed.len(), "every file is there, or told to be lost\n{}", logs());
        assert!(whole.is_disjoint(&failed));
        failed
    }

    fn status(&self) -> CellStatus {
        match ask(self.cell.control(), Request::GetStatus(Box::new(GetStatus {}))) {
            Response::CellStatus(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// The OSD of each host, in their order, which all live and take writes.
    fn osds(&self) -> [OsdId; 2] {
        let mut hosts = self.status().hosts;
        hosts.sort_by_key(|host| host.host);
        let osds: Vec<_> = hosts.iter().flat_map(|host| &host.osds).collect();
        assert!(osds.iter().all(|osd| osd.state == OsdState::Healthy), "{osds:?}");
        let [first, second] = osds[..] else { panic!("{} OSDs", osds.len()) };
        [OsdId(first.osd), OsdId(second.osd)]
    }

    /// The extent on an OSD that the next blocks go to: that of the open volume with the most room.
    fn next_extent(&self, osd: OsdId) -> ExtentId {
        let volumes = match ask(self.cell.control(), Request::GetVolumes(Box::new(GetVolumes {}))) {
            Response::Volumes(volumes) => volumes.volumes,
            other => panic!("{other:?}"),
        };
        let roomiest = volumes.iter().filter(|volume| volume.open).max_by_key(|volume| volume.free_bytes);
        let mut members = roomiest.iter().flat_map(|volume| &volume.members);
        ExtentId::from(&members.find(|member| member.osd == osd.0).expect("an open volume has it").extent)
    }

    /// Whether a zone in this condition was told of.
    fn is_told(&self, kind: FindingKind) -> bool {
        self.findings().iter().any(|finding| finding.kind == kind)
    }

    fn findings(&self) -> Vec<Finding> {
        // The status shows the newest few only.
        let (mut found, mut after_id) = (Vec::new(), 0);
        loop {
            let list = ListFindings { after_id, limit: FINDINGS_ANSWER_MAX as u32 };
            let answer = ask(self.cell.control(), Request::ListFindings(Box::new(list)));
            let Response::FindingList(page) = answer else { panic!("{answer:?}") };
            after_id = page.findings.last().map_or(after_id, |record| record.id);
            found.extend(page.findings.into_iter().map(|record| *record.finding));
            if page.end {
                return found;
            }
        }
    }

    /// Waits until the named blocks of the findings are these, and gives all findings.
    fn findings_naming(&self, expected: &BTreeSet<Hit>) -> Vec<Finding> {
        let since = Instant::now();
        loop {
            let findings = self.findings();
            let named = named(&findings, |_| true);
            if named == *expected {
                return findings;
            }
            let late = since.elapsed() > TOLD_WITHIN;
            let wrong = named.difference(expected).next();
            let untold: Vec<_> = expected.difference(&named).collect();
            let of_zones: Vec<_> = findings.iter().filter(|finding| finding.hash.is_none()).collect();
            assert!(
                !late && wrong.is_none(),
                "told, but not hit: {wrong:?}; hit, but not told: {} of {}: {untold:?}; of zones: {of_zones:?}\n{}",
                untold.len(),
                expected.len(),
                logs()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A copy of a block that has been hit.
type Hit = (OsdId, BlockHash);

fn named(findings: &[Finding], which: impl Fn(FindingKind) -> bool) -> BTreeSet<Hit> {
    let hits = findings.iter().filter(|finding| which(finding.kind));
    hits.filter_map(|finding| Some((OsdId(finding.osd), BlockHash::from(finding.hash.as_ref()?)))).collect()
}

fn hits(osd: OsdId, records: &[Lying], which: impl Fn(&Lying) -> bool) -> BTreeSet<Hit> {
    records.iter().filter(|record| which(record)).map(|record| (osd, record.hash)).collect()
}

fn ask(control: SocketAddr, request: Request) -> Response {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let peers = Peers::new(on_tokio::world(1), Role::Tool, "test".to_owned());
        let reply = peers.call(control, &CallMeta::client(Duration::from_secs(10)), request, None).await;
        reply.expect("control answers").response
    })
}

/// How null_blk names a zone: by its first sector.
fn sector_of(zone: u32) -> String {
    (u64::from(zone) * ZONE_BYTES / KERNEL_SECTOR_BYTES).to_string()
}

/// The zone that this extent is written to now, and one in the middle of another extent, away from both ends.
fn written_and_full(records: &[Lying], open: ExtentId) -> (u32, u32) {
    let (own, others): (Vec<&Lying>, Vec<&Lying>) = records.iter().partition(|record| record.extent == open);
    let written = own.iter().map(|record| record.zone).max();
    let behind_first =
        |record: &&&Lying| others.iter().any(|other| other.extent == record.extent && other.zone < record.zone);
    let full = others.iter().find(behind_first).map(|record| record.zone);
    (written.expect("something was stored in it"), full.expect("another extent reaches into its second zone"))
}

#[test]
fn blocks_of_failed_zones_are_told_one_by_one_and_served_from_the_other_copy() {
    let mut pair = Pair::start("zones");
    let mut stored = 60;
    pair.store(1..stored);
    let [osd, _] = pair.osds();
    let (lying, next) = loop {
        let (lying, next) = (pair.records(0), pair.next_extent(osd));
        if lying.iter().any(|record| record.extent == next) {
            break (lying, next);
        }
        // Another one was full.
        pair.store(stored..stored + 10);
        stored += 10;
    };
    let (read_only, offline) = written_and_full(&lying, next);
    pair.disks[0].set("zone_readonly", &sector_of(read_only));
    pair.disks[0].set("zone_offline", &sector_of(offline));
    // Writes meet the first zone, and go on elsewhere on the same disk. Which volume a block goes to, and which copy is
    // read, is chance: it goes on until both zones were met.
    let stored_before = stored;
    while !pair.is_told(FindingKind::ZoneReadOnly) {
        assert!(stored < stored_before + 100, "no write has met zone {read_only}\n{}", logs());
        pair.store(stored..stored + 10);
        stored += 10;
    }
    let mut reads = 0;
    while reads == 0 || !pair.is_told(FindingKind::ZoneOffline) {
        assert_eq!(pair.unreadable(), BTreeSet::new());
        reads += 1;
        assert!(reads < 10, "no read has met zone {offline}\n{}", logs());
    }
    let in_read_only = hits(osd, &lying, |record| record.zone == read_only);
    let in_offline = hits(osd, &lying, |record| record.zone == offline);
    assert!(!in_read_only.is_empty() && !in_offline.is_empty(), "both zones hold something");
    println!(
        "hit: {} blocks in zone {read_only}, met after {} files, {} in zone {offline}, met after {reads} reads of all",
        in_read_only.len(),
        stored - stored_before,
        in_offline.len()
    );
    let both = in_read_only.union(&in_offline).copied().collect();
    let judged = |pair: &Pair| {
        let findings = pair.findings_naming(&both);
        assert_eq!(named(&findings, |kind| kind == FindingKind::ZoneReadOnly), in_read_only);
        assert_eq!(named(&findings, |kind| kind == FindingKind::ZoneOffline), in_offline);
        assert_eq!(named(&findings, |_| true).len() + 2, findings.len(), "nothing is told twice: {findings:?}");
        let of_zones = findings.iter().filter(|finding| finding.hash.is_none()).map(|finding| finding.kind);
        let of_zones: Vec<FindingKind> = of_zones.collect();
        assert_eq!(of_zones.len(), 2, "{findings:?}");
        assert!(of_zones.contains(&FindingKind::ZoneReadOnly) && of_zones.contains(&FindingKind::ZoneOffline));
    };
    judged(&pair);
    println!("told: {} blocks read-only, {} offline, of {}", in_read_only.len(), in_offline.len(), lying.len());
    // The same from the disk alone.
    pair.restart_first();
    pair.cell.wait_until_writable();
    pair.store(stored..stored + 5);
    assert_eq!(pair.unreadable(), BTreeSet::new());
    judged(&pair);
    pair.osds();
}

#[test]
fn blocks_under_bad_sectors_are_served_from_the_other_copy_or_declared_lost() {
    let pair = Pair::start("sectors");
    pair.store(1..40);
    let [first, second] = pair.osds();
    let (on_first, on_second) = (pair.records(0), pair.records(1));
    let of_file = |records: &[Lying], file: u64| {
        let hash = sha256(&content(file));
        *records.iter().find(|record| record.hash == hash).expect("the file's block lies on the disk")
    };
    // One block loses one copy, another one both.
    let (hurt, lost) = (5, 7);
    for (disk, record) in [(0, of_file(&on_first, hurt)), (0, of_file(&on_first, lost)), (1, of_file(&on_second, lost))]
    {
        let bad = (record.at + record.bytes / 2) / KERNEL_SECTOR_BYTES;
        pair.disks[disk].set("badblocks", &format!("+{bad}-{bad}"));
    }
    let (hurt_block, lost_block) = (of_file(&on_first, hurt).hash, of_file(&on_first, lost).hash);
    let expected = BTreeSet::from([(first, hurt_block), (first, lost_block), (second, lost_block)]);
    assert_eq!(pair.unreadable(), BTreeSet::from([lost]), "{}", logs());
    let since = Instant::now();
    let is_told = || named(&pair.findings(), |_| true).contains(&(first, hurt_block));
    while !is_told() {
        // Which copy a read asks first is chance.
        pair.cell.copy_with(&[], &format!("sh://faults/{}", files::name(hurt)), "/tmp/faults-hurt");
        assert!(since.elapsed() < 2 * TOLD_WITHIN, "the bad copy was never read\n{}", logs());
    }
    let findings = pair.findings_naming(&expected);
    let judge = |findings: Vec<Finding>| {
        assert_eq!(named(&findings, |kind| kind == FindingKind::UnreadableSector), expected, "{findings:?}");
        assert_eq!(findings.len(), expected.len(), "nothing else is hurt, and nothing told twice: {findings:?}");
    };
    judge(findings);
    pair.osds();
    // The cell goes on.
    pair.store(40..50);
    assert_eq!(pair.unreadable(), BTreeSet::from([lost]));
    judge(pair.findings());
}
