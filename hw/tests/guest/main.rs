//! Tests that run inside the guest of `hw/rig`, on zoned devices of a real kernel: one conformance body against every
//! way to them, and what only real devices do.

mod claims;
#[path = "../device/conformance.rs"]
mod conformance;
mod conforming;
mod devices;
mod faults;
mod nvme;
mod opening;
mod qualify;
#[path = "../device/rig.rs"]
mod rig;
mod vfio;
