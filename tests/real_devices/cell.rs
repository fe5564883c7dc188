//! A cell in the guest: control plane, gateway and hosts, each a process of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub const PROGRAM: &str = "/bin/shingle";
const ACCESS_KEY: &str = "TESTACCESSKEY";
const SECRET_KEY: &str = "test-secret-key-of-forty-characters-0000";
/// How long anything may take; under emulation processes take seconds to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Processes of a cell. Dropping it kills them.
pub struct Cell {
    control: Process,
    gateway: Process,
    hosts: BTreeMap<u32, (PathBuf, Process)>,
}

impl Cell {
    /// The cell whose state lies in `folder`: a host for each device, from number 1 on, started together.
    pub fn start(folder: &Path, copies: usize, devices: &[PathBuf]) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let path = |name: &str| folder.join(name).to_str().expect("text").to_owned();
        let copies = copies.to_string();
        let arguments = ["control", "--listen", "127.0.0.1:0", "--dir", &path("control"), "--copies", &copies];
        let mut control = Process::start("control", &arguments);
        let at = control.wait_until_ready()["listen"].as_str().expect("an address").to_owned();
        let key = path("kek");
        make_key(Path::new(&key));
        let arguments = ["gateway", "--s3-listen", "127.0.0.1:0", "--control", &at, "--key-file", &key];
        let keys = ["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY, "--budget-mib", "64"];
        let gateway = Process::start("gateway", &[&arguments[..], &keys[..]].concat());
        let mut cell = Self { control, gateway, hosts: BTreeMap::new() };
        for (number, device) in (1..).zip(devices) {
            cell.begin_host(number, device.clone());
        }
        cell.gateway.wait_until_ready();
        for (_, host) in cell.hosts.values_mut() {
            host.wait_until_ready();
        }
        cell
    }

    fn begin_host(&mut self, number: u32, device: PathBuf) {
        let (control, id) = (self.control().to_string(), number.to_string());
        let disk = device.to_str().expect("text");
        let place = ["host", "--host", &id, "--listen", "127.0.0.1:0", "--control", &control];
        let arguments = [&place[..], &["--disks", disk, "--budget-mib", "64"]].concat();
        let process = Process::start(&format!("host-{number}"), &arguments);
        self.hosts.insert(number, (device, process));
    }

    /// `kill -9` of a host, and the same again.
    pub fn restart_host(&mut self, number: u32) {
        let (device, killed) = self.hosts.remove(&number).expect("the host runs");
        drop(killed);
        self.begin_host(number, device);
        self.hosts.get_mut(&number).expect("the host runs").1.wait_until_ready();
    }

    /// `kill -9` of every process.
    pub fn end(&mut self) {
        self.hosts.values_mut().map(|(_, host)| host).for_each(Process::kill);
        self.gateway.kill();
        self.control.kill();
    }

    /// Where the control plane listens.
    pub fn control(&self) -> SocketAddr {
        let address = self.control.ready["listen"].as_str().and_then(|address| address.parse().ok());
        address.expect("an address")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let s3 = self.gateway.ready["s3"].as_str().expect("an address");
        let mut command = Command::new(PROGRAM);
        command.args(arguments).stdin(Stdio::null());
        command.env("AWS_ENDPOINT_URL", format!("http://{s3}")).env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    }

    /// Runs `shingle cp -r`; it has to succeed.
    pub fn copy(&self, from: &str, to: &str) {
        self.copy_with(&["-r"], from, to);
    }

    /// Runs `shingle cp` with further arguments; it has to succeed.
    pub fn copy_with(&self, arguments: &[&str], from: &str, to: &str) {
        let output = self.command(&[&["cp"], arguments, &[from, to]].concat()).output().expect("shingle runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cp {from} {to}: {}\n{error}\n{}", output.status, logs());
    }

    /// Starts a copy that tells of every file.
    pub fn start_copy(&self, from: &str, to: &str) -> Copying {
        self.start_copy_with(&[], from, to)
    }

    /// As `start_copy`, with further arguments.
    pub fn start_copy_with(&self, arguments: &[&str], from: &str, to: &str) -> Copying {
        let mut command = self.command(&[&["cp", "-r", "--json"], arguments, &[from, to]].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(log("cp")).spawn().expect("shingle runs");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Copying { child, lines }
    }

    /// Waits until blocks can be stored: hosts have been heard and volumes are open.
    pub fn wait_until_writable(&self) {
        fs::write("/tmp/probe", b"is anybody there?").expect("a file");
        let since = Instant::now();
        loop {
            let output = self.command(&["cp", "/tmp/probe", "sh://probe/probe"]).output().expect("shingle runs");
            if output.status.success() {
                return;
            }
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(since.elapsed() < PATIENCE, "not writable: {error}\n{}", logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn make_key(path: &Path) {
    if !path.exists() {
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path).expect("a key file");
        writeln!(file, "kek 1 {}", "5a".repeat(32)).and_then(|()| file.sync_all()).expect("writes");
    }
}

fn log(name: &str) -> fs::File {
    fs::File::options().create(true).append(true).open(format!("/tmp/{name}.log")).expect("a log")
}

/// The end of every process's log.
pub fn logs() -> String {
    let mut text = String::new();
    for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(60)..].join("\n");
            text += &format!("--- {}\n{tail}\n", entry.path().display());
        }
    }
    text
}

/// A process of the cell. Dropping it kills it.
struct Process {
    name: String,
    child: Child,
    first_line: Receiver<String>,
    /// What stood behind READY.
    ready: serde_json::Value,
}

impl Process {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log(name));
        let mut child = command.spawn().expect("shingle starts");
        let stdout = child.stdout.take().expect("piped");
        let (sender, first_line) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // Nobody waits any more when the send fails.
            drop(BufReader::new(stdout).read_line(&mut line).map(|_| sender.send(line)));
        });
        Self { name: name.to_owned(), child, first_line, ready: serde_json::Value::Null }
    }

    fn wait_until_ready(&mut self) -> &serde_json::Value {
        let line = self.first_line.recv_timeout(PATIENCE).unwrap_or_default();
        let ready = line.strip_prefix("READY ").and_then(|ready| serde_json::from_str(ready).ok());
        self.ready = ready.unwrap_or_else(|| panic!("{} does not start: {line:?}\n{}", self.name, logs()));
        &self.ready
    }

    fn kill(&mut self) {
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A copy on its way: what it tells of each file, in the order of the answers.
pub struct Copying {
    child: Child,
    lines: BufReader<ChildStdout>,
}

/// One file of a copy.
pub struct Copied {
    pub name: String,
    pub done: bool,
}

impl Iterator for Copying {
    type Item = Copied;

    fn next(&mut self) -> Option<Copied> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            // The last line is a summary.
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
            let Some(name) = value["target"].as_str().and_then(|target| target.rsplit('/').next()) else { continue };
            return Some(Copied { name: name.to_owned(), done: value["status"] == "ok" });
        }
    }
}

impl Copying {
    /// Ends it; what it has told already is still there to be read.
    pub fn end(&mut self) {
        self.child.kill().expect("ended");
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}
