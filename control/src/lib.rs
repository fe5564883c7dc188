//! The control plane: the store, its tables, the master that places volumes, and the catalog service.
//!
//! Everything here lives on one thread and reaches the world through `shingle_seam::World` and [`store::Store`] only, so
//! that simulation runs the same code.

pub mod config;
pub mod master;
pub mod process;
pub mod service;
pub mod store;
pub mod tables;
pub mod verify;
