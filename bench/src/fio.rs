//! fio as the peer: the same bytes with the same flushes on the same file system, with huge pages like ours.
//!
//! Invariant: a replay does what it is given and nothing else, each command at its place: fio reads it from a list beside
//! the file (its `read_iolog`, version 2), with one sync behind every so many writes.
//!
//! fio's own buffers get huge pages through the C library's allocator (`glibc.malloc.hugetlb=1` makes it ask for
//! them as our pool does); how many it really got is read from the kernel while it runs.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::error::BenchError;

/// How often a running fio is asked for its huge pages.
const PAGES_INTERVAL: Duration = Duration::from_millis(20);

/// What a list of commands begins with.
const LIST_HEADER: &str = "fio version 2 iolog";

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

impl Sync {
    /// fio's option, its word in a list, and after how many writes; `None`: never.
    fn words(self) -> Option<(&'static str, &'static str, u64)> {
        match self {
            Self::Never => None,
            Self::Data { writes } => Some(("fdatasync", "datasync", writes.max(1))),
            Self::Full { writes } => Some(("fsync", "sync", writes.max(1))),
        }
    }
}

/// How fio asks the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// All of the depth in flight. A sync is one more command among them: fio 3.33 neither waits for the writes before it
    /// nor holds back those behind it.
    IoUring,
    /// All of the depth in flight but the syncs: the call that asks for one ends with it (fio's `fio_libaio_queue`), so
    /// every sync is waited for, one after the other.
    Libaio,
    /// One at a time in each thread, so a sync covers the write before it.
    Psync,
}

/// What fio does. Of a replay, several threads take commands in turn.
#[derive(Clone, Debug)]
pub enum Work {
    /// Sequential writes of all the bytes.
    Write { total_bytes: u64, sync: Sync },
    /// A command at each of these offsets of the file, in this order.
    Replay { direction: Direction, offsets: Vec<u64>, sync: Sync },
}

/// What commands do.
#[derive(Clone, Copy, Debug)]
pub enum Direction {
    Write,
    Read,
}

impl Direction {
    /// fio's word, in lists and reports.
    fn word(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// One run of fio with direct I/O.
#[derive(Clone, Debug)]
pub struct Job {
    pub file: PathBuf,
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
        self.write_lists()?;
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
        let shown = match self.work {
            Work::Write { .. } => usize::MAX,
            Work::Replay { .. } => words.len() - 2 * (self.threads as usize - 1),
        };
        let more = (shown < words.len()).then(|| format!("... of {} threads", self.threads));
        variables.chain(["fio".to_owned()]).chain(words.take(shown)).chain(more).collect::<Vec<_>>().join(" ")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("fio");
        command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
        command.args(["--thread", "--group_reporting", "--direct=1"]);
        command.args(["--output-format=json", "--randrepeat=0", "--refill_buffers=0", "--scramble_buffers=0"]);
        command.args(["--fallocate=none", "--overwrite=0", "--invalidate=0"]);
        command.arg(match self.engine {
            Engine::IoUring => "--ioengine=io_uring",
            Engine::Libaio => "--ioengine=libaio",
            Engine::Psync => "--ioengine=psync",
        });
        command.arg(format!("--iodepth={}", self.depth));
        match &self.work {
            Work::Write { total_bytes, sync } => {
                let each = total_bytes / u64::from(self.threads.max(1));
                command.arg("--name=peer").arg(format!("--numjobs={}", self.threads));
                command.arg(format!("--filename={}", self.file.display()));
                command.arg(format!("--bs={}", self.block_bytes)).arg("--rw=write").arg(format!("--size={each}"));
                if let Some((option, _, writes)) = sync.words() {
                    command.arg(format!("--{option}={writes}")).arg("--end_fsync=1");
                }
                if self.threads > 1 {
                    command.arg(format!("--offset_increment={each}"));
                }
            }
            Work::Replay { sync, .. } => {
                if *sync != Sync::Never {
                    command.arg("--end_fsync=1");
                }
                self.replay(&mut command);
            }
        }
        command
    }

    /// Names in a list end at a space, and names of lists at a colon, so fio is given all of them without their folder.
    fn replay(&self, command: &mut Command) {
        if let Some(folder) = self.file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            command.current_dir(folder);
        }
        command.arg("--replay_no_stall=1");
        // A job for each thread: fio 3.33 crashes when the threads of one job have lists of their own.
        for thread in 0..self.threads {
            command.arg(format!("--name=peer{thread}")).arg(format!("--read_iolog={}", list_name(thread)));
        }
    }

    /// Writes what fio replays, a list for each thread.
    fn write_lists(&self) -> Result<(), BenchError> {
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let lists = (0..self.threads).filter_map(|thread| Some((thread, self.list(thread)?)));
        for (thread, list) in lists {
            let path = folder.join(list_name(thread));
            let failed = || BenchError::io(format!("write {}", path.display()));
            let mut file = File::create(&path).map_err(failed())?;
            file.write_all(list.as_bytes()).map_err(failed())?;
            // Else the first of fio's syncs would write the list too.
            file.sync_all().map_err(failed())?;
        }
        Ok(())
    }

