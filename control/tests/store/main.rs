//! The conformance suite of the store: every promise of `control/src/store/mod.rs`, against every implementation.

mod basics;
mod durability;
mod faults;
mod isolation;
mod model;
mod rig;
mod stalls;
mod torn;
