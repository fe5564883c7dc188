//! The device of a planted bug: passes every command on, but for its bug.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::Bug;
use super::slowness::Slowness;
use crate::buffer::Buffer;
use crate::device::{Command, Identity, Transfer, ZonedDevice};
use crate::error::DeviceError;
use crate::geometry::Geometry;
use crate::zone::{Zone, ZoneCondition, ZoneId};

/// What a buggy drive remembers.
#[derive(Default)]
pub(super) struct Workings {
    pub appends: u64,
    pub flushes: u64,
    pub resets: u64,
    pub cuts: u64,
    pub in_flight: u64,
    /// Bytes appended since the last reset.
    pub written: BTreeMap<ZoneId, u64>,
    /// What was ever appended, by zone and offset of the sector.
    ghosts: BTreeMap<(ZoneId, u64), Vec<u8>>,
    /// Conditions shown instead of the true ones, until the next command to the zone.
    shown: BTreeMap<ZoneId, ZoneCondition>,
    finished: BTreeMap<ZoneId, ()>,
    explicit: Vec<ZoneId>,
    after_cut: BTreeMap<ZoneId, ()>,
    pub forgotten: BTreeMap<String, u64>,
}

impl Workings {
    /// Power was lost.
    pub fn cut(&mut self) {
        self.cuts += 1;
        self.after_cut = self.written.keys().map(|zone| (*zone, ())).collect();
        self.explicit.clear();
    }

    /// A zone that has had data for long.
    pub fn oldest_written(&self) -> Option<ZoneId> {
        self.written.iter().find(|(_, bytes)| **bytes > 0).map(|(zone, _)| *zone)
    }

    fn touched(&mut self, zone: ZoneId) {
        self.shown.remove(&zone);
        self.after_cut.remove(&zone);
    }
}

/// A device with one bug.
pub(super) struct PlantedDevice {
    inner: Rc<dyn ZonedDevice>,
    bug: Bug,
    geometry: Geometry,
    workings: Rc<RefCell<Workings>>,
    slowness: Slowness,
}

impl PlantedDevice {
    /// `geometry` is what the drive claims.
    pub fn new(
        inner: Rc<dyn ZonedDevice>,
        bug: Bug,
        geometry: Geometry,
        workings: Rc<RefCell<Workings>>,
        slowness: Slowness,
    ) -> Self {
        Self { inner, bug, geometry, workings, slowness }
    }

    fn sector(&self) -> usize {
        self.geometry.sector_bytes as usize
    }

    /// Changes the bytes of an append on their way to the medium.
    fn spoil(&self, buffer: &mut Buffer, bytes: &Range<usize>) {
        let (count, side_by_side) = {
            let workings = self.workings.borrow();
            (workings.appends, workings.in_flight >= 3)
        };
        let every = |nth: u64| count.is_multiple_of(nth);
        let sector = self.sector();
        let Some(data) = buffer.get_mut(bytes.clone()) else { return };
        match self.bug {
            Bug::LostWrite if every(37) => data.fill(0),
            Bug::SideBySideLost if side_by_side => data.fill(0),
            Bug::MisdirectedWrite if every(41) && data.len() > sector => data.rotate_left(sector),
            Bug::TornWrite if every(43) && data.len() > sector => {
                let half = data.len() / 2;
                data.iter_mut().skip(half).for_each(|byte| *byte = 0);
            }
            Bug::FlippedBit if every(47) => {
                if let Some(byte) = data.get_mut(count as usize % sector) {
                    *byte ^= 16;
                }
            }
            _ => {}
        }
    }

    /// How many bytes an append really sends: `None` passes the caller's range on.
    fn length(&self, zone: ZoneId, length: usize) -> usize {
        let sector = self.sector();
        let written = self.workings.borrow().written.get(&zone).copied().unwrap_or(0);
        let room = usize::try_from(self.geometry.zone_capacity_bytes.saturating_sub(written)).unwrap_or(usize::MAX);
        match self.bug {
            Bug::UnalignedAccepted => length.next_multiple_of(sector).max(sector),
            Bug::CrossingAccepted if length > room && room > 0 => room,
            Bug::PointerJump if self.workings.borrow().appends.is_multiple_of(29) && length + sector <= room => {
                length + sector
            }
            _ => length,
        }
    }

