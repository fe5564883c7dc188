//! The back ends: one device trait, several media. All pass the same conformance tests.

pub mod blkzoned;
mod drive;
pub mod file;
mod ioctl;
mod look;
pub mod memory;
pub mod nvme;
mod open;
mod transfer;
mod users;
pub mod vfio;

pub use drive::LayoutError;
pub use look::{Damage, Look, look};
pub use open::{OpenError, open};
pub use users::User;
