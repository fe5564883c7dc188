//! A cell of real processes to measure, in a folder of its own that is removed afterwards.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::BenchError;

const READY_SECONDS: u64 = 120;

/// A running cell.
pub struct Cell {
    program: PathBuf,
    folder: TempDir,
    up: Child,
}

impl Cell {
    /// Starts `program up` in a new folder below `parent`, with these flags, and waits until it serves.
    pub fn start(program: &Path, parent: &Path, flags: &[&str]) -> Result<Self, BenchError> {
        let folder = tempfile::tempdir_in(parent).map_err(BenchError::io(format!("folder in {}", parent.display())))?;
        let ready = folder.path().join("ready");
        let up = Command::new(program)
            .args(["up", "--no-tui", "--dir"])
            .arg(folder.path().join("cell"))
            .arg("--ready-file")
            .arg(&ready)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(BenchError::io(format!("start {}", program.display())))?;
        let cell = Self { program: program.to_path_buf(), folder, up };
        let start = Instant::now();
        while !ready.exists() {
            if start.elapsed() > Duration::from_secs(READY_SECONDS) {
                return Err(BenchError::NotReady { dir: cell.dir(), seconds: READY_SECONDS });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(cell)
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("cell")
    }

    /// A folder on the cell's file system.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a subcommand with the cell's endpoint and keys; its standard output.
    pub fn run(&self, arguments: &[&str]) -> Result<String, BenchError> {
        let mut command = Command::new(&self.program);
        let file = self.dir().join("env");
        let text = std::fs::read_to_string(&file).map_err(BenchError::io(format!("read {}", file.display())))?;
        for line in text.lines() {
            if let Some((name, value)) = line.trim().trim_start_matches("export ").split_once('=') {
                command.env(name, value.trim_matches(['"', '\'']));
            }
        }
        let output = command.args(arguments).stdin(Stdio::null()).output().map_err(BenchError::io("run shingle"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let output_text = text + &String::from_utf8_lossy(&output.stderr);
        Err(BenchError::Command { command: format!("{command:?}"), status: output.status, output: output_text })
    }

    /// Stops or continues one child of the cell where it stands.
    pub fn signal(&self, child: &str, signal: &str) -> Result<(), BenchError> {
        let file = self.dir().join("run").join(format!("{child}.pid"));
        let pid = std::fs::read_to_string(&file).map_err(BenchError::io(format!("read {}", file.display())))?;
        let status = Command::new("kill").args([signal, pid.trim()]).status().map_err(BenchError::io("run kill"))?;
        if status.success() {
            return Ok(());
        }
        Err(BenchError::Command { command: format!("kill {signal} {child}"), status, output: String::new() })
    }

    /// `shingle status --json`.
    pub fn status(&self) -> Result<serde_json::Value, BenchError> {
        let dir = self.dir();
        let text = self.run(&["status", "--json", "--dir", &dir.display().to_string()])?;
        serde_json::from_str(&text)
            .map_err(|_| BenchError::Unexpected { command: "shingle status".into(), output: text })
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // Children of `up` die with it; the folder goes next, so nothing has to be stopped gently.
        drop(self.up.kill());
        drop(self.up.wait());
        std::thread::sleep(Duration::from_millis(300));
    }
}
