//! One child process: its configuration file, its start, its READY line, its end, its log.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::config::sections::{ControlSection, GatewaySection, HostSection, Section};
use crate::failure::Failure;
use crate::up::cell_file::CellFile;
use crate::up::directory::Directory;
use crate::up::env_file::{REGION, write_private};

/// A log is started anew when it has grown beyond this; one older log is kept.
const LOG_BYTES_MAX: u64 = 32 << 20;
/// What is shown of one line of a log.
const LINE_WIDTH: usize = 200;
/// How much of a log's end is read to find the last lines.
const TAIL_BYTES: u64 = 4096;

/// What a child is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Control,
    Gateway,
    Host(u32),
}

impl Kind {
    /// All children of a cell, in the order they start.
    pub fn all(hosts: u32) -> Vec<Self> {
        [Self::Control].into_iter().chain((1..=hosts).map(Self::Host)).chain([Self::Gateway]).collect()
    }

    /// `control`, `gateway`, `host-1`: the name of its pid file and log.
    pub fn name(&self) -> String {
        match self {
            Self::Control => "control".into(),
            Self::Gateway => "gateway".into(),
            Self::Host(number) => format!("host-{number}"),
        }
    }

    fn command(&self) -> &'static str {
        match self {
            Self::Control => ControlSection::NAME,
            Self::Gateway => GatewaySection::NAME,
            Self::Host(_) => HostSection::NAME,
        }
    }

    /// Writes the child's configuration: a file and not arguments, because it may hold the secret key.
    pub fn write_config(&self, directory: &Directory, cell: &CellFile) -> Result<(), Failure> {
        let address = |port: u16| Some(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
        let control = address(cell.ports.control);
        let section = match self {
            Self::Control => toml::Table::try_from(ControlSection {
                listen: control,
                dir: Some(directory.control_store()),
                ..ControlSection::default()
            }),
            Self::Gateway => toml::Table::try_from(GatewaySection {
                s3_listen: address(cell.ports.s3),
                control,
                key_file: Some(directory.key_file()),
                access_key: Some(cell.access_key.clone()),
                secret_key: Some(cell.secret_key.clone()),
                region: Some(REGION.into()),
                ..GatewaySection::default()
            }),
            Self::Host(number) => toml::Table::try_from(HostSection {
                host: Some(*number),
                listen: cell.ports.hosts.get(*number as usize - 1).and_then(|port| address(*port)),
                control,
                disks: Some((1..=cell.shape.disks).map(|disk| directory.disk(*number, disk)).collect()),
                ..HostSection::default()
            }),
        };
        let path = directory.child_config(&self.name());
        let failed = |error: toml::ser::Error| Failure::failed(format!("{}: {error}", path.display()), "");
        let file = toml::Table::from_iter([(self.command().to_string(), section.map_err(failed)?.into())]);
        let text = toml::to_string(&file).map_err(failed)?;
        write_private(&path, format!("# Written by `shingle up` at every start.\n{text}").as_bytes())
    }
}

/// A child that was started.
#[derive(Debug)]
pub struct Running {
    process: Child,
    pub pid: u32,
    /// Where this start's lines begin in the log.
    log_start: u64,
    /// What could not be written for it, as on a full disk: no reason not to run.
    pub unwritten: Vec<Failure>,
}

