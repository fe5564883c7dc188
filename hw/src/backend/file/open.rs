//! Opens an emulated drive: whose file it is, which copy of the table holds, what its write pointers may claim.
//!
//! Invariants: one process has a drive at a time; nothing is written before the whole table was understood; after
//! `open` every write pointer claims only bytes that are durable, and all that a flush had covered.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::format::{self, Entry, Kept, Layout, PAGE_BYTES, PAGE_ZONES, PageCopy, SUPERBLOCKS, Stamp, SuperblockPage};
use super::table::Table;
use crate::buffer::Buffer;
use crate::crc::{crc32c, crc32c_joined};
use crate::geometry::Geometry;
use crate::zone::{ZoneCondition, ZoneId};
use crate::zone_state::ZoneStates;

/// How much is read at once.
const CHUNK_BYTES: usize = 1024 * 1024;

/// How long the lock of a dead process is waited for; its last flush may take a while.
const LOCK_WAIT: Duration = Duration::from_secs(2);

const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Why a drive was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{}: no such file", path.display())]
    Missing { path: PathBuf },
    #[error("{}: permission denied", path.display())]
    Permission { path: PathBuf },
    #[error("{}: in use by another process", path.display())]
    Locked { path: PathBuf },
    #[error("{}: not a Shingle disk", path.display())]
    NotADisk { path: PathBuf },
    #[error("{}: written in format version {found}, this program reads version {supported}", path.display())]
    Version { path: PathBuf, found: u32, supported: u32 },
    /// Geometry and serial number cannot be trusted.
    #[error("{}: both superblocks are damaged (checksum or geometry)", path.display())]
    SuperblockDamaged { path: PathBuf },
    #[error("{}: truncated: {found_bytes} bytes instead of {expected_bytes}", path.display())]
    Truncated { path: PathBuf, expected_bytes: u64, found_bytes: u64 },
    /// Write pointers of these zones are lost.
    #[error("{}: the zone table is damaged in page {page} (zones from {first_zone} on)", path.display())]
    TableDamaged { path: PathBuf, page: u32, first_zone: u32 },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl OpenError {
    pub(super) fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::PermissionDenied => Self::Permission { path },
            io::ErrorKind::WouldBlock => Self::Locked { path },
            _ => Self::Io { path, source },
        }
    }
}

/// A drive understood: everything a device starts from.
pub(super) struct Recovered {
    pub(super) file: File,
    pub(super) geometry: Geometry,
    pub(super) serial: String,
    pub(super) states: ZoneStates,
    pub(super) table: Table,
}

/// Opens and recovers. Blocks; it reads the superblocks, the table, and what the last flush before a crash covered.
pub(super) fn recover(path: &Path) -> Result<Recovered, OpenError> {
    let failed = |source| OpenError::from_io(path, source);
    let mut file = open_file(path, true).map_err(failed)?;
    lock(&file).map_err(failed)?;
    let (geometry, serial) = read_superblocks(path, &file)?;
    if !reads_direct(&file, geometry.sector_bytes) {
        tracing::warn!(path = %path.display(), "no direct I/O on this file system: transfers go through the page cache");
        // A second descriptor has a lock of its own, so the first one goes before; who comes between them gets the drive.
        drop(file);
        file = open_file(path, false).map_err(failed)?;
        lock(&file).map_err(failed)?;
    }
    let expected_bytes = Layout::of(&geometry).file_bytes;
    let found_bytes = file.metadata().map_err(failed)?.len();
    if found_bytes < expected_bytes {
        return Err(OpenError::Truncated { path: path.to_owned(), expected_bytes, found_bytes });
    }
    let (states, table) = recover_table(path, &file, &geometry)?;
    Ok(Recovered { file, geometry, serial, states, table })
}

fn open_file(path: &Path, direct: bool) -> io::Result<File> {
    open_for(path, direct, true)
}

fn open_for(path: &Path, direct: bool, write: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(write);
    match options.clone().custom_flags(if direct { libc::O_DIRECT } else { 0 }).open(path) {
        Err(error) if direct && error.raw_os_error() == Some(libc::EINVAL) => options.open(path),
        outcome => outcome,
    }
}

