//! Drives that exist only as numbers: how long a command takes, and a whole drive in memory and virtual time built on
//! it.

pub mod disk;
pub mod drive;
pub mod flash;
pub mod head;
pub mod profile;
pub mod service_time;
pub mod timed;
