//! A drive outside this process behind a port: what every back end for one does alike.
//!
//! The zone rules are applied here first, by the same state machine the emulated drives obey, so that every device
//! refuses the same commands for the same reasons; what the drive refuses besides is looked up in its own report.
//!
//! Invariants: after a failed append its zone is reported, and believed, before anything else is appended to it (Linux
//! from 6.10 on refuses all writes to such a zone until then); nothing is appended to a zone while a command that
//! changes its condition is under way; bytes behind the write pointer are never read from the medium; after a failed
//! flush the device takes no more commands that change it.

mod core;
mod latch;
mod layout;
mod port;

use std::ops::Range;
use std::rc::Rc;

pub use self::layout::LayoutError;
pub(super) use self::layout::{Limits, understand};
pub(super) use self::port::{Action, Line, LineKind, Port, PortError};

use self::core::{Core, appended};
use super::transfer;
use crate::buffer::{Buffer, BufferPool};
use crate::device::{Command, Identity, Transfer, ZonedDevice};
use crate::error::DeviceError;
use crate::geometry::Geometry;
use crate::ring::Ring;
use crate::zone::{Zone, ZoneId};
use crate::zone_state::ZoneStates;

/// A real drive, open. Dropping it waits for its commands in flight and flushes nothing.
pub struct Drive<P: Port> {
    core: Rc<Core<P>>,
    identity: Identity,
    pool: BufferPool,
}

impl<P: Port> Drive<P> {
    pub(super) fn new(port: P, ring: Rc<Ring>, states: ZoneStates, identity: Identity, pool: BufferPool) -> Self {
        Self { core: Core::new(port, ring, states), identity, pool }
    }

    fn settled<T: 'static>(outcome: T) -> Command<T> {
        Box::pin(std::future::ready(outcome))
    }

    fn manage(
        &self,
        zone: ZoneId,
        action: Action,
        begin: impl FnOnce(&mut ZoneStates, ZoneId) -> Result<(), DeviceError>,
    ) -> Command<Result<(), DeviceError>> {
        let begun = self.core.check().and_then(|()| begin(&mut self.core.states.borrow_mut(), zone));
        match begun {
            Ok(()) => self.core.manage(zone, action),
            Err(error) => Self::settled(Err(error)),
        }
    }
}

impl<P: Port> ZonedDevice for Drive<P> {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn geometry(&self) -> &Geometry {
        &self.core.geometry
    }

    fn appends_per_zone(&self) -> u16 {
        self.core.port.appends_max()
    }

    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>> {
        let count = self.geometry().zones.saturating_sub(first.0).min(count);
        let core = Rc::clone(&self.core);
        self.core.run(async move { core.report(first, count).await })
    }

    fn append(&self, zone: ZoneId, buffer: Buffer, bytes: Range<usize>) -> Transfer<u64> {
        let states = &self.core.states;
        let begun =
            self.core.check().and_then(|()| transfer::begin_append(&mut states.borrow_mut(), zone, &buffer, &bytes));
        let (offset, length) = match begun {
            Ok(begun) => begun,
            Err(error) => return Self::settled((Err(error), buffer)),
        };
        let core = Rc::clone(&self.core);
        core.touch(zone);
        let managed = core.managed(zone);
        self.core.run(async move {
            if let Some(managed) = managed {
                managed.wait().await;
            }
            let (outcome, buffer) = core.port.append(zone, offset, buffer, bytes).await;
            let capacity = core.geometry.zone_capacity_bytes;
            let outcome = match appended(outcome, length, capacity) {
                Ok(landed) => {
                    core.states.borrow_mut().end_append_at(zone, Some(landed), length);
                    core.touch(zone);
                    Ok(landed)
                }
                Err(error) => Err(core.append_failed(zone, offset, length, error).await),
            };
            (outcome, buffer)
        })
    }

    fn write(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let states = &self.core.states;
        let checked = self
            .core
            .check()
            .and_then(|()| transfer::check_write(&states.borrow(), zone, offset_bytes, &buffer, &bytes));
        if let Err(error) = checked {
            return Self::settled((Err(error), buffer));
        }
        let core = Rc::clone(&self.core);
        self.core.run(async move {
            let (outcome, buffer) = core.port.write(zone, offset_bytes, buffer, bytes).await;
            let outcome = match outcome {
                Ok(()) => Ok(()),
                Err(error) => Err(core.explain(zone, offset_bytes, "writing", error).await),
            };
            (outcome, buffer)
        })
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, mut buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let begun = transfer::begin_read(&self.core.states.borrow(), zone, offset_bytes, &mut buffer, &bytes);
        let stored = match begun {
            Ok(stored) if !stored.is_empty() => stored,
            settled => return Self::settled((settled.map(|_| ()), buffer)),
        };
        let core = Rc::clone(&self.core);
        self.core.run(async move {
            let (outcome, buffer) = core.port.read(zone, offset_bytes, buffer, stored).await;
            let outcome = match outcome {
                Ok(()) => Ok(()),
                Err(error) => Err(core.explain(zone, offset_bytes, "reading", error).await),
            };
            (outcome, buffer)
        })
    }

    fn flush(&self) -> Command<Result<(), DeviceError>> {
        let core = Rc::clone(&self.core);
        self.core.run(async move { core.flush().await })
    }

    fn open(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.manage(zone, Action::Open, ZoneStates::open)
    }

    fn close(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        // SMR drives make an opened zone without data empty again, ZNS leaves it closed, holding a resource for
        // nothing. There is nothing to lose in it.
        let unwritten = self.core.states.borrow().written_bytes(zone) == 0;
        self.manage(zone, if unwritten { Action::Reset } else { Action::Close }, ZoneStates::close)
    }

    fn finish(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        self.manage(zone, Action::Finish, ZoneStates::finish)
    }

    fn reset(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        if let Err(error) = self.core.check() {
            return Self::settled(Err(error));
        }
        if let Err(error) = self.core.states.borrow_mut().begin_reset(zone) {
            return Self::settled(Err(error));
        }
        let core = Rc::clone(&self.core);
        let command = self.core.manage(zone, Action::Reset);
        self.core.run(async move {
            let outcome = command.await;
            let outcome = if outcome.is_ok() { core.flush().await } else { outcome };
            core.states.borrow_mut().end_reset(zone);
            core.touch(zone);
            outcome
        })
    }

    /// From the device's pool; beyond the pool's bound from the heap, so that a command never lacks memory. Callers
    /// that must stay within their budget ask the pool itself.
    fn alloc_buffer(&self, bytes: usize) -> Buffer {
        self.pool.try_alloc(bytes).unwrap_or_else(|| Buffer::new_unpooled(bytes))
    }
}

impl<P: Port> Drop for Drive<P> {
    fn drop(&mut self) {
        // Commands that nobody waits for any more still hold the drive.
        while self.core.tasks.get() > 0 {
            if self.core.ring.wait() == 0 && self.core.ring.pending() == 0 {
                self.core.port.wait();
                if self.core.ring.poll() == 0 && self.core.is_stuck() {
                    tracing::error!(disk = self.identity.serial, "commands of a dropped device never end");
                    return;
                }
            }
        }
    }
}
