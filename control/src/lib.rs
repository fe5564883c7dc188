//! control
pub mod store;
