//! Findings of one shard: kept until control has acknowledged them (invariant 10).
//!
//! One finding per damaged thing: a record read a thousand times is one finding. The list is bounded; damage that finds
//! no room is found again at its next read.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use shingle_proto::ids::{BlockHash, ExtentId, OsdId, PutId};
use shingle_proto::limits::{HEARTBEAT_FINDINGS_MAX, SHARD_FINDINGS_MAX};
use shingle_proto::message::{Finding, FindingKind};

/// The findings not yet acknowledged, oldest first.
#[derive(Default)]
pub struct Findings {
    /// With a number each, to know them again after a heartbeat.
    open: RefCell<VecDeque<(u64, Finding)>>,
    numbered: Cell<u64>,
}

impl Findings {
    /// Adds one, unless the same thing waits already or there is no room. Whether it waits for control now.
    pub fn add(
        &self,
        kind: FindingKind,
        osd: OsdId,
        extent: ExtentId,
        block: Option<(BlockHash, PutId)>,
        detail: &str,
    ) -> bool {
        let finding = Finding {
            kind,
            osd: osd.0,
            extent: extent.into(),
            hash: block.map(|(hash, _)| hash.into()),
            put_id: block.map_or(0, |(_, put_id)| put_id.0),
            detail: detail.to_owned(),
        };
        let mut open = self.open.borrow_mut();
        let known = open.iter().any(|(_, other)| {
            other.kind == finding.kind
                && other.extent == finding.extent
                && other.hash == finding.hash
                && other.put_id == finding.put_id
                && (other.hash.is_some() || other.detail == finding.detail)
        });
        if known {
            return true;
        }
        tracing::error!(%osd, %extent, ?kind, ?block, detail, "finding");
        if open.len() >= SHARD_FINDINGS_MAX {
            tracing::error!(limit = SHARD_FINDINGS_MAX, "too many findings wait for control: this one is not kept");
            return false;
        }
        let number = self.numbered.get();
        self.numbered.set(number + 1);
        open.push_back((number, finding));
        true
    }

    /// The oldest ones, and the number that acknowledges them.
    pub fn batch(&self) -> (Vec<Finding>, u64) {
        let open = self.open.borrow();
        let batch: Vec<_> = open.iter().take(HEARTBEAT_FINDINGS_MAX).collect();
        let acknowledges = batch.last().map_or(0, |(number, _)| number + 1);
        (batch.into_iter().map(|(_, finding)| finding.clone()).collect(), acknowledges)
    }

    /// Forgets those of a batch.
    pub fn acknowledge(&self, number: u64) {
        self.open.borrow_mut().retain(|(other, _)| *other >= number);
    }

    pub fn len(&self) -> usize {
        self.open.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.borrow().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(findings: &Findings, block: u8) {
        let block = Some((BlockHash([block; 32]), PutId(1)));
        findings.add(FindingKind::RecordDamaged, OsdId(1), ExtentId(2), block, "x");
    }

    #[test]
    fn finding_stays_until_it_is_acknowledged() {
        let findings = Findings::default();
        add(&findings, 1);
        add(&findings, 1);
        let (batch, number) = findings.batch();
        assert_eq!(batch.len(), 1);
        add(&findings, 2);
        assert_eq!(findings.batch().0.len(), 2);
        findings.acknowledge(number);
        assert_eq!(findings.batch().0[0].hash.as_ref().unwrap().bytes, [2; 32]);
    }

    #[test]
    fn list_and_batch_are_bounded() {
        let findings = Findings::default();
        for number in 0..SHARD_FINDINGS_MAX as u64 + 10 {
            let block = Some((BlockHash([0; 32]), PutId(number)));
            findings.add(FindingKind::RecordDamaged, OsdId(1), ExtentId(2), block, "x");
        }
        assert_eq!(findings.len(), SHARD_FINDINGS_MAX);
        assert_eq!(findings.batch().0.len(), HEARTBEAT_FINDINGS_MAX);
    }
}
