//! The status for people: a summary and a table of disks. Pure: a status in, text out.

use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table};
use shingle_proto::ids::{BlockHash, ExtentId, OsdId};
use shingle_proto::message::{
    CellStatus, FindingCount, FindingRecord, FindingState, HostReport, Lack, OsdReport, OsdState, Problem,
};

use crate::status::document::{ratio, scrub_eta_ms, stored_bytes};
use crate::{output, units};

/// The newest findings that are shown beside everything else.
const FINDINGS_SHOWN: usize = 5;

/// Bytes that went to and came from the disks, as counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub append_bytes: u64,
    pub read_bytes: u64,
    pub logical_bytes: u64,
}

impl Counters {
    pub fn of(status: &CellStatus) -> Self {
        let osds = || status.hosts.iter().flat_map(|host| &host.osds);
        Self {
            append_bytes: osds().map(|osd| osd.append_bytes).sum(),
            read_bytes: osds().map(|osd| osd.read_bytes).sum(),
            logical_bytes: status.logical_bytes,
        }
    }

    /// What passed since `earlier`, as a line. A host that started again counts from zero: its loss is not shown.
    pub fn traffic(&self, earlier: &Self, time: Duration) -> String {
        let rate = |now: u64, then: u64| units::rate(now.saturating_sub(then), time);
        format!(
            "objects {}, disks write {}, read {}",
            rate(self.logical_bytes, earlier.logical_bytes),
            rate(self.append_bytes, earlier.append_bytes),
            rate(self.read_bytes, earlier.read_bytes)
        )
    }
}

/// The lines above the table.
pub fn summary(status: &CellStatus) -> Vec<String> {
    let times = |ratio: Option<f64>| ratio.map_or("-".into(), |ratio| format!("{ratio:.2} x"));
    let dim = |text: &str| console::style(format!("{text:<9}")).dim().to_string();
    let findings = match (status.findings_open, status.findings) {
        (0, 0) => console::style("no findings".to_string()).green(),
        (0, all) => console::style(format!("{}, all ended", units::counted(all, "finding"))).green(),
        (open, _) => console::style(units::counted(open, "open finding")).red().bold(),
    };
    // An open finding says that a copy is not what it should be.
    let ready = match (status.ready, status.problems_total + status.findings_open) {
        (false, _) => console::style("not ready").yellow(),
        (true, 0) => console::style("healthy").green(),
        (true, _) => console::style("serving, not healthy").yellow(),
    };
    vec![
        format!("{}{}, {} copies of every block wanted, {findings}", dim("cell"), ready.bold(), status.copies),
        format!(
            "{}{} in {}; {} unique (dedup {}), {} sealed (compression {})",
            dim("stored"),
            units::bytes(status.logical_bytes),
            units::counted(status.objects, "object"),
            units::bytes(status.block_plain_bytes),
            times(ratio(status.manifest_bytes, status.block_plain_bytes)),
            units::bytes(status.block_sealed_bytes),
            times(ratio(status.block_plain_bytes, status.block_sealed_bytes)),
        ),
        format!(
            "{}{} of records; volumes: {} open, {} closed; reclaim queue {}, uploads under way {}",
            dim("on disks"),
            units::bytes(stored_bytes(status)),
            status.volumes_open,
            status.volumes_closed,
            status.reclaim_queue,
            status.intents
        ),
        format!(
            "{}p50 {}, p99 {}; {} commits in {} syncs",
            dim("commits"),
            latency(status.commits, status.commit_p50_us),
            latency(status.commits, status.commit_p99_us),
            status.commits,
            status.syncs
        ),
    ]
}

/// What keeps the cell from taking more, and what is not as it should be: one line each, nothing when all is well.
pub fn problems(status: &CellStatus) -> Vec<String> {
    let lack = match status.lack {
        Lack::Room => Some(
            "the cell is full: too few disks have a free extent, new blocks are refused; delete objects or add disks",
        ),
        Lack::Hosts => Some("fewer hosts live than a block has copies: new blocks are refused"),
        _ => None,
    };
    let lack = lack.map(|text| console::style(text.to_string()).red().bold().to_string());
    let problem = |problem: &Problem| {
        let kind = problem.kind.variant_name().unwrap_or("Unknown");
        format!("{} {}", console::style(kind).yellow(), output::visible(&problem.detail))
    };
    let untold = status.problems_total.saturating_sub(status.problems.len() as u64);
    let more = (untold > 0).then(|| format!("and {}", units::counted(untold, "more problem")));
    lack.into_iter().chain(status.problems.iter().map(problem)).chain(more).collect()
}

