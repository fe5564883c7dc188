//! Draws the same block of lines again and again at the same place of a terminal.

use std::io::Write;

use console::Term;

use crate::failure::Failure;
use crate::output;

/// A block of lines that is replaced by the next one.
pub struct Redraw {
    terminal: Term,
    drawn: usize,
}

impl Redraw {
    pub fn new() -> Self {
        Self { terminal: Term::buffered_stdout(), drawn: 0 }
    }

    /// Replaces what was drawn before. Lines are cut at the terminal's width, the block at its height: a line that
    /// wraps or scrolls away could not be replaced.
    pub fn draw(&mut self, lines: &[String]) -> Result<(), Failure> {
        let (height, width) = self.terminal.size();
        let shown = lines.len().min(usize::from(height).saturating_sub(1));
        self.terminal.clear_last_lines(self.drawn).map_err(output::closed_or_io)?;
        for line in lines.iter().take(shown) {
            let cut = console::truncate_str(line, usize::from(width), "…");
            writeln!(self.terminal, "{cut}").map_err(output::closed_or_io)?;
        }
        self.drawn = shown;
        self.terminal.flush().map_err(output::closed_or_io)
    }
}

impl Default for Redraw {
    fn default() -> Self {
        Self::new()
    }
}
