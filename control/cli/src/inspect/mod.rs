//! `shingle inspect`: what is on a disk, without a server and without changing it.

pub mod command;
mod device;
mod document;
mod findings;
mod progress;
mod view;
