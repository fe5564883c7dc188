//! What a drive's commands share: its port, what is believed of its zones, and what is made of its errors.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

use super::latch::Latch;
use super::port::{Action, Line, Port, PortError};
use crate::device::Command;
use crate::error::DeviceError;
use crate::geometry::Geometry;
use crate::ring::Ring;
use crate::zone::{Zone, ZoneCondition, ZoneId};
use crate::zone_state::ZoneStates;

pub(super) struct Core<P: Port> {
    pub(super) port: P,
    pub(super) ring: Rc<Ring>,
    pub(super) geometry: Geometry,
    pub(super) states: RefCell<ZoneStates>,
    /// Per zone, how often something began or ended in it: a report that was under way meanwhile is outdated.
    touched: RefCell<Vec<u32>>,
    /// The last command that changes a zone's condition, while it is under way.
    managing: RefCell<BTreeMap<ZoneId, Rc<Latch>>>,
    failed: RefCell<Option<DeviceError>>,
    /// Tasks that still owe something to this state.
    pub(super) tasks: Cell<usize>,
    tasks_seen: Cell<usize>,
}

/// Where an append landed, if that can be.
pub(super) fn appended(
    outcome: Result<u64, PortError>,
    length_bytes: u64,
    capacity_bytes: u64,
) -> Result<u64, PortError> {
    let landed = outcome?;
    let possible = landed.checked_add(length_bytes).is_some_and(|end| end <= capacity_bytes);
    if possible { Ok(landed) } else { Err(PortError::Failed { errno: libc::EPROTO }) }
}

impl<P: Port> Core<P> {
    pub(super) fn new(port: P, ring: Rc<Ring>, mut states: ZoneStates) -> Rc<Self> {
        states.allow_appends(port.appends_max());
        let geometry = states.geometry().clone();
        Rc::new(Self {
            port,
            ring,
            touched: RefCell::new(vec![0; geometry.zones as usize]),
            geometry,
            states: RefCell::new(states),
            managing: RefCell::default(),
            failed: RefCell::new(None),
            tasks: Cell::new(0),
            tasks_seen: Cell::new(usize::MAX),
        })
    }

    /// The failure that ended this device, if one did.
    pub(super) fn check(&self) -> Result<(), DeviceError> {
        self.failed.borrow().clone().map_or(Ok(()), Err)
    }

