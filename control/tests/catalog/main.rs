//! The catalog and reclaim, on a store in memory under a seeded scheduler.

mod cell;
mod faults;
mod golden;
mod listing;
mod objects;
mod races;
mod rate;
mod reclaim;
mod store;
mod uploads;
mod world;
