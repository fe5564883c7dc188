//! What a copy tells while it runs and when it is done: a bar on a terminal, one line per file otherwise, JSON for
//! scripts.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;
use crate::{output, units};

/// Bytes that have moved, counted from any thread. Taken back when a try fails.
#[derive(Clone, Default)]
pub struct Moved(Arc<AtomicU64>);

impl Moved {
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn take_back(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One file's end, as a line of `--json`.
#[derive(Debug, Serialize)]
pub struct FileDone {
    /// `ok` or `failed`.
    pub status: &'static str,
    pub source: String,
    /// Not there for what was refused before it could move.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Whether the content was compared with the ETag from end to end.
    pub checked: bool,
    pub seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The last line of `--json`.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// `summary`.
    pub status: &'static str,
    pub files: u64,
    pub bytes: u64,
    pub failed: u64,
    pub skipped: u64,
    pub unchecked: u64,
    pub seconds: f64,
}

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// A progress bar when stderr is a terminal, and a summary.
    People,
    /// One line per file as well.
    Verbose,
    Json,
    Quiet,
}

/// Collects the outcome of every file.
pub struct Progress {
    voice: Voice,
    bar: ProgressBar,
    pub moved: Moved,
    start: Instant,
    files: Cell<u64>,
    bytes: Cell<u64>,
    unchecked: Cell<u64>,
    skipped: Cell<u64>,
    failures: RefCell<Vec<(String, String)>>,
}

/// Failures shown again at the end; more than that nobody reads.
const FAILURES_SHOWN: usize = 20;

impl Progress {
    pub fn new(voice: Voice, total_bytes: Option<u64>, files: u64) -> Self {
        let visible = matches!(voice, Voice::People | Voice::Verbose) && output::errors_on_terminal();
        let bar = match (visible, total_bytes) {
            (false, _) => ProgressBar::hidden(),
            (true, Some(bytes)) => ProgressBar::new(bytes).with_style(style(
                "{bar:28.cyan/dim} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  \
                 {eta} left  {msg}",
            )),
            (true, None) => ProgressBar::new_spinner()
                .with_style(style("{spinner} {binary_bytes}  {binary_bytes_per_sec}  {elapsed}  {msg}")),
        };
        bar.enable_steady_tick(Duration::from_millis(200));
        bar.set_message(format!("0 of {}", units::counted(files, "file")));
        Self {
            voice,
            bar,
            moved: Moved::default(),
            start: Instant::now(),
            files: Cell::new(0),
            bytes: Cell::new(0),
            unchecked: Cell::new(0),
            skipped: Cell::new(0),
            failures: RefCell::default(),
        }
    }

    /// Brings the bar up to date with what has moved; called a few times a second.
    pub fn tick(&self, files: u64) {
        self.bar.set_position(self.moved.bytes());
        let done = self.files.get() + self.failures.borrow().len() as u64;
        self.bar.set_message(format!("{done} of {}", units::counted(files, "file")));
    }

    /// A remark about something that is not copied.
    pub fn skip(&self, what: &str, why: &str) -> Result<(), Failure> {
        self.skipped.set(self.skipped.get() + 1);
        match self.voice {
            Voice::Json => output::json(&serde_json::json!({"status": "skipped", "source": what, "reason": why})),
            Voice::Verbose => self.above(&format!("skipped {}: {why}", output::visible(what))),
            Voice::People | Voice::Quiet => Ok(()),
        }
    }

    /// A failure that was known before anything moved.
    pub fn refuse(&self, what: &str, why: &str) -> Result<(), Failure> {
        self.done(FileDone {
            status: "failed",
            source: what.into(),
            target: String::new(),
            bytes: 0,
            etag: None,
            checked: false,
            seconds: 0.0,
            error: Some(why.into()),
        })
    }

