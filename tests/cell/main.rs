//! A real cell: `shingle up` with its real child processes, sockets, disks and clients, killed and damaged on purpose.

mod bad_input;
mod clients;
mod crash;
mod harness;
mod needles;
mod real_files;
