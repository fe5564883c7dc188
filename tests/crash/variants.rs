//! The images of one boundary: every class of what a loss of power may leave.

use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use shingle_hw::faulty::CommandKind;
use shingle_hw::image::{Image, Sector, ZoneImage};
use shingle_hw::zone::{ZoneCondition, ZoneId};

use super::history::{Fate, Gap, History, Pointer};

/// Random subsets of the changes at each boundary.
const SUBSETS: usize = 64;
const GAPS: [Gap; 4] = [Gap::Zeroes, Gap::Noise, Gap::Stale, Gap::Unreadable];

/// A class of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Nothing of the commands in flight, all of those that had ended.
    Nothing,
    /// All of the commands in flight too.
    Whole,
    /// Every prefix of a command in flight that ends at a sector.
    Torn,
    /// One change is missing, those behind it are there.
    Missing,
    /// The first changes only.
    Prefix,
    /// Any changes, torn anywhere.
    Subset,
    /// The flush in flight has done nothing.
    FlushLost,
    /// A write pointer above bytes that were lost.
    PointerAhead,
    /// One zone's write pointer where the last good flush left it.
    PointerBehind,
    ReadOnly,
    Offline,
}

impl Class {
    pub const ALL: [Self; 11] = [
        Self::Nothing,
        Self::Whole,
        Self::Torn,
        Self::Missing,
        Self::Prefix,
        Self::Subset,
        Self::FlushLost,
        Self::PointerAhead,
        Self::PointerBehind,
        Self::ReadOnly,
        Self::Offline,
    ];

    /// The column's head in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Whole => "whole",
            Self::Torn => "torn",
            Self::Missing => "missing",
            Self::Prefix => "prefix",
            Self::Subset => "subset",
            Self::FlushLost => "flush-lost",
            Self::PointerAhead => "wp-ahead",
            Self::PointerBehind => "wp-behind",
            Self::ReadOnly => "read-only",
            Self::Offline => "offline",
        }
    }
}

/// How an image came about, to be told when it fails.
#[derive(Clone, Debug)]
pub enum Story {
    Zone(ZoneId, ZoneCondition),
    Changes { fates: Vec<(CommandKind, ZoneId, Fate)>, pointer: Pointer, gap: Gap },
}

/// One image and how it came about.
pub struct Variant {
    pub class: Class,
    pub image: Image,
    pub story: Story,
    /// A zone that failed with the loss of power.
    pub failed_zone: Option<ZoneId>,
    /// Bytes that nobody was promised cannot be read.
    pub unreadable: bool,
}

/// Builds the images of one boundary, one after the other.
pub struct Variants<'a> {
    history: &'a History,
    sink: &'a mut dyn FnMut(Variant),
}

impl<'a> Variants<'a> {
    pub fn new(history: &'a History, sink: &'a mut dyn FnMut(Variant)) -> Self {
        Self { history, sink }
    }

    /// All of them; `draw` decides what is left to chance.
    pub fn build(mut self, draw: &mut StdRng) {
        let changes = self.history.changes().len();
        let kept = self.history.kept();
        self.emit(Class::Nothing, &kept, Pointer::Behind, Gap::Zeroes);
        if self.history.changes().iter().any(|change| change.in_flight) {
            self.emit(Class::Whole, &vec![Fate::Kept; changes], Pointer::Behind, Gap::Zeroes);
        }
        self.torn(&kept);
        for index in 0..changes {
            let mut fates = vec![Fate::Kept; changes];
            fates[index] = Fate::Lost;
            for gap in GAPS {
                self.emit(Class::Missing, &fates, Pointer::Ahead, gap);
            }
            self.emit(Class::Missing, &fates, Pointer::Behind, Gap::Zeroes);
        }
        for length in 0..changes {
            let fates: Vec<Fate> = (0..changes).map(|i| if i < length { Fate::Kept } else { Fate::Lost }).collect();
            self.emit(Class::Prefix, &fates, Pointer::Behind, Gap::Zeroes);
            self.emit(Class::Prefix, &fates, Pointer::Ahead, pick(draw, &GAPS));
        }
        if changes > 0 {
            (0..SUBSETS).for_each(|_| self.subset(draw));
        }
        let lost = vec![Fate::Lost; changes];
        if self.history.flush_in_flight() {
            self.emit(Class::FlushLost, &lost, Pointer::Behind, Gap::Zeroes);
        }
        if changes > 0 {
            for gap in GAPS {
                self.emit(Class::PointerAhead, &lost, Pointer::Ahead, gap);
            }
        }
        self.zones(&kept);
    }

