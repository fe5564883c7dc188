//! The journals of the embedded store's tree, looked over before fjall replays them.
//!
//! A power loss during an fsync leaves any sectors of the last commit. Most such tails fjall 3.1 takes for the end, but
//! some for damage (a checksum that does not match), and some end a debug build with a panic. Damage before the end it
//! takes for the end as well, forgetting the commits behind it.
//! Invariant: fjall is given whole commits only, and every one that was acknowledged: as the committer waits for one
//! fsync before the next write, and writes no more after one that failed, only the last commit can be torn. Anything
//! else is damage. Damage within the last commit looks like a torn one, and is cut off as well.
//!
//! A journal of fjall 3 (little-endian, then zeros up to what was allocated) is a run of batches, one per commit:
//!
//! | entry | bytes |
//! |---|---|
//! | start | tag 1, number of entries `u32`, sequence number `u64` |
//! | item | tag 2, kind `u8`, compression `u8`, key space `u64`, key bytes `u16`, value bytes `u32`, stored bytes `u32`, key, stored value |
//! | clear | tag 4, key space `u64` |
//! | end | tag 3, XXH3 of the entries between `u64`, `FJL` and 3 |

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use xxhash_rust::xxh3::xxh3_64;

const TAG_START: u8 = 1;
const TAG_ITEM: u8 = 2;
const TAG_END: u8 = 3;
const TAG_CLEAR: u8 = 4;
/// The last bytes of a batch.
const MAGIC: &[u8] = b"FJL\x03";

/// Why journals may not be replayed, one variant per reaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Replaying it would forget what was acknowledged.
    #[error("{file} is damaged at byte {offset}, before the last commit that was acknowledged")]
    Damaged { file: String, offset: usize },
}

/// What is left of a commit, from `offset` to the end of a journal.
struct Torn {
    path: PathBuf,
    journal: File,
    offset: usize,
}

/// Cuts off what a power loss left of the last commit, which nobody was told of. Nobody else may have the tree open.
pub(super) fn cut_torn_commit(tree: &Path) -> Result<(), JournalError> {
    let mut found: Option<Torn> = None;
    for path in journals(tree)? {
        let journal = File::options().read(true).write(true).open(&path)?;
        let bytes = written(&journal)?;
        if let Some(torn) = &found {
            // Not always in the last journal: fjall may begin a new one after a write that failed.
            if !bytes.is_empty() {
                return Err(torn.as_damage());
            }
            continue;
        }
        let offset = end_of_whole_batches(&bytes);
        if offset < bytes.len() {
            let torn = Torn { path, journal, offset };
            if (offset..bytes.len()).any(|start| whole_batch(&bytes, start).is_some()) {
                return Err(torn.as_damage());
            }
            found = Some(torn);
        }
    }
    found.map_or(Ok(()), |torn| torn.cut())
}

impl Torn {
    fn as_damage(&self) -> JournalError {
        JournalError::Damaged { file: self.path.display().to_string(), offset: self.offset }
    }

    fn cut(&self) -> Result<(), JournalError> {
        let Self { path, journal, offset } = self;
        tracing::warn!(journal = %path.display(), offset, "cut off a commit that was being written at a power loss");
        journal.set_len(*offset as u64)?;
        Ok(journal.sync_all()?)
    }
}

/// All journals, the oldest first. What is not named like one is fjall's to judge.
fn journals(tree: &Path) -> io::Result<impl Iterator<Item = PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(tree)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse::<u64>().ok());
        if let (Some("jnl"), Some(number)) = (path.extension().and_then(OsStr::to_str), number) {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path))
}

/// All of a journal but the zeros behind it, most of which are a hole that need not be read.
fn written(mut file: &File) -> io::Result<Vec<u8>> {
    let mut end = 0;
    loop {
        match rustix::fs::seek(file, SeekFrom::Data(end)) {
            Ok(data) => end = rustix::fs::seek(file, SeekFrom::Hole(data))?,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        }
    }
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(end).read_to_end(&mut bytes)?;
    let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    bytes.truncate(bytes.len() - zeros);
    Ok(bytes)
}

/// A whole batch within a journal.
#[derive(Clone, Copy)]
struct Batch {
    end: usize,
    /// No checksum covers it, but each batch's is greater than the one before.
    sequence: u64,
}

fn end_of_whole_batches(bytes: &[u8]) -> usize {
    let next = |last: &Batch| whole_batch(bytes, last.end).filter(|batch| batch.sequence > last.sequence);
    std::iter::successors(whole_batch(bytes, 0), next).last().map_or(0, |last| last.end)
}

/// The batch that begins at `start`; nothing if none does, or not all of it is there.
fn whole_batch(bytes: &[u8], start: usize) -> Option<Batch> {
    let rest = &mut bytes.get(start..)?;
    if take(rest, 1)? != [TAG_START] {
        return None;
    }
    let entries = number(rest, 4)?;
    let sequence = number(rest, 8)?;
    let content = *rest;
    for _ in 0..entries {
        skip_entry(rest)?;
    }
    let (content, _) = content.split_at(content.len() - rest.len());
    let is_end =
        take(rest, 1)? == [TAG_END] && number(rest, 8)? == xxh3_64(content) && take(rest, MAGIC.len())? == MAGIC;
    is_end.then(|| Batch { end: bytes.len() - rest.len(), sequence })
}

fn skip_entry(rest: &mut &[u8]) -> Option<()> {
    match take(rest, 1)? {
        [TAG_ITEM] => {
            take(rest, 1 + 1 + 8)?;
            let key_bytes = number(rest, 2)?;
            take(rest, 4)?;
            let stored_bytes = number(rest, 4)?;
            take(rest, usize::try_from(key_bytes + stored_bytes).ok()?).map(drop)
        }
        [TAG_CLEAR] => take(rest, 8).map(drop),
        _ => None,
    }
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    rest.split_off(..bytes)
}

/// A little-endian number of up to 8 bytes.
fn number(rest: &mut &[u8], bytes: usize) -> Option<u64> {
    Some(take(rest, bytes)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}
