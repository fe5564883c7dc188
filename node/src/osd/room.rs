//! Room below an emulated disk: it is a sparse file, and the file system may be full before the disk is.
//!
//! An append that meets a full file system ends its extent, and a flush that does would end the disk. So a disk without
//! room is full for a while instead: it takes no records and no extents, says so, and serves what it has. One that met a
//! limit which the file system does not tell (a quota) stays so until its host starts again.

use std::cell::Cell;

use shingle_hw::error::DeviceError;
use shingle_proto::limits::{DISK_ROOM_RESERVE_BYTES, DISK_ROOM_STEP_BYTES};

use super::store::Osd;

/// What is known of the room below a disk.
#[derive(Default)]
pub struct Room {
    /// Bytes that may be taken before the device is asked again.
    allowance_bytes: Cell<u64>,
    lacking: Cell<bool>,
    /// Bytes were refused although the file system said that there was room: a limit that it does not tell. For good.
    limit_met: Cell<bool>,
}

impl Osd {
    /// Whether a transfer of so many bytes has to be refused for want of room; it is counted if not.
    pub(super) fn lacks_room_for(&self, bytes: u64) -> bool {
        let room = &self.room;
        let Some(left) = room.allowance_bytes.get().checked_sub(bytes) else {
            let lacks = self.lacks_room();
            room.allowance_bytes.set(if lacks { 0 } else { DISK_ROOM_STEP_BYTES });
            return lacks;
        };
        room.allowance_bytes.set(left);
        false
    }

    /// Whether there is less room than the reserve, now, or a limit was met; said once when it begins and once when it
    /// ends.
    pub(super) fn lacks_room(&self) -> bool {
        if self.room.limit_met.get() {
            return true;
        }
        let room_bytes = self.device.room_bytes();
        let lacking = room_bytes.is_some_and(|bytes| bytes < DISK_ROOM_RESERVE_BYTES);
        if self.room.lacking.replace(lacking) != lacking {
            let (osd, path) = (self.id(), &self.path);
            if lacking {
                tracing::error!(
                    %osd, path, room_bytes, reserve_bytes = DISK_ROOM_RESERVE_BYTES,
                    "the file system that holds the disk is full: it takes no records until there is room"
                );
            } else {
                tracing::info!(%osd, path, room_bytes, "the disk has room again");
            }
        }
        lacking
    }

    /// The file system refused bytes all the same.
    pub(super) fn no_space(&self, cause: &DeviceError) {
        self.room.allowance_bytes.set(0);
        if !self.lacks_room() {
            self.room.limit_met.set(true);
            tracing::error!(osd = %self.id(), path = self.path, %cause, "a limit is met: lift it and restart the host");
        }
    }
}
