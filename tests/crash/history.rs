//! A device's log replayed: at any point, what is durable, what is not yet, and every image that a loss of power may
//! leave of it.
//!
//! Invariant: an image differs from the durable state only by changes that no good flush had covered, as the assumptions
//! about a drive allow: each of them kept, lost or torn at any sector; what lies below a write pointer and was lost reads
//! as anything or not at all; a pointer never falls behind durable bytes.

use std::collections::{BTreeMap, BTreeSet};

use shingle_hw::faulty::CommandKind;
use shingle_hw::image::{Image, Sector, ZoneImage};
use shingle_hw::recorder::{Action, Event};
use shingle_hw::zone::{ZoneCondition, ZoneId};

/// A command whose effect may still be lost.
#[derive(Clone, Debug)]
pub struct Change {
    pub command: usize,
    pub zone: ZoneId,
    pub kind: CommandKind,
    /// The first sector it writes, within the zone.
    first: usize,
    sectors: Vec<Sector>,
    /// Not ended yet, or ended by a failure of the device.
    pub in_flight: bool,
    /// A flush that should have covered it failed: no later one does.
    doubtful: bool,
}

impl Change {
    /// Sectors it writes; 0 for changes of a zone's state.
    pub fn sectors(&self) -> usize {
        self.sectors.len()
    }
}

/// What becomes of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Kept,
    /// Only so many of its first sectors.
    Torn(usize),
}

/// Where the write pointer of a zone with lost bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// Behind the last sector that was kept.
    Behind,
    /// Behind everything that was ever sent.
    Ahead,
}

/// What lost sectors below a write pointer read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    Zeroes,
    Noise,
    /// Sectors that stand elsewhere in the zone.
    Stale,
    Unreadable,
}

/// The state of a device after some events of its log.
pub struct History {
    /// What is durable for sure.
    durable: Image,
    /// In the order they were given.
    changes: Vec<Change>,
    /// Flushes in flight: the changes they cover.
    flushes: BTreeMap<usize, BTreeSet<usize>>,
    noise: Vec<Sector>,
}

/// Different sectors of noise; a gap is rarely longer.
const NOISE_SECTORS: u64 = 16;

impl History {
    /// A device that held `image` when it was switched on.
    pub fn new(image: Image) -> Self {
        let bytes = image.geometry().sector_bytes;
        let noise = |number| Sector::of(&crate::disk::Block { number: 0xbad0 + number, bytes }.payload());
        Self {
            durable: image,
            changes: Vec::new(),
            flushes: BTreeMap::new(),
            noise: (0..NOISE_SECTORS).map(noise).collect(),
        }
    }