    fn torn(&mut self, kept: &[Fate]) {
        for (index, change) in self.history.changes().iter().enumerate().filter(|(_, change)| change.in_flight) {
            for sectors in 1..change.sectors() {
                let mut fates = kept.to_vec();
                fates[index] = Fate::Torn(sectors);
                self.emit(Class::Torn, &fates, Pointer::Behind, Gap::Zeroes);
                for gap in GAPS {
                    self.emit(Class::Torn, &fates, Pointer::Ahead, gap);
                }
            }
        }
    }

    fn subset(&mut self, draw: &mut StdRng) {
        let fate = |sectors: usize, draw: &mut StdRng| match draw.random_range(0..5) {
            0 | 1 => Fate::Lost,
            2 if sectors > 1 => Fate::Torn(draw.random_range(1..sectors)),
            _ => Fate::Kept,
        };
        let fates: Vec<Fate> = self.history.changes().iter().map(|change| fate(change.sectors(), draw)).collect();
        self.emit(Class::Subset, &fates, pick(draw, &[Pointer::Behind, Pointer::Ahead]), pick(draw, &GAPS));
    }

    /// What concerns one zone at a time.
    fn zones(&mut self, kept: &[Fate]) {
        let changes = self.history.changes();
        for zone in (0..self.history.zones()).map(ZoneId) {
            if changes.iter().any(|change| change.zone == zone) {
                let fate = |(change, fate): (&super::history::Change, &Fate)| match change.zone == zone {
                    true => Fate::Lost,
                    false => *fate,
                };
                let fates: Vec<Fate> = changes.iter().zip(kept).map(fate).collect();
                self.emit(Class::PointerBehind, &fates, Pointer::Behind, Gap::Zeroes);
            }
            let base = self.history.image(kept, Pointer::Behind, Gap::Zeroes);
            for (class, condition) in
                [(Class::ReadOnly, ZoneCondition::ReadOnly), (Class::Offline, ZoneCondition::Offline)]
            {
                let mut image = base.clone();
                let sectors = base.zone(zone).map(|zone| zone.sectors().to_vec()).unwrap_or_default();
                image.set(zone, ZoneImage::new(condition, sectors));
                let story = Story::Zone(zone, condition);
                (self.sink)(Variant { class, image, story, failed_zone: Some(zone), unreadable: false });
            }
        }
    }

    fn emit(&mut self, class: Class, fates: &[Fate], pointer: Pointer, gap: Gap) {
        let image = self.history.image(fates, pointer, gap);
        let changes = self.history.changes().iter().zip(fates);
        let fates = changes.map(|(change, fate)| (change.kind, change.zone, *fate)).collect();
        let story = Story::Changes { fates, pointer, gap };
        let is_unreadable = |zone: &Arc<ZoneImage>| zone.sectors().iter().any(|s| matches!(s, Sector::Unreadable));
        let unreadable = gap == Gap::Unreadable && image.zones().iter().any(is_unreadable);
        (self.sink)(Variant { class, image, story, failed_zone: None, unreadable });
    }
}

fn pick<T: Copy>(draw: &mut StdRng, choices: &[T]) -> T {
    *choices.choose(draw).unwrap_or(&choices[0])
}