/// Opens the file to be looked at: nothing can be written, and no lock is kept.
pub(super) fn open_to_look(path: &Path, direct: bool) -> Result<File, OpenError> {
    open_for(path, direct, false).map_err(|source| OpenError::from_io(path, source))
}

/// Whether another process has the drive. A shared lock is tried for and given back at once: whoever opens a drive waits
/// for its lock much longer than that.
pub(super) fn is_locked(file: &File) -> bool {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            // Closing the file gives it back as well.
            rustix::fs::flock(file, FlockOperation::Unlock).is_err_and(|error| error == Errno::WOULDBLOCK)
        }
        Err(error) => error == Errno::WOULDBLOCK,
    }
}

/// Takes the drive for this process. After a kill, the kernel keeps the file of the dead process, and its lock, until
/// its commands in flight are done: waiting for the lock is what keeps them from landing in a drive opened anew.
fn lock(file: &File) -> io::Result<()> {
    let since = Instant::now();
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if since.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_PAUSE),
            outcome => return outcome.map_err(io::Error::from),
        }
    }
}

/// Gives the drive back. Closing alone would leave it to a child just being started, which has every file of this process
/// until it runs its program.
pub(super) fn unlock(file: &File) {
    if let Err(error) = rustix::fs::flock(file, FlockOperation::Unlock) {
        tracing::warn!(%error, "a drive's lock was not given back before its file is closed");
    }
}

/// Whether the file is open for direct I/O, and in units as small as a sector.
pub(super) fn reads_direct(file: &File, sector_bytes: u32) -> bool {
    let direct = rustix::fs::fcntl_getfl(file).is_ok_and(|flags| flags.contains(rustix::fs::OFlags::DIRECT));
    let mut buffer = Buffer::new_unpooled(sector_bytes as usize);
    direct && file.read_at(&mut buffer[..sector_bytes as usize], u64::from(sector_bytes)).is_ok()
}

/// What the superblocks say.
pub(super) struct Superblocks {
    pub(super) geometry: Geometry,
    pub(super) serial: String,
    /// Copies that are damaged while the other one holds.
    pub(super) bad: Vec<u64>,
}

/// Reads the superblocks and changes nothing.
pub(super) fn examine_superblocks(path: &Path, file: &File) -> Result<Superblocks, OpenError> {
    let mut pages = Buffer::new_unpooled(SUPERBLOCKS * PAGE_BYTES);
    let read = read_fully(file, &mut pages, 0).map_err(|source| OpenError::from_io(path, source))?;
    let (mut good, mut bad, mut damaged, mut other) = (None, Vec::new(), false, None);
    for (index, page) in (0u64..).zip(pages[..read].chunks_exact(PAGE_BYTES)) {
        match format::decode_superblock(page) {
            SuperblockPage::Good { geometry, serial } => good = good.or(Some((geometry, serial))),
            SuperblockPage::OtherVersion(version) => other = Some(version),
            SuperblockPage::Damaged => {
                damaged = true;
                bad.push(index);
            }
            SuperblockPage::Foreign => bad.push(index),
        }
    }
    let path = || path.to_owned();
    match (good, other) {
        (Some((geometry, serial)), _) => Ok(Superblocks { geometry, serial, bad }),
        (None, Some(found)) => Err(OpenError::Version { path: path(), found, supported: format::VERSION }),
        (None, None) if damaged => Err(OpenError::SuperblockDamaged { path: path() }),
        (None, None) => Err(OpenError::NotADisk { path: path() }),
    }
}

fn read_superblocks(path: &Path, file: &File) -> Result<(Geometry, String), OpenError> {
    let Superblocks { geometry, serial, bad } = examine_superblocks(path, file)?;
    for index in bad {
        tracing::warn!(path = %path.display(), copy = index, "a superblock is damaged, the other copy holds; repaired");
        let page = Buffer::from_page(&format::encode_superblock(&geometry, &serial));
        file.write_all_at(&page, index * PAGE_BYTES as u64).map_err(|source| OpenError::from_io(path, source))?;
    }
    Ok((geometry, serial))
}

