//! How a command ends when it does not end well: one variant per exit code and reaction, each with what to do next.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// The exit codes, as `shingle --help` documents them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    something failed: a file, a check, a request that was refused
  2    wrong use of the command line
  3    the configuration or the cell's directory does not fit
  4    nobody answers at the endpoint or the control plane's address
  5    in use: the cell's directory, a port or a disk
  6    the device refused the command; the message names the class
  7    what is on the disk is damaged; `shingle inspect` names every finding
  130  interrupted";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The request makes no sense as it stands.
    #[error("{what}")]
    Usage { what: String, advice: String },
    /// A configuration file, or a cell's directory, cannot be used as it is.
    #[error("{what}")]
    Unfit { what: String, advice: String },
    /// Somebody else has the directory or the port.
    #[error("{what}")]
    InUse { what: String, advice: String },
    /// No connection.
    #[error("{what}")]
    Unreachable { what: String, advice: String },
    /// The work was tried and did not succeed.
    #[error("{what}")]
    Failed { what: String, advice: String },
    /// Some of many pieces failed; each has been reported already.
    #[error("{failed} of {total} failed")]
    Some { failed: u64, total: u64 },
    /// A device refused a command; `class` is the kind of refusal in one word.
    #[error("refused ({class}): {what}")]
    Refused { class: &'static str, what: String },
    /// A disk that was looked at holds what it should not.
    #[error("{}: {}", path.display(), crate::units::counted(*bad, "finding"))]
    Damaged { path: PathBuf, bad: u64 },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("interrupted")]
    Interrupted,
    /// The reader of our output has gone (`shingle ls | head`): no reason to complain.
    #[error("the reader of the output has gone")]
    OutputClosed,
}

impl Failure {
    pub fn usage(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), advice: advice.into() }
    }

    pub fn unfit(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Unfit { what: what.into(), advice: advice.into() }
    }

    pub fn failed(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Failed { what: what.into(), advice: advice.into() }
    }

    /// For `map_err`: an I/O error and what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// What the user can do about it; empty when there is nothing better than the message.
    pub fn advice(&self) -> &str {
        match self {
            Self::Usage { advice, .. }
            | Self::Unfit { advice, .. }
            | Self::InUse { advice, .. }
            | Self::Unreachable { advice, .. }
            | Self::Failed { advice, .. } => advice,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space on that file system and run the command again"
            }
            Self::Some { .. }
            | Self::Refused { .. }
            | Self::Damaged { .. }
            | Self::Io { .. }
            | Self::Interrupted
            | Self::OutputClosed => "",
        }
    }

    /// See [`EXIT_CODES`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Failed { .. } | Self::Some { .. } | Self::Io { .. } => 1,
            Self::Usage { .. } => 2,
            Self::Unfit { .. } => 3,
            Self::Unreachable { .. } => 4,
            Self::InUse { .. } => 5,
            Self::Refused { .. } => 6,
            Self::Damaged { .. } => 7,
            Self::Interrupted => 130,
        }
    }

    /// Tells the user on stderr and gives the process its exit code.
    pub fn report(&self) -> ExitCode {
        if !matches!(self, Self::OutputClosed) {
            let label = console::style("error:").red().bold().for_stderr();
            crate::output::remark(format_args!("{label} {self}"));
            if !self.advice().is_empty() {
                let next = console::style("next:").cyan().for_stderr();
                crate::output::remark(format_args!("  {next} {}", self.advice()));
            }
        }
        ExitCode::from(self.exit_code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_documented() {
        let all = [
            Failure::usage("", ""),
            Failure::unfit("", ""),
            Failure::failed("", ""),
            Failure::InUse { what: String::new(), advice: String::new() },
            Failure::Unreachable { what: String::new(), advice: String::new() },
            Failure::Some { failed: 1, total: 2 },
            Failure::Refused { class: "full", what: String::new() },
            Failure::Damaged { path: PathBuf::new(), bad: 1 },
            Failure::Interrupted,
            Failure::OutputClosed,
        ];
        for failure in all {
            let code = format!("\n  {:<5}", failure.exit_code());
            assert!(EXIT_CODES.contains(&code), "{failure:?}");
        }
    }
}
