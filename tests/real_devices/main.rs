//! Whole cells on real kernel zoned devices, inside the guest of `hw/rig`: real processes, killed and reset with the
//! whole machine, on devices that fail; and a benchmark on a disk whose flushes take long.

mod cell;
mod content;
#[path = "../../hw/tests/guest/devices.rs"]
mod devices;
mod disks;
mod faults;
mod files;
mod flushes;
mod killing;
mod kills;
mod port;
mod resets;
mod thread_host;
mod vfio;