/// A percentile of `count` measurements: none of nothing, and none of a window in which nothing happened.
fn latency(count: u64, us: u32) -> String {
    if count == 0 || us == 0 { "-".into() } else { units::micros(us) }
}

/// One row per disk.
pub fn disks(status: &CellStatus) -> String {
    let mut table = new_table(&[
        "host",
        "disk",
        "state",
        "used",
        "of",
        "extents free",
        "append p50/p99",
        "read p50/p99",
        "verified p50/oldest",
        "sweep",
    ]);
    for host in &status.hosts {
        let mut osds: Vec<_> = host.osds.iter().collect();
        osds.sort_by(|a, b| a.path.cmp(&b.path));
        for (index, osd) in osds.into_iter().enumerate() {
            let first = if index == 0 { format!("host-{}", host.host) } else { String::new() };
            let path = std::path::Path::new(&osd.path);
            let name = path.file_name().map_or(osd.path.clone().into(), |name| name.to_string_lossy());
            let pair = |count: u64, p50: u32, p99: u32| format!("{} / {}", latency(count, p50), latency(count, p99));
            table.add_row(vec![
                Cell::new(first),
                Cell::new(name),
                state(host, osd),
                right(units::bytes(osd.stored_bytes)),
                right(units::bytes(osd.capacity_bytes)),
                right(format!("{} of {}", osd.extents_free, osd.extents_total)),
                right(pair(osd.appends, osd.append_p50_us, osd.append_p99_us)),
                right(pair(osd.reads, osd.read_p50_us, osd.read_p99_us)),
                verified(osd),
                right(sweep(osd)),
            ]);
        }
    }
    table.to_string()
}

fn state(host: &HostReport, osd: &OsdReport) -> Cell {
    match (host.alive, osd.state) {
        (false, _) => {
            Cell::new(format!("silent {}", units::duration(Duration::from_millis(host.age_ms)))).fg(Color::Red)
        }
        (true, OsdState::Healthy) => Cell::new("healthy").fg(Color::Green),
        (true, OsdState::Suspect) => Cell::new("suspect").fg(Color::Yellow),
        (true, OsdState::NoSpace) => Cell::new("no space").fg(Color::Red),
        (true, OsdState::Failed) => Cell::new("failed").fg(Color::Red),
        (true, _) => Cell::new("unknown").fg(Color::Yellow),
    }
}

/// How long ago the disk's extents were verified, or else made: the middle and the oldest one.
fn verified(osd: &OsdReport) -> Cell {
    let Some(scrub) = osd.scrub.as_deref().filter(|scrub| scrub.held_bytes > 0) else { return right("-") };
    let age = |ms| units::duration(Duration::from_millis(ms));
    let cell = right(format!("{} / {}", age(scrub.age_p50_ms), age(scrub.age_p100_ms)));
    if scrub.age_p100_ms > scrub.sweep_ms { cell.fg(Color::Yellow) } else { cell }
}

/// How much of the disk is verified, and when all of it will be.
fn sweep(osd: &OsdReport) -> String {
    let Some(scrub) = osd.scrub.as_deref().filter(|scrub| scrub.held_bytes > 0) else { return "-".into() };
    let done = scrub.held_bytes.saturating_sub(scrub.left_bytes);
    // Rounded down: all is said only of all.
    let percent = u128::from(done) * 100 / u128::from(scrub.held_bytes);
    match scrub_eta_ms(scrub) {
        Some(0) => format!("{percent} %"),
        Some(eta_ms) => format!("{percent} %, {} left", units::duration(Duration::from_millis(eta_ms))),
        None => format!("{percent} %, not reading"),
    }
}

