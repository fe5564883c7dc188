//! `shingle cp`: plan what to move, move it in parallel, check every byte on the way, report.

pub mod attributes;
pub mod command;
pub mod download;
pub mod etag;
pub mod multipart;
pub mod place;
pub mod plan;
pub mod progress;
pub mod slots;
pub mod upload;
