//! The block node as a port: direct transfers through the ring, zone commands on the device's thread.

use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::ioctl;
use super::worker::Worker;
use crate::backend::drive::{Action, Line, Port, PortError};
use crate::buffer::Buffer;
use crate::device::Command;
use crate::ring::Ring;
use crate::zone::ZoneId;

type Transfer<T> = Command<(Result<T, PortError>, Buffer)>;

/// A zoned block device's node.
pub struct BlockPort {
    file: Rc<File>,
    worker: Worker,
    /// The same open node, for the thread.
    shared: Arc<File>,
    ring: Rc<Ring>,
    zone_bytes: u64,
}

impl BlockPort {
    pub(super) fn new((file, shared): (File, Arc<File>), worker: Worker, ring: Rc<Ring>, zone_bytes: u64) -> Self {
        Self { file: Rc::new(file), worker, shared, ring, zone_bytes }
    }

    fn at(&self, zone: ZoneId, offset_bytes: u64) -> u64 {
        u64::from(zone.0) * self.zone_bytes + offset_bytes
    }
}

impl Port for BlockPort {
    fn appends_max(&self) -> u16 {
        1
    }

    fn append(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<u64> {
        let write = self.write(zone, offset_bytes, buffer, bytes);
        Box::pin(async move {
            let (outcome, buffer) = write.await;
            (outcome.map(|()| offset_bytes), buffer)
        })
    }

    fn write(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let write = self.ring.write_at(&self.file, self.at(zone, offset_bytes), buffer, bytes);
        Box::pin(async move {
            let (outcome, buffer) = write.await;
            (outcome.map(|_| ()).map_err(|error| refusal(&error)), buffer)
        })
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> Transfer<()> {
        let length = bytes.len();
        let read = self.ring.read_at(&self.file, self.at(zone, offset_bytes), buffer, bytes);
        Box::pin(async move {
            let (outcome, buffer) = read.await;
            let outcome = match outcome {
                Ok(count) if count == length => Ok(()),
                Ok(_) => Err(PortError::Failed { errno: libc::ENXIO }),
                Err(error) => Err(refusal(&error)),
            };
            (outcome, buffer)
        })
    }

    fn flush(&self) -> Command<Result<(), PortError>> {
        let sync = self.ring.sync_data(&self.file);
        Box::pin(async move { sync.await.map_err(|error| refusal(&error)) })
    }

    fn manage(&self, zone: ZoneId, action: Action) -> Command<Result<(), PortError>> {
        let (file, start, zone_bytes) = (Arc::clone(&self.shared), self.at(zone, 0), self.zone_bytes);
        let outcome = self.worker.run(move || ioctl::manage(&file, action, start, zone_bytes));
        Box::pin(async move { outcome.await.map_err(|error| refusal(&error)) })
    }

    fn report(&self, first: ZoneId, count: u32) -> impl Future<Output = Result<Vec<Line>, PortError>> + 'static {
        let (file, start) = (Arc::clone(&self.shared), self.at(first, 0));
        let outcome = self.worker.run(move || ioctl::report(&file, start, count));
        async move { outcome.await.map_err(|error| refusal(&error)) }
    }

    fn wait(&self) {
        self.worker.wait();
    }
}

/// What an errno of the block layer means (`block/blk-core.c`, `blk_errors`). EIO is also what it says when a write is
/// not at the write pointer, or the zone is full, read-only or offline.
fn refusal(error: &io::Error) -> PortError {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    match errno {
        libc::ETOOMANYREFS => PortError::TooManyOpen,
        libc::EOVERFLOW => PortError::TooManyActive,
        libc::EIO | libc::ENODATA | libc::EILSEQ | libc::EREMOTEIO | libc::ENOSPC | libc::EROFS => {
            PortError::Medium { errno }
        }
        _ => PortError::Failed { errno },
    }
}
