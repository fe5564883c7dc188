//! How old the scrub's last word on a disk is: in sum for every heartbeat, extent by extent for whoever asks.
//!
//! Ages count from an extent's last verification, or else from its creation, so that an extent is never younger than what
//! is known of it.

use shingle_proto::ids::ExtentId;
use shingle_proto::limits::{EXTENT_AGES_MAX, SCRUB_SUM_MS};
use shingle_proto::message::{ExtentAge, ExtentAges, ScrubStatus};
use shingle_seam::clock::Monotonic;

use super::ScrubReport;
use super::plan::p50_p100;
use crate::osd::extent::{Extent, State};
use crate::osd::store::Osd;

/// What a walk over all extents finds. Times are in milliseconds since 1970, so that ages grow until the next walk.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    walked: Monotonic,
    p50_known_ms: u64,
    p100_known_ms: u64,
    held_bytes: u64,
    left_bytes: u64,
}

impl Osd {
    /// What the scrub has done, how old its last word on each extent is, and what it has left to do.
    pub fn scrub_report(&self) -> ScrubReport {
        self.report_of(self.walk())
    }

    /// As [`Osd::scrub_report`], for the wire. The extents are walked over every `SCRUB_SUM_MS` only.
    pub fn scrub_status(&self) -> ScrubStatus {
        let fresh = |sum: &Sum| (self.world.clock.now() - sum.walked).as_millis() < u128::from(SCRUB_SUM_MS);
        let sum = self.scrub.sum.get().filter(fresh).unwrap_or_else(|| self.walk());
        self.scrub.sum.set(Some(sum));
        let report = self.report_of(sum);
        ScrubStatus {
            sweep_ms: u64::try_from(self.budgets.disk.sweep().as_millis()).unwrap_or(u64::MAX),
            age_p50_ms: report.age_p50_ms,
            age_p100_ms: report.age_p100_ms,
            held_bytes: report.held_bytes,
            left_bytes: report.left_bytes,
            pace_bytes: report.pace_bytes,
            read_bytes: report.bytes,
            records: report.records,
            flaws: report.flaws,
        }
    }

    /// Extents with records, the one verified longest ago first: up to `limit` behind `after`, a time and an extent.
    pub fn extent_ages(&self, after: (u64, ExtentId), limit: usize) -> ExtentAges {
        let extents = self.extents.borrow();
        let holding = extents.iter().filter(|(_, extent)| extent.records.get() > 0);
        let known = holding.map(|(id, extent)| (self.known_good_ms(extent), *id));
        let mut behind: Vec<(u64, ExtentId)> = known.filter(|place| *place > after).collect();
        behind.sort_unstable();
        let limit = limit.min(EXTENT_AGES_MAX);
        let end = behind.len() <= limit;
        behind.truncate(limit);
        let age = |(known_ms, id): &(u64, ExtentId)| {
            let extent = extents.get(id)?;
            let report = extent.report();
            Some(ExtentAge {
                extent: report.extent,
                state: report.state,
                records: report.records,
                record_bytes: report.record_bytes,
                created_ms: extent.header.created_ms,
                verified_ms: extent.verified_ms.get(),
                known_ms: *known_ms,
                due_ms: self.due_of(extent).map_or(0, |due| due.due_ms),
            })
        };
        let extents = behind.iter().filter_map(age).collect();
        ExtentAges { now_ms: self.world.clock.unix_ms(), extents, end }
    }

    fn report_of(&self, sum: Sum) -> ScrubReport {
        let (now_ms, scrub) = (self.world.clock.unix_ms(), &self.scrub);
        let age = |known_ms: u64| if sum.held_bytes == 0 { 0 } else { now_ms.saturating_sub(known_ms) };
        ScrubReport {
            bytes: scrub.bytes.get(),
            records: scrub.records.get(),
            flaws: scrub.flaws.get(),
            pace_bytes: scrub.pace.get(),
            age_p50_ms: age(sum.p50_known_ms),
            age_p100_ms: age(sum.p100_known_ms),
            held_bytes: sum.held_bytes,
            left_bytes: sum.left_bytes,
        }
    }

    fn walk(&self) -> Sum {
        let now_ms = self.world.clock.unix_ms();
        let sweep_ms = u64::try_from(self.budgets.disk.sweep().as_millis()).unwrap_or(u64::MAX);
        let (mut ages, mut held_bytes, mut left_bytes) = (Vec::new(), 0, 0);
        for extent in self.extents.borrow().values().filter(|extent| extent.records.get() > 0) {
            let bytes = self.bytes_of(extent);
            let verified_ms = extent.verified_ms.get();
            let whole = self.settled_ms(extent).is_none_or(|settled_ms| verified_ms >= settled_ms);
            let verified = verified_ms > 0 && whole && now_ms.saturating_sub(verified_ms) <= sweep_ms;
            held_bytes += bytes;
            left_bytes += if verified { 0 } else { bytes };
            ages.push(now_ms.saturating_sub(self.known_good_ms(extent)));
        }
        let (p50_ms, p100_ms) = p50_p100(ages);
        let known = |age_ms: u64| now_ms - age_ms;
        let walked = self.world.clock.now();
        Sum { walked, p50_known_ms: known(p50_ms), p100_known_ms: known(p100_ms), held_bytes, left_bytes }
    }

    /// When the extent was verified, or else when it was created.
    pub(super) fn known_good_ms(&self, extent: &Extent) -> u64 {
        match (extent.verified_ms.get(), extent.header.created_ms) {
            (0, 0) => self.scrub.began_ms.get(),
            (0, created_ms) => created_ms,
            (verified_ms, _) => verified_ms,
        }
    }

    /// When the extent had its last record, if it takes no more.
    pub(super) fn settled_ms(&self, extent: &Extent) -> Option<u64> {
        match extent.state.get() {
            State::Creating | State::Open | State::Closing => None,
            State::Closed | State::Failed => Some(self.ledger.slot(extent.header.slot).changed_ms),
        }
    }
}
