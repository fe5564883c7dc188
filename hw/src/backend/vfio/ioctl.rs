//! The calls of `linux/vfio.h` (version 0 of the interface, type 1 IOMMU).
//! This file uses `unsafe` to call `ioctl` through the shared wrapper.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::backend::ioctl;

/// `_IO(';', 100 + n)`.
const fn request(number: libc::c_ulong) -> libc::c_ulong {
    0x3b64 + number
}

const GET_API_VERSION: libc::c_ulong = request(0);
const CHECK_EXTENSION: libc::c_ulong = request(1);
const SET_IOMMU: libc::c_ulong = request(2);
const GROUP_GET_STATUS: libc::c_ulong = request(3);
const GROUP_SET_CONTAINER: libc::c_ulong = request(4);
const GROUP_GET_DEVICE_FD: libc::c_ulong = request(6);
const DEVICE_GET_REGION_INFO: libc::c_ulong = request(8);
const DEVICE_GET_IRQ_INFO: libc::c_ulong = request(9);
const DEVICE_SET_IRQS: libc::c_ulong = request(10);
const IOMMU_GET_INFO: libc::c_ulong = request(12);
const IOMMU_MAP_DMA: libc::c_ulong = request(13);
const IOMMU_UNMAP_DMA: libc::c_ulong = request(14);

const TYPE1V2_IOMMU: libc::c_ulong = 3;
const GROUP_VIABLE: u32 = 1;
/// Read and write.
const DMA_BOTH: u32 = 3;
const INFO_CAPABILITIES: u32 = 2;
const CAPABILITY_IOVA_RANGE: u16 = 1;
/// The data are event descriptors; they are triggered.
const IRQ_EVENTFD_TRIGGER: u32 = 1 << 2 | 1 << 5;

/// Regions and interrupts of a PCI device, by number.
pub(super) const REGION_BAR0: u32 = 0;
pub(super) const REGION_CONFIGURATION: u32 = 7;
const IRQ_MSIX: u32 = 2;

/// Room for the capabilities of an IOMMU.
const INFO_BYTES: usize = 4096;

#[repr(C)]
struct GroupStatus {
    bytes: u32,
    flags: u32,
}

/// Where a region of the device lies in its file.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Region {
    bytes_of_this: u32,
    pub(super) flags: u32,
    index: u32,
    capabilities: u32,
    pub(super) bytes: u64,
    pub(super) offset: u64,
}

#[derive(Default)]
#[repr(C)]
struct IrqInfo {
    bytes: u32,
    flags: u32,
    index: u32,
    count: u32,
}

#[repr(C)]
struct IrqSet {
    bytes: u32,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    event: i32,
}

#[repr(C)]
struct Map {
    bytes_of_this: u32,
    flags: u32,
    address: u64,
    iova: u64,
    bytes: u64,
}