    fn remember(&self, zone: ZoneId, at: u64, data: &[u8]) {
        let workings = &mut *self.workings.borrow_mut();
        workings.touched(zone);
        for (index, sector) in (0u64..).zip(data.chunks(self.sector())) {
            workings.ghosts.insert((zone, at + index * self.sector() as u64), sector.to_vec());
        }
    }

    /// Bytes behind the pointer that a sound drive would not show.
    fn haunt(&self, zone: ZoneId, offset_bytes: u64, data: &mut [u8]) {
        let workings = self.workings.borrow();
        let haunted = match self.bug {
            Bug::StaleAfterReset => true,
            Bug::GhostsAfterCut => workings.after_cut.contains_key(&zone),
            _ => false,
        };
        if !haunted {
            return;
        }
        for (index, sector) in (0u64..).zip(data.chunks_mut(self.sector())) {
            let at = offset_bytes + index * self.sector() as u64;
            if sector.iter().all(|byte| *byte == 0)
                && let Some(ghost) = workings.ghosts.get(&(zone, at)).filter(|ghost| ghost.len() == sector.len())
            {
                sector.copy_from_slice(ghost);
            }
        }
    }

    fn show(&self, lines: &mut [Zone]) {
        let workings = self.workings.borrow();
        let sector_bytes = self.sector() as u64;
        for line in lines.iter_mut() {
            line.condition = workings.shown.get(&line.id).copied().unwrap_or(line.condition);
            let active = matches!(
                line.condition,
                ZoneCondition::ImplicitOpen | ZoneCondition::ExplicitOpen | ZoneCondition::Closed
            );
            let cut = workings.after_cut.contains_key(&line.id);
            match self.bug {
                Bug::ShortPointer if active && line.write_pointer_bytes > 4 * sector_bytes => {
                    line.write_pointer_bytes -= sector_bytes;
                }
                Bug::PointerAheadAfterCut if cut && line.condition == ZoneCondition::Closed => {
                    line.write_pointer_bytes += sector_bytes;
                }
                Bug::OpenAfterCut if cut && line.condition == ZoneCondition::Closed => {
                    line.condition = ZoneCondition::ImplicitOpen;
                }
                Bug::WrongType if line.id.0 == self.geometry.conventional_zones => {
                    line.condition = ZoneCondition::NotWritePointer;
                }
                _ => {}
            }
        }
        if self.bug == Bug::DuplicateLine && lines.len() > 8 {
            let line = lines[5];
            lines[6] = line;
        }
    }

    /// What a refused append turns into.
    fn forgive(&self, zone: ZoneId, error: DeviceError) -> Result<u64, DeviceError> {
        match (self.bug, &error) {
            (Bug::FullAccepted, DeviceError::Full { .. }) => Ok(0),
            (Bug::WrongClass, DeviceError::ReadOnly { .. }) => Err(DeviceError::Full { zone }),
            _ => Err(error),
        }
    }

    /// The drive's own limits, where the bug changes how they are kept.
    fn refuses(&self, zone: ZoneId) -> Option<DeviceError> {
        let workings = self.workings.borrow();
        let limit = self.geometry.active_zones_max;
        let leaks = self.bug == Bug::ActiveLeak && workings.resets > 400;
        let empty = !workings.written.contains_key(&zone);
        (leaks && empty).then_some(DeviceError::TooManyActive { limit })
    }

    fn zone_command(
        &self,
        zone: ZoneId,
        command: Command<Result<(), DeviceError>>,
        ended: impl FnOnce(&mut Workings) + 'static,
    ) -> Command<Result<(), DeviceError>> {
        let (workings, wrong) = (Rc::clone(&self.workings), self.bug == Bug::WrongClass);
        Box::pin(async move {
            match command.await {
                Ok(()) => {
                    let workings = &mut *workings.borrow_mut();
                    workings.touched(zone);
                    ended(workings);
                    Ok(())
                }
                Err(DeviceError::ReadOnly { zone }) if wrong => Err(DeviceError::Full { zone }),
                Err(error) => Err(error),
            }
        })
    }

