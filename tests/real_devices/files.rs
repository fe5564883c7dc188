//! Folders of files whose name says what is in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::content::content;

/// Makes a folder of exactly these files.
pub fn make(folder: &Path, numbers: impl Iterator<Item = u64>) {
    drop(fs::remove_dir_all(folder));
    fs::create_dir_all(folder).expect("a folder");
    for number in numbers {
        fs::write(folder.join(name(number)), content(number)).expect("a file");
    }
}

pub fn name(number: u64) -> String {
    format!("file-{number:08}")
}

/// The number of a file by its name.
///
/// # Panics
/// When nothing of this name was ever made.
pub fn number(name: &str) -> u64 {
    let number = name.strip_prefix("file-").and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{name} was never stored"))
}

/// Every file of a folder: its number and what is in it.
pub fn all(folder: &Path) -> impl Iterator<Item = (u64, Vec<u8>)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| (number(&entry.file_name().to_string_lossy()), fs::read(entry.path()).expect("reads")))
}

/// The numbers of a folder's files, each of which has the content its name stands for. The folder is removed.
pub fn take_whole(folder: &Path) -> BTreeSet<u64> {
    let whole = |(number, found): (u64, Vec<u8>)| {
        assert!(found == content(number), "{} is whole and right, or absent", name(number));
        number
    };
    let numbers = all(folder).map(whole).collect();
    drop(fs::remove_dir_all(folder));
    numbers
}
