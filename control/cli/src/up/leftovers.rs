//! Children of an earlier `up` that are still there. They end by themselves when their parent dies, but not at once.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::up::directory::Directory;

/// How long leftovers are waited for: they finish what they have in hand, as after any SIGTERM.
const PATIENCE: Duration = Duration::from_secs(12);

/// A process that an earlier `up` on this directory started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    pub child: String,
    pub pid: u32,
}

/// Removes stale pid files and finds those whose process lives. A pid that was given to somebody else since is stale:
/// ours was started with a configuration inside this directory.
pub fn find(directory: &Directory) -> Result<Vec<Leftover>, Failure> {
    let failed = || Failure::io(directory.run().display().to_string());
    let mut living = Vec::new();
    for entry in std::fs::read_dir(directory.run()).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        if path.extension().is_none_or(|extension| extension != "pid") {
            continue;
        }
        let child = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let pid = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        match pid.filter(|pid| runs_with(*pid, &directory.child_config(&child))) {
            Some(pid) => living.push(Leftover { child, pid }),
            None => std::fs::remove_file(&path).map_err(failed())?,
        }
    }
    living.sort_by(|a, b| a.child.cmp(&b.child));
    Ok(living)
}

fn runs_with(pid: u32, config: &Path) -> bool {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let config = config.as_os_str().as_encoded_bytes();
    // A zombie has no command line: it holds nothing any more.
    arguments.split(|byte| *byte == 0).any(|argument| argument == config)
}

/// Waits until all leftovers are gone; names those that stay.
pub async fn wait_until_gone(directory: &Directory, say: &dyn Fn(&str)) -> Result<(), Failure> {
    let start = Instant::now();
    let mut told = false;
    loop {
        let living = find(directory)?;
        if living.is_empty() {
            return Ok(());
        }
        let list: Vec<_> = living.iter().map(|leftover| format!("{} (pid {})", leftover.child, leftover.pid)).collect();
        let list = list.join(", ");
        if start.elapsed() > PATIENCE {
            let pids: Vec<_> = living.iter().map(|leftover| leftover.pid.to_string()).collect();
            return Err(Failure::InUse {
                what: format!("processes of an earlier start still use {}: {list}", directory.root().display()),
                advice: format!("end them with `kill -9 {}`, then start again", pids.join(" ")),
            });
        }
        if !told {
            say(&format!("waiting for processes of an earlier start to end: {list}"));
            told = true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn stale_pid_files_go_and_living_children_are_named() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::new(&parent.path().join("cell")).unwrap();
        let _lock = directory.open().unwrap();
        // A pid that lives, but is not ours; one that cannot be; and no number at all.
        std::fs::write(directory.pid_file("control"), format!("{}\n", std::process::id())).unwrap();
        std::fs::write(directory.pid_file("host-1"), "4194999").unwrap();
        std::fs::write(directory.pid_file("host-2"), "x").unwrap();
        // A shell keeps the arguments it does not use, as our children keep theirs.
        let config = directory.child_config("gateway");
        let mut ours =
            Command::new("sh").args(["-c", "read line", "x"]).arg(&config).stdin(Stdio::piped()).spawn().unwrap();
        // The kernel shows the arguments a moment after the start.
        while !runs_with(ours.id(), &config) {
            std::thread::yield_now();
        }
        std::fs::write(directory.pid_file("gateway"), ours.id().to_string()).unwrap();
        assert_eq!(find(&directory).unwrap(), [Leftover { child: "gateway".into(), pid: ours.id() }]);
        ours.kill().unwrap();
        ours.wait().unwrap();
        assert_eq!(find(&directory).unwrap(), []);
        let left = std::fs::read_dir(directory.run()).unwrap().count();
        assert_eq!(left, 1, "only the lock file stays");
    }
}
