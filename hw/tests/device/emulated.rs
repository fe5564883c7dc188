//! Emulated drives for the tests on the host, with geometries that differ in what matters.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use shingle_hw::backend::file;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::buffer::BufferPool;
use shingle_hw::faulty::FaultyDevice;
use shingle_hw::geometry::Geometry;
use shingle_hw::ring::Ring;

use crate::rig::{Rig, new_ring};

/// Small geometries that differ in what matters.
pub fn geometries() -> Vec<Geometry> {
    let base = Geometry {
        zones: 12,
        zone_bytes: 1 << 20,
        zone_capacity_bytes: 1 << 20,
        conventional_zones: 1,
        sector_bytes: 4096,
        open_zones_max: 4,
        active_zones_max: 0,
        transfer_bytes_max: 256 * 1024,
    };
    vec![
        base.clone(),
        Geometry { conventional_zones: 0, zone_capacity_bytes: 700 * 1024, active_zones_max: 6, ..base.clone() },
        Geometry {
            conventional_zones: 3,
            sector_bytes: 512,
            open_zones_max: 1,
            zone_capacity_bytes: 333 * 512,
            ..base.clone()
        },
        Geometry {
            zones: 331,
            conventional_zones: 7,
            zone_bytes: 13 * 4096,
            zone_capacity_bytes: 11 * 4096,
            open_zones_max: 0,
            transfer_bytes_max: 5 * 4096,
            ..base
        },
    ]
}

/// A directory on a real file system; the temporary one may be in memory.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

pub fn open_file(path: &Path, ring: &Rc<Ring>) -> Result<file::FileDevice, file::OpenError> {
    file::open(path, Rc::clone(ring), BufferPool::new(8 << 20).expect("mapped"))
}

pub fn memory(geometry: &Geometry) -> Rig {
    let device = MemoryDevice::new(geometry.clone(), "memory-1");
    device.yield_up_to(3, 5);
    Rig::with(Rc::new(device), new_ring())
}

/// A faulty device without faults.
pub fn faulty(geometry: &Geometry) -> Rig {
    let inner = Rc::new(MemoryDevice::new(geometry.clone(), "memory-1"));
    let device = FaultyDevice::new(inner, Rc::new(|_| Box::pin(std::future::ready(()))), 1);
    Rig::with(Rc::new(device), new_ring())
}

/// An emulated drive and the directory its file lies in.
pub struct FileRig {
    rig: Rig,
    directory: tempfile::TempDir,
}

impl FileRig {
    pub fn new(geometry: &Geometry) -> Self {
        Self::in_directory(directory(), geometry)
    }

    /// On tmpfs, where there is one.
    pub fn in_memory(geometry: &Geometry) -> Option<Self> {
        let directory = tempfile::tempdir_in("/dev/shm").ok()?;
        Some(Self::in_directory(directory, geometry))
    }

    fn in_directory(directory: tempfile::TempDir, geometry: &Geometry) -> Self {
        let path = directory.path().join("disk");
        file::create(&path, geometry, "file-1").expect("creates");
        let ring = new_ring();
        let device = Rc::new(open_file(&path, &ring).expect("opens"));
        Self { rig: Rig::with(device, ring), directory }
    }

    /// The drive's file.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    /// Drops the device, as the end of its process would, and opens it anew.
    pub fn reopen(self) -> Self {
        let path = self.path();
        let Self { rig, directory } = self;
        let ring = Rc::clone(&rig.ring);
        drop(rig);
        let device = Rc::new(open_file(&path, &ring).expect("opens"));
        Self { rig: Rig::with(device, ring), directory }
    }
}

impl Deref for FileRig {
    type Target = Rig;

    fn deref(&self) -> &Rig {
        &self.rig
    }
}
