//! The status as a JSON document: the fields of the wire's `CellStatus` under their own names, and a few ratios.

use serde::Serialize;
use shingle_proto::ids::{BlockHash, CellId, ExtentId, OsdId};
use shingle_proto::message::{CellStatus, FindingCount, FindingRecord, HostReport, OsdReport, Problem, ScrubStatus};

/// The whole cell.
#[derive(Serialize)]
pub struct StatusDocument {
    pub cell: String,
    pub ready: bool,
    pub copies: u8,
    pub hosts: Vec<HostDocument>,
    pub volumes_open: u64,
    pub volumes_closed: u64,
    pub objects: u64,
    pub logical_bytes: u64,
    pub manifest_bytes: u64,
    pub blocks: u64,
    pub block_plain_bytes: u64,
    pub block_sealed_bytes: u64,
    /// Bytes of records on all disks: every copy, headers and padding.
    pub stored_bytes: u64,
    /// Bytes that manifests name (of objects, of uploads under way, of what is deleted and not yet given back) per unique
    /// byte, so never below 1; null while nothing is stored.
    pub dedup_ratio: Option<f64>,
    /// Unique bytes per sealed byte; null while nothing is stored.
    pub compression_ratio: Option<f64>,
    pub references: u64,
    pub intents: u64,
    pub reclaim_queue: u64,
    /// All that are known, and those of them that have not come to an end.
    pub findings: u64,
    pub findings_open: u64,
    pub finding_counts: Vec<FindingCountDocument>,
    pub commit_p50_us: u32,
    pub commit_p99_us: u32,
    pub commits: u64,
    pub syncs: u64,
    /// The newest few, newest last.
    pub recent_findings: Vec<FindingDocument>,
    /// `Nothing`, or why no further volume can be opened: `Hosts`, `Room`.
    pub lack: &'static str,
    pub problems: Vec<ProblemDocument>,
}

/// One host.
#[derive(Serialize)]
pub struct HostDocument {
    pub host: u32,
    pub boot: u64,
    pub alive: bool,
    pub age_ms: u64,
    pub osds: Vec<OsdDocument>,
}

/// One disk.
#[derive(Serialize)]
pub struct OsdDocument {
    pub osd: String,
    pub address: String,
    pub path: String,
    pub serial: String,
    pub state: &'static str,
    pub extents_total: u32,
    pub extents_free: u32,
    pub capacity_bytes: u64,
    pub stored_bytes: u64,
    pub appends: u64,
    pub append_bytes: u64,
    pub reads: u64,
    pub read_bytes: u64,
    pub flushes: u64,
    pub queue_bytes: u64,
    pub append_p50_us: u32,
    pub append_p99_us: u32,
    pub read_p50_us: u32,
    pub read_p99_us: u32,
    /// Null from a host that does not say.
    pub scrub: Option<ScrubDocument>,
}

/// How old the last word on a disk's records is. Ages are since extents were verified, or else made.
#[derive(Serialize)]
pub struct ScrubDocument {
    pub sweep_ms: u64,
    pub age_p50_ms: u64,
    pub age_p100_ms: u64,
    pub held_bytes: u64,
    /// Not verified since their extents were closed, or not within a sweep.
    pub left_bytes: u64,
    pub pace_bytes_per_s: u64,
    /// Until nothing is left, at that pace; null while it does not read.
    pub eta_ms: Option<u64>,
    /// Since the host started.
    pub read_bytes: u64,
    pub records: u64,
    pub flaws: u64,
}

impl From<&ScrubStatus> for ScrubDocument {
    fn from(scrub: &ScrubStatus) -> Self {
        Self {
            sweep_ms: scrub.sweep_ms,
            age_p50_ms: scrub.age_p50_ms,
            age_p100_ms: scrub.age_p100_ms,
            held_bytes: scrub.held_bytes,
            left_bytes: scrub.left_bytes,
            pace_bytes_per_s: scrub.pace_bytes,
            eta_ms: scrub_eta_ms(scrub),
            read_bytes: scrub.read_bytes,
            records: scrub.records,
            flaws: scrub.flaws,
        }
    }
}

/// Until nothing is left to be verified, if the scrub reads at all.
pub fn scrub_eta_ms(scrub: &ScrubStatus) -> Option<u64> {
    match (scrub.left_bytes, scrub.pace_bytes) {
        (0, _) => Some(0),
        (_, 0) => None,
        (left, pace) => u64::try_from(u128::from(left) * 1000 / u128::from(pace)).ok(),
    }
}

/// Bytes that are not what somebody promised. Times are in Unix milliseconds.
#[derive(Serialize)]
pub struct FindingDocument {
    pub id: u64,
    pub kind: &'static str,
    pub osd: String,
    pub extent: String,
    /// The block, if it is known which one.
    pub hash: Option<String>,
    pub put_id: Option<u64>,
    pub detail: String,
    pub owner: &'static str,
    pub state: &'static str,
    pub found_ms: u64,
    /// When it was told last, and how often it was.
    pub last_ms: u64,
    pub count: u64,
    pub ended_ms: Option<u64>,
}

