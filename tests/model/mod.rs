//! The model-based test: random operations on one disk in memory, with losses of power in between, and a reference model
//! of one page that says what may be answered. A failing run shrinks to the operations that matter.

pub mod command;
pub mod drive;
pub mod operation;
pub mod reference;
pub mod shrink;
