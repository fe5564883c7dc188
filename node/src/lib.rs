//! The host process: shards that own disks, OSDs that group-commit records, extents on zones.
//!
//! Everything here runs on the thread of one shard; a disk has exactly one owner (invariant 5).

pub mod config;
pub mod extent;
pub mod inspect;
pub mod metrics;
pub mod osd;
pub mod process;
pub mod pump;
