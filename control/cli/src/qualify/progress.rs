//! How far a run is: a bar for people, a line per test for logs.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use shingle_hw::qualify::findings::Status;
use shingle_hw::qualify::report::TestResult;
use shingle_hw::qualify::run::Event;

use crate::output;

/// Steps of the bar per test.
const STEPS: f64 = 1_000.0;

/// Shows events on standard error.
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    /// `quiet` shows nothing at all.
    pub fn new(quiet: bool) -> Self {
        let visible = !quiet && output::errors_on_terminal();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(1), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {percent:>3} %  {elapsed} done, {eta} left  {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar, quiet }
    }

    pub fn show(&self, event: &Event) {
        let at = |index: usize, fraction: f64| ((index as f64 + fraction.clamp(0.0, 1.0)) * STEPS) as u64;
        match event {
            Event::Started { index, total, test } => {
                self.bar.set_length(at(*total, 0.0));
                self.bar.set_position(at(*index, 0.0));
                self.bar.set_message(format!("{} {}", test.id, test.title));
            }
            Event::Progress { index, fraction, .. } => self.bar.set_position(at(*index, *fraction)),
            Event::Finished { index, result, .. } => {
                self.bar.set_position(at(*index, 1.0));
                if !self.quiet {
                    self.bar.suspend(|| output::remark(line(result)));
                }
            }
        }
    }

    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// One test in one line.
fn line(result: &TestResult) -> String {
    let name = format!("{:5}", result.status.name());
    let status = match result.status {
        Status::Pass => console::style(name).green(),
        Status::Warn => console::style(name).yellow(),
        Status::Fail | Status::Error => console::style(name).red().bold(),
        Status::Na | Status::Skip => console::style(name).dim(),
    };
    let reason = result.reason.as_deref().map(|reason| format!("  {reason}")).unwrap_or_default();
    format!("{status} {} {}{reason}", result.id, result.title)
}
