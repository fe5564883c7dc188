//! The kernel's zone commands (`linux/blkzoned.h`), each a blocking call.
//! This file uses `unsafe` to call `ioctl` through the shared wrapper.

use std::fs::File;
use std::io;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::backend::drive::{Action, Line, LineKind};
use crate::backend::ioctl;
use crate::zone::ZoneCondition;

/// The kernel counts in sectors of this size, whatever the device's are.
pub(super) const KERNEL_SECTOR_BYTES: u64 = 512;

/// `_IOWR(0x12, 130, struct blk_zone_report)`.
const BLKREPORTZONE: libc::c_ulong = 0xC010_1282;
/// `_IOW(0x12, 131, struct blk_zone_range)`, and those that follow it.
const BLKRESETZONE: libc::c_ulong = 0x4010_1283;
const BLKOPENZONE: libc::c_ulong = 0x4010_1286;
const BLKCLOSEZONE: libc::c_ulong = 0x4010_1287;
const BLKFINISHZONE: libc::c_ulong = 0x4010_1288;

/// Flag of a report whose zones tell their capacity.
const REPORTS_CAPACITY: u32 = 1;

/// Zones per call: 64 KiB of memory.
const ZONES_PER_CALL: usize = 1023;

/// `struct blk_zone_range`.
#[repr(C)]
struct Range {
    sector: u64,
    sectors: u64,
}

/// `struct blk_zone`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawZone {
    start: u64,
    length: u64,
    write_pointer: u64,
    kind: u8,
    condition: u8,
    non_sequential: u8,
    reset: u8,
    reserved1: [u8; 4],
    capacity: u64,
    reserved2: [u8; 24],
}

/// `struct blk_zone_report`; the zones follow it.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    sector: u64,
    zones: u32,
    flags: u32,
}

/// Up to `count` lines of the zone report, from the zone that contains `start_bytes` on.
pub(super) fn report(device: &File, start_bytes: u64, count: u32) -> io::Result<Vec<Line>> {
    let room = (count as usize).min(ZONES_PER_CALL);
    // Words, so that the structs in it are aligned.
    let mut memory = vec![0u64; (size_of::<Header>() + room * size_of::<RawZone>()) / size_of::<u64>()];
    let mut lines = Vec::new();
    let mut next = start_bytes / KERNEL_SECTOR_BYTES;
    while lines.len() < count as usize {
        let zones = (count as usize - lines.len()).min(room) as u32;
        if let Ok((header, _)) = Header::mut_from_prefix(memory.as_mut_bytes()) {
            *header = Header { sector: next, zones, flags: 0 };
        }
        // SAFETY: the memory is a report's header followed by at least as many zones as the header asks for; it
        // outlives the call.
        unsafe { ioctl::call(device, BLKREPORTZONE, memory.as_mut_ptr()) }?;
        let Ok((header, zones)) = Header::ref_from_prefix(memory.as_bytes()) else { break };
        let zones = zones.chunks_exact(size_of::<RawZone>()).take(header.zones as usize);
        let before = lines.len();
        for zone in zones.filter_map(|bytes| RawZone::ref_from_bytes(bytes).ok()) {
            lines.push(line(zone, header.flags & REPORTS_CAPACITY != 0));
            next = zone.start.saturating_add(zone.length);
        }
        if lines.len() == before {
            break;
        }
    }
    Ok(lines)
}

/// Changes the condition of the zone at `start_bytes`.
pub(super) fn manage(device: &File, action: Action, start_bytes: u64, zone_bytes: u64) -> io::Result<()> {
    let request = match action {
        Action::Open => BLKOPENZONE,
        Action::Close => BLKCLOSEZONE,
        Action::Finish => BLKFINISHZONE,
        Action::Reset => BLKRESETZONE,
    };
    let mut range = Range { sector: start_bytes / KERNEL_SECTOR_BYTES, sectors: zone_bytes / KERNEL_SECTOR_BYTES };
    // SAFETY: the kernel only reads the range, which outlives the call.
    unsafe { ioctl::call(device, request, &raw mut range) }.map(|_| ())
}

fn line(zone: &RawZone, has_capacity: bool) -> Line {
    let bytes = |sectors: u64| sectors.saturating_mul(KERNEL_SECTOR_BYTES);
    let kind = match zone.kind {
        1 => LineKind::Conventional,
        2 => LineKind::Sequential,
        _ => LineKind::Other,
    };
    let condition = match zone.condition {
        0 => ZoneCondition::NotWritePointer,
        1 => ZoneCondition::Empty,
        2 => ZoneCondition::ImplicitOpen,
        3 => ZoneCondition::ExplicitOpen,
        4 => ZoneCondition::Closed,
        0xd => ZoneCondition::ReadOnly,
        0xe => ZoneCondition::Full,
        // 15 is offline; a condition nobody has heard of is not to be relied on either.
        _ => ZoneCondition::Offline,
    };
    Line {
        start_bytes: bytes(zone.start),
        length_bytes: bytes(zone.length),
        capacity_bytes: bytes(if has_capacity { zone.capacity } else { zone.length }),
        kind,
        condition,
        write_pointer_bytes: bytes(zone.write_pointer),
    }
}
