//! Verification: comparing what the tables promise with what is there.

pub mod index_scan;
