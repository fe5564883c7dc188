//! The program `shingle` as a library, so that its parts can be tested: everything but the allocator and `main`.

pub mod args;
pub mod bench;
pub mod browse;
pub mod config;
pub mod failure;
pub mod inspect;
pub mod log;
pub mod output;
pub mod parent;
pub mod qualify;
pub mod s3;
pub mod service;
pub mod status;
pub mod transfer;
pub mod units;
pub mod up;
pub mod zone;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::args::{Cli, Command};
use crate::config::file::ConfigFile;
use crate::failure::Failure;

/// Runs the program with the process's arguments.
pub fn run() -> ExitCode {
    output::obey_no_color();
    match dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    parent::die_with_parent()?;
    let config = || ConfigFile::load(cli.log.config.as_deref());
    match cli.command {
        Command::Up(flags) => in_runtime(up::command::run(config()?.overlay(&flags)?, cli.log)),
        Command::Control(flags) => service::control(config()?.overlay(&flags)?, &cli.log),
        Command::Gateway(flags) => service::gateway(config()?.overlay(&flags)?, &cli.log),
        Command::Host(flags) => service::host(config()?.overlay(&flags)?, &cli.log),
        Command::Bench(args) => bench::run(&args),
        Command::Qualify(args) => {
            log::start(&cli.log, "error")?;
            qualify::command::run(&args)
        }
        Command::Inspect(args) => {
            log::start(&cli.log, "error")?;
            inspect::command::run(&args)
        }
        Command::Zone(args) => {
            log::start(&cli.log, "warn")?;
            zone::command::run(&args)
        }
        Command::Config => config::command::run(),
        Command::Completions { shell } => {
            // Not straight to standard output: the generator panics when nobody reads it any more.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "shingle", &mut script);
            output::line(String::from_utf8_lossy(&script).trim_end())
        }
        Command::Cp(args) => client(&cli.log, transfer::command::run(args)),
        Command::Ls(args) => client(&cli.log, browse::ls::run(args)),
        Command::Stat(args) => client(&cli.log, browse::stat::run(args)),
        Command::Cat(args) => client(&cli.log, browse::cat::run(args)),
        Command::Du(args) => client(&cli.log, browse::du::run(args)),
        Command::Rm(args) => client(&cli.log, browse::rm::run(args)),
        Command::Status(args) => client(&cli.log, status::command::run(args)),
    }
}

/// A command for people: its log shows warnings only, unless asked for more. It takes nothing from a configuration, and
/// still refuses one that is not there or not valid: it was named for a reason.
fn client(log: &args::LogFlags, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    ConfigFile::load(log.config.as_deref())?;
    log::start(log, "warn")?;
    in_runtime(work)
}

/// Everything here runs on one thread; hashing and file I/O go to blocking threads.
fn in_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::io("cannot start the runtime"))?;
    let result = tokio::task::LocalSet::new().block_on(&runtime, work);
    // A blocking thread may still sit in a read of standard input: it must not keep the process.
    runtime.shutdown_background();
    result
}
