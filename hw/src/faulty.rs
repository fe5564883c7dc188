//! A device that misbehaves on demand, wrapped around any other one.
//!
//! Invariant: without faults it behaves exactly as the device it wraps; the same seed and the same calls give the same
//! misbehaviour.

mod faults;

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

pub use faults::{CommandKind, Fault, Faults};

use crate::buffer::Buffer;
use crate::device::{Command, Identity, Transfer, ZonedDevice};
use crate::error::DeviceError;
use crate::geometry::Geometry;
use crate::zone::{Zone, ZoneCondition, ZoneId};

/// How a delay passes: the runtime's timer, or a simulation's.
pub type Sleep = Rc<dyn Fn(Duration) -> Command<()>>;

/// A device with faults. `Faults` controls them while it runs.
pub struct FaultyDevice {
    inner: Rc<dyn ZonedDevice>,
    faults: Faults,
    sleep: Sleep,
}

/// What becomes of one command.
enum Fate {
    /// It is passed on.
    Normal,
    /// It fails and does nothing.
    Refused(DeviceError),
    /// A fault that was armed for it strikes.
    Struck(Fault),
}

impl FaultyDevice {
    /// Wraps a device; no fault is active. `seed` decides whatever the faults leave open.
    pub fn new(inner: Rc<dyn ZonedDevice>, sleep: Sleep, seed: u64) -> Self {
        Self { inner, faults: Faults::new(seed), sleep }
    }

    /// The control of this device's faults; clones control the same.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    fn fate(&self, kind: CommandKind, zone: Option<ZoneId>) -> Fate {
        let struck = self.faults.next(kind);
        if self.faults.is_dead() {
            return Fate::Refused(DeviceError::Failed { reason: "the disk is dead", errno: libc::ENODEV });
        }
        let condition = zone.and_then(|zone| self.faults.condition(zone).map(|condition| (zone, condition)));
        match (condition, struck) {
            (Some((zone, ZoneCondition::Offline)), _) => Fate::Refused(DeviceError::Offline { zone }),
            (Some((zone, _)), _) if kind != CommandKind::Read => Fate::Refused(DeviceError::ReadOnly { zone }),
            (_, Some(Fault::Error { error, .. })) => Fate::Refused(error),
            (_, Some(fault)) => Fate::Struck(fault),
            _ => Fate::Normal,
        }
    }

    /// Adds what is wrong with the device's timing.
    fn timed<T: 'static>(&self, kind: CommandKind, command: Command<T>) -> Command<T> {
        let delay = self.faults.delay(kind).map(|delay| (self.sleep)(delay));
        let stalled = self.faults.is_stalled();
        if delay.is_none() && !stalled {
            return command;
        }
        Box::pin(async move {
            let outcome = command.await;
            if let Some(delay) = delay {
                delay.await;
            }
            if stalled {
                std::future::pending::<()>().await;
            }
            outcome
        })
    }

    /// A command about a zone that carries no data.
    fn zone_command(
        &self,
        kind: CommandKind,
        zone: ZoneId,
        pass: impl FnOnce(&dyn ZonedDevice) -> Command<Result<(), DeviceError>>,
    ) -> Command<Result<(), DeviceError>> {
        let command = match self.fate(kind, Some(zone)) {
            Fate::Refused(error) => ready(Err(error)),
            _ => pass(&*self.inner),
        };
        self.timed(kind, command)
    }

    /// Appends only some of the first sectors, then fails.
    fn torn_append(&self, zone: ZoneId, buffer: Buffer, bytes: Range<usize>) -> Transfer<u64> {
        let sector_bytes = self.inner.geometry().sector_bytes as usize;
        let sectors = bytes.len() / sector_bytes;
        let kept = self.faults.draw(sectors as u64) as usize * sector_bytes;
        let error = DeviceError::Failed { reason: "a torn append", errno: libc::EIO };
        if kept == 0 {
            return ready((Err(error), buffer));
        }
        let append = self.inner.append(zone, buffer, bytes.start..bytes.start + kept);
        Box::pin(async move {
            let (outcome, buffer) = append.await;
            (Err(outcome.err().unwrap_or(error)), buffer)
        })
    }

    /// Another place of the same zone, where a read of so many bytes is possible.
    fn misdirect(&self, offset_bytes: u64, length: usize) -> u64 {
        let geometry = self.inner.geometry();
        let sector_bytes = u64::from(geometry.sector_bytes);
        let places = geometry.zone_capacity_bytes.saturating_sub(length as u64) / sector_bytes;
        let other = self.faults.draw(places) * sector_bytes;
        if other == offset_bytes { other + sector_bytes.min(places * sector_bytes) } else { other }
    }
}

