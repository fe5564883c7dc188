//! Qualification: may this drive join the fleet? A registry of tests, a runner, reports with intervals, and planted
//! device bugs that prove the tests can fail.
//!
//! Invariant: a test changes the device only through the bench, and the bench only where the caller allowed it.

pub mod bench;
mod conformance;
pub mod diff;
mod endurance;
mod environment;
mod faults;
pub mod findings;
pub mod fit;
pub mod html;
mod integrity;
pub mod junit;
pub mod latency;
pub mod negative;
pub mod pattern;
mod performance;
pub mod plan;
pub mod planted;
pub mod profile;
pub mod real_clock;
pub mod reference;
pub mod registry;
pub mod report;
pub mod run;
pub mod statistics;
pub mod subject;