    fn nothing(&self) -> Command<Result<(), DeviceError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// An open or append that found every place taken closes the zone that was opened first.
    fn make_room(&self) -> Option<Command<Result<(), DeviceError>>> {
        if self.bug != Bug::ExplicitAutoClosed {
            return None;
        }
        let workings = &mut *self.workings.borrow_mut();
        let full = workings.explicit.len() as u32 >= self.geometry.open_zones_max;
        (full && self.geometry.open_zones_max > 0).then(|| self.inner.close(workings.explicit.remove(0)))
    }
}

/// Counts an append as in flight until it ends, or is dropped.
struct InFlight(Rc<RefCell<Workings>>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.borrow_mut().in_flight -= 1;
    }
}

impl ZonedDevice for PlantedDevice {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn appends_per_zone(&self) -> u16 {
        self.inner.appends_per_zone()
    }

    fn room_bytes(&self) -> Option<u64> {
        self.inner.room_bytes()
    }

    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>> {
        let (report, this) = (self.inner.report(first, count), self.handle());
        Box::pin(async move {
            let mut lines = report.await?;
            this.show(&mut lines);
            Ok(lines)
        })
    }

    fn append(&self, zone: ZoneId, mut buffer: Buffer, bytes: Range<usize>) -> Transfer<u64> {
        if let Some(error) = self.refuses(zone) {
            return Box::pin(std::future::ready((Err(error), buffer)));
        }
        {
            let workings = &mut *self.workings.borrow_mut();
            workings.appends += 1;
            workings.in_flight += 1;
        }
        let held = InFlight(Rc::clone(&self.workings));
        self.spoil(&mut buffer, &bytes);
        let length = self.length(zone, bytes.len());
        if bytes.start + length > buffer.len() {
            let mut larger = self.inner.alloc_buffer(bytes.start + length);
            larger.iter_mut().zip(buffer.iter()).for_each(|(to, from)| *to = *from);
            buffer = larger;
        }
        let sent = buffer.get(bytes.start..bytes.start + length).unwrap_or_default().to_vec();
        let room = self.make_room();
        let this = self.handle();
        let append = self.inner.append(zone, buffer, bytes.start..bytes.start + length);
        Box::pin(async move {
            let held = held;
            if let Some(room) = room {
                room.await.ok();
            }
            let (outcome, buffer) = append.await;
            drop(held);
            let outcome = match outcome {
                Ok(at) => {
                    this.slowness.appended(zone, at..at + length as u64);
                    this.remember(zone, at, &sent);
                    this.workings.borrow_mut().written.insert(zone, at + length as u64);
                    Ok(at)
                }
                Err(error) => this.forgive(zone, error),
            };
            (outcome, buffer)
        })
    }

    fn write(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let write = self.inner.write(zone, offset_bytes, buffer, bytes);
        let accepts = self.bug == Bug::NoPointerCheck;
        Box::pin(async move {
            let (outcome, buffer) = write.await;
            match outcome {
                Err(DeviceError::Condition { .. }) if accepts => (Ok(()), buffer),
                outcome => (outcome, buffer),
            }
        })
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let at = offset_bytes..offset_bytes + bytes.len() as u64;
        let delay = match self.bug {
            Bug::WeakAfterPause => self.slowness.of_weak_places(zone, &at),
            Bug::StreamsFirst => self.slowness.of_streams(&at),
            _ => None,
        };
        let (read, this) = (self.inner.read(zone, offset_bytes, buffer, bytes.clone()), self.handle());
        Box::pin(async move {
            let (outcome, mut buffer) = read.await;
            if let Some(delay) = delay {
                this.slowness.wait(delay).await;
            }
            let data = buffer.get_mut(bytes).unwrap_or_default();
            let outcome = match (outcome, this.bug) {
                (Err(DeviceError::Offline { .. }), Bug::OfflineReadable)
                | (Err(DeviceError::Unreadable { .. }), Bug::UnreadableAsZeroes) => {
                    data.fill(0);
                    Ok(())
                }
                (Err(DeviceError::Unreadable { zone, offset_bytes }), Bug::UnreadableElsewhere) => {
                    Err(DeviceError::Unreadable { zone, offset_bytes: offset_bytes + this.sector() as u64 })
                }
                (Ok(()), Bug::FinishDestroys) if this.workings.borrow().finished.contains_key(&zone) => {
                    data.fill(0);
                    Ok(())
                }
                (Ok(()), _) => {
                    this.haunt(zone, offset_bytes, data);
                    Ok(())
                }
                (outcome, _) => outcome,
            };
            (outcome, buffer)
        })
    }

