//! Looking for byte strings in files, sparse ones too: one pass over the data for all of them, none over the holes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom as Std};
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

const WINDOW_BYTES: usize = 1 << 20;

/// What is looked for. A hole reads as zeroes, so a string that would reach into one is none of these.
pub struct Needles {
    needles: Vec<Vec<u8>>,
    /// Whether a needle begins with this byte and the one that follows: few places pass.
    starts: Vec<bool>,
}

impl Needles {
    pub fn new(needles: &[&[u8]]) -> Self {
        let mut starts = vec![false; 1 << 16];
        for needle in needles {
            assert!(needle.len() > 8 && needle.len() < WINDOW_BYTES / 2, "a needle is no single word");
            starts[pair(needle[0], needle[1])] = true;
        }
        Self { needles: needles.iter().map(|needle| needle.to_vec()).collect(), starts }
    }

    /// Whether the file holds any of them.
    pub fn are_in(&self, path: &Path) -> bool {
        let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut end = 0;
        while let Some(start) = found(seek(&file, SeekFrom::Data(end))) {
            end = found(seek(&file, SeekFrom::Hole(start))).expect("a hole follows all data");
            file.seek(Std::Start(start)).expect("a file can be sought in");
            if self.are_in_data((&mut file).take(end - start)) {
                return true;
            }
        }
        false
    }

    /// Reads in pieces that overlap by the longest needle.
    fn are_in_data(&self, mut data: impl Read) -> bool {
        let overlap = self.needles.iter().map(Vec::len).max().unwrap_or(1) - 1;
        let mut window = vec![0; WINDOW_BYTES];
        let mut kept = 0;
        loop {
            let count = data.read(&mut window[kept..]).expect("a readable file");
            if count == 0 {
                return false;
            }
            let end = kept + count;
            if self.are_in_window(&window[..end]) {
                return true;
            }
            kept = end.min(overlap);
            window.copy_within(end - kept..end, 0);
        }
    }

    fn are_in_window(&self, window: &[u8]) -> bool {
        let pairs = window.windows(2).enumerate().filter(|(_, two)| self.starts[pair(two[0], two[1])]);
        pairs.into_iter().any(|(at, _)| self.needles.iter().any(|needle| window[at..].starts_with(needle)))
    }
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

/// An offset; `None` behind the last data.
fn found(sought: Result<u64, Errno>) -> Option<u64> {
    match sought {
        Ok(offset_bytes) => Some(offset_bytes),
        Err(Errno::NXIO) => None,
        Err(error) => panic!("a file's data can be found: {error}"),
    }
}

#[test]
fn needles_are_found_behind_holes_and_across_windows_and_nowhere_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sparse");
    let needles = Needles::new(&[b"a-needle-of-text", b"another-one-of-them"]);
    let mut file = File::create(&path).expect("a file");
    assert!(!needles.are_in(&path));
    for (offset_bytes, expected) in [(0, false), ((5 << 30) - 3, true)] {
        file.seek(Std::Start(offset_bytes)).expect("a file can be sought in");
        std::io::Write::write_all(&mut file, &vec![b'a'; 2 * WINDOW_BYTES - 5]).expect("a file can be written");
        if expected {
            std::io::Write::write_all(&mut file, b"another-one-of-them").expect("a file can be written");
        }
        assert_eq!(needles.are_in(&path), expected);
    }
}
