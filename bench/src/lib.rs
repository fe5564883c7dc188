//! Measurements that are printed as ratios against a peer in the same run, medians of several rounds.
//!
//! Times on a shared machine differ from day to day; two things measured alternately in one run compare.

pub mod append;
pub mod cell;
pub mod copy;
pub mod engine;
pub mod error;
pub mod fio;
pub mod ratio;
pub mod ssd_cache;

pub use error::BenchError;
