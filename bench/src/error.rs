//! Why a measurement could not be made.

use std::path::PathBuf;

use shingle_seam::rpc::RpcError;

/// A measurement's failure; a run with one has no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{program} is not installed: install it with `apt-get install {program}`")]
    Missing { program: &'static str },
    #[error("{command} failed with {status}:\n{output}")]
    Command { command: String, status: std::process::ExitStatus, output: String },
    #[error("{command} printed something else than expected: {output}")]
    Unexpected { command: String, output: String },
    #[error("the cell in {} did not get ready in {seconds} s", dir.display())]
    NotReady { dir: PathBuf, seconds: u64 },
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error("the engine: {0}")]
    Engine(String),
    #[error(
        "{needed_bytes} bytes are needed, {free_bytes} are free: take another directory, or bound the rounds (--records)"
    )]
    NoRoom { free_bytes: u64, needed_bytes: u64 },
    #[error("no OSD has a free extent for the measurement")]
    NoExtent,
}

impl BenchError {
    /// An I/O error with what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
