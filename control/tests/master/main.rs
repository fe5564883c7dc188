//! The master: its decisions on a cell of the imagination, and its orders on hosts that answer over the network.

mod away;
mod decisions;
mod hosts;
mod imagined;
mod listing;
mod orders;
mod restarts;
