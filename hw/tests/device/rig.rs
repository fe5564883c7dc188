//! What the device tests build on: a device with its ring, short calls, patterned data.

use std::rc::Rc;

use shingle_hw::buffer::Buffer;
use shingle_hw::device::{Command, ZonedDevice};
use shingle_hw::error::DeviceError;
use shingle_hw::ring::{Ring, block_on};
use shingle_hw::zone::{Zone, ZoneId};

/// A device and everything that keeps it running.
pub struct Rig {
    pub device: Rc<dyn ZonedDevice>,
    pub ring: Rc<Ring>,
}

pub fn new_ring() -> Rc<Ring> {
    Ring::new(16).expect("io_uring works here")
}

impl Rig {
    pub fn with(device: Rc<dyn ZonedDevice>, ring: Rc<Ring>) -> Self {
        Self { device, ring }
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