/// One page of the table: its newer whole copy.
struct Page {
    copy: u8,
    stamp: Stamp,
    entries: Vec<Entry>,
}

/// The zone table as it lies in the file.
pub(super) struct ZoneTable {
    pub(super) states: ZoneStates,
    /// Pages of which neither copy can be believed; their zones count as read-only and written to the end.
    pub(super) lost_pages: Vec<u32>,
    newest_copy: Vec<u8>,
    settled_bytes: Vec<u64>,
    stamp: Stamp,
    /// Zones whose last flush had perhaps not ended; what is believed of them was checked.
    uncertain: Vec<ZoneId>,
}

/// Reads the zone table and changes nothing. What the file does not hold any more counts as damaged.
pub(super) fn read_table(path: &Path, file: &File, geometry: &Geometry) -> Result<ZoneTable, OpenError> {
    let failed = |source| OpenError::from_io(path, source);
    let layout = Layout::of(geometry);
    let copies = [
        read_copies(file, &layout, geometry, 0).map_err(failed)?,
        read_copies(file, &layout, geometry, 1).map_err(failed)?,
    ];
    let stamps = || copies.iter().flatten().filter_map(PageCopy::stamp);
    let sequence = stamps().map(|stamp| stamp.sequence).max().unwrap_or(0);
    let completed = stamps().map(|stamp| stamp.completed).max().unwrap_or(0);
    let [first, second] = copies;
    let mut read = ZoneTable {
        states: ZoneStates::new(geometry.clone()),
        lost_pages: Vec::new(),
        newest_copy: Vec::with_capacity(first.len()),
        settled_bytes: Vec::with_capacity(geometry.zones as usize),
        stamp: Stamp { sequence, completed },
        uncertain: Vec::new(),
    };
    for (index, pair) in (0u32..).zip(first.into_iter().zip(second)) {
        let zones = index * PAGE_ZONES as u32..geometry.zones.min((index + 1) * PAGE_ZONES as u32);
        let Some(page) = choose(pair) else {
            read.lost_pages.push(index);
            read.newest_copy.push(0);
            for zone in zones {
                read.settled_bytes.push(0);
                if zone >= geometry.conventional_zones {
                    read.states.restore(ZoneId(zone), ZoneCondition::ReadOnly, geometry.zone_capacity_bytes);
                }
            }
            continue;
        };
        read.newest_copy.push(page.copy);
        for (zone, entry) in zones.zip(&page.entries) {
            let mut written_bytes = entry.written_bytes;
            if page.stamp.sequence > completed && entry.settled_bytes < written_bytes {
                read.uncertain.push(ZoneId(zone));
                if !tail_landed(file, &layout, zone, entry).map_err(failed)? {
                    tracing::info!(zone, "a flush had not ended: its bytes are dropped");
                    written_bytes = entry.settled_bytes;
                }
            }
            read.settled_bytes.push(written_bytes);
            restore(&mut read.states, geometry, zone, entry, written_bytes);
        }
    }
    Ok(read)
}

fn recover_table(path: &Path, file: &File, geometry: &Geometry) -> Result<(ZoneStates, Table), OpenError> {
    let failed = |source| OpenError::from_io(path, source);
    let read = read_table(path, file, geometry)?;
    if let Some(&page) = read.lost_pages.first() {
        return Err(OpenError::TableDamaged { path: path.to_owned(), page, first_zone: page * PAGE_ZONES as u32 });
    }
    let mut table = Table::new(geometry, read.newest_copy, read.settled_bytes, read.stamp);
    read.uncertain.iter().for_each(|zone| table.changed(*zone));
    if table.is_dirty() {
        // Bytes that were written but not flushed are about to count as settled.
        file.sync_data().map_err(failed)?;
        settle(file, &mut table, &read.states).map_err(failed)?;
    }
    Ok((read.states, table))
}

