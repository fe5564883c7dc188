//! A host-managed drive emulated in one sparse file, over io_uring and direct I/O.
//!
//! Invariants: it obeys every zone rule of the state machine; after a loss of power or of the process, write pointers
//! claim only durable bytes and all that a flush had covered. How that needs only one `fdatasync` per flush is in
//! FORMAT.md beside this file's modules.

mod core;
mod create;
mod format;
mod look;
mod open;
mod table;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

pub use create::{CreateError, create};
pub use open::OpenError;

pub(super) use look::look;

use self::core::{Core, failure};
use super::transfer;
use crate::buffer::{Buffer, BufferPool};
use crate::crc::crc32c;
use crate::device::{Command, Identity, Part, Transfer, ZonedDevice, parts_length};
use crate::error::DeviceError;
use crate::geometry::Geometry;
use crate::ring::Ring;
use crate::zone::{Zone, ZoneId};

/// What emulated drives say that they are.
const MODEL: &str = "Shingle emulated SMR";

/// An emulated drive, open. Dropping it waits for its commands in flight and flushes nothing.
pub struct FileDevice {
    core: Rc<Core>,
    identity: Identity,
    geometry: Geometry,
    pool: BufferPool,
}

/// Opens an emulated drive for this process alone. Blocks: it reads the zone table and checks what the last flush
/// before a crash covered. The device's commands go through `ring`, its buffers come from `pool`.
pub fn open(path: &Path, ring: Rc<Ring>, pool: BufferPool) -> Result<FileDevice, OpenError> {
    let recovered = open::recover(path)?;
    let layout = format::Layout::of(&recovered.geometry);
    let identity = Identity { model: MODEL.to_owned(), serial: recovered.serial };
    let core = Core::new(recovered.file, ring, layout, recovered.states, recovered.table);
    Ok(FileDevice { core, identity, geometry: recovered.geometry, pool })
}

impl FileDevice {
    fn settled<T: 'static>(outcome: T) -> Command<T> {
        Box::pin(std::future::ready(outcome))
    }

    /// Changes a zone's condition, which the next flush makes durable.
    fn change(
        &self,
        zone: ZoneId,
        change: impl FnOnce(&mut crate::zone_state::ZoneStates, ZoneId) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        self.core.check()?;
        change(&mut self.core.states.borrow_mut(), zone)
    }
}

/// Why bytes were not taken: a full file system is not the end of the device.
fn refusal(reason: &'static str, zone: ZoneId, length_bytes: u64, error: &std::io::Error) -> DeviceError {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => DeviceError::NoSpace { zone, length_bytes },
        _ => failure(reason, error),
    }
}