    /// What a thread replays; `None` when nothing is replayed.
    fn list(&self, thread: u32) -> Option<String> {
        let Work::Replay { direction, offsets, sync } = &self.work else { return None };
        let name = self.file.file_name()?.to_string_lossy();
        let verb = direction.word();
        let own = offsets.iter().skip(thread as usize).step_by(self.threads.max(1) as usize);
        let mut list = format!("{LIST_HEADER}\n{name} add\n{name} open\n");
        for (done, offset) in (1..).zip(own) {
            // Writing to a string cannot fail.
            let _ = writeln!(list, "{name} {verb} {offset} {}", self.block_bytes);
            if let Some((_, action, writes)) = sync.words()
                && u64::is_multiple_of(done, writes)
            {
                let _ = writeln!(list, "{name} {action} 0 0");
            }
        }
        Some(list)
    }

    fn read_report(&self, text: &str, huge_page_bytes: u64) -> Option<Done> {
        // fio may print a warning before its JSON.
        let report: Value = serde_json::from_str(&text[text.find('{')?..]).ok()?;
        let job = &report["jobs"][0];
        let (direction, asked) = match &self.work {
            Work::Write { .. } => (Direction::Write, None),
            Work::Replay { direction, offsets, .. } => (*direction, Some(offsets.len() as u64)),
        };
        let operations = job[direction.word()]["total_ios"].as_u64().filter(|count| *count > 0)?;
        // fio skips lines that it does not understand.
        if asked.is_some_and(|asked| asked != operations) {
            return None;
        }
        // Over all threads, as the processor times are.
        let thread_seconds = job["job_runtime"].as_f64().filter(|ms| *ms > 0.0)? / 1000.0;
        let seconds = thread_seconds / f64::from(self.threads);
        let cpu_percent = job["usr_cpu"].as_f64()? + job["sys_cpu"].as_f64()?;
        Some(Done { operations, seconds, cpu_seconds: cpu_percent / 100.0 * thread_seconds, huge_page_bytes })
    }
}

/// The list that a thread replays, beside its file.
fn list_name(thread: u32) -> String {
    format!("fio.{thread}.list")
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

    fn job(work: Work, threads: u32) -> Job {
        Job { file: "folder/x".into(), work, engine: Engine::Psync, block_bytes: 4, depth: 1, threads }
    }

    #[test]
    fn a_report_is_understood_behind_a_warning() {
        let job = job(Work::Write { total_bytes: 8, sync: Sync::Data { writes: 1 } }, 2);
        assert!(job.line().starts_with("GLIBC_TUNABLES=glibc.malloc.hugetlb=1 fio --thread"), "{}", job.line());
        assert!(job.line().contains("--rw=write --size=4 --fdatasync=1 --end_fsync=1"), "{}", job.line());
        assert_eq!(job.list(0), None);
        let text = r#"note: slow
            {"jobs":[{"job_runtime":4000,"usr_cpu":10.0,"sys_cpu":15.0,"write":{"total_ios":2}}]}"#;
        let done = job.read_report(text, 7).unwrap();
        assert_eq!((done.operations, done.seconds, done.cpu_seconds, done.huge_page_bytes), (2, 2.0, 1.0, 7));
        let short = self::job(Work::Replay { direction: Direction::Write, offsets: vec![0; 3], sync: Sync::Never }, 2);
        assert!(short.read_report(text, 7).is_none(), "two of three commands");
        assert!(job.read_report("{}", 0).is_none());
        assert!(job.read_report("nothing", 0).is_none());
    }

    #[test]
    fn threads_replay_commands_in_turn_with_a_sync_behind_every_so_many() {
        let replay = |direction, offsets: &[u64], sync, threads| {
            job(Work::Replay { direction, offsets: offsets.to_vec(), sync }, threads)
        };
        let writes = replay(Direction::Write, &[0, 40, 20, 8], Sync::Full { writes: 1 }, 2);
        let end = "--end_fsync=1 --replay_no_stall=1 --name=peer0 --read_iolog=fio.0.list ... of 2 threads";
        assert!(writes.line().ends_with(end), "{}", writes.line());
        let first = "fio version 2 iolog\nx add\nx open\nx write 0 4\nx sync 0 0\nx write 20 4\nx sync 0 0\n";
        assert_eq!(writes.list(0).unwrap(), first);
        assert!(writes.list(1).unwrap().contains("x write 40 4\nx sync 0 0\nx write 8 4\nx sync 0 0\n"));

        let seldom = replay(Direction::Write, &[0, 4, 8], Sync::Data { writes: 2 }, 1);
        assert!(seldom.list(0).unwrap().ends_with("x write 0 4\nx write 4 4\nx datasync 0 0\nx write 8 4\n"));
        let reads = replay(Direction::Read, &[8, 0], Sync::Never, 1);
        assert!(reads.list(0).unwrap().ends_with("x read 8 4\nx read 0 4\n") && !reads.line().contains("fsync"));
        assert!(reads.line().ends_with("--read_iolog=fio.0.list"), "{}", reads.line());
    }
}
