//! The guest's end of the port to the judge, which sits outside of the machine and outlives it.
//!
//! Lines end in a full stop, so that one that was cut off is known as such.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// What the judge wants of this life of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// This life's number, from 0.
    pub life: u64,
    /// The first of the earlier lives whose files are to be read back.
    pub read_from: u64,
    /// Whether to write until the reset comes.
    pub write: bool,
}

/// The port.
pub struct Port {
    file: File,
}

impl Port {
    /// Says that the machine lives; the judge answers with a task.
    pub fn open() -> (Self, Task) {
        let node = crate::devices::wait_for("the judge's port", node);
        let file = File::options().read(true).write(true).open(node).expect("the port opens");
        let mut port = Self { file };
        // What an earlier life had begun to say ends here, without a full stop.
        port.file.write_all(b"\n").expect("the port takes a line");
        port.say("life");
        let mut answer = String::new();
        BufReader::new(&port.file).read_line(&mut answer).expect("the judge answers");
        let numbers: Vec<u64> = answer.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let [life, read_from, write] = numbers[..] else { panic!("the judge says {answer:?}") };
        (port, Task { life, read_from, write: write == 1 })
    }

    /// Tells the judge; when this returns, it is out of the machine.
    pub fn say(&mut self, line: &str) {
        self.file.write_all(format!("{line} .\n").as_bytes()).expect("the port takes a line");
    }
}

fn node() -> Option<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?.flatten();
    let is_it = |port: &PathBuf| fs::read_to_string(port.join("name")).is_ok_and(|name| name.trim() == "judge");
    let port = ports.map(|entry| entry.path()).find(is_it)?;
    Some(Path::new("/dev").join(port.file_name()?)).filter(|node| node.exists())
}
