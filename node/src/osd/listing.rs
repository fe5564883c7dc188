//! What control knows of the extents of one shard's OSDs, and what the next heartbeat has to tell it.
//!
//! Control keeps a listing of every extent of a host; its checks for orphans and for members that are gone rest on it. A
//! heartbeat carries only what differs from that listing: open extents first, `HEARTBEAT_EXTENTS_MAX` of them for the
//! whole host, the rest with the next ones. So a listing begins with several pages and goes on with what changes.
//!
//! Invariant: an extent counts as told in a certain state only when control has answered a heartbeat that said so in the
//! listing that control goes on with. What is lost on the way is told again; telling twice changes nothing. When control
//! names another listing (it started anew, or took this host for another one), everything is told again.

use std::collections::{BTreeMap, VecDeque};

use shingle_proto::ids::{ExtentId, OsdId};
use shingle_proto::limits::HEARTBEAT_EXTENTS_MAX;
use shingle_proto::message::{ExtentReport, ExtentState, OsdReport};

/// Pages that control may still acknowledge. A shard makes one with each beat; more than this many beats without an answer
/// mean that they were not heard, and what they said is told again.
const PAGES_MAX: usize = 4;

/// What changes in an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    state: ExtentState,
    records: u32,
    record_bytes: u64,
    free_bytes: u64,
}

impl From<&ExtentReport> for Told {
    fn from(extent: &ExtentReport) -> Self {
        let ExtentReport { state, records, record_bytes, free_bytes, .. } = *extent;
        Self { state, records, record_bytes, free_bytes }
    }
}

/// What one heartbeat tells: extents as they are, or that they are gone.
struct Page {
    number: u64,
    news: Vec<(OsdId, ExtentId, Option<Told>)>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Listing {
    /// The number control gave it; 0 before it gave one.
    number: u64,
    told: BTreeMap<OsdId, BTreeMap<ExtentId, Told>>,
    pages: VecDeque<Page>,
    last_page: u64,
}

/// What one OSD has to tell, while a page is being made.
#[derive(Default)]
struct News {
    open: Vec<ExtentReport>,
    others: Vec<ExtentReport>,
    gone: Vec<ExtentId>,
}

impl Listing {
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Control goes on with this listing. Another one than so far begins with nothing.
    pub fn go_on(&mut self, number: u64) {
        if number != self.number {
            *self = Self { number, last_page: self.last_page, ..Self::default() };
        }
    }

    /// The next page, and its number. `report` makes an OSD's report and shows every extent of it, in the order of their
    /// ids; the reports come back with what is new. At most `extents_max` extents are named in all.
    pub fn page<O>(
        &mut self,
        osds: &[O],
        extents_max: usize,
        id: impl Fn(&O) -> OsdId,
        report: impl Fn(&O, &mut dyn FnMut(ExtentReport)) -> OsdReport,
    ) -> (Vec<OsdReport>, u64) {
        self.last_page += 1;
        let mut page = Page { number: self.last_page, news: Vec::new() };
        let mut room = if self.number == 0 { 0 } else { extents_max };
        let mut reports = Vec::with_capacity(osds.len());
        for (index, osd) in osds.iter().enumerate() {
            let id = id(osd);
            let (mut report, news) = self.news_of(id, |each| report(osd, each));
            // A fair share, so that one disk's closed extents do not delay another's open ones.
            let share = room / (osds.len() - index);
            report.listed = self.number != 0 && news.gone.len() + news.open.len() + news.others.len() <= share;
            let gone = news.gone.into_iter().take(share);
            page.news.extend(gone.clone().map(|extent| (id, extent, None)));
            report.gone = gone.map(Into::into).collect();
            let left = share - report.gone.len();
            report.extents = news.open.into_iter().chain(news.others).take(left).collect();
            let told = |extent: &ExtentReport| (id, ExtentId::from(&extent.extent), Some(Told::from(extent)));
            page.news.extend(report.extents.iter().map(told));
            room -= report.gone.len() + report.extents.len();
            reports.push(report);
        }
        self.pages.push_back(page);
        if self.pages.len() > PAGES_MAX {
            self.pages.pop_front();
        }
        (reports, self.last_page)
    }

    /// One walk over an OSD's extents, beside what control was told of them.
    fn news_of(&self, osd: OsdId, report: impl FnOnce(&mut dyn FnMut(ExtentReport)) -> OsdReport) -> (OsdReport, News) {
        let mut news = News::default();
        let mut told = self.told.get(&osd).into_iter().flatten().peekable();
        let report = report(&mut |extent| {
            let id = ExtentId::from(&extent.extent);
            while let Some((gone, _)) = told.next_if(|(other, _)| **other < id) {
                news.gone.push(*gone);
            }
            let before = told.next_if(|(other, _)| **other == id).map(|(_, before)| *before);
            match extent.state {
                _ if before == Some(Told::from(&extent)) => {}
                ExtentState::Open => news.open.push(extent),
                _ => news.others.push(extent),
            }
        });
        news.gone.extend(told.map(|(gone, _)| *gone));
        (report, news)
    }