/// Findings of one kind.
#[derive(Serialize)]
pub struct FindingCountDocument {
    pub kind: &'static str,
    pub open: u64,
    pub total: u64,
}

impl From<&FindingCount> for FindingCountDocument {
    fn from(count: &FindingCount) -> Self {
        Self { kind: count.kind.variant_name().unwrap_or("Unknown"), open: count.open, total: count.total }
    }
}

/// Something that keeps the cell from being healthy.
#[derive(Serialize)]
pub struct ProblemDocument {
    pub kind: &'static str,
    pub host: u32,
    pub osd: String,
    pub detail: String,
}

impl From<&Problem> for ProblemDocument {
    fn from(problem: &Problem) -> Self {
        Self {
            kind: problem.kind.variant_name().unwrap_or("Unknown"),
            host: problem.host,
            osd: OsdId(problem.osd).to_string(),
            detail: problem.detail.clone(),
        }
    }
}

/// `a / b`, when there is something to divide.
pub fn ratio(a: u64, b: u64) -> Option<f64> {
    (a > 0 && b > 0).then(|| a as f64 / b as f64)
}

/// Bytes of records on all disks of the cell.
pub fn stored_bytes(status: &CellStatus) -> u64 {
    status.hosts.iter().flat_map(|host| &host.osds).map(|osd| osd.stored_bytes).sum()
}

impl From<&CellStatus> for StatusDocument {
    fn from(status: &CellStatus) -> Self {
        Self {
            cell: CellId::from(&status.cell).to_string(),
            ready: status.ready,
            copies: status.copies,
            hosts: status.hosts.iter().map(Into::into).collect(),
            volumes_open: status.volumes_open,
            volumes_closed: status.volumes_closed,
            objects: status.objects,
            logical_bytes: status.logical_bytes,
            manifest_bytes: status.manifest_bytes,
            blocks: status.blocks,
            block_plain_bytes: status.block_plain_bytes,
            block_sealed_bytes: status.block_sealed_bytes,
            stored_bytes: stored_bytes(status),
            dedup_ratio: ratio(status.manifest_bytes, status.block_plain_bytes),
            compression_ratio: ratio(status.block_plain_bytes, status.block_sealed_bytes),
            references: status.references,
            intents: status.intents,
            reclaim_queue: status.reclaim_queue,
            findings: status.findings,
            findings_open: status.findings_open,
            finding_counts: status.finding_counts.iter().map(Into::into).collect(),
            commit_p50_us: status.commit_p50_us,
            commit_p99_us: status.commit_p99_us,
            commits: status.commits,
            syncs: status.syncs,
            lack: status.lack.variant_name().unwrap_or("Unknown"),
            problems: status.problems.iter().map(Into::into).collect(),
            recent_findings: status.recent_findings.iter().map(Into::into).collect(),
        }
    }
}

impl From<&HostReport> for HostDocument {
    fn from(host: &HostReport) -> Self {
        Self {
            host: host.host,
            boot: host.boot,
            alive: host.alive,
            age_ms: host.age_ms,
            osds: host.osds.iter().map(Into::into).collect(),
        }
    }
}

impl From<&OsdReport> for OsdDocument {
    fn from(osd: &OsdReport) -> Self {
        Self {
            osd: OsdId(osd.osd).to_string(),
            address: osd.address.clone(),
            path: osd.path.clone(),
            serial: osd.serial.clone(),
            state: osd.state.variant_name().unwrap_or("Unknown"),
            extents_total: osd.extents_total,
            extents_free: osd.extents_free,
            capacity_bytes: osd.capacity_bytes,
            stored_bytes: osd.stored_bytes,
            appends: osd.appends,
            append_bytes: osd.append_bytes,
            reads: osd.reads,
            read_bytes: osd.read_bytes,
            flushes: osd.flushes,
            queue_bytes: osd.queue_bytes,
            append_p50_us: osd.append_p50_us,
            append_p99_us: osd.append_p99_us,
            read_p50_us: osd.read_p50_us,
            read_p99_us: osd.read_p99_us,
            scrub: osd.scrub.as_deref().map(Into::into),
        }
    }
}

impl From<&FindingRecord> for FindingDocument {
    fn from(record: &FindingRecord) -> Self {
        let finding = &record.finding;
        Self {
            id: record.id,
            kind: finding.kind.variant_name().unwrap_or("Unknown"),
            osd: OsdId(finding.osd).to_string(),
            extent: ExtentId::from(&finding.extent).to_string(),
            hash: finding.hash.as_ref().map(|hash| BlockHash::from(hash).to_string()),
            put_id: finding.hash.as_ref().map(|_| finding.put_id),
            detail: finding.detail.clone(),
            owner: record.owner.variant_name().unwrap_or("Unknown"),
            state: record.state.variant_name().unwrap_or("Unknown"),
            found_ms: record.found_ms,
            last_ms: record.last_ms,
            count: record.count,
            ended_ms: (record.ended_ms > 0).then_some(record.ended_ms),
        }
    }
}
