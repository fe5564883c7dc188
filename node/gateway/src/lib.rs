//! The gateway: turns objects into sealed blocks on open volumes and back, with S3 in front.

pub mod config;
pub mod request;
