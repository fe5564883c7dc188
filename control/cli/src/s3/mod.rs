//! A small S3 client: signing by `rusty-s3`, HTTP by `hyper`, answers parsed with `quick-xml`.

pub mod client;
pub mod endpoint;
pub mod error;
pub mod objects;
pub mod retry;
pub mod sign;
pub mod xml;
