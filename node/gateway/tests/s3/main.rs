//! The S3 server over real HTTP on loopback, with a core in memory behind it.

mod bad_input;
mod bodies;
mod client;
mod fake_core;
mod objects;
mod server;
mod signatures;
