//! A real cell: `shingle up` with its real child processes, sockets, disks and clients, killed and damaged on purpose.

mod bad_input;
mod clients;
mod crash;
mod full_disk;
mod harness;
mod needles;
mod problems;
mod real_files;
