//! A power loss at the embedded store: whatever sectors of the commit under way reached the disk, the store opens, shows
//! every commit that was acknowledged, and of the last one all or nothing. Damage elsewhere is never taken for that.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use shingle_control::store::embedded::{EmbeddedStore, OpenError};
use shingle_seam::clock::SystemClock;
use tempfile::TempDir;

use crate::rig::{content, put, run, value};

/// What a disk writes whole.
const SECTOR_BYTES: usize = 512;
const RANDOM_TEARS: usize = 64;
const SMALL_PAIRS: usize = 150;

fn open(dir: &Path) -> Result<EmbeddedStore, OpenError> {
    EmbeddedStore::open(dir, Rc::new(SystemClock::new()))
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_all(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// What the last journal holds, without the zeros behind it.
fn journal(dir: &Path) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    let file = File::open(dir.join("tree/0.jnl")).unwrap();
    let read = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(bytes[..read].iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
    bytes
}

/// A store that lost its power: its directory, and the journal before and after the last commit.
struct Life {
    dir: TempDir,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Life {
    /// An acknowledged commit, in a second life of the store if wanted, and then one of `pairs`.
    async fn of(reopened: bool, pairs: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let living = dir.path().join("living");
        if reopened {
            put(&open(&living).unwrap(), &[(b"earlier", b"yes")]).await;
        }
        let store = open(&living).unwrap();
        put(&store, &[(b"acknowledged", b"yes")]).await;
        let before = journal(&living);
        let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
        put(&store, &pairs).await;
        let after = journal(&living);
        // While it is open: closing it would write.
        copy_all(&living, &dir.path().join("left"));
        Self { dir, before, after }
    }

    /// What is on the disk when these sectors never reached it.
    fn image(&self, missing: &[usize]) -> TempDir {
        let mut journal = self.after.clone();
        journal.resize(self.sectors().end * SECTOR_BYTES, 0);
        let mut before = self.before.clone();
        before.resize(journal.len(), 0);
        for sector in missing {
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            journal[range.clone()].copy_from_slice(&before[range]);
        }
        self.image_with(&journal)
    }

    fn image_with(&self, journal: &[u8]) -> TempDir {
        let image = tempfile::tempdir().unwrap();
        copy_all(&self.dir.path().join("left"), image.path());
        fs::write(image.path().join("tree/0.jnl"), journal).unwrap();
        image
    }

    /// The sectors that the last commit wrote.
    fn sectors(&self) -> Range<usize> {
        self.before.len() / SECTOR_BYTES..self.after.len().div_ceil(SECTOR_BYTES)
    }

    /// Each sector, every prefix, every suffix, and random choices.
    fn tears(&self) -> Vec<Vec<usize>> {
        let sectors = self.sectors();
        let mut tears = Vec::new();
        for sector in sectors.clone() {
            tears.extend([vec![sector], (sector..sectors.end).collect(), (sectors.start..sector).collect()]);
        }
        let mut random = SmallRng::seed_from_u64(3);
        tears.extend((0..RANDOM_TEARS).map(|_| sectors.clone().filter(|_| random.random()).collect()));
        tears
    }
}

/// Small ones, so that sectors end within every field, and large ones, so that sectors lie within values.
fn pairs() -> Vec<(Vec<u8>, Vec<u8>)> {
    let bytes = |n: usize| if n % 50 == 49 { 3000 } else { 20 + n * 37 % 100 };
    (0..SMALL_PAIRS).map(|n| (n.to_be_bytes().to_vec(), vec![7; bytes(n)])).collect()
}

async fn every_tear_opens(reopened: bool) {
    let life = Life::of(reopened, &pairs()).await;
    let acknowledged = 1 + usize::from(reopened);
    let tears = life.tears();
    for missing in &tears {
        let image = life.image(missing);
        let store = open(image.path()).unwrap_or_else(|error| panic!("without {missing:?}: {error}"));
        let found = content(&store).await.len();
        let of_the_last = if missing.is_empty() { SMALL_PAIRS } else { 0 };
        assert_eq!(found, acknowledged + of_the_last, "all or nothing, without {missing:?}");
        put(&store, &[(b"next", b"yes")]).await;
        drop(store);
        let store = open(image.path()).unwrap();
        assert_eq!(content(&store).await.len(), found + 1, "the next commit is durable, without {missing:?}");
    }
    let complete = tears.iter().filter(|missing| missing.is_empty()).count();
    assert!(complete > 0 && tears.len() > 200, "{} tears of {:?}", tears.len(), life.sectors());
}

#[test]
fn a_store_opens_whatever_sectors_of_its_first_commits_a_power_loss_left() {
    run(every_tear_opens(false));
}

#[test]
fn a_store_opens_whatever_sectors_of_a_later_life_a_power_loss_left() {
    run(every_tear_opens(true));
}

#[test]
fn damage_before_an_acknowledged_commit_is_refused_not_forgotten() {
    run(async {
        let life = Life::of(true, &pairs()).await;
        for offset in 0..life.before.len() {
            let mut journal = life.after.clone();
            journal[offset] ^= 0x10;
            let image = life.image_with(&journal);
            let error = open(image.path()).err().unwrap_or_else(|| panic!("opens, with a flip at byte {offset}"));
            assert!(matches!(&error, OpenError::Damaged { reason, .. } if reason.contains("0.jnl")), "{error}");
            assert_eq!(fs::read(image.path().join("tree/0.jnl")).unwrap(), journal, "left as it was");
        }
    });
}

#[test]
fn a_torn_commit_is_cut_off_unless_a_later_journal_has_another() {
    run(async {
        let life = Life::of(false, &pairs()).await;
        let torn = &life.after[..life.after.len() - 1];
        let image = life.image_with(torn);
        fs::write(image.path().join("tree/1.jnl"), &life.before).unwrap();
        let error = open(image.path()).err().expect("its commits were acknowledged");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert_eq!(journal(image.path()), torn, "left as it was");
        fs::write(image.path().join("tree/1.jnl"), [0; 4096]).unwrap();
        let store = open(image.path()).unwrap();
        assert_eq!(content(&store).await.len(), 1);
        assert_eq!(value(&store, b"acknowledged").await.as_deref(), Some(b"yes".as_slice()));
    });
}

#[test]
fn a_first_start_that_was_cut_short_is_begun_again() {
    run(async {
        let life = Life::of(false, &pairs()).await;
        let image = life.image(&[]);
        let (tree, draft) = (image.path().join("tree"), image.path().join("tree.draft"));
        for entry in fs::read_dir(&tree).unwrap().map(Result::unwrap) {
            drop(fs::remove_dir_all(&draft));
            copy_all(&tree, &draft);
            match entry.file_type().unwrap().is_dir() {
                true => fs::remove_dir_all(draft.join(entry.file_name())).unwrap(),
                false => fs::remove_file(draft.join(entry.file_name())).unwrap(),
            }
            let begun = tempfile::tempdir().unwrap();
            fs::copy(image.path().join("SHINGLE-STORE"), begun.path().join("SHINGLE-STORE")).unwrap();
            copy_all(&draft, &begun.path().join("tree.draft"));
            let store = open(begun.path()).unwrap_or_else(|error| panic!("without {:?}: {error}", entry.file_name()));
            put(&store, &[(b"first", b"yes")]).await;
            drop(store);
            let store = open(begun.path()).unwrap();
            assert_eq!(value(&store, b"first").await.as_deref(), Some(b"yes".as_slice()));
            assert_eq!(content(&store).await.len(), 1, "nothing of the draft");
        }
    });
}
