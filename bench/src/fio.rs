//! fio as the peer: the same bytes with the same flushes on the same file system.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::error::BenchError;

/// A sequential direct write.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub total_bytes: u64,
    pub block_bytes: u64,
    pub depth: u32,
    /// fdatasync after so many writes.
    pub writes_per_sync: u64,
}

/// Runs one write job on a fresh file in `folder`; MiB/s over all of it, the last sync included.
pub fn write(folder: &Path, job: Write) -> Result<f64, BenchError> {
    let file = folder.join("fio.dat");
    let mut command = Command::new("fio");
    command.args(["--name=append", "--rw=write", "--direct=1", "--ioengine=io_uring", "--fallocate=none"]);
    command.args(["--end_fsync=1", "--output-format=json", "--randrepeat=0", "--refill_buffers=0"]);
    command.arg(format!("--filename={}", file.display()));
    command.arg(format!("--size={}", job.total_bytes));
    command.arg(format!("--bs={}", job.block_bytes));
    command.arg(format!("--iodepth={}", job.depth));
    command.arg(format!("--fdatasync={}", job.writes_per_sync.max(1)));
    let output = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => BenchError::Missing { program: "fio" },
        _ => BenchError::io("run fio")(error),
    })?;
    std::fs::remove_file(&file).map_err(BenchError::io(format!("remove {}", file.display())))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let output_text = text + &String::from_utf8_lossy(&output.stderr);
        return Err(BenchError::Command {
            command: format!("{command:?}"),
            status: output.status,
            output: output_text,
        });
    }
    // fio may print a warning before its JSON.
    let json = text.find('{').and_then(|start| serde_json::from_str::<Value>(&text[start..]).ok());
    let runtime_ms = json.as_ref().and_then(|report| report["jobs"][0]["job_runtime"].as_f64());
    match runtime_ms.filter(|ms| *ms > 0.0) {
        Some(ms) => Ok(job.total_bytes as f64 / (1 << 20) as f64 / (ms / 1000.0)),
        None => Err(BenchError::Unexpected { command: format!("{command:?}"), output: text }),
    }
}
