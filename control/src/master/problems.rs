//! What keeps a cell from being healthy though it serves: for people, who are told before something is lost.
//!
//! Pure. Nobody is blamed who may only not have been heard yet after the master's start.

use std::collections::BTreeMap;

use shingle_proto::ids::OsdId;
use shingle_proto::message::{OsdState, Problem, ProblemKind};
use shingle_seam::clock::Monotonic;

use super::health::{Liveness, OsdHealth};
use super::view::View;

/// The problems of the cell, worst first. `members` are the OSDs of all volumes, open or closed, one for each extent.
pub fn problems(view: &View, members: impl IntoIterator<Item = OsdId>, now: Monotonic) -> Vec<Problem> {
    let mut problems = unheard(view, members, now);
    problems.extend(silent_hosts(view, now));
    let osds = view.health.osds().iter();
    problems.extend(osds.filter_map(|(id, osd)| unwell(view, *id, osd, now)));
    problems.extend(unavoidable_hosts(view, now));
    let osds = view.health.osds().iter();
    problems.extend(osds.filter_map(|(id, osd)| scrub_late(view, *id, osd, now)));
    problems
}

/// OSDs that hold extents and that no host has brought since the master started.
fn unheard(view: &View, members: impl IntoIterator<Item = OsdId>, now: Monotonic) -> Vec<Problem> {
    let mut extents: BTreeMap<OsdId, u64> = BTreeMap::new();
    let known = view.health.osds();
    for osd in members.into_iter().filter(|osd| !known.contains_key(osd)) {
        *extents.entry(osd).or_default() += 1;
    }
    let missing = extents.into_iter().filter(|(osd, _)| view.health.liveness(*osd, now) == Liveness::Suspect);
    missing
        .map(|(osd, extents)| Problem {
            kind: ProblemKind::OsdUnheard,
            host: 0,
            osd: osd.0,
            detail: format!(
                "{osd} holds {extents} extents of volumes, and no host has brought it since control started"
            ),
        })
        .collect()
}

fn silent_hosts(view: &View, now: Monotonic) -> impl Iterator<Item = Problem> {
    let silent = view.health.hosts().iter().filter(move |(id, _)| !view.health.host_alive(**id, now));
    silent.map(move |(id, host)| Problem {
        kind: ProblemKind::HostSilent,
        host: id.0,
        osd: 0,
        detail: format!("host-{} was last heard {} s ago", id.0, (now - host.heard).as_secs()),
    })
}

/// A disk of a host that lives: what its host says of it, then what others say.
fn unwell(view: &View, id: OsdId, osd: &OsdHealth, now: Monotonic) -> Option<Problem> {
    if !view.health.host_alive(osd.host, now) {
        return None;
    }
    let host = osd.host.0;
    let (kind, what) = match osd.report.state {
        OsdState::Failed => (ProblemKind::OsdFailed, "has failed and takes no writes"),
        OsdState::NoSpace => {
            (ProblemKind::OsdNoSpace, "takes no new blocks: there is no room on the file system of its file")
        }
        OsdState::Healthy if view.health.liveness(id, now) == Liveness::Healthy => return None,
        _ => (ProblemKind::OsdSuspect, "is suspect and gets no new blocks for now"),
    };
    Some(Problem { kind, host, osd: id.0, detail: format!("{} of host-{host} {what}", osd.report.path) })
}

/// Hosts whose loss would stop writes. While volumes are being opened that is how it has to be.
fn unavoidable_hosts(view: &View, now: Monotonic) -> Vec<Problem> {
    if !view.opening.is_empty() {
        return Vec::new();
    }
    let stuck = view.unavoidable_hosts(now).into_iter();
    stuck
        .map(|host| Problem {
            kind: ProblemKind::VolumesLacking,
            host: host.0,
            osd: 0,
            detail: format!("no open volume avoids host-{}: other hosts lack free extents", host.0),
        })
        .collect()
}

/// A disk on which something was verified longer ago than a sweep may take. Its host tells it, so it has to live.
fn scrub_late(view: &View, id: OsdId, osd: &OsdHealth, now: Monotonic) -> Option<Problem> {
    let scrub = osd.report.scrub.as_ref().filter(|scrub| scrub.age_p100_ms > scrub.sweep_ms)?;
    if !view.health.host_alive(osd.host, now) || osd.report.state == OsdState::Failed {
        return None;
    }
    let days = |ms: u64| ms as f64 / 86_400_000.0;
    let (host, path) = (osd.host.0, &osd.report.path);
    let (age, sweep) = (days(scrub.age_p100_ms), days(scrub.sweep_ms));
    let detail = format!("{path} of host-{host}: an extent was verified {age:.1} days ago, a sweep is {sweep:.0} days");
    Some(Problem { kind: ProblemKind::ScrubLate, host, osd: id.0, detail })
}