/// A borderless table that colours only where console does.
pub fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    if console::colors_enabled() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Dim)));
    table
}

/// A cell with a number.
pub fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// How many findings of each kind there are, and the newest few.
pub fn findings(status: &CellStatus, now_ms: u64) -> Vec<String> {
    let kind = |count: &FindingCount| {
        let name = count.kind.variant_name().unwrap_or("Unknown");
        match count.total - count.open.min(count.total) {
            0 => format!("{name} {}", count.open),
            ended => format!("{name} {} and {ended} ended", count.open),
        }
    };
    if status.recent_findings.is_empty() {
        return Vec::new();
    }
    let kinds: Vec<_> = status.finding_counts.iter().map(kind).collect();
    let heading = format!("{}{}", console::style("findings ").dim(), kinds.join(", "));
    let newest = status.recent_findings.iter().rev().take(FINDINGS_SHOWN);
    let untold = status.findings.saturating_sub(newest.len() as u64);
    let more = (untold > 0).then(|| format!("and {}: shingle status --findings", units::counted(untold, "older one")));
    let lines = newest.map(|record| finding(record, now_ms));
    ["".to_string(), heading].into_iter().chain(lines).chain(more).collect()
}

/// One finding on a line.
pub fn finding(record: &FindingRecord, now_ms: u64) -> String {
    let finding = &record.finding;
    let kind = finding.kind.variant_name().unwrap_or("Unknown");
    let kind = match record.state {
        FindingState::Open => console::style(kind).red(),
        _ => console::style(kind).dim(),
    };
    let name = |name: Option<&str>| name.unwrap_or("Unknown").to_lowercase();
    let (state, owner) = (name(record.state.variant_name()), name(record.owner.variant_name()));
    let ago = units::duration(Duration::from_millis(now_ms.saturating_sub(record.last_ms)));
    let times = if record.count > 1 { format!(", {} times", record.count) } else { String::new() };
    let block = finding.hash.as_ref().map_or(String::new(), |hash| format!(", block {}", BlockHash::from(hash)));
    let place = format!("{} extent {}{block}", OsdId(finding.osd), ExtentId::from(&finding.extent));
    format!("{kind} {state} ({owner}), {ago} ago{times}: {}; {place}", output::visible(&finding.detail))
}

#[cfg(test)]
mod tests {
    use shingle_proto::message::{Finding, ScrubStatus};

    use super::*;

    #[test]
    fn an_empty_cell_has_no_ratios_and_a_full_one_has() {
        console::set_colors_enabled(false);
        let mut status = CellStatus { copies: 4, ..CellStatus::default() };
        assert!(summary(&status)[1].contains("dedup -"), "{:?}", summary(&status));
        (status.manifest_bytes, status.block_plain_bytes, status.block_sealed_bytes) = (300, 200, 100);
        assert!(summary(&status)[1].contains("dedup 1.50 x") && summary(&status)[1].contains("compression 2.00 x"));
    }

    #[test]
    fn what_was_never_measured_is_not_zero() {
        console::set_colors_enabled(false);
        let osd =
            OsdReport { path: "/d".into(), appends: 1, append_p50_us: 70, append_p99_us: 90, ..OsdReport::default() };
        let host = HostReport { host: 1, alive: true, osds: vec![osd], ..HostReport::default() };
        let status = CellStatus { hosts: vec![host], ..CellStatus::default() };
        let text = disks(&status);
        assert!(text.contains("70 µs / 90 µs") && text.contains("- / -") && !text.contains(" 0 µs"), "{text}");
        assert!(summary(&status)[3].contains("p50 -, p99 -"), "{:?}", summary(&status));
    }

    #[test]
    fn a_full_cell_and_its_problems_are_named() {
        console::set_colors_enabled(false);
        let problem = Problem { detail: "host 3 was never heard of".into(), ..Problem::default() };
        let mut status = CellStatus { problems: vec![problem], problems_total: 3, ..CellStatus::default() };
        assert!(problems(&CellStatus::default()).is_empty());
        status.ready = true;
        assert!(summary(&status)[0].contains("not healthy"));
        status.problems_total = 0;
        assert!(!summary(&status)[0].contains("not healthy"));
        status.findings_open = 2;
        assert!(summary(&status)[0].contains("not healthy"), "{:?}", summary(&status));
        status.problems_total = 3;
        status.lack = Lack::Room;
        let lines = problems(&status);
        assert!(lines[0].contains("the cell is full") && lines[1].ends_with("host 3 was never heard of"), "{lines:?}");
        assert_eq!(lines[2], "and 2 more problems");
    }

