//! OSDs: one disk each, owned by one shard. Group commit, reads, recovery at start, and what is told to control.

mod access;
pub mod board;
pub mod budget;
mod close;
mod commit;
pub mod extent;
pub mod fetch;
pub mod findings;
mod heartbeat;
mod labels;
mod ledger;
mod listing;
pub mod mount;
pub mod policy;
pub mod refusal;
mod report;
mod retire;
mod reuse;
mod room;
pub mod schedule;
pub mod scrub;
mod serve;
pub mod shard;
mod signal;
pub mod store;
pub mod turns;
mod zones;
