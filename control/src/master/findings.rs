//! Findings: bytes that are not what somebody promised. Each is logged once and kept, the newest ones only.

use std::collections::VecDeque;

use shingle_proto::limits::FINDINGS_KEPT_MAX;
use shingle_proto::message::{Finding, FindingRecord};

/// The findings since the master started.
#[derive(Default)]
pub(super) struct Findings {
    recent: VecDeque<FindingRecord>,
    count: u64,
}

impl Findings {
    /// Takes one over. One that is known already, such as the same damaged record read again, changes nothing.
    pub fn take(&mut self, finding: Finding, found_ms: u64) {
        if self.recent.iter().any(|known| same(&known.finding, &finding)) {
            return;
        }
        let Finding { kind, osd, extent, hash, put_id, detail } = &finding;
        let extent = shingle_proto::ids::ExtentId::from(extent);
        let block = hash.as_ref().map(|hash| shingle_proto::ids::BlockHash::from(hash).to_string());
        tracing::error!(?kind, osd = format_args!("{osd:x}"), %extent, block, put_id, "finding: {detail}");
        if self.recent.len() == FINDINGS_KEPT_MAX {
            self.recent.pop_front();
        }
        self.count += 1;
        let finding = Box::new(finding);
        self.recent.push_back(FindingRecord { id: self.count, found_ms, finding, ..FindingRecord::default() });
    }

    /// All of them, those no longer kept included.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &FindingRecord> {
        self.recent.iter()
    }
}

fn same(one: &Finding, other: &Finding) -> bool {
    let place = |finding: &Finding| (finding.kind, finding.osd, finding.extent.hi, finding.extent.lo, finding.put_id);
    place(one) == place(other) && one.hash == other.hash
}

#[cfg(test)]
mod tests {
    use shingle_proto::message::{FindingKind, Id128};

    use super::*;

    fn finding(put_id: u64) -> Finding {
        let detail = "payload checksum".to_string();
        let extent = Id128 { hi: 1, lo: 2 };
        Finding { kind: FindingKind::RecordDamaged, osd: 1, extent, hash: None, put_id, detail }
    }

    #[test]
    fn the_same_damage_is_one_finding_and_only_the_newest_are_kept() {
        let mut findings = Findings::default();
        findings.take(finding(0), 1);
        findings.take(finding(0), 1);
        assert_eq!(findings.count(), 1);
        (1..=FINDINGS_KEPT_MAX as u64).for_each(|put_id| findings.take(finding(put_id), 1));
        assert_eq!(findings.count(), FINDINGS_KEPT_MAX as u64 + 1);
        let kept: Vec<u64> = findings.recent().map(|record| record.finding.put_id).collect();
        assert_eq!(kept, (1..=FINDINGS_KEPT_MAX as u64).collect::<Vec<_>>());
    }
}