    #[test]
    fn a_silent_host_is_shown_as_silent_whatever_its_disks_last_said() {
        console::set_colors_enabled(false);
        let osd = OsdReport { path: "/cell/hosts/host-2/disk-1.img".into(), ..OsdReport::default() };
        let host = HostReport { host: 2, alive: false, age_ms: 9_000, osds: vec![osd], ..HostReport::default() };
        let text = disks(&CellStatus { hosts: vec![host], ..CellStatus::default() });
        assert!(text.contains("host-2") && text.contains("disk-1.img") && text.contains("silent 9.0 s"), "{text}");
    }

    #[test]
    fn ages_and_the_sweep_of_a_disk_are_shown_and_nothing_of_an_empty_one() {
        console::set_colors_enabled(false);
        let day_ms = 86_400_000;
        let scrub = ScrubStatus {
            sweep_ms: 14 * day_ms,
            age_p50_ms: 5 * day_ms,
            age_p100_ms: 13 * day_ms + 3_600_000,
            held_bytes: 1000,
            left_bytes: 4,
            pace_bytes: 2,
            ..ScrubStatus::default()
        };
        let shown = |scrub: ScrubStatus| {
            let osd = OsdReport { path: "/d".into(), scrub: Some(Box::new(scrub)), ..OsdReport::default() };
            let host = HostReport { host: 1, alive: true, osds: vec![osd], ..HostReport::default() };
            disks(&CellStatus { hosts: vec![host], ..CellStatus::default() })
        };
        let text = shown(scrub.clone());
        assert!(text.contains("5 d 0 h / 13 d 1 h") && text.contains("99 %, 2.0 s left"), "{text}");
        assert!(shown(ScrubStatus { pace_bytes: 0, ..scrub.clone() }).contains("99 %, not reading"));
        assert!(shown(ScrubStatus { left_bytes: 0, ..scrub.clone() }).contains("100 %"));
        assert!(!shown(ScrubStatus { held_bytes: 0, ..scrub }).contains('%'));
    }

    #[test]
    fn findings_are_counted_by_kind_and_the_newest_shown_with_owner_and_state() {
        console::set_colors_enabled(false);
        assert!(findings(&CellStatus::default(), 0).is_empty());
        let record = |id| FindingRecord {
            id,
            last_ms: id * 1000,
            count: id,
            finding: Box::new(Finding { osd: 7, detail: format!("flaw\n{id}"), ..Finding::default() }),
            ..FindingRecord::default()
        };
        let mut status = CellStatus { findings: 30, findings_open: 29, ..CellStatus::default() };
        status.finding_counts = vec![FindingCount { open: 29, total: 30, ..FindingCount::default() }];
        status.recent_findings = (15..=30).map(record).collect();
        assert!(summary(&status)[0].ends_with("29 open findings"), "{:?}", summary(&status));
        let lines = findings(&status, 60_000);
        assert_eq!(lines[1], "findings RecordDamaged 29 and 1 ended");
        assert!(lines[2].starts_with("RecordDamaged open (repair), 30 s ago, 30 times: flaw\\n30; osd-7"), "{lines:?}");
        assert_eq!((lines.len(), lines[7].as_str()), (8, "and 25 older ones: shingle status --findings"));
    }

    #[test]
    fn a_counter_that_starts_again_is_no_negative_rate() {
        let then = Counters { append_bytes: 100, read_bytes: 0, logical_bytes: 0 };
        let now = Counters { append_bytes: 10, read_bytes: 2048, logical_bytes: 0 };
        assert_eq!(now.traffic(&then, Duration::from_secs(1)), "objects 0 B/s, disks write 0 B/s, read 2.0 KiB/s");
    }
}