#[repr(C)]
struct Unmap {
    bytes_of_this: u32,
    flags: u32,
    iova: u64,
    bytes: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct IommuInfo {
    bytes: u32,
    flags: u32,
    page_sizes: u64,
    capabilities: u32,
    padding: u32,
}

fn call_with_number(file: BorrowedFd<'_>, request: libc::c_ulong, argument: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: the requests this is used with take a number, or nothing, and touch no memory of this process.
    unsafe { ioctl::call_with_number(file, request, argument) }
}

fn call<T>(file: BorrowedFd<'_>, request: libc::c_ulong, argument: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the argument is the struct the request is defined with, begins with its own length where there is one,
    // and outlives the call. What it names further is the caller's to keep.
    unsafe { ioctl::call(file, request, argument) }
}

/// Whether the container speaks what is used here.
pub(super) fn is_usable(container: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(call_with_number(container, GET_API_VERSION, 0)? == 0
        && call_with_number(container, CHECK_EXTENSION, TYPE1V2_IOMMU)? != 0)
}

/// Whether every device of the group is with VFIO, or with no driver at all.
pub(super) fn is_viable(group: BorrowedFd<'_>) -> io::Result<bool> {
    let mut status = GroupStatus { bytes: size_of::<GroupStatus>() as u32, flags: 0 };
    call(group, GROUP_GET_STATUS, &mut status)?;
    Ok(status.flags & GROUP_VIABLE != 0)
}

/// Puts the group behind the container's IOMMU.
pub(super) fn attach(group: BorrowedFd<'_>, container: BorrowedFd<'_>) -> io::Result<()> {
    let mut number: i32 = container.as_raw_fd();
    call(group, GROUP_SET_CONTAINER, &mut number)?;
    call_with_number(container, SET_IOMMU, TYPE1V2_IOMMU).map(|_| ())
}

/// The device of a group, by its address.
pub(super) fn device(group: BorrowedFd<'_>, address: &str) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(address)?;
    // SAFETY: the name ends with a zero and outlives the call.
    let device = unsafe { ioctl::call(group, GROUP_GET_DEVICE_FD, name.as_ptr().cast_mut()) }?;
    // SAFETY: the call made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(device) })
}

pub(super) fn region(device: BorrowedFd<'_>, index: u32) -> io::Result<Region> {
    let mut region = Region { bytes_of_this: size_of::<Region>() as u32, index, ..Region::default() };
    call(device, DEVICE_GET_REGION_INFO, &mut region)?;
    Ok(region)
}

/// How many message interrupts the device has.
pub(super) fn interrupts(device: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = IrqInfo { bytes: size_of::<IrqInfo>() as u32, index: IRQ_MSIX, ..IrqInfo::default() };
    call(device, DEVICE_GET_IRQ_INFO, &mut info)?;
    Ok(info.count)
}

/// Lets the device's first interrupt signal an event.
pub(super) fn signal_on_interrupt(device: BorrowedFd<'_>, event: BorrowedFd<'_>) -> io::Result<()> {
    let mut set = IrqSet {
        bytes: size_of::<IrqSet>() as u32,
        flags: IRQ_EVENTFD_TRIGGER,
        index: IRQ_MSIX,
        start: 0,
        count: 1,
        event: event.as_raw_fd(),
    };
    call(device, DEVICE_SET_IRQS, &mut set).map(|_| ())
}

pub(super) fn map(container: BorrowedFd<'_>, start: NonNull<u8>, bytes: usize, iova: u64) -> io::Result<()> {
    let mut map = Map {
        bytes_of_this: size_of::<Map>() as u32,
        flags: DMA_BOTH,
        address: start.as_ptr() as u64,
        iova,
        bytes: bytes as u64,
    };
    call(container, IOMMU_MAP_DMA, &mut map).map(|_| ())
}

pub(super) fn unmap(container: BorrowedFd<'_>, iova: u64, bytes: usize) -> io::Result<()> {
    let mut unmap = Unmap { bytes_of_this: size_of::<Unmap>() as u32, flags: 0, iova, bytes: bytes as u64 };
    call(container, IOMMU_UNMAP_DMA, &mut unmap).map(|_| ())
}

/// The largest range of addresses that the IOMMU translates; the end is excluded. `None` where the kernel does not
/// tell.
pub(super) fn largest_range(container: BorrowedFd<'_>) -> io::Result<Option<std::ops::Range<u64>>> {
    // Words, so that the struct in it is aligned.
    let mut memory = vec![0u64; INFO_BYTES / 8];
    if let Ok((info, _)) = IommuInfo::mut_from_prefix(memory.as_mut_bytes()) {
        info.bytes = INFO_BYTES as u32;
    }
    // SAFETY: the memory begins with the request's struct, whose first field says how long the memory is; it outlives
    // the call.
    unsafe { ioctl::call(container, IOMMU_GET_INFO, memory.as_mut_ptr()) }?;
    Ok(parse_ranges(memory.as_bytes()))
}

fn number<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Follows the chain of capabilities behind the information.
fn parse_ranges(data: &[u8]) -> Option<std::ops::Range<u64>> {
    let (info, _) = IommuInfo::ref_from_prefix(data).ok()?;
    let mut at = if info.flags & INFO_CAPABILITIES != 0 { info.capabilities as usize } else { 0 };
    // Each capability leads to the next one; more than a few are a loop.
    for _ in 0..16 {
        if at == 0 {
            return None;
        }
        let next = u32::from_ne_bytes(number(data, at + 4)?) as usize;
        if u16::from_ne_bytes(number(data, at)?) != CAPABILITY_IOVA_RANGE {
            at = next;
            continue;
        }
        let count = u32::from_ne_bytes(number(data, at + 8)?) as usize;
        let ranges = (0..count.min(INFO_BYTES / 16)).filter_map(|index| {
            let start = u64::from_ne_bytes(number(data, at + 16 + 16 * index)?);
            let last = u64::from_ne_bytes(number(data, at + 24 + 16 * index)?);
            Some(start..last.saturating_add(1))
        });
        return ranges.max_by_key(|range| range.end.saturating_sub(range.start));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_range_is_found_behind_other_capabilities() {
        let mut data = vec![0u8; INFO_BYTES];
        let put = |data: &mut Vec<u8>, at: usize, bytes: &[u8]| data[at..at + bytes.len()].copy_from_slice(bytes);
        put(&mut data, 4, &INFO_CAPABILITIES.to_ne_bytes());
        put(&mut data, 16, &64u32.to_ne_bytes());
        put(&mut data, 64, &3u16.to_ne_bytes());
        put(&mut data, 68, &128u32.to_ne_bytes());
        put(&mut data, 128, &CAPABILITY_IOVA_RANGE.to_ne_bytes());
        put(&mut data, 136, &2u32.to_ne_bytes());
        for (index, word) in [0u64, 0xfedf_ffff, 0xfef0_0000, (1 << 39) - 1].into_iter().enumerate() {
            put(&mut data, 144 + 8 * index, &word.to_ne_bytes());
        }
        assert_eq!(parse_ranges(&data), Some(0xfef0_0000..1 << 39));
        put(&mut data, 128, &9u16.to_ne_bytes());
        assert_eq!(parse_ranges(&data), None, "no such capability");
        put(&mut data, 132, &64u32.to_ne_bytes());
        assert_eq!(parse_ranges(&data), None, "a chain in a circle");
        put(&mut data, 16, &u32::MAX.to_ne_bytes());
        assert_eq!(parse_ranges(&data), None, "a chain that leads outside");
    }
}
