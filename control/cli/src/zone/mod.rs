//! `shingle zone`: single commands to a zoned device, and what every tool that touches one needs first.

pub mod command;
pub mod device;
mod handover;
pub mod ownership;
pub mod usage;
pub mod view;
