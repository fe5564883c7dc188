//! The file both sides write to, and the kernel's account of what a process wrote.
//!
//! Invariant: what a run writes to was written once more right before it, so both sides find it alike. A drive has no
//! file system that allocates; and what lies below a file may know the places best that were written last: on a virtual
//! disk fio itself was 1.2 to 2.1 times as fast at places written seconds before as at those written minutes before. Nor
//! are all places alike: the same appends to other extents ran at 0.8 of the rate, in every round.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use shingle_hw::backend::file;
use shingle_hw::geometry::Geometry;
use shingle_hw::zone::ZoneId;
use shingle_proto::limits::MIB;

use super::sizes::DISK_BYTES;
use crate::error::BenchError;

/// Zones in front of the first extent, and zones of an extent.
const FIRST_ZONE: u32 = 3;
const EXTENT_ZONES: u32 = 4;
const NOISE_BYTES: usize = 8 * MIB as usize;
const NOISE_SEED: u64 = 1;

/// Whether the file system has so much room.
pub fn check_room(folder: &Path, needed_bytes: u64) -> Result<(), BenchError> {
    let failed = BenchError::io(format!("ask for the room in {}", folder.display()));
    let space = rustix::fs::statvfs(folder).map_err(|error| failed(error.into()))?;
    let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
    if free_bytes >= needed_bytes { Ok(()) } else { Err(BenchError::NoRoom { free_bytes, needed_bytes }) }
}

/// A run of bytes in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub zone: ZoneId,
    pub bytes: Range<u64>,
}

/// The emulated drive's file.
#[derive(Debug)]
pub struct DriveFile {
    path: PathBuf,
    /// Zones are the file's end; in front of them is the drive's own table.
    zones_at_bytes: u64,
    zone_bytes: u64,
}

impl DriveFile {
    /// Makes an empty emulated drive; of every extent in turn, so many bytes of its space are written.
    pub fn make(path: &Path, extents_bytes: impl Iterator<Item = u64>) -> Result<Self, BenchError> {
        let geometry = Geometry::smr(DISK_BYTES);
        file::create(path, &geometry, "bench").map_err(|error| BenchError::Engine(error.to_string()))?;
        let file_bytes = path.metadata().map_err(BenchError::io("look at the drive"))?.len();
        let zones_at_bytes = file_bytes - geometry.device_bytes();
        let made = Self { path: path.to_path_buf(), zones_at_bytes, zone_bytes: geometry.zone_bytes };
        for (extent, bytes) in (0..).zip(extents_bytes) {
            made.write(&[Place { zone: ZoneId(FIRST_ZONE + extent * EXTENT_ZONES), bytes: 0..bytes }])?;
        }
        Ok(made)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a place begins in the file.
    pub fn offset_bytes(&self, place: &Place) -> u64 {
        self.zones_at_bytes + u64::from(place.zone.0) * self.zone_bytes + place.bytes.start
    }

    /// Writes these places, which hold nothing the drive knows of.
    pub fn write(&self, places: &[Place]) -> Result<(), BenchError> {
        let pieces = places.iter().map(|place| (self.offset_bytes(place), place.bytes.end - place.bytes.start));
        write_noise(&self.path, pieces)
    }
}

/// Writes pieces of a file: where each begins, and its length.
fn write_noise(path: &Path, pieces: impl IntoIterator<Item = (u64, u64)>) -> Result<(), BenchError> {
    let failed = || BenchError::io(format!("write {}", path.display()));
    let mut noise = vec![0; NOISE_BYTES];
    SmallRng::seed_from_u64(NOISE_SEED).fill_bytes(&mut noise);
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed())?;
    for (offset_bytes, bytes) in pieces {
        file.seek(SeekFrom::Start(offset_bytes)).map_err(failed())?;
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(NOISE_BYTES as u64);
            file.write_all(&noise[..piece as usize]).map_err(failed())?;
            left -= piece;
        }
    }
    file.sync_all().map_err(failed())?;
    // What stays in the page cache would be thrown out during the measurement instead.
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).map_err(|error| failed()(error.into()))
}

/// Bytes this process has given to block devices and file systems so far.
pub fn written_by_this_process() -> Result<u64, BenchError> {
    let path = "/proc/self/io";
    let text = std::fs::read_to_string(path).map_err(BenchError::io(format!("read {path}")))?;
    let bytes = text.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok());
    bytes.ok_or(BenchError::Unexpected { command: path.to_owned(), output: text })
}
