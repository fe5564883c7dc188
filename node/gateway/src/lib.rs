//! gateway
pub mod request;
