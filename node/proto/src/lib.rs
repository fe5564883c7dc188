//! The vocabulary every part of Shingle shares: ids, limits, messages and frames. Names no device, socket or clock.

extern crate alloc; // the generated code names it from the crate root

pub mod frame;
#[allow(warnings, clippy::all, clippy::todo, clippy::undocumented_unsafe_blocks)]
#[rustfmt::skip]
mod generated;
pub mod ids;
pub mod limits;
pub mod message;
