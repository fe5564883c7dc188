//! The S3 front door: HTTP in, [`CoreRequest`](crate::request::CoreRequest)s out.
//!
//! It runs on its own threads over tokio and reaches the core through one bounded channel. The library (`s3s`) parses
//! requests, verifies signatures and writes XML; everything it does not bound or verify is done here. The way of a
//! request: [`server`] (connections) - `intake` (what is refused unseen) - the library - `frontend` (verbs) - the file
//! of its kind. Nothing that a client sends is held whole but XML.

mod buckets;
mod checksum;
mod complaint;
mod conditions;
mod copy;
mod delete;
mod download;
mod errors;
mod frontend;
mod headers;
mod incoming;
mod intake;
mod listing;
mod multipart;
mod pieces;
mod ranges;
mod read;
mod rechunk;
pub mod server;
mod stall;
mod upload;
mod write;

pub use server::{S3Options, S3Server, ServeError};
