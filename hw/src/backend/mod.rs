//! The back ends: one device trait, several media. All pass the same conformance tests.

pub mod blkzoned;
mod drive;
pub mod file;
pub mod memory;
pub mod nvme;
mod open;

pub use drive::LayoutError;
pub use open::{OpenError, open};
