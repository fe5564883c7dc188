//! `shingle up`: a whole cell on this machine, made of real processes.

pub mod backoff;
pub mod cell_file;
pub mod child;
pub mod command;
pub mod create;
pub mod directory;
pub mod env_file;
pub mod events;
pub mod health;
pub mod leftovers;
pub mod ports;
pub mod screen;
pub mod space;
pub mod supervisor;
pub mod wish;
