//! The gateway: turns objects into sealed blocks on open volumes and back, with S3 in front.

mod append;
mod budget;
mod catalog;
mod checksum;
mod cohort;
pub mod config;
mod copy;
pub mod core;
mod get;
mod hedge;
mod intent;
mod multipart;
mod placement;
pub mod process;
mod put;
pub mod request;
pub mod s3;
mod stream;
mod window;
