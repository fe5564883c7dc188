//! Which volumes to open: for every living host one that avoids it, and one to spare.
//!
//! Pure. With as many hosts as copies nobody can be avoided, and two volumes are kept. An OSD never gets more than
//! `OSD_OPEN_EXTENTS_MAX` open extents; among the others those with the fewest open and the most free extents come first,
//! and last of all those that were suspect lately: they have the fewest open because their volumes were closed.

use std::collections::{BTreeMap, BTreeSet};

use shingle_proto::ids::{HostId, OsdId};
use shingle_proto::limits::OSD_OPEN_EXTENTS_MAX;
use shingle_proto::message::{Lack, OsdState};
use shingle_seam::clock::Monotonic;

use super::health::{Liveness, OsdHealth};
use super::view::{Condition, View};

/// Open volumes when there are no more hosts than copies.
const VOLUMES_WITHOUT_CHOICE: usize = 2;

/// An OSD that may get one more extent.
#[derive(Debug, Clone)]
struct Candidate {
    osd: OsdId,
    host: HostId,
    /// Suspect lately.
    doubtful: bool,
    open: usize,
    free: usize,
}

impl Candidate {
    /// Lower comes first.
    fn rank(&self) -> (bool, usize, usize, OsdId) {
        (self.doubtful, self.open, usize::MAX - self.free, self.osd)
    }
}

/// What there is and what was planned so far.
struct Plan {
    copies: usize,
    candidates: Vec<Candidate>,
    hosts: BTreeSet<HostId>,
    /// The hosts of each volume that takes blocks, or will.
    volumes: Vec<BTreeSet<HostId>>,
    orders: Vec<Vec<OsdId>>,
}

/// The members of every volume that has to be opened now.
pub fn to_open(view: &View, now: Monotonic) -> Vec<Vec<OsdId>> {
    let conditions: Vec<Condition> = view.volumes.values().map(|volume| view.condition(volume, now)).collect();
    let any_usable = conditions.iter().any(|condition| matches!(condition, Condition::Usable { .. }));
    if any_usable && conditions.contains(&Condition::Waiting) {
        // Just restarted: the volumes of hosts not heard of yet are not to be replaced.
        return Vec::new();
    }
    let mut plan = Plan::new(view, now);
    if plan.hosts.len() == plan.copies {
        while plan.volumes.len() < VOLUMES_WITHOUT_CHOICE && plan.open(None) {}
    } else if plan.hosts.len() > plan.copies {
        plan.make_all_avoidable();
        if !plan.has_spare() {
            plan.open(None);
        }
    }
    plan.orders
}

/// Why no further volume can be opened, if none can. Limits and pauses that end by themselves are no lack.
pub fn lack(view: &View, now: Monotonic) -> Lack {
    let roomy = |(id, osd): (&OsdId, &OsdHealth)| {
        let healthy = view.health.liveness(*id, now) == Liveness::Healthy;
        (healthy && osd.report.extents_free > 0).then_some(osd.host)
    };
    let roomy: BTreeSet<HostId> = view.health.osds().iter().filter_map(roomy).collect();
    // A host all of whose disks have no space lives.
    let crowded = view.health.osds().values().filter(|osd| osd.report.state == OsdState::NoSpace);
    let crowded = crowded.map(|osd| osd.host).filter(|host| view.health.host_alive(*host, now));
    let mut living = view.healthy_hosts(now);
    living.extend(crowded);
    match () {
        () if living.len() < view.copies => Lack::Hosts,
        () if roomy.len() < view.copies => Lack::Room,
        () => Lack::Nothing,
    }
}

impl Plan {
    fn new(view: &View, now: Monotonic) -> Self {
        let usable = view.usable(now).map(|(_, volume, _)| view.hosts_of(&volume.row.members));
        let opening = view.opening.values().map(|members| view.hosts_of(members));
        Self {
            copies: view.copies,
            candidates: candidates(view, now),
            hosts: ready_hosts(view, now),
            volumes: usable.chain(opening).collect(),
            orders: Vec::new(),
        }
    }

