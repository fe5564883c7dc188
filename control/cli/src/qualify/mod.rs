//! `shingle qualify`: may this drive join the fleet?

pub mod command;
mod files;
mod progress;
mod target;
