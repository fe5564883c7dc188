//! What the device tests build on: geometries, devices of every back end, patterned data, short calls.

use std::path::PathBuf;
use std::rc::Rc;

use shingle_hw::backend::file;
use shingle_hw::backend::memory::MemoryDevice;
use shingle_hw::buffer::{Buffer, BufferPool};
use shingle_hw::device::{Command, ZonedDevice};
use shingle_hw::error::DeviceError;
use shingle_hw::faulty::FaultyDevice;
use shingle_hw::geometry::Geometry;
use shingle_hw::ring::{Ring, block_on};
use shingle_hw::zone::{Zone, ZoneId};

/// A device and everything that keeps it running.
pub struct Rig {
    pub device: Rc<dyn ZonedDevice>,
    pub ring: Rc<Ring>,
    directory: Option<tempfile::TempDir>,
}

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

pub fn new_ring() -> Rc<Ring> {
    Ring::new(16).expect("io_uring works here")
}

pub fn open_file(path: &std::path::Path, ring: &Rc<Ring>) -> Result<file::FileDevice, file::OpenError> {
    file::open(path, Rc::clone(ring), BufferPool::new(8 << 20).expect("mapped"))
}

impl Rig {
    pub fn memory(geometry: &Geometry) -> Self {
        let device = MemoryDevice::new(geometry.clone(), "memory-1");
        device.yield_up_to(3, 5);
        Self { device: Rc::new(device), ring: new_ring(), directory: None }
    }

    pub fn faulty(geometry: &Geometry) -> Self {
        let inner = Rc::new(MemoryDevice::new(geometry.clone(), "memory-1"));
        let device = FaultyDevice::new(inner, Rc::new(|_| Box::pin(std::future::ready(()))), 1);
        Self { device: Rc::new(device), ring: new_ring(), directory: None }
    }

    pub fn file(geometry: &Geometry) -> Self {
        Self::file_in(directory(), geometry)
    }

    /// On tmpfs, where there is one.
    pub fn file_in_memory(geometry: &Geometry) -> Option<Self> {
        let directory = tempfile::tempdir_in("/dev/shm").ok()?;
        Some(Self::file_in(directory, geometry))
    }

    fn file_in(directory: tempfile::TempDir, geometry: &Geometry) -> Self {
        let path = directory.path().join("disk");
        file::create(&path, geometry, "file-1").expect("creates");
        let ring = new_ring();
        let device = Rc::new(open_file(&path, &ring).expect("opens"));
        Self { device, ring, directory: Some(directory) }
    }

    /// A device that somebody else made.
    pub fn with(device: Rc<dyn ZonedDevice>, ring: Rc<Ring>) -> Self {
        Self { device, ring, directory: None }
    }

    /// The emulated drive's file.
    pub fn path(&self) -> PathBuf {
        self.directory.as_ref().expect("a file back end").path().join("disk")
    }

    /// Drops the device, as the end of its process would, and opens it anew.
    pub fn reopen(self) -> Self {
        let Self { device, ring, directory } = self;
        drop(device);
        let path = directory.as_ref().expect("a file back end").path().join("disk");
        let device = Rc::new(open_file(&path, &ring).expect("opens"));
        Self { device, ring, directory }
    }

    pub fn run<T>(&self, command: Command<T>) -> T {
        block_on(&self.ring, command)
    }

    pub fn append(&self, zone: u32, data: &[u8]) -> Result<u64, DeviceError> {
        let buffer = filled(&*self.device, data);
        self.run(self.device.append(ZoneId(zone), buffer, 0..data.len())).0
    }

    pub fn write(&self, zone: u32, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        let buffer = filled(&*self.device, data);
        self.run(self.device.write(ZoneId(zone), offset, buffer, 0..data.len())).0
    }

    pub fn read(&self, zone: u32, offset: u64, bytes: usize) -> Result<Vec<u8>, DeviceError> {
        let mut buffer = self.device.alloc_buffer(bytes);
        buffer.fill(0xaa);
        let (outcome, buffer) = self.run(self.device.read(ZoneId(zone), offset, buffer, 0..bytes));
        assert!(buffer[bytes..].iter().all(|byte| *byte == 0xaa), "a read stays inside its range");
        outcome.map(|()| buffer[..bytes].to_vec())
    }

    pub fn flush(&self) -> Result<(), DeviceError> {
        self.run(self.device.flush())
    }

    pub fn reset(&self, zone: u32) -> Result<(), DeviceError> {
        self.run(self.device.reset(ZoneId(zone)))
    }

    pub fn zone(&self, zone: u32) -> Zone {
        let zones = self.run(self.device.report(ZoneId(zone), 1)).expect("reports");
        zones.first().copied().expect("the zone exists")
    }
}

/// A device's buffer with `data` in front.
pub fn filled(device: &dyn ZonedDevice, data: &[u8]) -> Buffer {
    let mut buffer = device.alloc_buffer(data.len());
    buffer[..data.len()].copy_from_slice(data);
    buffer
}

/// Bytes that tell where they belong.
pub fn pattern(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut filled = vec![0; bytes];
    for word in filled.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
    filled
}
