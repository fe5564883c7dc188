//! The durable store of one machine: fjall (an LSM tree) under a committer of our own.
//!
//! fjall's default commit is not safe against power loss and holds one lock. Here one thread owns all writes: it takes
//! every transaction that arrived while the previous fsync ran, checks each against those before it, applies all of them
//! as one batch, makes one fsync, and answers them all. Readers use snapshots, which show durable commits only; ranges
//! are read on threads of their own, because there is no telling how long one takes.
//! Invariant: after a failed write or fsync nothing is acknowledged any more, until the store is opened again.

use std::cell::Cell;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, Readable, Snapshot};
use shingle_proto::limits::{MIB, STORE_COMMIT_QUEUE_BYTES_MAX};
use shingle_seam::clock::{Clock, Monotonic};
use shingle_seam::tasks::LocalFuture;
use tokio::sync::{Semaphore, oneshot, watch};

use super::committer::{Committer, Waiting};
use super::journal::{JournalError, cut_torn_commit};
use super::meter::Meter;
use super::optimistic::{Backend, Commit, OptimisticTransaction, Span};
use super::readers::Readers;
use super::resolver::Version;
use super::{Pair, Store, StoreError, StoreMetrics, Transaction};

/// Blocks of the tree kept in memory.
const CACHE_BYTES: u64 = 64 * MIB;
/// Rows collected in memory before they become a file; the journal holds them until then.
const MEMTABLE_BYTES: u64 = 8 * MIB;
/// All journal files together, fjall's smallest.
const JOURNALS_BYTES: u64 = 64 * MIB;
/// Threads that write files out and merge them.
const WORKERS: usize = 1;
/// Open files of the tree, so that a control process stays far below usual limits.
const FILES: usize = 128;
/// A permit of the commit queue stands for this many bytes.
const PERMIT_BYTES: usize = 1024;
/// The one key space of the tree.
const KEYSPACE: &str = "shingle";
/// In the store's directory: fjall's own.
const TREE: &str = "tree";
/// Locked by who has the store open.
const LOCK_FILE: &str = "SHINGLE-LOCK";
/// Which of our formats it is.
const VERSION_FILE: &str = "SHINGLE-STORE";
const VERSION_TEXT: &str = "shingle store 2\n";

/// Why a store does not open, one variant per reaction.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the store in {dir} is in use by another process")]
    Locked { dir: String },
    /// Written by another version.
    #[error("the store in {dir} is of another version: {found:?} instead of {VERSION_TEXT:?}")]
    OtherVersion { dir: String, found: String },
    /// Its files contradict each other.
    #[error("the store in {dir} is damaged: {reason}")]
    Damaged { dir: String, reason: String },
    #[error("the store in {dir} cannot be read or written: {source}")]
    Io { dir: String, source: std::io::Error },
}

struct Inner {
    clock: Rc<dyn Clock>,
    database: Database,
    keyspace: Keyspace,
    /// The last commit that snapshots show.
    visible: Arc<AtomicU64>,
    syncs: Arc<AtomicU64>,
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    readers: Readers,
    meter: Meter,
}

impl Backend for Inner {
    type Snapshot = Snapshot;

    fn now(&self) -> Monotonic {
        self.clock.now()
    }

    fn snapshot(&self) -> (Version, Snapshot) {
        // In this order: what the snapshot shows beyond the version only makes conflicts more likely.
        let version = Version(self.visible.load(Ordering::Acquire));
        (version, self.database.snapshot())
    }

    fn get(&self, snapshot: &Snapshot, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = snapshot.get(&self.keyspace, key).map_err(failed)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan<'a>(&'a self, snapshot: &'a Snapshot, span: Span) -> LocalFuture<'a, Result<Vec<Pair>, StoreError>> {
        let (snapshot, keyspace) = (snapshot.clone(), self.keyspace.clone());
        Box::pin(self.readers.read(move || scan_now(&snapshot, &keyspace, &span)))
    }

    fn commit(self: Rc<Self>, commit: Commit) -> LocalFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            let start = self.clock.now();
            let result = self.commit_in_turn(commit).await;
            self.meter.committed(&result, self.clock.now() - start);
            result
        })
    }
}

