//! The program `shingle`: one binary for people, for every process of a cell and for scripts.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    shingle_cli::run()
}
