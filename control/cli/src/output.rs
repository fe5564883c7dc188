//! Standard output for people and for scripts: a closed pipe ends a command quietly, never with a panic.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Obeys NO_COLOR (any value) for everything this program prints.
pub fn obey_no_color() {
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        console::set_colors_enabled(false);
        console::set_colors_enabled_stderr(false);
    }
}

/// Whether a person is looking at standard output.
pub fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether a person is looking at standard error.
pub fn errors_on_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Writes one line to standard error. Unlike `eprintln!` it does not end the program when nobody reads any more.
pub fn remark(text: impl std::fmt::Display) {
    // There is nowhere left to report that standard error is gone.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Writes one line to standard output.
pub fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{text}").map_err(closed_or_io)
}

/// Writes one JSON document on one line.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::failed(format!("the result cannot be written as JSON: {error}"), ""))?;
    line(text)
}

/// A text from elsewhere on a line of ours: what would move the cursor or end the line is written out, `\n` or `\u{1b}`.
pub fn visible(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return text.into();
    }
    let escape = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.chars().map(escape).collect::<String>().into()
}

/// The failure behind an error of standard output.
pub fn closed_or_io(source: io::Error) -> Failure {
    match source.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Io { what: "standard output".into(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out_and_nothing_else() {
        assert_eq!(visible("grün/a b\\c"), "grün/a b\\c");
        assert_eq!(visible("a\nb\t\u{1b}[31mred\u{85}"), "a\\nb\\t\\u{1b}[31mred\\u{85}");
    }
}
