//! An emulated drive to be looked at: read only, without its lock, also while a host has it, and as far as damage allows.
//!
//! Invariants: the file is open for reading, so that the kernel refuses what this code would not; what is shown is what a
//! flush made durable. Every report is a new look: write pointers of a drive in use move.

use std::cell::RefCell;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::core::failure;
use super::format::{Layout, PAGE_BYTES, PAGE_ZONES};
use super::open::{self, OpenError, Superblocks, ZoneTable};
use crate::backend::look::{Damage, View};
use crate::backend::transfer;
use crate::buffer::{Buffer, BufferPool};
use crate::device::{Command, Identity, Transfer};
use crate::error::DeviceError;
use crate::geometry::Geometry;
use crate::ring::Ring;
use crate::zone::{Zone, ZoneId};
use crate::zone_state::ZoneStates;

/// A page that its owner is writing just now reads as damaged: it is read again, so often and after so long.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// An emulated drive, open to be looked at.
pub(in crate::backend) struct Snapshot {
    path: PathBuf,
    file: Rc<File>,
    ring: Rc<Ring>,
    layout: Layout,
    identity: Identity,
    geometry: Geometry,
    states: RefCell<ZoneStates>,
    pool: BufferPool,
}

/// Opens a drive to be looked at: the drive, what is wrong with its file, and whether another process has it.
pub(in crate::backend) fn look(
    path: &Path,
    ring: Rc<Ring>,
    pool: BufferPool,
) -> Result<(Snapshot, Vec<Damage>, bool), OpenError> {
    let mut file = open::open_to_look(path, true)?;
    let locked = open::is_locked(&file);
    let Superblocks { geometry, serial, bad } = open::examine_superblocks(path, &file)?;
    if !open::reads_direct(&file, geometry.sector_bytes) {
        file = open::open_to_look(path, false)?;
    }
    let layout = Layout::of(&geometry);
    let mut damages: Vec<Damage> = bad.into_iter().map(|copy| Damage::Superblock { copy }).collect();
    let found_bytes = file.metadata().map_err(|source| open::OpenError::from_io(path, source))?.len();
    if found_bytes < layout.file_bytes {
        let lost_bytes = found_bytes.saturating_sub(layout.data_offset);
        let first_zone = u32::try_from(lost_bytes / geometry.zone_bytes).unwrap_or(u32::MAX);
        damages.push(Damage::Truncated { expected_bytes: layout.file_bytes, found_bytes, first_zone });
    }
    let table = settled_table(path, &file, &geometry, locked)?;
    damages.extend(table.lost_pages.iter().map(|&page| Damage::ZoneTable {
        page,
        file_bytes: layout.page_offset(page, 0),
        zones: page * PAGE_ZONES as u32..geometry.zones.min((page + 1) * PAGE_ZONES as u32),
    }));
    let identity = Identity { model: super::MODEL.to_owned(), serial };
    let states = RefCell::new(table.states);
    let (path, file) = (path.to_owned(), Rc::new(file));
    Ok((Snapshot { path, file, ring, layout, identity, geometry, states, pool }, damages, locked))
}

fn settled_table(path: &Path, file: &File, geometry: &Geometry, in_use: bool) -> Result<ZoneTable, OpenError> {
    let mut table = open::read_table(path, file, geometry)?;
    for _ in 1..TRIES {
        if table.lost_pages.is_empty() || !in_use {
            break;
        }
        std::thread::sleep(PAUSE);
        table = open::read_table(path, file, geometry)?;
    }
    Ok(table)
}

impl Snapshot {
    fn refresh(&self) -> Result<(), DeviceError> {
        let table = settled_table(&self.path, &self.file, &self.geometry, open::is_locked(&self.file));
        let table = table.map_err(|error| match error {
            OpenError::Io { source, .. } => failure("reading the zone table", &source),
            _ => DeviceError::Failed { reason: "reading the zone table", errno: libc::EIO },
        })?;
        *self.states.borrow_mut() = table.states;
        Ok(())
    }
}

impl View for Snapshot {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn report(&self, first: ZoneId, count: u32) -> Command<Result<Vec<Zone>, DeviceError>> {
        let report = self.refresh().map(|()| self.states.borrow().report(first, count));
        Box::pin(std::future::ready(report))
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, mut buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let begun = transfer::begin_read(&self.states.borrow(), zone, offset_bytes, &mut buffer, &bytes);
        let stored = match begun {
            Ok(stored) if !stored.is_empty() => stored,
            settled => return Box::pin(std::future::ready((settled.map(|_| ()), buffer))),
        };
        let at = self.layout.zone_offset(zone.0, offset_bytes);
        let read = self.ring.read_at(&self.file, at, buffer, stored.clone());
        Box::pin(async move {
            let (outcome, buffer) = read.await;
            let outcome = match outcome {
                Ok(count) if count == stored.len() => Ok(()),
                // The file ends here: of a damaged drive, the rest is still worth looking at.
                Ok(count) => {
                    let whole = count as u64 / PAGE_BYTES as u64 * PAGE_BYTES as u64;
                    Err(DeviceError::Unreadable { zone, offset_bytes: offset_bytes + whole })
                }
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                    Err(DeviceError::Unreadable { zone, offset_bytes })
                }
                Err(error) => Err(failure("reading", &error)),
            };
            (outcome, buffer)
        })
    }

    fn alloc_buffer(&self, bytes: usize) -> Buffer {
        self.pool.try_alloc(bytes).unwrap_or_else(|| Buffer::new_unpooled(bytes))
    }
}