    fn avoidable_without(&self, host: HostId, without: Option<usize>) -> bool {
        let others = self.volumes.iter().enumerate().filter(|(index, _)| Some(*index) != without);
        others.into_iter().any(|(_, hosts)| !hosts.contains(&host))
    }

    fn make_all_avoidable(&mut self) {
        for host in self.hosts.clone() {
            if !self.avoidable_without(host, None) && !self.open(Some(host)) {
                tracing::debug!(%host, "no volume can be opened that avoids this host: others lack free extents");
            }
        }
    }

    /// Whether some volume could close and every host that is avoidable would still be. Hosts that cannot be made
    /// avoidable for want of free extents elsewhere are no reason to open more and more.
    fn has_spare(&self) -> bool {
        let needed = |host: &&HostId| self.avoidable_without(**host, None);
        let without = |index| self.hosts.iter().filter(needed).all(|host| self.avoidable_without(*host, Some(index)));
        self.volumes.len() > 1 && (0..self.volumes.len()).any(without)
    }

    /// Plans one volume that avoids a host. False if there are not enough OSDs.
    fn open(&mut self, avoid: Option<HostId>) -> bool {
        let mut best: BTreeMap<HostId, &Candidate> = BTreeMap::new();
        for candidate in self.candidates.iter().filter(|candidate| Some(candidate.host) != avoid) {
            let chosen = best.entry(candidate.host).or_insert(candidate);
            if candidate.rank() < chosen.rank() {
                *chosen = candidate;
            }
        }
        let mut ranked: Vec<&Candidate> = best.into_values().collect();
        // Hosts that nothing avoids yet stay out if they can: this volume then avoids them too.
        ranked.sort_by_key(|candidate| {
            let unavoidable = !self.avoidable_without(candidate.host, None);
            (unavoidable, candidate.rank())
        });
        if ranked.len() < self.copies {
            return false;
        }
        ranked.truncate(self.copies);
        let members: Vec<OsdId> = ranked.iter().map(|candidate| candidate.osd).collect();
        self.volumes.push(ranked.iter().map(|candidate| candidate.host).collect());
        self.take(&members);
        self.orders.push(members);
        true
    }

    fn take(&mut self, members: &[OsdId]) {
        for candidate in self.candidates.iter_mut().filter(|candidate| members.contains(&candidate.osd)) {
            candidate.open += 1;
            candidate.free -= 1;
        }
        self.candidates.retain(|candidate| candidate.free > 0 && candidate.open < OSD_OPEN_EXTENTS_MAX);
    }
}

/// Hosts with an OSD that may be given extents.
fn ready_hosts(view: &View, now: Monotonic) -> BTreeSet<HostId> {
    let osds = view.health.osds().iter();
    osds.filter(|(id, _)| view.health.takes_extents(**id, now)).map(|(_, osd)| osd.host).collect()
}

/// OSDs that may get one more extent.
fn candidates(view: &View, now: Monotonic) -> Vec<Candidate> {
    let mut open: BTreeMap<OsdId, usize> = BTreeMap::new();
    let mut unreported: BTreeMap<OsdId, usize> = BTreeMap::new();
    let members = view.volumes.values().map(|volume| &volume.row.members).chain(view.opening.values());
    for member in members.flatten() {
        *open.entry(member.osd).or_default() += 1;
        let reported = |osd: &OsdId| view.health.osds().get(osd)?.extents.get(&member.extent);
        if reported(&member.osd).is_none() {
            *unreported.entry(member.osd).or_default() += 1;
        }
    }
    let osds = view.health.osds().iter();
    let healthy = osds.filter(|(id, _)| view.health.takes_extents(**id, now));
    let welcome = healthy.filter(|(id, _)| view.shunned.get(id).is_none_or(|until| *until <= now));
    let candidates = welcome.map(|(id, osd)| Candidate {
        osd: *id,
        host: osd.host,
        doubtful: view.health.suspected_lately(*id, now),
        open: open.get(id).copied().unwrap_or(0),
        // Extents made since the last heartbeat are not counted in it yet.
        free: (osd.report.extents_free as usize).saturating_sub(unreported.get(id).copied().unwrap_or(0)),
    });
    candidates.filter(|candidate| candidate.free > 0 && candidate.open < OSD_OPEN_EXTENTS_MAX).collect()
}