    fn flush(&self) -> Command<Result<(), DeviceError>> {
        self.workings.borrow_mut().flushes += 1;
        let third = self.workings.borrow().flushes.is_multiple_of(3);
        match self.bug {
            Bug::LyingFlush => self.nothing(),
            Bug::EveryThirdFlush if third => self.nothing(),
            _ => self.inner.flush(),
        }
    }

    fn open(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        let room = self.make_room();
        let open = self.inner.open(zone);
        let open: Command<Result<(), DeviceError>> = Box::pin(async move {
            if let Some(room) = room {
                room.await.ok();
            }
            open.await
        });
        self.zone_command(zone, open, move |workings| workings.explicit.push(zone))
    }

    fn close(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        let (close, this) = (self.inner.close(zone), self.handle());
        let close: Command<Result<(), DeviceError>> = Box::pin(async move {
            let outcome = close.await;
            let empty = !this.workings.borrow().written.contains_key(&zone);
            if this.bug == Bug::CloseOfEmpty && empty && matches!(outcome, Err(DeviceError::Condition { .. })) {
                this.workings.borrow_mut().shown.insert(zone, ZoneCondition::Closed);
                return Ok(());
            }
            if outcome.is_ok() {
                this.workings.borrow_mut().explicit.retain(|open| *open != zone);
                this.workings.borrow_mut().touched(zone);
            }
            outcome
        });
        let wrong = self.bug == Bug::WrongClass;
        Box::pin(async move {
            match close.await {
                Err(DeviceError::ReadOnly { zone }) if wrong => Err(DeviceError::Full { zone }),
                outcome => outcome,
            }
        })
    }

    fn finish(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        if self.bug == Bug::FinishIgnored {
            return self.nothing();
        }
        self.zone_command(zone, self.inner.finish(zone), move |workings| {
            workings.explicit.retain(|open| *open != zone);
            workings.finished.insert(zone, ());
        })
    }

    fn reset(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        if self.bug == Bug::ResetIgnored {
            return self.nothing();
        }
        let next = ZoneId(zone.0 + 1);
        let neighbour = (self.bug == Bug::ResetHitsNeighbour).then(|| self.inner.reset(next));
        let reset = self.inner.reset(zone);
        let reset: Command<Result<(), DeviceError>> = Box::pin(async move {
            if let Some(neighbour) = neighbour {
                neighbour.await.ok();
            }
            reset.await
        });
        self.zone_command(zone, reset, move |workings| {
            workings.resets += 1;
            workings.written.remove(&zone);
            workings.finished.remove(&zone);
            workings.explicit.retain(|open| *open != zone);
        })
    }

    fn alloc_buffer(&self, bytes: usize) -> Buffer {
        self.inner.alloc_buffer(bytes)
    }
}

impl PlantedDevice {
    /// Another handle of the same device.
    fn handle(&self) -> Self {
        Self {
            inner: Rc::clone(&self.inner),
            bug: self.bug,
            geometry: self.geometry.clone(),
            workings: Rc::clone(&self.workings),
            slowness: self.slowness.clone(),
        }
    }
}
