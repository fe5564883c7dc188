//! Where log lines go: standard error, for people or as JSON.

use tracing_subscriber::EnvFilter;

use crate::args::LogFlags;
use crate::failure::Failure;
use crate::output;

/// The environment variable with a filter, when `--log-level` is not given.
pub const LOG_VARIABLE: &str = "SHINGLE_LOG";

/// Starts logging. `default` is the level without a flag or a variable.
pub fn start(flags: &LogFlags, default: &str) -> Result<(), Failure> {
    let variable = std::env::var(LOG_VARIABLE).ok().filter(|filter| !filter.is_empty());
    let filter = flags.log_level.clone().or(variable).unwrap_or_else(|| default.into());
    let parsed = EnvFilter::try_new(&filter).map_err(|error| {
        Failure::usage(
            format!("{filter:?} is no log filter: {error}"),
            "write a level: error, warn, info, debug, trace",
        )
    })?;
    // A line that cannot be written is lost: complaining about it to standard error, the same full disk, would panic.
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr).log_internal_errors(false);
    let colours = output::errors_on_terminal() && console::colors_enabled_stderr();
    if flags.log_json {
        subscriber.json().init();
    } else {
        subscriber.with_ansi(colours).init();
    }
    Ok(())
}