impl Inner {
    async fn commit_in_turn(&self, commit: Commit) -> Result<(), StoreError> {
        let permits = u32::try_from(commit.bytes / PERMIT_BYTES + 1).unwrap_or(u32::MAX);
        let gone = || StoreError::Failed("the committer has stopped".into());
        let room = self.room.clone().acquire_many_owned(permits).await.map_err(|_| gone())?;
        let (answer, answered) = oneshot::channel();
        // From here on the commit happens even if nobody waits for its answer any more.
        self.queue.send(Waiting { commit, answer, room }).map_err(|_| gone())?;
        // A committer that dies without an answer may have written: nobody knows.
        answered.await.unwrap_or(Err(StoreError::UnknownResult))
    }
}

/// A durable store on this machine's file system.
pub struct EmbeddedStore {
    inner: Option<Rc<Inner>>,
    committer: Cell<Option<JoinHandle<()>>>,
    broken: watch::Receiver<Option<Arc<str>>>,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, creating both if they are not there. Blocks: replays the journal.
    pub fn open(dir: &Path, clock: Rc<dyn Clock>) -> Result<Self, OpenError> {
        let name = dir.display().to_string();
        let io = |source| OpenError::Io { dir: name.clone(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        let lock = lock(dir, &name)?;
        check_version(dir, &name)?;
        let tree = dir.join(TREE);
        if !tree.try_exists().map_err(io)? {
            create_tree(dir, &tree).map_err(|error| open_error(error, name.clone()))?;
        }
        cut_torn_commit(&tree).map_err(|error| match error {
            JournalError::Io(source) => OpenError::Io { dir: name.clone(), source },
            JournalError::Damaged { .. } => OpenError::Damaged { dir: name.clone(), reason: error.to_string() },
        })?;
        let (database, keyspace) = open_tree(&tree).map_err(|error| open_error(error, name.clone()))?;
        let (queue, arrivals) = mpsc::channel();
        let visible = Arc::new(AtomicU64::new(0));
        let syncs = Arc::new(AtomicU64::new(0));
        let (broken, watch) = watch::channel(None);
        let committer = Committer::new(database.clone(), keyspace.clone(), visible.clone(), syncs.clone(), broken);
        let thread = std::thread::Builder::new()
            .name("store-committer".into())
            .spawn(move || {
                committer.run(&arrivals);
                // Not before the last write.
                drop(lock);
            })
            .map_err(io)?;
        let room = Arc::new(Semaphore::new(STORE_COMMIT_QUEUE_BYTES_MAX / PERMIT_BYTES));
        let readers = Readers::start().map_err(io)?;
        let meter = Meter::new();
        let inner = Rc::new(Inner { clock, database, keyspace, visible, syncs, queue, room, readers, meter });
        Ok(Self { inner: Some(inner), committer: Cell::new(Some(thread)), broken: watch })
    }

    /// Ends when the store cannot write any more, with the reason. Reads go on from what is durable, but only opening it
    /// again can tell what the failed write left.
    pub async fn failed(&self) -> Arc<str> {
        let mut broken = self.broken.clone();
        match broken.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(reason)) => reason.clone(),
            _ => "the committer has stopped".into(),
        }
    }

    fn inner(&self) -> &Rc<Inner> {
        self.inner.as_ref().expect("taken by drop only")
    }
}

impl Store for EmbeddedStore {
    fn begin(&self) -> Box<dyn Transaction> {
        Box::new(OptimisticTransaction::begin(self.inner().clone()))
    }

    fn metrics(&self) -> StoreMetrics {
        let inner = self.inner();
        inner.meter.metrics(inner.syncs.load(Ordering::Relaxed))
    }
}

impl Drop for EmbeddedStore {
    /// Waits for the committer, unless a transaction outlives the store, so that the directory can be opened again.
    fn drop(&mut self) {
        let last = self.inner.take().and_then(Rc::into_inner).is_some();
        if let (true, Some(thread)) = (last, self.committer.take())
            && thread.join().is_err()
        {
            tracing::error!("the store's committer had panicked");
        }
    }
}