    /// Runs a command to its end, whether or not anybody waits for it.
    pub(super) fn run<T: 'static>(self: &Rc<Self>, command: impl Future<Output = T> + 'static) -> Command<T> {
        self.tasks.set(self.tasks.get() + 1);
        let core = Rc::clone(self);
        let task = self.ring.spawn(async move {
            let outcome = command.await;
            core.tasks.set(core.tasks.get() - 1);
            outcome
        });
        Box::pin(task)
    }

    /// Whether nothing ended since this was asked the last time.
    pub(super) fn is_stuck(&self) -> bool {
        let tasks = self.tasks.get();
        tasks > 0 && self.tasks_seen.replace(tasks) == tasks
    }

    pub(super) fn touch(&self, zone: ZoneId) {
        if let Some(count) = self.touched.borrow_mut().get_mut(zone.0 as usize) {
            *count = count.wrapping_add(1);
        }
    }

    fn touches(&self, zone: ZoneId) -> Option<u32> {
        self.touched.borrow().get(zone.0 as usize).copied()
    }

    /// What an append to a zone has to wait for.
    pub(super) fn managed(&self, zone: ZoneId) -> Option<Rc<Latch>> {
        self.managing.borrow().get(&zone).cloned()
    }

    /// Tells the drive to do what the states say already.
    pub(super) fn manage(self: &Rc<Self>, zone: ZoneId, action: Action) -> Command<Result<(), DeviceError>> {
        self.touch(zone);
        let (core, latch) = (Rc::clone(self), Rc::new(Latch::default()));
        self.managing.borrow_mut().insert(zone, Rc::clone(&latch));
        let command = self.port.manage(zone, action);
        self.run(async move {
            let outcome = match command.await {
                Ok(()) => Ok(()),
                Err(error) => {
                    let (line, newest) = core.examine(zone).await;
                    let idle = core.states.borrow().appends_in_flight(zone) == 0;
                    if let (Ok(line), true, true) = (&line, newest, idle) {
                        core.believe(zone, line);
                    }
                    let pointer = line.map_or(0, |line| line.write_pointer_in_zone());
                    Err(core.describe(zone, pointer, "changing a zone's condition", error, line))
                }
            };
            core.touch(zone);
            let mut managing = core.managing.borrow_mut();
            if managing.get(&zone).is_some_and(|last| Rc::ptr_eq(last, &latch)) {
                managing.remove(&zone);
            }
            drop(managing);
            latch.release();
            outcome
        })
    }

    pub(super) async fn flush(&self) -> Result<(), DeviceError> {
        self.check()?;
        match self.port.flush().await {
            Ok(()) => Ok(()),
            Err(error) => {
                let failure = DeviceError::Failed { reason: "flushing", errno: errno(error) };
                tracing::error!(%failure, "a flush failed: the device takes no more writes");
                *self.failed.borrow_mut() = Some(failure.clone());
                Err(failure)
            }
        }
    }

    pub(super) async fn report(&self, first: ZoneId, count: u32) -> Result<Vec<Zone>, DeviceError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let range = first.0 as usize..(first.0 + count) as usize;
        let before: Vec<u32> = self.touched.borrow().get(range).unwrap_or_default().to_vec();
        let lines = self.port.report(first, count).await.map_err(report_failed)?;
        if lines.len() != count as usize {
            return Err(DeviceError::Failed { reason: "a zone report is too short", errno: libc::EPROTO });
        }
        for ((id, line), before) in (first.0..).map(ZoneId).zip(&lines).zip(before) {
            let changing = self.states.borrow().is_busy(id) || self.managed(id).is_some();
            if self.touches(id) == Some(before) && !changing {
                self.believe(id, line);
            } else {
                self.believe_loss(id, line);
            }
        }
        Ok(self.states.borrow().report(first, count))
    }

    /// An append came back with an error: what is to be made of it. The zone is in order again afterwards.
    pub(super) async fn append_failed(
        &self,
        zone: ZoneId,
        offset_bytes: u64,
        length_bytes: u64,
        error: PortError,
    ) -> DeviceError {
        let line = loop {
            let (line, newest) = self.examine(zone).await;
            // Only the last of several may believe a pointer: the others are still moving it.
            if newest || line.is_err() || self.states.borrow().appends_in_flight(zone) > 1 {
                break line;
            }
        };
        self.states.borrow_mut().end_append_at(zone, None, length_bytes);
        if let Ok(line) = &line
            && !self.states.borrow().is_busy(zone)
        {
            self.believe(zone, line);
        }
        self.touch(zone);
        self.describe(zone, offset_bytes, "appending", error, line)
    }

    /// An error of a read or of a write into a conventional zone.
    pub(super) async fn explain(
        &self,
        zone: ZoneId,
        offset_bytes: u64,
        reason: &'static str,
        error: PortError,
    ) -> DeviceError {
        let (line, _) = self.examine(zone).await;
        self.describe(zone, offset_bytes, reason, error, line)
    }

    /// Reports one zone; the second value tells whether the report is the newest there can be: nothing began or ended
    /// in the zone meanwhile.
    async fn examine(&self, zone: ZoneId) -> (Result<Line, PortError>, bool) {
        let before = self.touches(zone);
        let line = self.port.report(zone, 1).await;
        let line = line.and_then(|lines| lines.first().copied().ok_or(PortError::Failed { errno: libc::EPROTO }));
        if let Ok(line) = &line {
            self.believe_loss(zone, line);
        }
        (line, self.touches(zone) == before)
    }

    /// Takes over what the drive says of an idle zone.
    fn believe(&self, zone: ZoneId, line: &Line) {
        let mut states = self.states.borrow_mut();
        let Some(known) = states.zone(zone) else { return };
        let written = states.written_bytes(zone);
        match line.condition {
            ZoneCondition::NotWritePointer => {}
            ZoneCondition::ReadOnly => states.set_read_only(zone),
            ZoneCondition::Offline => states.set_offline(zone),
            ZoneCondition::Full => {
                let filled = if known.condition == ZoneCondition::Full { written } else { line.capacity_bytes };
                states.adopt(zone, ZoneCondition::Full, filled);
            }
            condition => {
                let pointer = line.write_pointer_in_zone();
                let pointer = if condition == ZoneCondition::Empty { 0 } else { pointer };
                if pointer != written {
                    tracing::warn!(zone = zone.0, pointer, written, "a write pointer is not where it was left");
                }
                states.adopt(zone, condition, pointer);
            }
        }
    }

    /// Takes over at least that a zone can no longer be written or read.
    fn believe_loss(&self, zone: ZoneId, line: &Line) {
        match line.condition {
            ZoneCondition::ReadOnly => self.states.borrow_mut().set_read_only(zone),
            ZoneCondition::Offline => self.states.borrow_mut().set_offline(zone),
            _ => {}
        }
    }

    /// A port's error as a device's, made exact by the zone's report where the port could not tell.
    fn describe(
        &self,
        zone: ZoneId,
        offset_bytes: u64,
        reason: &'static str,
        error: PortError,
        line: Result<Line, PortError>,
    ) -> DeviceError {
        let pointer = line.map_or(0, |line| line.write_pointer_in_zone());
        match (error, line) {
            (PortError::InvalidField, _) => DeviceError::InvalidField { offset_bytes, length_bytes: 0 },
            (PortError::Boundary, _) => DeviceError::Boundary { zone, offset_bytes, length_bytes: 0 },
            (PortError::Full, _) => DeviceError::Full { zone },
            (PortError::ReadOnly, _) => DeviceError::ReadOnly { zone },
            (PortError::Offline, _) => DeviceError::Offline { zone },
            (PortError::TooManyOpen, _) => DeviceError::TooManyOpen { limit: self.geometry.open_zones_max },
            (PortError::TooManyActive, _) => DeviceError::TooManyActive { limit: self.geometry.active_zones_max },
            (PortError::Condition, _) => DeviceError::Condition { zone },
            (PortError::WritePointer, _) => {
                DeviceError::WritePointer { zone, offset_bytes, write_pointer_bytes: pointer }
            }
            (PortError::Failed { errno }, _) => DeviceError::Failed { reason, errno },
            (PortError::Medium { .. }, Err(error)) => {
                DeviceError::Failed { reason: "reporting zones", errno: errno(error) }
            }
            (PortError::Medium { errno }, Ok(line)) => match line.condition {
                ZoneCondition::Offline => DeviceError::Offline { zone },
                ZoneCondition::ReadOnly if reason != "reading" => DeviceError::ReadOnly { zone },
                _ if reason == "reading" => DeviceError::Unreadable { zone, offset_bytes },
                ZoneCondition::NotWritePointer => DeviceError::Failed { reason, errno },
                ZoneCondition::Full => DeviceError::Full { zone },
                _ if pointer != offset_bytes => {
                    DeviceError::WritePointer { zone, offset_bytes, write_pointer_bytes: pointer }
                }
                _ => DeviceError::Failed { reason, errno },
            },
        }
    }
}

fn report_failed(error: PortError) -> DeviceError {
    DeviceError::Failed { reason: "reporting zones", errno: errno(error) }
}

fn errno(error: PortError) -> i32 {
    match error {
        PortError::Medium { errno } | PortError::Failed { errno } => errno,
        _ => libc::EIO,
    }
}
