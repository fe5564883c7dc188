//! Tests that need more than one package: the simulated cell, the checkers of the invariants, and the long soaks.

pub mod check;
pub mod crash;
pub mod disk;
pub mod fuzz;
pub mod model;
pub mod profile;
pub mod sim;
pub mod soak;
