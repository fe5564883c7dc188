//! A run: scripts recorded, images built and told apart, checked on all cores, counted.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shingle_hw::image::Image;
use shingle_hw::recorder::Event;
use shingle_hw::zone::{ZoneCondition, ZoneId};

use super::check::Case;
use super::history::History;
use super::ledger::Promises;
use super::pool::{Pool, Violation};
use super::row::{Row, What, When};
use super::scripts::Script;
use super::stage::{Lie, Life, record};
use super::table::Table;
use super::variants::{Class, Story, Variant, Variants};

/// What a run is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub seed: u64,
    /// Distinct images to check of each script, about; all of them without one. The first of every cell of the table is
    /// checked in any case.
    pub limit: Option<u64>,
    /// Only the image of this number, of each script.
    pub image: Option<u64>,
    pub threads: usize,
    pub lie: Lie,
}

/// What came of one script.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Images built.
    pub images: u64,
    /// What tells them apart: one each.
    pub distinct: HashSet<u64>,
    /// Checks made: an image of which more was promised later is checked again.
    pub checked: u64,
    pub table: Table,
    /// With how each image came about.
    pub violations: Vec<(Violation, String)>,
}

/// Runs one script.
pub fn run(script: &Script, options: &Options) -> Outcome {
    let lives = record_all(script, options);
    let thin = match options.limit {
        None => 1,
        Some(limit) => {
            let mut counting = Counting::new(1, None);
            counting.walk(&lives, options.seed, &mut |_, _| ());
            (counting.outcome.checked / limit.max(1)).max(1)
        }
    };
    let pool = Pool::new(options.threads);
    let mut counting = Counting::new(thin, options.image);
    counting.walk(&lives, options.seed, &mut |number, case| pool.submit(number, case));
    let violations = pool.finish();
    let mut outcome = counting.outcome;
    outcome.violations = tell(violations, &lives, options);
    outcome
}

/// Records every life; the next one begins with an image of the one before.
fn record_all(script: &Script, options: &Options) -> Vec<Life> {
    let mut lives: Vec<Life> = Vec::new();
    let mut before = Image::blank(&(script.geometry)());
    let mut promised = Arc::new(Promises::default());
    for life in 0..script.lives {
        let seed = mix(options.seed, u64::from(life));
        let recorded = record(script, life, seed, &before, promised.clone(), options.lie);
        let mut draw = StdRng::seed_from_u64(seed);
        let boundary = draw.random_range(recorded.events.len() / 4..=recorded.events.len());
        let mut history = History::new(before.clone());
        recorded.events.iter().take(boundary).for_each(|event| history.apply(event));
        // The last random subset, or all that was kept.
        let mut next = None;
        Variants::new(&history, &mut |variant| {
            if matches!(variant.class, Class::Nothing | Class::Subset) && !variant.unreadable {
                next = Some(variant.image);
            }
        })
        .build(&mut draw);
        before = next.unwrap_or(before);
        promised = promises_at(&recorded, boundary);
        lives.push(recorded);
    }
    lives
}

/// What had been promised before the event of this number.
fn promises_at(life: &Life, boundary: usize) -> Arc<Promises> {
    let known = life.promises.iter().rev().find(|(position, _)| *position <= boundary);
    known.map(|(_, promises)| promises.clone()).unwrap_or_default()
}

fn mix(seed: u64, part: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, part).hash(&mut hasher);
    hasher.finish()
}

/// Builds all images of a script and counts them.
struct Counting {
    outcome: Outcome,
    /// Images with what was promised of them.
    cases: HashSet<(u64, usize)>,
    /// One in so many is checked.
    thin: u64,
    only: Option<u64>,
}

impl Counting {
    fn new(thin: u64, only: Option<u64>) -> Self {
        Self { outcome: Outcome::default(), cases: HashSet::new(), thin, only }
    }

    fn walk(&mut self, lives: &[Life], seed: u64, check: &mut dyn FnMut(u64, Case)) {
        for (number, life) in lives.iter().enumerate() {
            for_each_boundary(life, |boundary, row, history, failed_before| {
                let promises = promises_at(life, boundary);
                let mut draw = StdRng::seed_from_u64(mix(mix(seed, number as u64), boundary as u64));
                let mut sink = |variant| self.count(variant, row, &promises, failed_before, seed, check);
                Variants::new(history, &mut sink).build(&mut draw);
            });
        }
    }

