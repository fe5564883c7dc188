//! Zoned devices: geometry, the zone state machine, one device trait and its back ends.
//!
//! This package knows zones and bytes and nothing of what is stored in them.

pub mod backend;
pub mod buffer;
pub mod clock;
pub mod crc;
pub mod device;
mod draw;
pub mod error;
pub mod faulty;
pub mod geometry;
pub mod image;
pub mod model;
pub mod qualify;
pub mod recorder;
pub mod ring;
pub mod zone;
pub mod zone_state;