/// Starts a child. Its standard output comes back to be read for the READY line.
pub fn start(kind: &Kind, directory: &Directory, extra: &[String]) -> Result<(Running, ChildStdout), Failure> {
    let name = kind.name();
    let mut unwritten = Vec::new();
    let (log, log_start) = match open_log(&directory.log(&name)) {
        Ok(log) => {
            let log_start = log.metadata().map(|metadata| metadata.len()).unwrap_or(0);
            (Stdio::from(log), log_start)
        }
        Err(failure) => {
            unwritten.push(failure);
            (Stdio::null(), 0)
        }
    };
    // Not current_exe(): that names a file, which a build may have replaced since; this names the running program.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("shingle")
        .arg(kind.command())
        .arg("--config")
        .arg(directory.child_config(&name))
        .args(extra)
        .env(crate::parent::PARENT_VARIABLE, std::process::id().to_string())
        .env(crate::parent::NAME_VARIABLE, &name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // A group of its own: Ctrl-C reaches `up` alone, which then stops the children in order.
        .process_group(0);
    let mut process = command.spawn().map_err(Failure::io(format!("cannot start {name}")))?;
    let pid = process.id().unwrap_or_default();
    let stdout = process.stdout.take();
    let stdout = stdout.ok_or_else(|| Failure::failed(format!("{name} has no standard output"), ""))?;
    let pid_file = directory.pid_file(&name);
    if let Err(failure) = write_private(&pid_file, format!("{pid}\n").as_bytes()) {
        // The number of the life before would name a process that is not ours.
        if let Err(error) = std::fs::remove_file(&pid_file) {
            tracing::debug!(%error, "no pid file to remove");
        }
        unwritten.push(failure);
    }
    Ok((Running { process, pid, log_start, unwritten }, stdout))
}

/// Ends when the child has printed its READY line, or, with `false`, its last line without one.
pub async fn ready_line(stdout: &mut BufReader<ChildStdout>) -> bool {
    let mut line = String::new();
    loop {
        line.clear();
        match stdout.read_line(&mut line).await {
            Ok(0) | Err(_) => return false,
            Ok(_) if line.starts_with("READY ") => return true,
            Ok(_) => {}
        }
    }
}

impl Running {
    pub async fn wait(&mut self) -> Result<ExitStatus, Failure> {
        self.process.wait().await.map_err(Failure::io("waiting for a child"))
    }

    /// Sends a signal; a child that has ended already needs none.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!(pid = self.pid, %error, "the signal was not needed");
        }
    }

    /// The last lines this start wrote to the log.
    pub fn last_lines(&self, log: &Path, count: usize) -> Vec<String> {
        tail(log, self.log_start, count).unwrap_or_default()
    }
}

fn open_log(path: &Path) -> Result<File, Failure> {
    let failed = || Failure::io(path.display().to_string());
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        std::fs::rename(path, path.with_extension("log.1")).map_err(failed())?;
    }
    OpenOptions::new().create(true).append(true).open(path).map_err(failed())
}

fn tail(path: &Path, start: u64, count: usize) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(start.max(end.saturating_sub(TAIL_BYTES)).min(end)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.iter().skip(lines.len().saturating_sub(count));
    Ok(last.map(|line| console::truncate_str(line, LINE_WIDTH, "…").into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::ConfigFile;
    use crate::units::ByteSize;
    use crate::up::cell_file::Ports;
    use crate::up::wish::Shape;

    #[test]
    fn every_child_gets_a_configuration_it_accepts() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::new(&parent.path().join("cell")).unwrap();
        let _lock = directory.open().unwrap();
        let cell = CellFile {
            shape: Shape { hosts: 4, disks: 2, disk_size: ByteSize(4 << 30), zone_size: ByteSize(64 << 20) },
            ports: Ports { s3: 1, control: 2, hosts: vec![3, 4, 5, 6] },
            access_key: "a".into(),
            secret_key: "s".into(),
        };
        for kind in Kind::all(4) {
            kind.write_config(&directory, &cell).unwrap();
            ConfigFile::load(Some(&directory.child_config(&kind.name()))).unwrap();
        }
        let file = ConfigFile::load(Some(&directory.child_config("host-4"))).unwrap();
        let config: shingle_node::config::HostConfig = file.overlay(&HostSection::default()).unwrap();
        assert_eq!((config.host, config.listen.port(), config.disks.len()), (4, 6, 2));
    }

    #[tokio::test]
    async fn a_child_starts_without_its_pid_file_and_its_log() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::new(&parent.path().join("cell")).unwrap();
        let _lock = directory.open().unwrap();
        // Directories stand where the files would be: neither can be written, as on a full disk.
        std::fs::create_dir_all(directory.log("control")).unwrap();
        let mut name = directory.pid_file("control").into_os_string();
        name.push(".new");
        std::fs::create_dir_all(name).unwrap();
        let (mut running, _stdout) = start(&Kind::Control, &directory, &[]).unwrap();
        let told: Vec<String> = running.unwritten.iter().map(ToString::to_string).collect();
        assert!(told.len() == 2 && told[1].contains("control.pid"), "{told:?}");
        running.wait().await.unwrap();
    }

    #[test]
    fn the_tail_of_a_log_leaves_out_earlier_starts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "old\nnew 1\n\nnew 2\nnew 3\n").unwrap();
        assert_eq!(tail(file.path(), 4, 2).unwrap(), ["new 2", "new 3"]);
        assert_eq!(tail(file.path(), 4, 9).unwrap(), ["new 1", "new 2", "new 3"]);
        assert_eq!(tail(file.path(), 4000, 9).unwrap(), Vec::<String>::new());
    }
}
