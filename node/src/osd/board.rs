//! Where the shards of one process leave their reports, so that a host sends one heartbeat with all its OSDs.
//!
//! The only memory shards share. It is touched twice a second, never on the way of a block. A shard that does not come
//! back to it is left out of the heartbeat, so that control sees a hanging thread as silent disks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shingle_proto::ids::CellId;
use shingle_proto::message::{Finding, OsdReport};

/// Heartbeats after which a report that was not renewed counts no more.
const STALE_BEATS: u64 = 4;

/// What one shard has to say.
#[derive(Default)]
struct Note {
    osds: Vec<OsdReport>,
    findings: Vec<Finding>,
    /// The number that acknowledges these findings.
    acknowledges: u64,
    /// Findings below this number have been acknowledged.
    acknowledged: u64,
    /// Heartbeats since the note was renewed.
    age_beats: u64,
}

#[derive(Default)]
struct Notes {
    shards: Vec<Note>,
    cell: Option<CellId>,
}

/// The board of one process. Clones are the same board.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Notes>>);

/// All that one heartbeat says, and how to acknowledge it.
#[derive(Default)]
pub(super) struct Collected {
    pub osds: Vec<OsdReport>,
    pub findings: Vec<Finding>,
    acknowledges: Vec<(usize, u64)>,
}

impl Board {
    /// A board for this many shards.
    pub fn new(shards: usize) -> Self {
        let mut notes = Notes::default();
        notes.shards.resize_with(shards, Note::default);
        Self(Arc::new(Mutex::new(notes)))
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        // Nothing is left half-written by a panic between two assignments that matters to a reader.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a shard's report. Answers up to which number its findings have been acknowledged, and the cell that
    /// control has named last.
    pub(super) fn renew(
        &self,
        shard: usize,
        osds: Vec<OsdReport>,
        (findings, acknowledges): (Vec<Finding>, u64),
    ) -> (u64, Option<CellId>) {
        let mut notes = self.notes();
        let cell = notes.cell;
        let Some(note) = notes.shards.get_mut(shard) else { return (0, cell) };
        let acknowledged = note.acknowledged;
        *note = Note { osds, findings, acknowledges, acknowledged, age_beats: 0 };
        (acknowledged, cell)
    }

    /// What the shards have left, for one heartbeat.
    pub(super) fn collect(&self) -> Collected {
        let mut collected = Collected::default();
        for (shard, note) in self.notes().shards.iter_mut().enumerate() {
            note.age_beats += 1;
            if note.age_beats <= STALE_BEATS {
                collected.osds.extend(note.osds.iter().cloned());
                collected.findings.extend(note.findings.iter().cloned());
                collected.acknowledges.push((shard, note.acknowledges));
            }
        }
        collected
    }

    /// Control has answered the heartbeat.
    pub(super) fn answered(&self, collected: &Collected, cell: CellId) {
        let mut notes = self.notes();
        notes.cell = Some(cell);
        for (shard, number) in &collected.acknowledges {
            if let Some(note) = notes.shards.get_mut(*shard) {
                note.acknowledged = note.acknowledged.max(*number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use shingle_proto::message::FindingKind;

    use super::*;

    fn report(osd: u64) -> Vec<OsdReport> {
        vec![OsdReport { osd, ..OsdReport::default() }]
    }

    fn finding() -> Vec<Finding> {
        vec![Finding { kind: FindingKind::RecordDamaged, ..Finding::default() }]
    }

    #[test]
    fn one_heartbeat_has_the_osds_of_all_shards() {
        let board = Board::new(2);
        board.renew(0, report(1), (Vec::new(), 0));
        board.renew(1, report(2), (finding(), 7));
        let collected = board.collect();
        assert_eq!(collected.osds.iter().map(|osd| osd.osd).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(board.renew(1, report(2), (finding(), 7)).0, 0, "not acknowledged yet");
        board.answered(&collected, CellId(9));
        assert_eq!(board.renew(1, report(2), (Vec::new(), 0)), (7, Some(CellId(9))));
    }

    #[test]
    fn shard_that_hangs_drops_out() {
        let board = Board::new(2);
        for _ in 0..=STALE_BEATS {
            board.renew(0, report(1), (Vec::new(), 0));
            board.collect();
        }
        board.renew(0, report(1), (Vec::new(), 0));
        board.renew(1, report(2), (Vec::new(), 0));
        assert_eq!(board.collect().osds.len(), 2);
        (0..STALE_BEATS).for_each(|_| drop(board.collect()));
        assert!(board.collect().osds.is_empty());
    }
}
