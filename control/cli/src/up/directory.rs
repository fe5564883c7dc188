//! A cell's directory: where everything lies in it, which version it has, and who is using it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::failure::Failure;
use crate::up::env_file::write_private;

/// The version of the layout this program makes and understands.
pub const LAYOUT_VERSION: u32 = 1;

/// The directory of one cell.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
}

/// Held while `up` runs. The kernel lets go of it however the process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it to a child just being started: until it runs its program, it has this file too.
        if let Err(error) = flock(&self.file, FlockOperation::Unlock) {
            tracing::warn!(%error, "the directory's lock was not given back before its file is closed");
        }
    }
}

impl Directory {
    /// Names the directory; nothing is touched. Children get paths, so it is made absolute.
    pub fn new(root: &Path) -> Result<Self, Failure> {
        let root = std::path::absolute(root).map_err(Failure::io(format!("{}", root.display())))?;
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn env_file(&self) -> PathBuf {
        self.root.join("env")
    }

    pub fn cell_file(&self) -> PathBuf {
        self.root.join("cell.toml")
    }

    pub fn key_file(&self) -> PathBuf {
        self.root.join("kek.key")
    }

    pub fn control_store(&self) -> PathBuf {
        self.root.join("control")
    }

    /// `host` and `disk` count from 1.
    pub fn disk(&self, host: u32, disk: u32) -> PathBuf {
        self.root.join(format!("hosts/host-{host}/disk-{disk}.img"))
    }

    pub fn logs(&self) -> PathBuf {
        self.root.join("log")
    }

    pub fn log(&self, child: &str) -> PathBuf {
        self.logs().join(format!("{child}.log"))
    }

    pub fn pid_file(&self, child: &str) -> PathBuf {
        self.run().join(format!("{child}.pid"))
    }

    pub fn child_config(&self, child: &str) -> PathBuf {
        self.run().join(format!("{child}.toml"))
    }

    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    fn version_file(&self) -> PathBuf {
        self.root.join("version")
    }

    /// Whether a cell was made here before.
    pub fn is_cell(&self) -> bool {
        self.version_file().exists()
    }

    /// Makes the directory if it is not there, checks that it is a cell's and of this version, and takes its lock.
    pub fn open(&self) -> Result<Lock, Failure> {
        let failed = |path: &Path| Failure::io(format!("cannot use {}", path.display()));
        std::fs::create_dir_all(&self.root).map_err(failed(&self.root))?;
        self.check_version()?;
        for folder in ["control", "hosts", "log", "run"] {
            let path = self.root.join(folder);
            std::fs::create_dir_all(&path).map_err(failed(&path))?;
        }
        let lock = self.lock()?;
        if !self.is_cell() {
            write_private(&self.version_file(), format!("{LAYOUT_VERSION}\n").as_bytes())?;
        }
        Ok(lock)
    }

    /// A directory is a cell's when it has a version file, and may become one when it is empty.
    fn check_version(&self) -> Result<(), Failure> {
        let path = self.version_file();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return self.check_empty(),
            Err(error) => return Err(Failure::io(path.display().to_string())(error)),
        };
        match text.trim().parse::<u32>() {
            Ok(LAYOUT_VERSION) => Ok(()),
            Ok(other) => Err(Failure::unfit(
                format!(
                    "{} has layout version {other}; this program knows version {LAYOUT_VERSION}",
                    self.root.display()
                ),
                if other > LAYOUT_VERSION {
                    "use the newer shingle that made it, or another directory with --dir"
                } else {
                    "use the older shingle that made it, or another directory with --dir"
                },
            )),
            Err(_) => Err(Failure::unfit(
                format!("{} does not hold a version number", path.display()),
                "restore it, or use another directory with --dir",
            )),
        }
    }

    fn check_empty(&self) -> Result<(), Failure> {
        let entries = std::fs::read_dir(&self.root).map_err(Failure::io(self.root.display().to_string()))?;
        // A first start that was killed right at its beginning leaves these, empty.
        let own = ["control", "hosts", "log", "run", "version.new"];
        for entry in entries {
            let name = entry.map_err(Failure::io(self.root.display().to_string()))?.file_name();
            if !own.iter().any(|known| name == *known) {
                return Err(Failure::unfit(
                    format!(
                        "{} is not a cell's directory: it has no version file, but {}",
                        self.root.display(),
                        name.display()
                    ),
                    "name an empty or new directory with --dir",
                ));
            }
        }
        Ok(())
    }

    fn lock(&self) -> Result<Lock, Failure> {
        let path = self.run().join("lock");
        let failed = || Failure::io(path.display().to_string());
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed())?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(failed())?;
            let holder = holder.trim();
            let who = if holder.is_empty() { "another process".into() } else { format!("process {holder}") };
            return Err(Failure::InUse {
                what: format!("{} is in use by {who}", self.root.display()),
                advice: "stop that one with Ctrl-C or SIGTERM, or use another directory with --dir".into(),
            });
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed())?;
        Ok(Lock { file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, Directory) {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::new(&parent.path().join("cell")).unwrap();
        (parent, directory)
    }

    #[test]
    fn a_new_directory_is_made_and_opens_again() {
        let (_parent, directory) = directory();
        drop(directory.open().unwrap());
        drop(directory.open().unwrap());
        assert_eq!(std::fs::read_to_string(directory.root().join("version")).unwrap(), "1\n");
    }

    #[test]
    fn a_directory_in_use_names_the_process_that_has_it() {
        let (_parent, directory) = directory();
        let _lock = directory.open().unwrap();
        let failure = directory.open().unwrap_err();
        assert!(failure.to_string().contains(&format!("in use by process {}", std::process::id())), "{failure}");
        assert_eq!(failure.exit_code(), 5);
    }

    #[test]
    fn a_directory_is_free_while_a_child_just_started_still_has_its_file() {
        let (_parent, directory) = directory();
        let lock = directory.open().unwrap();
        let of_child = lock.file.try_clone().unwrap();
        drop(lock);
        drop(directory.open().unwrap());
        drop(of_child);
    }

    #[test]
    fn a_directory_of_another_version_is_left_alone() {
        let (_parent, directory) = directory();
        drop(directory.open().unwrap());
        std::fs::write(directory.root().join("version"), "99\n").unwrap();
        let failure = directory.open().unwrap_err();
        assert!(failure.to_string().contains("version 99"), "{failure}");
        assert!(failure.advice().contains("newer"), "{}", failure.advice());
        std::fs::write(directory.root().join("version"), "nonsense").unwrap();
        assert_eq!(directory.open().unwrap_err().exit_code(), 3);
    }

    #[test]
    fn somebody_elses_directory_is_not_taken_over() {
        let (parent, _) = directory();
        std::fs::write(parent.path().join("thesis.txt"), "x").unwrap();
        let failure = Directory::new(parent.path()).unwrap().open().unwrap_err();
        assert!(failure.to_string().contains("thesis.txt"), "{failure}");
        assert!(!parent.path().join("run").exists());
    }
}
