//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::bench::BenchArgs;
use crate::browse::{cat::CatArgs, du::DuArgs, ls::LsArgs, rm::RmArgs, stat::StatArgs};
use crate::config::sections::{ControlSection, GatewaySection, HostSection, UpSection};
use crate::failure::EXIT_CODES;
use crate::inspect::command::InspectArgs;
use crate::qualify::command::QualifyArgs;
use crate::status::command::StatusArgs;
use crate::transfer::command::CpArgs;
use crate::zone::command::ZoneArgs;

const ABOUT_EXAMPLES: &str = "\
Examples:
  shingle up                              start a cell on this machine
  shingle cp -r ~/photos sh://photos      store a directory
  shingle ls sh://photos/                 look at it
  shingle status --watch                  watch the cell
  source DIR/env                          then any S3 client works, DIR being the cell's directory
";

fn after_help() -> String {
    format!("{ABOUT_EXAMPLES}\n{EXIT_CODES}")
}

/// Durable blocks on zoned disks, with S3 in front
#[derive(Parser, Debug)]
#[command(name = "shingle", version, after_help = after_help(), max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub log: LogFlags,
}

/// Flags of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct LogFlags {
    /// Configuration file; `shingle config` prints a documented one [default: SHINGLE_CONFIG]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub config: Option<PathBuf>,
    /// error, warn, info, debug, trace, or a filter like shingle_node=debug [default: SHINGLE_LOG, info for processes]
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Everywhere")]
    pub log_level: Option<String>,
    /// Log lines as JSON
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub log_json: bool,
}

const UP_EXAMPLES: &str = "\
Examples:
  shingle up                                    a cell in $XDG_DATA_HOME/shingle
  shingle up --dir ./cell --disk-size 4GiB --zone-size 64MiB
  shingle up --s3-port 9000                     S3 at a port of your choice, kept for later starts
  shingle up --no-tui --ready-file /tmp/ready   for scripts

The first start makes the directory: keys, sparse disk files, the control plane's store. Later starts
use what is there; more hosts or disks may be added. Ctrl-C stops every process. DIR/env holds
endpoint and keys (`source DIR/env`), DIR/log the logs, DIR/run the process ids.";

const HOST_EXAMPLES: &str = "\
Examples:
  shingle host --config host-1.toml
  shingle host --host 1 --listen 127.0.0.1:7101 --control 127.0.0.1:7001 --disks disk-1.img disk-2.img
  shingle host --config host-1.toml --shards 2 --cores 2 3     each shard stays on a core of its own

Prints one line `READY {...}` when it serves. SIGTERM stops it.";

const CONTROL_EXAMPLES: &str = "\
Examples:
  shingle control --listen 127.0.0.1:7001 --dir ./control

Prints one line `READY {...}` when it serves. SIGTERM stops it.";

const GATEWAY_EXAMPLES: &str = "\
Examples:
  shingle gateway --config gateway.toml
  shingle gateway --s3-listen 127.0.0.1:7000 --control 127.0.0.1:7001 --key-file kek.key --config keys.toml

Prints one line `READY {...}` when it serves. SIGTERM stops it.";

const CONFIG_EXAMPLES: &str = "\
Examples:
  shingle config > shingle.toml
  shingle up --config shingle.toml";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  shingle completions bash > ~/.local/share/bash-completion/completions/shingle
  shingle completions zsh > ~/.zfunc/_shingle
  shingle completions fish > ~/.config/fish/completions/shingle.fish";

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Start a whole cell on this machine
    #[command(after_help = UP_EXAMPLES)]
    Up(UpSection),
    Status(StatusArgs),
    Cp(CpArgs),
    Ls(LsArgs),
    Stat(StatArgs),
    Cat(CatArgs),
    Du(DuArgs),
    Rm(RmArgs),
    /// Run a host: the process that serves disks
    #[command(after_help = HOST_EXAMPLES)]
    Host(HostSection),
    /// Run the control plane
    #[command(after_help = CONTROL_EXAMPLES)]
    Control(ControlSection),
    /// Run a gateway: the S3 front door
    #[command(after_help = GATEWAY_EXAMPLES)]
    Gateway(GatewaySection),
    Bench(BenchArgs),
    Zone(ZoneArgs),
    Inspect(InspectArgs),
    Qualify(Box<QualifyArgs>),
    /// Print the documented configuration file
    #[command(after_help = CONFIG_EXAMPLES)]
    Config,
    /// Print the completion script of a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: Shell,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples_in_its_help() {
        let mut cli = Cli::command();
        cli.build();
        for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{}", command.get_name());
            assert!(help.contains(&format!("shingle {}", command.get_name())), "{}", command.get_name());
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