    /// One file has ended, well or not.
    pub fn done(&self, file: FileDone) -> Result<(), Failure> {
        match &file.error {
            Some(error) => self.failures.borrow_mut().push((file.source.clone(), error.clone())),
            None => {
                self.files.set(self.files.get() + 1);
                self.bytes.set(self.bytes.get() + file.bytes);
                self.unchecked.set(self.unchecked.get() + u64::from(!file.checked));
            }
        }
        match (self.voice, &file.error) {
            (Voice::Json, _) => output::json(&file),
            (Voice::Verbose, None) => {
                self.above(&format!("{} -> {}", output::visible(&file.source), output::visible(&file.target)))
            }
            (Voice::People | Voice::Verbose, Some(error)) => {
                self.above(&format!("{} {}: {error}", console::style("failed").red(), file.source))
            }
            _ => Ok(()),
        }
    }

    /// Prints a line without tearing the bar.
    fn above(&self, text: &str) -> Result<(), Failure> {
        if self.bar.is_hidden() {
            output::remark(text);
        } else {
            self.bar.println(text);
        }
        Ok(())
    }

    /// The closing words, and the failure of the whole command if a file failed.
    pub fn finish(self) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        let time = self.start.elapsed();
        let failures = self.failures.into_inner();
        let (files, failed) = (self.files.get(), failures.len() as u64);
        match self.voice {
            Voice::Json => output::json(&Summary {
                status: "summary",
                files,
                bytes: self.bytes.get(),
                failed,
                skipped: self.skipped.get(),
                unchecked: self.unchecked.get(),
                seconds: time.as_secs_f64(),
            })?,
            Voice::Quiet => {}
            Voice::People | Voice::Verbose => {
                let mut text = format!(
                    "{}, {} in {} ({})",
                    units::counted(files, "file"),
                    units::bytes(self.bytes.get()),
                    units::duration(time),
                    units::rate(self.bytes.get(), time)
                );
                for (count, what) in [(self.skipped.get(), "skipped (see -v)"), (self.unchecked.get(), "not checked")] {
                    if count > 0 {
                        text.push_str(&format!(", {count} {what}"));
                    }
                }
                output::remark(text);
            }
        }
        if failures.is_empty() {
            return Ok(());
        }
        // On a short list the lines above are still on the screen.
        if self.voice != Voice::Json && files + failed > 5 {
            for (source, error) in failures.iter().take(FAILURES_SHOWN) {
                output::remark(format_args!("{} {source}: {error}", console::style("failed").red().for_stderr()));
            }
            if failures.len() > FAILURES_SHOWN {
                output::remark(format_args!("and {} more", failures.len() - FAILURES_SHOWN));
            }
        }
        Err(Failure::Some { failed, total: files + failed })
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this file and are exercised by a test.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(error: Option<&str>) -> FileDone {
        FileDone {
            status: "ok",
            source: "a".into(),
            target: "b".into(),
            bytes: 3,
            etag: None,
            checked: true,
            seconds: 0.0,
            error: error.map(Into::into),
        }
    }

    #[test]
    fn one_failed_file_fails_the_command() {
        let progress = Progress::new(Voice::Quiet, Some(6), 2);
        progress.done(file(None)).unwrap();
        progress.done(file(Some("gone"))).unwrap();
        assert!(matches!(progress.finish(), Err(Failure::Some { failed: 1, total: 2 })));
    }

    #[test]
    fn what_was_refused_at_once_fails_the_command_too() {
        let progress = Progress::new(Voice::Quiet, Some(3), 2);
        progress.refuse("b", "no name for it").unwrap();
        progress.done(file(None)).unwrap();
        assert!(matches!(progress.finish(), Err(Failure::Some { failed: 1, total: 2 })));
    }

    #[test]
    fn a_try_that_failed_does_not_count_as_moved() {
        let moved = Moved::default();
        moved.add(10);
        moved.clone().take_back(4);
        assert_eq!(moved.bytes(), 6);
    }
}
