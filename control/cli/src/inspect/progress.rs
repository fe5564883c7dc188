//! How far reading a disk back is: a bar with rate and time left, for people.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use shingle_node::inspect::Progress;

use crate::{output, units};

/// Shows progress on standard error.
pub struct Bar(ProgressBar);

impl Bar {
    /// `quiet` shows nothing at all.
    pub fn new(quiet: bool) -> Self {
        let bar = if quiet || !output::errors_on_terminal() { ProgressBar::hidden() } else { ProgressBar::new(1) };
        let template = "{bar:28.cyan/dim} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  \
                        {binary_bytes_per_sec}  {eta} left  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    pub fn show(&self, at: Progress) {
        self.0.set_length(at.total_bytes.max(1));
        self.0.set_position(at.done_bytes);
        if at.bad > 0 {
            self.0.set_message(console::style(units::counted(at.bad, "finding")).red().to_string());
        }
    }

    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}
