//! Calls over real sockets, on both runtimes: what a peer may do, what it may not, and what that costs others.

mod bad_answers;
mod bad_input;
mod calls;
mod crowd;
mod echo;
mod raw;
mod runtimes;
mod throughput;
