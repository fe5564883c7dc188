//! Room on the file system that holds the cell's directory. Disk files are sparse: a cell may promise more than there is,
//! and a full file system stops it in ways a full disk does not. So it is said while there is still something to be done.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::statvfs;
use shingle_proto::limits::{HOST_FS_RESERVE_BYTES, HOST_FS_RESERVE_PERCENT};

use crate::units;
use crate::up::directory::Directory;
use crate::up::events::Events;

const EVERY: Duration = Duration::from_secs(5);

/// What was last seen of the file system.
pub struct Space {
    directory: PathBuf,
    warning: RefCell<Option<String>>,
}

impl Space {
    pub fn new(directory: &Directory) -> Self {
        Self { directory: directory.root().to_path_buf(), warning: RefCell::default() }
    }

    /// For the live screen, while too little is left.
    pub fn warning(&self) -> Option<String> {
        self.warning.borrow().clone()
    }

    /// Looks for as long as it is polled, and says when the reserve is begun and when it is whole again.
    pub async fn watch(&self, events: &Events) {
        loop {
            self.look(events);
            tokio::time::sleep(EVERY).await;
        }
    }

    fn look(&self, events: &Events) {
        let warning = match statvfs(&self.directory) {
            Ok(fs) => {
                let (free, total) = (fs.f_bavail.saturating_mul(fs.f_frsize), fs.f_blocks.saturating_mul(fs.f_frsize));
                (free < reserve_of(total)).then(|| self.text(free, reserve_of(total)))
            }
            Err(error) => Some(format!("free space of {} is not known: {error}", self.directory.display())),
        };
        let before = self.warning.replace(warning.clone());
        match (before, warning) {
            (None, Some(warning)) => events.say(&warning),
            (Some(_), None) => events.say(&format!("the file system of {} has room again", self.directory.display())),
            _ => {}
        }
    }

    fn text(&self, free: u64, reserve: u64) -> String {
        format!(
            "only {} left on the file system of {}, less than the reserve of {}: when it is full, disk files and the control \
             plane's store cannot grow, and every put and delete is refused; what is stored can still be read",
            units::bytes(free),
            self.directory.display(),
            units::bytes(reserve),
        )
    }
}

/// What should stay free on a file system of this size.
fn reserve_of(total_bytes: u64) -> u64 {
    HOST_FS_RESERVE_BYTES.min(total_bytes / 100 * HOST_FS_RESERVE_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_said_once_and_its_return_too() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::new(&Directory::new(dir.path()).unwrap());
        let events = Events::default();
        events.set_on_screen(true);
        space.warning.replace(Some("begun".into()));
        space.look(&events);
        // A test machine without a gibibyte to spare would warn rightly; then nothing is news.
        match space.warning() {
            None => assert!(events.recent().last().unwrap().contains("has room again")),
            Some(warning) => assert!(warning.contains("less than the reserve") && events.recent().is_empty()),
        }
        let lost = Space::new(&Directory::new(&dir.path().join("gone")).unwrap());
        lost.look(&events);
        lost.look(&events);
        let said = events.recent().iter().filter(|line| line.contains("not known")).count();
        assert_eq!((said, lost.warning().is_some()), (1, true));
    }

    #[test]
    fn small_file_systems_have_a_small_reserve() {
        assert_eq!(reserve_of(1 << 40), HOST_FS_RESERVE_BYTES);
        assert!(reserve_of(1 << 30) < 100 << 20);
    }
}
