//! The configuration: one TOML file with a section per process, every key of it also a flag.

pub mod command;
pub mod disk_profile;
pub mod file;
pub mod sections;
