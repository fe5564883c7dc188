//! `shingle status --extents`: how long ago extents were verified, asked of the hosts themselves. Control keeps only the
//! sums, since an answer with every extent of a cell would be too long for anybody.

use std::net::SocketAddr;
use std::time::Duration;

use comfy_table::{Cell, Color};
use serde::Serialize;
use shingle_proto::ids::{ExtentId, OsdId};
use shingle_proto::limits::EXTENT_AGES_MAX;
use shingle_proto::message::{CellStatus, ExtentAge, ExtentAges, ListExtents, OsdReport, Request, Response};
use shingle_seam::rpc::{CallMeta, Peers};

use crate::status::view::{new_table, right};
use crate::units;

const DEADLINE: Duration = Duration::from_secs(5);

/// The extents of a cell's disks, the one verified longest ago first, and the disks that did not say.
#[derive(Debug, Default, Serialize)]
pub struct ExtentsDocument {
    pub extents: Vec<ExtentDocument>,
    pub unanswered: Vec<Unanswered>,
}

/// One extent. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub struct ExtentDocument {
    pub host: u32,
    pub osd: String,
    pub path: String,
    pub extent: String,
    pub state: &'static str,
    pub records: u32,
    pub record_bytes: u64,
    /// Unix times; null: never.
    pub created_ms: u64,
    pub verified_ms: Option<u64>,
    /// Since it was verified, or else made.
    pub age_ms: u64,
    /// Unix time when it is to be verified again.
    pub due_ms: u64,
    /// Beyond that, by its host's clock.
    pub overdue: bool,
}

/// A disk whose extents are not known.
#[derive(Debug, Serialize)]
pub struct Unanswered {
    pub host: u32,
    pub path: String,
    pub why: String,
}

/// The `count` extents of every disk that were verified longest ago.
pub async fn oldest(peers: &Peers, status: &CellStatus, count: usize) -> ExtentsDocument {
    let mut document = ExtentsDocument::default();
    for host in &status.hosts {
        for osd in &host.osds {
            match ages(peers, osd, count).await {
                Ok((now_ms, ages)) => {
                    document.extents.extend(ages.iter().map(|age| describe(host.host, osd, age, now_ms)));
                }
                Err(why) => document.unanswered.push(Unanswered { host: host.host, path: osd.path.clone(), why }),
            }
        }
    }
    document.extents.sort_by_key(|extent| std::cmp::Reverse(extent.age_ms));
    document
}

/// The host's clock, and a disk's oldest extents.
async fn ages(peers: &Peers, osd: &OsdReport, count: usize) -> Result<(u64, Vec<ExtentAge>), String> {
    let address: SocketAddr = osd.address.parse().map_err(|_| format!("{} is no address", osd.address))?;
    let mut found: Vec<ExtentAge> = Vec::new();
    loop {
        let (after_known_ms, after) =
            found.last().map_or((0, ExtentId(0).into()), |age| (age.known_ms, age.extent.clone()));
        let limit = (count - found.len()).min(EXTENT_AGES_MAX) as u32;
        let list = ListExtents { osd: osd.osd, after_known_ms, after, limit };
        let request = Request::ListExtents(Box::new(list));
        let reply = peers.call(address, &CallMeta::client(DEADLINE), request, None).await;
        let Response::ExtentAges(answer) = reply.map_err(|error| error.to_string())?.response else {
            return Err("its host gave another answer than its extents".into());
        };
        let ExtentAges { now_ms, extents, end } = *answer;
        let none = extents.is_empty();
        found.extend(extents);
        if end || none || found.len() >= count {
            return Ok((now_ms, found));
        }
    }
}

fn describe(host: u32, osd: &OsdReport, age: &ExtentAge, now_ms: u64) -> ExtentDocument {
    ExtentDocument {
        host,
        osd: OsdId(osd.osd).to_string(),
        path: osd.path.clone(),
        extent: ExtentId::from(&age.extent).to_string(),
        state: age.state.variant_name().unwrap_or("Unknown"),
        records: age.records,
        record_bytes: age.record_bytes,
        created_ms: age.created_ms,
        verified_ms: (age.verified_ms > 0).then_some(age.verified_ms),
        age_ms: now_ms.saturating_sub(age.known_ms),
        due_ms: age.due_ms,
        overdue: now_ms > age.due_ms,
    }
}

/// The document for people.
pub fn lines(document: &ExtentsDocument) -> Vec<String> {
    let mut table = new_table(&["host", "disk", "extent", "state", "records", "bytes", "age", "verified", "due"]);
    let ago = |ms: u64| units::duration(Duration::from_millis(ms));
    for extent in &document.extents {
        let path = std::path::Path::new(&extent.path);
        let name = path.file_name().map_or(extent.path.clone().into(), |name| name.to_string_lossy());
        let now_ms = extent.verified_ms.unwrap_or(extent.created_ms) + extent.age_ms;
        let due = match extent.overdue {
            true => right(format!("{} ago", ago(now_ms.saturating_sub(extent.due_ms)))).fg(Color::Yellow),
            false => right(format!("in {}", ago(extent.due_ms.saturating_sub(now_ms)))),
        };
        table.add_row(vec![
            Cell::new(format!("host-{}", extent.host)),
            Cell::new(name),
            Cell::new(&extent.extent),
            Cell::new(extent.state.to_lowercase()),
            right(extent.records),
            right(units::bytes(extent.record_bytes)),
            right(ago(extent.age_ms)),
            Cell::new(if extent.verified_ms.is_some() { "yes" } else { "not yet" }),
            due,
        ]);
    }
    let unanswered = document.unanswered.iter();
    let unanswered = unanswered.map(|disk| format!("{} of host-{} does not say: {}", disk.path, disk.host, disk.why));
    table.to_string().lines().map(str::to_string).chain(unanswered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_says_how_old_it_is_and_when_it_is_due() {
        console::set_colors_enabled(false);
        let osd = OsdReport { path: "/cell/disk-1.img".into(), ..OsdReport::default() };
        let hour_ms = 3_600_000;
        let now_ms = 1_000 * hour_ms;
        let age = ExtentAge {
            records: 7,
            created_ms: 990 * hour_ms,
            known_ms: 990 * hour_ms,
            due_ms: now_ms + 2 * hour_ms,
            ..ExtentAge::default()
        };
        let young = describe(1, &osd, &age, now_ms);
        assert_eq!((young.verified_ms, young.age_ms, young.overdue), (None, 10 * hour_ms, false));
        let age = ExtentAge { verified_ms: 995 * hour_ms, known_ms: 995 * hour_ms, due_ms: now_ms - 1000, ..age };
        let late = describe(2, &osd, &age, now_ms);
        let why = "silent".to_string();
        let unanswered = vec![Unanswered { host: 3, path: "/x".into(), why }];
        let text = lines(&ExtentsDocument { extents: vec![young, late], unanswered }).join("\n");
        for part in ["disk-1.img", "10 h 0 min", "not yet", "in 2 h 0 min", "5 h 0 min", "1.0 s ago", "/x of host-3"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