/// Keys that were cleared are passed over one by one, so that even one pair can take long.
fn scan_now(snapshot: &Snapshot, keyspace: &Keyspace, span: &Span) -> Result<Vec<Pair>, StoreError> {
    let range = snapshot.range(keyspace, span.begin.as_slice()..span.end.as_slice());
    let pair = |guard: fjall::Guard| {
        let (key, value) = guard.into_inner().map_err(failed)?;
        Ok((key.to_vec(), value.to_vec()))
    };
    let limit = span.limit;
    if span.reverse { range.rev().take(limit).map(pair).collect() } else { range.take(limit).map(pair).collect() }
}

fn failed(error: fjall::Error) -> StoreError {
    StoreError::Failed(error.to_string().into())
}

/// Before anything is looked at, and so that nothing is cut off a journal that somebody writes.
fn lock(dir: &Path, name: &str) -> Result<File, OpenError> {
    let io = |source| OpenError::Io { dir: name.to_string(), source };
    let file = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK_FILE)).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: name.to_string() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

fn open_tree(tree: &Path) -> Result<(Database, Keyspace), fjall::Error> {
    let database = Database::builder(tree)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNALS_BYTES)
        .worker_threads(WORKERS)
        .max_cached_files(Some(FILES))
        .manual_journal_persist(true)
        .open()?;
    let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
    let keyspace = database.keyspace(KEYSPACE, options)?;
    Ok((database, keyspace))
}

/// Whole or not at all: what a crash leaves of fjall's own first start, fjall does not open again.
fn create_tree(dir: &Path, tree: &Path) -> Result<(), fjall::Error> {
    let draft = tree.with_extension("draft");
    if draft.try_exists()? {
        std::fs::remove_dir_all(&draft)?;
    }
    drop(open_tree(&draft)?);
    sync_all(&draft)?;
    std::fs::rename(&draft, tree)?;
    Ok(File::open(dir)?.sync_all()?)
}

/// Every file and directory from `dir` down.
fn sync_all(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_all(&entry.path())?,
            false => File::open(entry.path())?.sync_all()?,
        }
    }
    File::open(dir)?.sync_all()
}

fn check_version(dir: &Path, name: &str) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { dir: name.to_string(), source };
    let path = dir.join(VERSION_FILE);
    let found = match std::fs::read(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return write_version(dir, &path).map_err(io);
        }
        Err(error) => return Err(io(error)),
    };
    if found != VERSION_TEXT.as_bytes() {
        let found = String::from_utf8_lossy(found.get(..64).unwrap_or(&found)).into_owned();
        return Err(OpenError::OtherVersion { dir: name.to_string(), found });
    }
    Ok(())
}

/// Whole or not at all: a crash in between leaves no half-written version.
fn write_version(dir: &Path, path: &Path) -> std::io::Result<()> {
    if dir.join(TREE).exists() {
        return Err(std::io::Error::other("it holds a tree but no version file"));
    }
    let draft = path.with_extension("draft");
    std::fs::write(&draft, VERSION_TEXT)?;
    File::open(&draft)?.sync_all()?;
    std::fs::rename(&draft, path)?;
    File::open(dir)?.sync_all()
}

fn open_error(error: fjall::Error, dir: String) -> OpenError {
    match error {
        fjall::Error::Locked => OpenError::Locked { dir },
        fjall::Error::Io(source) => OpenError::Io { dir, source },
        fjall::Error::Storage(fjall::LsmError::Io(source)) => OpenError::Io { dir, source },
        fjall::Error::InvalidVersion(found) => OpenError::OtherVersion { dir, found: format!("fjall {found:?}") },
        fjall::Error::Storage(fjall::LsmError::InvalidVersion(found)) => {
            OpenError::OtherVersion { dir, found: format!("lsm-tree {found}") }
        }
        other => OpenError::Damaged { dir, reason: other.to_string() },
    }
}
