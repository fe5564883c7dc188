//! The invariants of DESIGN section 5 as checkers, for simulated cells.

pub mod copies;