impl ZonedDevice for FileDevice {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn room_bytes(&self) -> Option<u64> {
        let space = rustix::fs::fstatvfs(&*self.core.file).ok()?;
        Some(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>> {
        // A device whose flush failed is lost to its owner, who asks here whether it still lives.
        Self::settled(self.core.check().map(|()| self.core.states.borrow().report(first, count)))
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
        let at = core.layout.zone_offset(zone.0, offset);
        let known = buffer.known_crc32c(&bytes);
        let write = core.ring.write_at(&core.file, at, buffer, bytes);
        // The disk works meanwhile.
        let crc = known.or_else(|| write.inspect(crc32c));
        self.core.run(async move {
            let (outcome, buffer) = write.await;
            let outcome = match (outcome, crc) {
                (Ok(_), Some(crc)) => {
                    core.states.borrow_mut().end_append(zone, length);
                    core.table.borrow_mut().appended(zone, crc, length);
                    Ok(offset)
                }
                (outcome, _) => {
                    core.states.borrow_mut().end_append(zone, 0);
                    let error = outcome.err().unwrap_or(std::io::ErrorKind::Other.into());
                    Err(refusal("appending", zone, length, &error))
                }
            };
            (outcome, buffer)
        })
    }

    fn append_parts(&self, zone: ZoneId, parts: Vec<Part>) -> Command<(Result<u64, DeviceError>, Vec<Part>)> {
        let checked = self.core.check().and_then(|()| parts_length(&parts, self.geometry.sector_bytes));
        let begun = checked.and_then(|length| Ok((self.core.states.borrow_mut().begin_append(zone, length)?, length)));
        let (offset, length) = match begun {
            Ok(begun) => begun,
            Err(error) => return Self::settled((Err(error), parts)),
        };
        let core = Rc::clone(&self.core);
        let mut known: VecDeque<_> = parts.iter().map(|(buffer, bytes)| buffer.known_crc32c(bytes)).collect();
        let write = core.ring.write_parts_at(&core.file, core.layout.zone_offset(zone.0, offset), parts);
        let crcs = write.inspect(|bytes| {
            let known = known.pop_front().flatten();
            (known.unwrap_or_else(|| crc32c(bytes)), bytes.len() as u64)
        });
        self.core.run(async move {
            let (outcome, parts) = write.await;
            let outcome = match outcome {
                Ok(_) => {
                    core.states.borrow_mut().end_append(zone, length);
                    crcs.into_iter().for_each(|(crc, bytes)| core.table.borrow_mut().appended(zone, crc, bytes));
                    Ok(offset)
                }
                Err(error) => {
                    core.states.borrow_mut().end_append(zone, 0);
                    Err(refusal("appending", zone, length, &error))
                }
            };
            (outcome, parts)
        })
    }

    fn write(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let states = &self.core.states;
        let checked = self
            .core
            .check()
            .and_then(|()| transfer::check_write(&states.borrow(), zone, offset_bytes, &buffer, &bytes));
        let length = match checked {
            Ok(length) => length,
            Err(error) => return Self::settled((Err(error), buffer)),
        };
        let core = Rc::clone(&self.core);
        let write = core.ring.write_at(&core.file, core.layout.zone_offset(zone.0, offset_bytes), buffer, bytes);
        self.core.run(async move {
            let (outcome, buffer) = write.await;
            core.unsynced.set(true);
            (outcome.map(|_| ()).map_err(|error| refusal("writing", zone, length, &error)), buffer)
        })
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, mut buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let begun = transfer::begin_read(&self.core.states.borrow(), zone, offset_bytes, &mut buffer, &bytes);
        let stored = match begun {
            Ok(stored) if !stored.is_empty() => stored,
            settled => return Self::settled((settled.map(|_| ()), buffer)),
        };
        let at = self.core.layout.zone_offset(zone.0, offset_bytes);
        let read = self.core.ring.read_at(&self.core.file, at, buffer, stored.clone());
        Box::pin(async move {
            let (outcome, buffer) = read.await;
            let outcome = match outcome {
                Ok(count) if count == stored.len() => Ok(()),
                Ok(_) => Err(DeviceError::Failed { reason: "the file was truncated", errno: libc::EIO }),
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                    Err(DeviceError::Unreadable { zone, offset_bytes })
                }
                Err(error) => Err(failure("reading", &error)),
            };
            (outcome, buffer)
        })
    }

    fn flush(&self) -> Command<Result<(), DeviceError>> {
        Box::pin(self.core.flush())
    }

    fn open(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        Self::settled(self.change(zone, |states, zone| states.open(zone)))
    }

    fn close(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        Self::settled(self.change(zone, |states, zone| states.close(zone)))
    }

    fn finish(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        let outcome = self.change(zone, |states, zone| states.finish(zone));
        if outcome.is_ok() {
            self.core.table.borrow_mut().changed(zone);
        }
        Self::settled(outcome)
    }

    fn reset(&self, zone: ZoneId) -> Command<Result<(), DeviceError>> {
        if let Err(error) = self.change(zone, |states, zone| states.begin_reset(zone)) {
            return Self::settled(Err(error));
        }
        self.core.table.borrow_mut().reset(zone);
        self.core.run(Rc::clone(&self.core).finish_reset(zone, self.geometry.zone_bytes))
    }

    /// From the device's pool; beyond the pool's bound from the heap, so that a command never lacks memory. Callers
    /// that must stay within their budget ask the pool itself.
    fn alloc_buffer(&self, bytes: usize) -> Buffer {
        self.pool.try_alloc(bytes).unwrap_or_else(|| Buffer::new_unpooled(bytes))
    }
}

impl Drop for FileDevice {
    fn drop(&mut self) {
        // Commands that nobody waits for any more still hold the file, and with it the lock.
        while self.core.tasks.get() > 0 || Rc::strong_count(&self.core.file) > 1 {
            if self.core.ring.wait() == 0 && self.core.ring.pending() == 0 {
                tracing::error!(disk = self.identity.serial, "commands of a dropped device never end; it stays locked");
                return;
            }
        }
        open::unlock(&self.core.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_drive_opens_again_while_a_child_just_started_still_has_its_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("disk");
        let geometry = Geometry {
            zones: 4,
            zone_bytes: 1 << 20,
            zone_capacity_bytes: 1 << 20,
            conventional_zones: 0,
            sector_bytes: 4096,
            open_zones_max: 0,
            active_zones_max: 0,
            transfer_bytes_max: 1 << 20,
        };
        create(&path, &geometry, "inherited").expect("made");
        let (ring, pool) = (Ring::new(4).expect("a ring"), BufferPool::new(1 << 20).expect("mapped"));
        let device = open(&path, Rc::clone(&ring), pool.clone()).expect("opens");
        let of_child = device.core.file.try_clone().expect("the same open file");
        drop(device);
        drop(open(&path, ring, pool).expect("opens again"));
        drop(of_child);
    }
}
