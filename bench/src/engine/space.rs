//! The files both sides write to, and the kernel's account of what a process wrote.
//!
//! Their space is written before anything is measured: a drive has no file system that allocates.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use shingle_hw::backend::file;
use shingle_hw::geometry::Geometry;
use shingle_proto::limits::MIB;

use super::sizes::DISK_BYTES;
use crate::error::BenchError;

/// Zones in front of the first extent, and zones of an extent.
const FIRST_ZONE: u64 = 3;
const EXTENT_ZONES: u64 = 4;
const NOISE_BYTES: usize = 8 * MIB as usize;

/// Whether the file system has so much room.
pub fn check_room(folder: &Path, needed_bytes: u64) -> Result<(), BenchError> {
    let failed = BenchError::io(format!("ask for the room in {}", folder.display()));
    let space = rustix::fs::statvfs(folder).map_err(|error| failed(error.into()))?;
    let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
    if free_bytes >= needed_bytes { Ok(()) } else { Err(BenchError::NoRoom { free_bytes, needed_bytes }) }
}

/// Makes an empty emulated drive; of every extent in turn, so many bytes of its space have been written before.
pub fn make_drive(path: &Path, extents_bytes: impl Iterator<Item = u64>) -> Result<(), BenchError> {
    let geometry = Geometry::smr(DISK_BYTES);
    file::create(path, &geometry, "bench").map_err(|error| BenchError::Engine(error.to_string()))?;
    let file_bytes = path.metadata().map_err(BenchError::io("look at the drive"))?.len();
    // Zones are the file's end; in front of them is the drive's own table.
    let first_zone = file_bytes - geometry.device_bytes();
    for (extent, bytes) in (0..).zip(extents_bytes) {
        let zone = FIRST_ZONE + extent * EXTENT_ZONES;
        write_noise(path, first_zone + zone * geometry.zone_bytes, bytes)?;
    }
    Ok(())
}

/// Makes fio's file.
pub fn make_peer(path: &Path, bytes: u64) -> Result<(), BenchError> {
    write_noise(path, 0, bytes)
}

fn write_noise(path: &Path, offset_bytes: u64, bytes: u64) -> Result<(), BenchError> {
    let failed = || BenchError::io(format!("write {}", path.display()));
    let mut noise = vec![0; NOISE_BYTES];
    SmallRng::seed_from_u64(offset_bytes).fill_bytes(&mut noise);
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed())?;
    file.seek(SeekFrom::Start(offset_bytes)).map_err(failed())?;
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(NOISE_BYTES as u64);
        file.write_all(&noise[..piece as usize]).map_err(failed())?;
        left -= piece;
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
