//! The simulated cell: every process of a cell in one thread, from one seed, in virtual time (DESIGN section 10).
//!
//! The same seed gives the same trace hash, twice: nothing here or in the simulated code may ask the machine for time,
//! randomness or threads.

pub mod cell;
pub mod executor;
pub mod net;
pub mod process;
pub mod workload;