/// Writes pages anew after their tails were checked.
fn settle(file: &File, table: &mut Table, states: &ZoneStates) -> io::Result<()> {
    for write in table.begin_flush(states) {
        file.write_all_at(write.buffer.get(..write.bytes).unwrap_or_default(), write.offset)?;
    }
    file.sync_data()?;
    table.end_flush();
    Ok(())
}

fn read_copies(file: &File, layout: &Layout, geometry: &Geometry, copy: u8) -> io::Result<Vec<PageCopy>> {
    let mut found = Vec::with_capacity(layout.table_pages as usize);
    let mut buffer = Buffer::new_unpooled(CHUNK_BYTES.min(layout.table_pages as usize * PAGE_BYTES));
    let pages_at_once = (buffer.len() / PAGE_BYTES) as u32;
    let mut first = 0;
    while first < layout.table_pages {
        let count = pages_at_once.min(layout.table_pages - first);
        let bytes = &mut buffer[..count as usize * PAGE_BYTES];
        let read = read_fully(file, bytes, layout.page_offset(first, copy))?;
        // What a truncated file does not hold is nothing that was ever written.
        bytes[read..].fill(0);
        found.extend(
            (first..)
                .zip(bytes.chunks_exact(PAGE_BYTES))
                .map(|(page, bytes)| format::decode_page(bytes, page, geometry)),
        );
        first += count;
    }
    Ok(found)
}

/// The newer whole copy, unless the other one may have been newer and is damaged.
fn choose((first, second): (PageCopy, PageCopy)) -> Option<Page> {
    let pick = |whole: PageCopy, copy: u8, other: PageCopy| match (whole, other) {
        (PageCopy::Whole(stamp, entries), PageCopy::Damaged(seen)) => {
            let older = seen.is_some_and(|seen| seen.sequence < stamp.sequence);
            if older {
                tracing::warn!("an outdated copy of a zone table page is damaged; the newer one holds");
            }
            older.then_some(Page { copy, stamp, entries })
        }
        (PageCopy::Whole(stamp, entries), _) => Some(Page { copy, stamp, entries }),
        _ => None,
    };
    match (&first, &second) {
        (PageCopy::Whole(one, _), PageCopy::Whole(two, _)) if one.sequence < two.sequence => pick(second, 1, first),
        (PageCopy::Whole(..), _) => pick(first, 0, second),
        _ => pick(second, 1, first),
    }
}

/// Whether the bytes that a flush was about to cover are what was appended.
fn tail_landed(file: &File, layout: &Layout, zone: u32, entry: &Entry) -> io::Result<bool> {
    let mut buffer = Buffer::new_unpooled(CHUNK_BYTES);
    let mut crc = crc32c(&[]);
    let mut at = entry.settled_bytes;
    while at < entry.written_bytes {
        let length = usize::try_from(entry.written_bytes - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let bytes = &mut buffer[..length];
        if read_fully(file, bytes, layout.zone_offset(zone, at))? < length {
            return Ok(false);
        }
        crc = crc32c_joined(crc, crc32c(bytes), length as u64);
        at += length as u64;
    }
    Ok(crc == entry.tail_crc)
}

fn restore(states: &mut ZoneStates, geometry: &Geometry, zone: u32, entry: &Entry, written_bytes: u64) {
    // A zone that was full because it was filled is not once its tail is dropped; one that was finished is.
    let condition = match entry.kept {
        Kept::Conventional => return,
        _ if written_bytes == geometry.zone_capacity_bytes => ZoneCondition::Full,
        Kept::Full if entry.written_bytes < geometry.zone_capacity_bytes => ZoneCondition::Full,
        _ if written_bytes == 0 => ZoneCondition::Empty,
        _ => ZoneCondition::Closed,
    };
    states.restore(ZoneId(zone), condition, written_bytes);
}

/// Reads until the buffer is full or the file ends; returns how much.
fn read_fully(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Direct I/O goes on only at whole sectors: a ragged end is the file's end.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
