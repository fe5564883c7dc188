//! fio as the peer: the same bytes with the same flushes on the same file system, with huge pages like ours.
//!
//! fio's own buffers get huge pages through the C library's allocator (`glibc.malloc.hugetlb=1` makes it ask for
//! them as our pool does); how many it really got is read from the kernel while it runs.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::error::BenchError;

/// How often a running fio is asked for its huge pages.
const PAGES_INTERVAL: Duration = Duration::from_millis(20);

/// How fio makes writes durable, after so many of them and at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    Never,
    /// `fdatasync`: what our own drive does.
    Data {
        writes: u64,
    },
    /// `fsync`: with the file's times as well, which costs a transaction of the file system.
    Full {
        writes: u64,
    },
}

/// How fio asks the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// All of the depth in flight. A sync is one more command among them: fio 3.33 neither waits for the writes before it
    /// nor holds back those behind it (fio's `get_rw_ddir`).
    IoUring,
    /// All of the depth in flight but the syncs: the call that asks for one ends with it (fio's `fio_libaio_queue`), so
    /// every sync is waited for, one after the other. A run has one less for each of the depth but one: fio 3.33 made 9 for
    /// 40 writes at depth 32, and 289 for 320.
    Libaio,
    /// One at a time in each thread, so a sync covers the write before it.
    Psync,
}

/// What fio does.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Sequential writes of all the bytes.
    Write { total_bytes: u64, sync: Sync },
    /// Random reads for so long.
    RandomRead { seconds: u64 },
}

/// One run of fio with direct I/O.
#[derive(Clone, Debug)]
pub struct Job {
    pub file: PathBuf,
    /// Where in the file the work starts, and how much of it is used.
    pub offset_bytes: u64,
    pub span_bytes: u64,
    pub work: Work,
    pub engine: Engine,
    pub block_bytes: u64,
    /// In flight per thread.
    pub depth: u32,
    /// Threads, all on the same file.
    pub threads: u32,
}

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    pub operations: u64,
    pub seconds: f64,
    /// Of fio's own threads, user and system.
    pub cpu_seconds: f64,
    /// The most anonymous memory on huge pages seen while it ran.
    pub huge_page_bytes: u64,
}

impl Job {
    /// Operations a second and everything else.
    pub fn run(&self) -> Result<Done, BenchError> {
        let mut command = self.command();
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => BenchError::Missing { program: "fio" },
            _ => BenchError::io("run fio")(error),
        })?;
        let mut huge_page_bytes = 0;
        // fio's report fits into the pipe, so it never waits for us.
        while child.try_wait().map_err(BenchError::io("wait for fio"))?.is_none() {
            huge_page_bytes = huge_page_bytes.max(huge_bytes_of(child.id()));
            std::thread::sleep(PAGES_INTERVAL);
        }
        let output = child.wait_with_output().map_err(BenchError::io("wait for fio"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let command = format!("{command:?}");
        if !output.status.success() {
            let output_text = text + &String::from_utf8_lossy(&output.stderr);
            return Err(BenchError::Command { command, status: output.status, output: output_text });
        }
        self.read_report(&text, huge_page_bytes).ok_or(BenchError::Unexpected { command, output: text })
    }

    /// The command that runs it, for people.
    pub fn line(&self) -> String {
        let command = self.command();
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
        let variables = command.get_envs().filter_map(|(name, value)| {
            value.map(|value| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
        });
        variables.chain(["fio".to_owned()]).chain(words).collect::<Vec<_>>().join(" ")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("fio");
        command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
        command.args(["--name=peer", "--thread", "--group_reporting", "--direct=1"]);
        command.args(["--output-format=json", "--randrepeat=0", "--refill_buffers=0", "--scramble_buffers=0"]);
        command.args(["--fallocate=none", "--overwrite=0", "--invalidate=0"]);
        command.arg(match self.engine {
            Engine::IoUring => "--ioengine=io_uring",
            Engine::Libaio => "--ioengine=libaio",
            Engine::Psync => "--ioengine=psync",
        });
        command.arg(format!("--filename={}", self.file.display()));
        command.arg(format!("--offset={}", self.offset_bytes));
        command.arg(format!("--bs={}", self.block_bytes));
        command.arg(format!("--iodepth={}", self.depth));
        command.arg(format!("--numjobs={}", self.threads));
        match self.work {
            Work::Write { total_bytes, sync } => {
                let each = total_bytes / u64::from(self.threads.max(1));
                command.arg("--rw=write").arg(format!("--size={each}"));
                match sync {
                    Sync::Never => {}
                    Sync::Data { writes } => {
                        command.arg(format!("--fdatasync={}", writes.max(1))).arg("--end_fsync=1");
                    }
                    Sync::Full { writes } => {
                        command.arg(format!("--fsync={}", writes.max(1))).arg("--end_fsync=1");
                    }
                }
                if self.threads > 1 {
                    command.arg(format!("--offset_increment={each}"));
                }
            }
            Work::RandomRead { seconds } => {
                command.args(["--rw=randread", "--norandommap", "--time_based"]);
                command.arg(format!("--size={}", self.span_bytes));
                command.arg(format!("--runtime={seconds}"));
            }
        }
        command
    }

    fn read_report(&self, text: &str, huge_page_bytes: u64) -> Option<Done> {
        // fio may print a warning before its JSON.
        let report: Value = serde_json::from_str(&text[text.find('{')?..]).ok()?;
        let job = &report["jobs"][0];
        let direction = match self.work {
            Work::Write { .. } => "write",
            Work::RandomRead { .. } => "read",
        };
        let operations = job[direction]["total_ios"].as_u64().filter(|count| *count > 0)?;
        // Over all threads, as the processor times are.
        let thread_seconds = job["job_runtime"].as_f64().filter(|ms| *ms > 0.0)? / 1000.0;
        let seconds = thread_seconds / f64::from(self.threads);
        let cpu_percent = job["usr_cpu"].as_f64()? + job["sys_cpu"].as_f64()?;
        Some(Done { operations, seconds, cpu_seconds: cpu_percent / 100.0 * thread_seconds, huge_page_bytes })
    }
}

/// Anonymous memory of a process on huge pages; 0 when the kernel does not say, or the process has gone.
pub fn huge_bytes_of(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("AnonHugePages:")?.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_understood_behind_a_warning() {
        let job = Job {
            file: "x".into(),
            offset_bytes: 0,
            span_bytes: 0,
            work: Work::Write { total_bytes: 8, sync: Sync::Data { writes: 1 } },
            engine: Engine::Psync,
            block_bytes: 4,
            depth: 1,
            threads: 2,
        };
        assert!(job.line().starts_with("GLIBC_TUNABLES=glibc.malloc.hugetlb=1 fio --name=peer"), "{}", job.line());
        assert!(job.line().contains("--ioengine=psync") && job.line().contains("--size=4 --fdatasync=1 --end_fsync=1"));
        let text = r#"note: slow
            {"jobs":[{"job_runtime":4000,"usr_cpu":10.0,"sys_cpu":15.0,"write":{"total_ios":2}}]}"#;
        let done = job.read_report(text, 7).unwrap();
        assert_eq!((done.operations, done.seconds, done.cpu_seconds, done.huge_page_bytes), (2, 2.0, 1.0, 7));
        assert!(job.read_report("{}", 0).is_none());
        assert!(job.read_report("nothing", 0).is_none());
    }
}