fn ready<T: 'static>(outcome: T) -> Command<T> {
    Box::pin(std::future::ready(outcome))
}

impl ZonedDevice for FaultyDevice {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }

    fn geometry(&self) -> &Geometry {
        self.inner.geometry()
    }

    fn appends_per_zone(&self) -> u16 {
        self.inner.appends_per_zone()
    }

    fn room_bytes(&self) -> Option<u64> {
        self.faults.room().or_else(|| self.inner.room_bytes())
    }

    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>> {
        let command: Command<Result<Vec<Zone>, DeviceError>> = match self.fate(CommandKind::Report, None) {
            Fate::Refused(error) => ready(Err(error)),
            _ => {
                let (report, faults) = (self.inner.report(first, count), self.faults());
                Box::pin(async move {
                    let mut zones = report.await?;
                    for zone in &mut zones {
                        zone.condition = faults.condition(zone.id).unwrap_or(zone.condition);
                    }
                    Ok(zones)
                })
            }
        };
        self.timed(CommandKind::Report, command)
    }

    fn append(&self, zone: ZoneId, buffer: Buffer, bytes: Range<usize>) -> Transfer<u64> {
        let command = match self.fate(CommandKind::Append, Some(zone)) {
            Fate::Refused(error) => ready((Err(error), buffer)),
            Fate::Struck(Fault::TornAppend) => self.torn_append(zone, buffer, bytes),
            _ => self.inner.append(zone, buffer, bytes),
        };
        self.timed(CommandKind::Append, command)
    }

    fn write(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let command = match self.fate(CommandKind::Write, Some(zone)) {
            Fate::Refused(error) => ready((Err(error), buffer)),
            _ => self.inner.write(zone, offset_bytes, buffer, bytes),
        };
        self.timed(CommandKind::Write, command)
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let fate = self.fate(CommandKind::Read, Some(zone));
        let at = match &fate {
            Fate::Refused(error) => return self.timed(CommandKind::Read, ready((Err(error.clone()), buffer))),
            Fate::Struck(Fault::MisdirectedRead) => self.misdirect(offset_bytes, bytes.len()),
            _ => offset_bytes,
        };
        if let Some(offset_bytes) = self.faults.unreadable(zone, at, bytes.len() as u64) {
            let error = DeviceError::Unreadable { zone, offset_bytes };
            return self.timed(CommandKind::Read, ready((Err(error), buffer)));
        }
        let flip = matches!(fate, Fate::Struck(Fault::FlippedRead)).then(|| self.faults.draw(bytes.len() as u64 * 8));
        let (read, faults) = (self.inner.read(zone, at, buffer, bytes.clone()), self.faults());
        let command = Box::pin(async move {
            let (outcome, mut buffer) = read.await;
            let data = buffer.get_mut(bytes).unwrap_or_default();
            if outcome.is_ok() {
                faults.rot(zone, at, data);
                if let Some(bit) = flip
                    && let Some(byte) = data.get_mut(bit as usize / 8)
                {
                    *byte ^= 1 << (bit % 8);
                }
            }
            (outcome, buffer)
        });
        self.timed(CommandKind::Read, command)
    }

    fn flush(&self) -> Command<Result<(), DeviceError>> {
        let command = match self.fate(CommandKind::Flush, None) {
            Fate::Refused(error) => ready(Err(error)),
            Fate::Struck(Fault::LostFlush) => ready(Ok(())),
            _ if self.faults.loses_flushes() => ready(Ok(())),
            _ => self.inner.flush(),
        };
        self.timed(CommandKind::Flush, command)
    }

    fn open(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.zone_command(CommandKind::Open, zone, |inner| inner.open(zone))
    }

    fn close(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.zone_command(CommandKind::Close, zone, |inner| inner.close(zone))
    }

    fn finish(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.zone_command(CommandKind::Finish, zone, |inner| inner.finish(zone))
    }

    fn reset(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        let faults = self.faults();
        self.zone_command(CommandKind::Reset, zone, move |inner| {
            let reset = inner.reset(zone);
            Box::pin(async move {
                reset.await?;
                faults.forget_rot(zone);
                Ok(())
            })
        })
    }

    fn alloc_buffer(&self, bytes: usize) -> Buffer {
        self.inner.alloc_buffer(bytes)
    }
}