    /// Control has heard a page, and with it nothing of the pages before that were not heard by now.
    pub fn acknowledge(&mut self, number: u64) {
        while self.pages.front().is_some_and(|page| page.number < number) {
            self.pages.pop_front();
        }
        if self.pages.front().is_none_or(|page| page.number != number) {
            return;
        }
        for (osd, extent, told) in self.pages.pop_front().into_iter().flat_map(|page| page.news) {
            let extents = self.told.entry(osd).or_default();
            match told {
                Some(told) => drop(extents.insert(extent, told)),
                None => drop(extents.remove(&extent)),
            }
        }
    }
}

/// The share of one of the host's shards in a heartbeat's extents.
pub(super) fn extents_max(shards: usize) -> usize {
    HEARTBEAT_EXTENTS_MAX / shards.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Disks with extents, as control should come to know them.
    type Disks = BTreeMap<OsdId, BTreeMap<ExtentId, ExtentReport>>;

    fn extent(number: u128, state: ExtentState) -> (ExtentId, ExtentReport) {
        let id = ExtentId(number);
        (id, ExtentReport { extent: id.into(), state, records: 1, ..ExtentReport::default() })
    }

    fn disks(extents: u128) -> Disks {
        let state = |number: u128| if number % 1000 == 999 { ExtentState::Open } else { ExtentState::Closed };
        let disk = |osd: u128| (0..extents / 2).map(move |number| extent(osd << 64 | number, state(number))).collect();
        [1, 2].map(|osd| (OsdId(osd as u64), disk(osd))).into()
    }

    fn page(listing: &mut Listing, disks: &Disks) -> (Vec<OsdReport>, u64) {
        let ids: Vec<OsdId> = disks.keys().copied().collect();
        let report = |osd: &OsdId, each: &mut dyn FnMut(ExtentReport)| {
            disks[osd].values().cloned().for_each(each);
            OsdReport { osd: osd.0, ..OsdReport::default() }
        };
        listing.page(&ids, extents_max(1), |osd| *osd, report)
    }

    /// What control makes of a page.
    fn take(known: &mut Disks, reports: Vec<OsdReport>) {
        for report in reports {
            let extents = known.entry(OsdId(report.osd)).or_default();
            for extent in &report.gone {
                extents.remove(&ExtentId::from(extent));
            }
            extents.extend(report.extents.into_iter().map(|extent| (ExtentId::from(&extent.extent), extent)));
        }
    }

    #[test]
    fn twenty_five_thousand_extents_are_told_in_pages_and_then_only_changes() {
        let (mut listing, mut known, mut disks) = (Listing::default(), Disks::new(), disks(25_000));
        let (reports, _) = page(&mut listing, &disks);
        assert!(reports.iter().all(|report| report.extents.is_empty() && !report.listed), "no listing yet");
        listing.go_on(7);
        for beat in 1.. {
            let (reports, number) = page(&mut listing, &disks);
            let named: usize = reports.iter().map(|report| report.extents.len()).sum();
            assert!(named <= HEARTBEAT_EXTENTS_MAX, "{named}");
            if beat == 1 {
                let open = reports.iter().flat_map(|report| &report.extents);
                assert_eq!(open.filter(|extent| extent.state == ExtentState::Open).count(), 24, "open ones come first");
            }
            let listed = reports.iter().all(|report| report.listed);
            take(&mut known, reports);
            listing.acknowledge(number);
            if listed {
                assert_eq!(beat, 25_000_usize.div_ceil(HEARTBEAT_EXTENTS_MAX));
                break;
            }
        }
        assert_eq!(known, disks);
        let first = disks.get_mut(&OsdId(1)).unwrap();
        let (gone, _) = first.pop_first().unwrap();
        first.insert(ExtentId(1 << 64 | 999), extent(1 << 64 | 999, ExtentState::Closed).1);
        disks.get_mut(&OsdId(2)).unwrap().extend([extent(3 << 64, ExtentState::Open)]);
        let (reports, number) = page(&mut listing, &disks);
        assert_eq!(reports[0].gone, [gone.into()]);
        assert_eq!((reports[0].extents.len(), reports[1].extents.len()), (1, 1));
        take(&mut known, reports);
        listing.acknowledge(number);
        assert_eq!(known, disks);
        let (reports, _) = page(&mut listing, &disks);
        assert!(reports.iter().all(|report| report.extents.is_empty() && report.gone.is_empty() && report.listed));
    }

    #[test]
    fn what_was_not_heard_is_told_again_and_another_listing_begins_anew() {
        let disks = disks(10);
        let mut listing = Listing::default();
        listing.go_on(7);
        let (lost, first) = page(&mut listing, &disks);
        let (again, second) = page(&mut listing, &disks);
        assert_eq!(lost, again);
        listing.acknowledge(second);
        assert!(page(&mut listing, &disks).0[0].extents.is_empty());
        listing.acknowledge(first);
        listing.go_on(7);
        assert!(page(&mut listing, &disks).0[0].extents.is_empty());
        listing.go_on(8);
        assert_eq!(page(&mut listing, &disks).0, again);
        listing.acknowledge(second);
        assert_eq!(page(&mut listing, &disks).0, again, "a page of another listing proves nothing");
    }

    #[test]
    fn without_answers_only_the_last_pages_are_remembered() {
        let disks = disks(10);
        let mut listing = Listing::default();
        listing.go_on(7);
        let (_, first) = page(&mut listing, &disks);
        (0..10).for_each(|_| drop(page(&mut listing, &disks)));
        assert_eq!(listing.pages.len(), PAGES_MAX);
        listing.acknowledge(first);
        assert!(!page(&mut listing, &disks).0[0].extents.is_empty());
    }
}
