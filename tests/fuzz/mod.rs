//! Fuzzing of everything that is decoded from a disk: mutated bytes, half of them with their checksums made right
//! again, so that deep fields are reached. Outcomes never seen before guide it: their inputs are mutated further.
//!
//! Invariant 11: whatever a disk holds, decoding ends in a value or a typed error; it does not panic, does not allocate
//! more than a small multiple of what was read, and what it accepts comes back the same when it is encoded.

pub mod command;
pub mod memory;
pub mod mutate;
pub mod run;
pub mod targets;
