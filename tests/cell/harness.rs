//! Starts, kills and questions a cell of real processes. Every cell lives in its own folder and on its own ports.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(120);

/// One cell. Dropping it kills every process of it.
pub struct Cell {
    folder: TempDir,
    up: Option<Child>,
    flags: Vec<String>,
}

/// The `shingle` program of this build.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let target = test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps");
    let program = target.join("shingle");
    assert!(
        program.is_file(),
        "{} is missing: run `cargo build -p shingle` first, as tests/run does",
        program.display()
    );
    program
}

impl Cell {
    /// A cell small enough for tests: five hosts with two disks each, zones of 64 MiB.
    pub fn start(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder for the cell");
        let mut cell = Self { folder, up: None, flags: flags.iter().map(|flag| flag.to_string()).collect() };
        cell.up();
        cell
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("cell")
    }

    /// A folder for a test's own files, away from the cell's.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path).expect("a scratch folder");
        path
    }

    /// Starts the cell, or starts it again on the same folder, and waits until it serves.
    pub fn up(&mut self) {
        assert!(self.up.is_none(), "the cell is up");
        let ready = self.folder.path().join("ready");
        drop(fs::remove_file(&ready));
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("up.log"))
            .expect("a log for the cell");
        let child = Command::new(program())
            .args(["up", "--no-tui", "--dir"])
            .arg(self.dir())
            .arg("--ready-file")
            .arg(&ready)
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log twice"))
            .stderr(log)
            .spawn()
            .expect("shingle starts");
        self.up = Some(child);
        await_that(START_LIMIT, "the cell serves", || {
            let ended = self.up.as_mut().and_then(|up| up.try_wait().expect("the child can be asked"));
            assert!(ended.is_none(), "shingle up ended with {ended:?}:\n{}", self.log());
            if ready.exists() { Ok(()) } else { Err(self.log()) }
        });
    }

    /// What `up` printed, and the end of every child's log.
    pub fn log(&self) -> String {
        let mut text = fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default();
        for entry in fs::read_dir(self.dir().join("log")).into_iter().flatten().flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(12)..];
            text += &format!("--- {}\n{}\n", entry.path().display(), tail.join("\n"));
        }
        text
    }

    /// Stops the cell properly and checks that it went well.
    pub fn stop(&mut self) {
        let mut up = self.up.take().expect("the cell is up");
        signal(up.id(), libc::SIGTERM);
        let status = wait(&mut up, Duration::from_secs(30)).unwrap_or_else(|| panic!("does not stop:\n{}", self.log()));
        assert!(status.success(), "stopped with {status}:\n{}", self.log());
    }

    /// `kill -9` of `up` and every child at once.
    pub fn kill_all(&mut self) {
        let mut up = self.up.take().expect("the cell is up");
        let children = self.pids();
        signal(up.id(), libc::SIGKILL);
        children.values().for_each(|pid| signal(*pid, libc::SIGKILL));
        up.wait().expect("the killed child is reaped");
        await_that(Duration::from_secs(10), "killed processes are gone", || {
            let left: Vec<_> =
                children.iter().filter(|(_, pid)| Path::new(&format!("/proc/{pid}/exe")).exists()).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }

    /// Process ids of the children by name: `control`, `gateway`, `host-1`, ...
    pub fn pids(&self) -> BTreeMap<String, u32> {
        let mut pids = BTreeMap::new();
        for entry in fs::read_dir(self.dir().join("run")).expect("DIR/run").flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "pid") {
                let text = fs::read_to_string(&path).expect("a pid file is readable");
                let name = path.file_stem().expect("a pid file has a name").to_string_lossy().into_owned();
                pids.insert(name, text.trim().parse().unwrap_or_else(|_| panic!("{}: {text:?}", path.display())));
            }
        }
        pids
    }

    pub fn kill(&self, child: &str) {
        signal(*self.pids().get(child).unwrap_or_else(|| panic!("no child {child}")), libc::SIGKILL);
    }

    /// `DIR/env` as variables.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.dir().join("env")).expect("DIR/env");
        let variables = text.lines().filter_map(|line| line.trim().trim_start_matches("export ").split_once('='));
        variables.map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned())).collect()
    }

    /// A command with the cell's environment.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment()).stdin(Stdio::null());
        command
    }

    /// Runs `shingle` against the cell.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(program()).args(arguments).output().expect("shingle runs")
    }

    /// Runs `shingle` against the cell and expects success; its standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "shingle {arguments:?}: {}\n{}{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        String::from_utf8(output.stdout).expect("output is text")
    }

    /// `shingle status --json`.
    pub fn status(&self) -> serde_json::Value {
        let dir = self.dir();
        let text = self.ok(&["status", "--json", "--dir", dir.to_str().expect("the folder's name is text")]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// One number of the status.
    pub fn number(&self, field: &str) -> u64 {
        let status = self.status();
        status[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {status}"))
    }

    /// Every disk file of the cell.
    pub fn disks(&self) -> Vec<PathBuf> {
        let mut disks = Vec::new();
        for host in fs::read_dir(self.dir().join("hosts")).expect("DIR/hosts").flatten() {
            for file in fs::read_dir(host.path()).expect("a host's folder").flatten() {
                disks.push(file.path());
            }
        }
        disks.retain(|path| path.extension().is_some_and(|extension| extension == "img"));
        disks.sort();
        assert!(!disks.is_empty(), "a cell has disks");
        disks
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        if self.up.is_some() {
            self.kill_all();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

pub fn signal(pid: u32, signal: i32) {
    // Gone already is fine: the test wanted it gone.
    drop(Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).stderr(Stdio::null()).status());
}

/// Waits until `look` finds what it looks for. This is the one place here that polls: what processes do to each other is
/// seen from outside only by asking again.
///
/// # Panics
/// After `limit`, with what `look` saw last.
pub fn await_that<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(start.elapsed() < limit, "not within {limit:?}: {what}; last seen: {seen}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Files of many sizes whose content no two blocks share.
pub fn make_files(folder: &Path, count: usize, mean_bytes: usize, seed: u64) {
    use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
    let mut random = StdRng::seed_from_u64(seed);
    for number in 0..count {
        let mut content = vec![0; random.random_range(0..2 * mean_bytes)];
        random.fill_bytes(&mut content);
        fs::write(folder.join(format!("file-{number:04}")), content).expect("a file");
    }
}

/// Waits for a child; `None`: it did not end in time.
pub fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait().expect("the child can be asked") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Relative path -> content hash of every regular file below a folder.
pub fn digest_tree(root: &Path) -> BTreeMap<PathBuf, [u8; 32]> {
    use sha2::{Digest, Sha256};
    let mut digests = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let mut file = fs::File::open(entry.path()).expect("a readable file");
                let mut hasher = Sha256::new();
                std::io::copy(&mut file, &mut hasher).expect("a readable file");
                let path = entry.path().strip_prefix(root).expect("below the root").to_path_buf();
                digests.insert(path, hasher.finalize().into());
            }
        }
    }
    digests
}