    /// What a loss of power may undo, in the order it was given.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub fn flush_in_flight(&self) -> bool {
        !self.flushes.is_empty()
    }

    pub fn zones(&self) -> u32 {
        self.durable.geometry().zones
    }

    /// Goes on by one event.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Begun { command, action } => self.begin(*command, action),
            Event::Ended { command, outcome } => match outcome {
                Ok(landed_bytes) => self.end(*command, *landed_bytes),
                Err(error) if is_of_the_medium(error) => self.flush_failed(*command),
                // Refused by the rules: nothing was done.
                Err(_) => self.changes.retain(|change| change.command != *command),
            },
            Event::ZoneFailed { zone, condition } => {
                let sectors = self.sectors_of(*zone, &self.kept());
                self.changes.retain(|change| change.zone != *zone);
                self.durable.set(*zone, ZoneImage::new(*condition, sectors));
            }
        }
    }

    fn begin(&mut self, command: usize, action: &Action) {
        let sector_bytes = self.durable.geometry().sector_bytes as usize;
        let first = match action.kind {
            CommandKind::Append => self.sent(action.zone),
            CommandKind::Write => action.offset_bytes as usize / sector_bytes,
            CommandKind::Finish | CommandKind::Reset => 0,
            CommandKind::Flush => {
                let covered = self.changes.iter().filter(|change| !change.in_flight && !change.doubtful);
                self.flushes.insert(command, covered.map(|change| change.command).collect());
                return;
            }
            _ => return,
        };
        self.changes.push(Change {
            command,
            zone: action.zone,
            kind: action.kind,
            first,
            sectors: action.data.chunks(sector_bytes).map(Sector::of).collect(),
            in_flight: true,
            doubtful: false,
        });
    }

    fn end(&mut self, command: usize, landed_bytes: u64) {
        let sector_bytes = u64::from(self.durable.geometry().sector_bytes);
        if let Some(covered) = self.flushes.remove(&command) {
            self.settle(|change| covered.contains(&change.command) && !change.doubtful);
            return;
        }
        let Some(change) = self.changes.iter_mut().find(|change| change.command == command) else { return };
        change.in_flight = false;
        if change.kind == CommandKind::Append {
            change.first = (landed_bytes / sector_bytes) as usize;
        }
        if change.kind == CommandKind::Reset {
            // Durable when it ends; what was before it has no meaning any more.
            let zone = change.zone;
            self.changes.retain(|change| change.zone != zone);
            self.durable.set(zone, ZoneImage::new(ZoneCondition::Empty, Vec::new()));
        }
    }

    fn flush_failed(&mut self, command: usize) {
        if let Some(covered) = self.flushes.remove(&command) {
            let doubtful = self.changes.iter_mut().filter(|change| covered.contains(&change.command));
            doubtful.for_each(|change| change.doubtful = true);
        }
    }

    /// Makes some changes durable.
    fn settle(&mut self, is_durable: impl Fn(&Change) -> bool) {
        let fates: Vec<Fate> =
            self.changes.iter().map(|change| if is_durable(change) { Fate::Kept } else { Fate::Lost }).collect();
        self.durable = self.image(&fates, Pointer::Behind, Gap::Zeroes);
        self.changes.retain(|change| !is_durable(change));
    }

    /// Sectors of a zone that were written or sent.
    fn sent(&self, zone: ZoneId) -> usize {
        let durable = self.durable.zone(zone).map_or(0, |zone| zone.sectors().len());
        let appends = self.changes.iter().filter(|change| change.zone == zone && change.kind == CommandKind::Append);
        appends.map(|change| change.first + change.sectors.len()).max().unwrap_or(0).max(durable)
    }

    /// The fates of a device that lost nothing but what is in flight.
    pub fn kept(&self) -> Vec<Fate> {
        self.changes.iter().map(|change| if change.in_flight { Fate::Lost } else { Fate::Kept }).collect()
    }

    fn sectors_of(&self, zone: ZoneId, fates: &[Fate]) -> Vec<Sector> {
        let image = self.image(fates, Pointer::Behind, Gap::Zeroes);
        image.zone(zone).map(|zone| zone.sectors().to_vec()).unwrap_or_default()
    }

    /// The device after a loss of power in which each change had its fate.
    pub fn image(&self, fates: &[Fate], pointer: Pointer, gap: Gap) -> Image {
        let mut image = self.durable.clone();
        let zones: BTreeSet<ZoneId> = self.changes.iter().map(|change| change.zone).collect();
        for zone in zones {
            let own = self.changes.iter().zip(fates).filter(|(change, _)| change.zone == zone);
            let own: Vec<(&Change, Fate)> = own.map(|(change, fate)| (change, *fate)).collect();
            if let Some(durable) = self.durable.zone(zone) {
                image.set(zone, self.zone_image(zone, durable, &own, pointer, gap));
            }
        }
        image
    }

    fn zone_image(
        &self,
        zone: ZoneId,
        durable: &ZoneImage,
        changes: &[(&Change, Fate)],
        pointer: Pointer,
        gap: Gap,
    ) -> ZoneImage {
        let mut sectors = durable.sectors().to_vec();
        let conventional = durable.condition() == ZoneCondition::NotWritePointer;
        let mut finished = durable.condition() == ZoneCondition::Full;
        let fill = |sectors: &mut Vec<Sector>, until: usize| {
            while sectors.len() < until {
                let filler = if conventional { Sector::Zeroes } else { self.filler(gap, durable, sectors.len()) };
                sectors.push(filler);
            }
        };
        for (change, fate) in changes {
            let count = match fate {
                Fate::Lost => continue,
                Fate::Kept => change.sectors.len(),
                Fate::Torn(count) => *count,
            };
            match change.kind {
                CommandKind::Reset => return ZoneImage::new(ZoneCondition::Empty, Vec::new()),
                CommandKind::Finish => finished = true,
                _ => {}
            }
            fill(&mut sectors, change.first + count.min(change.sectors.len()));
            let places = sectors.iter_mut().skip(change.first);
            places.zip(change.sectors.iter().take(count)).for_each(|(place, sector)| *place = sector.clone());
        }
        if pointer == Pointer::Ahead && !conventional {
            fill(&mut sectors, self.sent(zone));
        }
        let capacity = self.durable.geometry().zone_capacity_bytes / u64::from(self.durable.geometry().sector_bytes);
        let condition = match durable.condition() {
            kept @ (ZoneCondition::NotWritePointer | ZoneCondition::ReadOnly | ZoneCondition::Offline) => kept,
            _ if finished || sectors.len() as u64 == capacity => ZoneCondition::Full,
            _ if sectors.is_empty() => ZoneCondition::Empty,
            _ => ZoneCondition::Closed,
        };
        ZoneImage::new(condition, sectors)
    }

    fn filler(&self, gap: Gap, durable: &ZoneImage, index: usize) -> Sector {
        let noise = || self.noise.get(index % NOISE_SECTORS as usize).cloned().unwrap_or(Sector::Zeroes);
        match gap {
            Gap::Zeroes => Sector::Zeroes,
            Gap::Noise => noise(),
            Gap::Stale => {
                let written = durable.sectors().len().max(1);
                durable.sectors().get(index % written).cloned().unwrap_or_else(noise)
            }
            Gap::Unreadable => Sector::Unreadable,
        }
    }
}

/// Whether a command that ended like this may have been carried out in part.
fn is_of_the_medium(error: &shingle_hw::error::DeviceError) -> bool {
    use shingle_hw::error::DeviceError::{Failed, Unreadable};
    matches!(error, Failed { .. } | Unreadable { .. })
}
