//! The back ends: one device trait, several media. All pass the same conformance tests.

pub mod file;
pub mod memory;
