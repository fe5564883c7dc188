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
pub(super) struct ShardNews {
    pub osds: Vec<OsdReport>,
    pub findings: Vec<Finding>,
    /// The listing that the extents of `osds` continue.
    pub listing: u64,
    pub numbers: Numbers,
}

/// The numbers that acknowledge a shard's findings and its page of the listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub findings: u64,
    pub page: u64,
}

#[derive(Default)]
struct Note {
    news: ShardNews,
    acknowledged: Numbers,
    /// Heartbeats since the note was renewed.
    age_beats: u64,
}

/// What control has named last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub cell: Option<CellId>,
    /// The listing to go on with; 0 before there is one.
    pub listing: u64,
}

#[derive(Default)]
struct Notes {
    shards: Vec<Note>,
    named: Named,
}

/// The board of one process. Clones are the same board.
#[derive(Clone, Default)]
pub struct Board {
    notes: Arc<Mutex<Notes>>,
    shards: usize,
}

/// All that one heartbeat says, and how to acknowledge it.
#[derive(Default)]
pub(super) struct Collected {
    pub osds: Vec<OsdReport>,
    pub findings: Vec<Finding>,
    pub listing: u64,
    numbers: Vec<(usize, Numbers)>,
}

impl Board {
    /// A board for this many shards.
    pub fn new(shards: usize) -> Self {
        let mut notes = Notes::default();
        notes.shards.resize_with(shards, Note::default);
        Self { notes: Arc::new(Mutex::new(notes)), shards }
    }

    pub(super) fn shards(&self) -> usize {
        self.shards
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        // Nothing is left half-written by a panic between two assignments that matters to a reader.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What control has named last.
    pub(super) fn named(&self) -> Named {
        self.notes().named
    }

    /// What control has acknowledged of a shard's news.
    pub(super) fn acknowledged(&self, shard: usize) -> Numbers {
        self.notes().shards.get(shard).map(|note| note.acknowledged).unwrap_or_default()
    }

    /// Leaves a shard's news.
    pub(super) fn renew(&self, shard: usize, news: ShardNews) {
        if let Some(note) = self.notes().shards.get_mut(shard) {
            (note.news, note.age_beats) = (news, 0);
        }
    }

    /// What the shards have left, for one heartbeat.
    pub(super) fn collect(&self) -> Collected {
        let mut notes = self.notes();
        let listing = notes.named.listing;
        let mut collected = Collected { listing, ..Collected::default() };
        for (shard, Note { news, age_beats, .. }) in notes.shards.iter_mut().enumerate() {
            *age_beats += 1;
            if *age_beats > STALE_BEATS {
                continue;
            }
            let mut numbers = news.numbers;
            let mut osds = news.osds.clone();
            if news.listing != listing {
                // Made before control named this listing: it would not be a part of it.
                numbers.page = 0;
                for osd in &mut osds {
                    (osd.extents, osd.gone, osd.listed) = (Vec::new(), Vec::new(), false);
                }
            }
            collected.osds.extend(osds);
            collected.findings.extend(news.findings.iter().cloned());
            collected.numbers.push((shard, numbers));
        }
        collected
    }

    /// Control has answered the heartbeat, and named its cell and the listing to go on with. Extents count as heard only
    /// when that is the listing they continued.
    pub(super) fn answered(&self, collected: &Collected, cell: CellId, listing: u64) {
        let mut notes = self.notes();
        notes.named = Named { cell: Some(cell), listing };
        for (shard, numbers) in &collected.numbers {
            if let Some(Note { acknowledged, .. }) = notes.shards.get_mut(*shard) {
                acknowledged.findings = acknowledged.findings.max(numbers.findings);
                if listing == collected.listing {
                    acknowledged.page = acknowledged.page.max(numbers.page);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use shingle_proto::message::ExtentReport;

    use super::*;

    fn news(osd: u64, listing: u64) -> ShardNews {
        let osds =
            vec![OsdReport { osd, extents: vec![ExtentReport::default()], listed: true, ..OsdReport::default() }];
        ShardNews { osds, findings: Vec::new(), listing, numbers: Numbers { findings: 7, page: 3 } }
    }

    #[test]
    fn one_heartbeat_has_the_osds_of_all_shards() {
        let board = Board::new(2);
        board.renew(0, news(1, 0));
        board.renew(1, ShardNews { findings: vec![Finding::default()], ..news(2, 0) });
        let collected = board.collect();
        assert_eq!(collected.osds.iter().map(|osd| osd.osd).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(collected.findings.len(), 1);
        assert_eq!(board.acknowledged(1), Numbers::default(), "not acknowledged yet");
        board.answered(&collected, CellId(9), 5);
        assert_eq!(board.named(), Named { cell: Some(CellId(9)), listing: 5 });
        assert_eq!(board.acknowledged(1), Numbers { findings: 7, page: 0 }, "the extents were not for this listing");
    }

    #[test]
    fn extents_go_with_the_listing_they_were_made_for() {
        let board = Board::new(2);
        board.answered(&Collected::default(), CellId(9), 5);
        board.renew(0, news(1, 5));
        board.renew(1, news(2, 4));
        let collected = board.collect();
        assert_eq!(collected.listing, 5);
        let extents: Vec<_> = collected.osds.iter().map(|osd| (osd.extents.len(), osd.listed)).collect();
        assert_eq!(extents, [(1, true), (0, false)]);
        board.answered(&collected, CellId(9), 5);
        assert_eq!((board.acknowledged(0).page, board.acknowledged(1).page), (3, 0));
    }

    #[test]
    fn shard_that_hangs_drops_out() {
        let board = Board::new(2);
        for _ in 0..=STALE_BEATS {
            board.renew(0, news(1, 0));
            board.collect();
        }
        board.renew(0, news(1, 0));
        board.renew(1, news(2, 0));
        assert_eq!(board.collect().osds.len(), 2);
        (0..STALE_BEATS).for_each(|_| drop(board.collect()));
        assert!(board.collect().osds.is_empty());
    }
}
