//! Crash states, exhaustively: every state a loss of power can leave a disk in, along scripts that cover an extent's
//! whole life; each is mounted by the real code and must keep every promise.
//!
//! A script runs once over a recorder. Its log is replayed; at every boundary between two events the states that the
//! assumptions about a drive (`node/src/extent/FORMAT.md`) allow are built, told apart by hash, and checked.

pub mod check;
pub mod command;
pub mod history;
pub mod ledger;
pub mod pool;
pub mod row;
pub mod run;
pub mod scripts;
pub mod stage;
pub mod table;
pub mod variants;
