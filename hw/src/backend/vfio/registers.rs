//! The registers of an NVMe controller (NVM Express base 2.0, chapter 3.1), behind a seam: a mapped BAR or a fake.

use std::time::Duration;

/// Controller Capabilities, 64 bits.
pub(super) const CAPABILITIES: usize = 0x00;
pub(super) const CONFIGURATION: usize = 0x14;
pub(super) const STATUS: usize = 0x1c;
/// Entries of the admin queues.
pub(super) const ADMIN_QUEUES: usize = 0x24;
pub(super) const ADMIN_SUBMISSIONS: usize = 0x28;
pub(super) const ADMIN_COMPLETIONS: usize = 0x30;
/// The first doorbell.
const DOORBELLS: usize = 0x1000;

/// Bits of the configuration.
pub(super) const ENABLE: u32 = 1;
/// All supported I/O command sets: zoned namespaces show only then.
pub(super) const ALL_COMMAND_SETS: u32 = 0b110 << 4;
pub(super) const SHUTDOWN: u32 = 1 << 14;
/// Entries of 64 and of 16 bytes, as powers of two.
pub(super) const ENTRY_SIZES: u32 = 6 << 16 | 4 << 20;

/// Bits of the status.
pub(super) const READY: u32 = 1;
pub(super) const FATAL: u32 = 2;
pub(super) const SHUTDOWN_STATE: u32 = 3 << 2;
pub(super) const SHUTDOWN_DONE: u32 = 2 << 2;

/// What every register reads as when the device is gone.
pub(super) const GONE: u32 = u32::MAX;

/// A controller's registers. Each access is one access of the bus, in order.
pub(super) trait Registers {
    fn read(&self, at: usize) -> u32;
    fn write(&self, at: usize, value: u32);
    /// Bytes of the registers that can be accessed.
    fn bytes(&self) -> usize;
}

/// Two accesses, which the standard allows everywhere.
pub(super) fn read_wide(registers: &dyn Registers, at: usize) -> u64 {
    u64::from(registers.read(at)) | u64::from(registers.read(at + 4)) << 32
}

pub(super) fn write_wide(registers: &dyn Registers, at: usize, value: u64) {
    registers.write(at, value as u32);
    registers.write(at + 4, (value >> 32) as u32);
}

/// The capabilities in use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Entries of a queue, at most.
    pub(super) entries_max: u32,
    /// How long enabling and disabling may take.
    pub(super) ready_within: Duration,
    /// Bytes between doorbells.
    doorbell_bytes: usize,
    /// Zoned namespaces can be used.
    pub(super) command_sets: bool,
    /// 4 KiB pages can be used.
    pub(super) small_pages: bool,
}

impl Capabilities {
    pub(super) fn parse(raw: u64) -> Self {
        Self {
            entries_max: (raw & 0xffff) as u32 + 1,
            ready_within: Duration::from_millis(500) * ((raw >> 24 & 0xff) as u32).max(1),
            doorbell_bytes: 4 << (raw >> 32 & 0xf),
            command_sets: raw >> 43 & 1 == 1,
            small_pages: raw >> 48 & 0xf == 0,
        }
    }

    /// Where the tail of a queue's submissions is told, and the head of its completions.
    pub(super) fn doorbells(&self, queue: u16) -> (usize, usize) {
        let first = DOORBELLS + 2 * usize::from(queue) * self.doorbell_bytes;
        (first, first + self.doorbell_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_where_the_standard_puts_them() {
        // QEMU's.
        let found = Capabilities::parse(0x0040_1820_0f01_07ff);
        assert_eq!(found.entries_max, 2048);
        assert_eq!(found.ready_within, Duration::from_millis(7500));
        assert!(found.command_sets && found.small_pages);
        assert_eq!((found.doorbells(0), found.doorbells(1)), ((0x1000, 0x1004), (0x1008, 0x100c)));
        let wide = Capabilities::parse(1 << 48 | 2 << 32);
        assert!(!wide.command_sets && !wide.small_pages);
        assert_eq!(wide.doorbells(1), (0x1020, 0x1030));
    }
}