    fn count(
        &mut self,
        variant: Variant,
        row: Row,
        promises: &Arc<Promises>,
        failed_before: &[ZoneId],
        seed: u64,
        check: &mut dyn FnMut(u64, Case),
    ) {
        let outcome = &mut self.outcome;
        let number = outcome.images;
        outcome.images += 1;
        let hash = variant.image.hash();
        outcome.distinct.insert(hash);
        let cell = outcome.table.cell(row, variant.class);
        cell.built += 1;
        let is_new = self.cases.insert((hash, Arc::as_ptr(promises) as usize));
        let chosen = match self.only {
            Some(only) => only == number,
            None => (is_new && hash.is_multiple_of(self.thin)) || cell.built == 1,
        };
        if chosen {
            cell.checked += 1;
            outcome.checked += 1;
            let Variant { image, failed_zone, unreadable, .. } = variant;
            let (promises, failed_before) = (promises.clone(), failed_before.to_vec());
            check(number, Case { image, promises, failed_zone, failed_before, unreadable, seed: mix(seed, hash) });
        }
    }
}

/// Calls back at the start of a life and after each of its events that changes something.
fn for_each_boundary(life: &Life, mut visit: impl FnMut(usize, Row, &History, &[ZoneId])) {
    let mut history = History::new(life.before.clone());
    let failed = |condition| matches!(condition, ZoneCondition::ReadOnly | ZoneCondition::Offline);
    let zones = (0u32..).zip(life.before.zones());
    let mut failed_before: Vec<ZoneId> =
        zones.filter(|(_, zone)| failed(zone.condition())).map(|(number, _)| ZoneId(number)).collect();
    visit(0, (What::Start, When::Ended), &history, &failed_before);
    let mut commands = std::collections::HashMap::new();
    for (index, event) in life.events.iter().enumerate() {
        history.apply(event);
        let row = match event {
            Event::Begun { command, action } => {
                let what = What::of(action);
                commands.insert(*command, what);
                what.map(|what| (what, When::Begun))
            }
            Event::Ended { command, .. } => commands.remove(command).flatten().map(|what| (what, When::Ended)),
            Event::ZoneFailed { zone, .. } => {
                failed_before.push(*zone);
                Some((What::ZoneFailed, When::Ended))
            }
        };
        if let Some(row) = row {
            visit(index + 1, row, &history, &failed_before);
        }
    }
}

/// Adds to each violation how its image came about.
fn tell(violations: Vec<Violation>, lives: &[Life], options: &Options) -> Vec<(Violation, String)> {
    const TOLD: usize = 20;
    let mut stories: Vec<(u64, String)> = Vec::new();
    let wanted: HashSet<u64> = violations.iter().take(TOLD).map(|violation| violation.image).collect();
    let mut number = 0;
    for (life, recorded) in lives.iter().enumerate().filter(|_| !wanted.is_empty()) {
        for_each_boundary(recorded, |boundary, row, history, _| {
            let mut draw = StdRng::seed_from_u64(mix(mix(options.seed, life as u64), boundary as u64));
            let mut sink = |variant: Variant| {
                if wanted.contains(&number) {
                    stories.push((number, story(life, boundary, row, &variant)));
                }
                number += 1;
            };
            Variants::new(history, &mut sink).build(&mut draw);
        });
    }
    let find = |image: u64| stories.iter().find(|(number, _)| *number == image).map(|(_, story)| story.clone());
    violations.into_iter().map(|violation| (violation.clone(), find(violation.image).unwrap_or_default())).collect()
}

fn story(life: usize, boundary: usize, row: Row, variant: &Variant) -> String {
    let what = match &variant.story {
        Story::Zone(zone, condition) => format!("zone {} is {condition:?}", zone.0),
        Story::Changes { fates, pointer, gap } => {
            let fates: Vec<String> =
                fates.iter().map(|(kind, zone, fate)| format!("{kind:?} zone {}: {fate:?}", zone.0)).collect();
            format!("[{}], write pointer {pointer:?}, gaps {gap:?}", fates.join(", "))
        }
    };
    let (name, when) = (row.0.name(), format!("{:?}", row.1).to_lowercase());
    format!("life {life}, event {boundary} ({name} {when}), {}: {what}", variant.class.name())
}
