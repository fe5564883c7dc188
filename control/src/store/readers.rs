//! Threads that read ranges of the embedded store, so that its owner's thread goes on serving meanwhile: a range over many
//! cleared keys takes long however few pairs it gives.
//!
//! Invariants: at most `STORE_READS_MAX` reads wait or run; a read whose caller has gone is not begun; the threads have
//! ended when the `Readers` are dropped, so that the store's directory is free again.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use shingle_proto::limits::{STORE_READERS, STORE_READS_MAX};
use tokio::sync::{Semaphore, oneshot};

use super::StoreError;

type Job = Box<dyn FnOnce() + Send>;

/// The threads and their queue.
pub(super) struct Readers {
    queue: Option<Sender<Job>>,
    room: Semaphore,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub fn start() -> std::io::Result<Self> {
        let (queue, jobs) = channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        let spawn = |number| {
            let jobs = jobs.clone();
            std::thread::Builder::new().name(format!("store-reader-{number}")).spawn(move || work(&jobs))
        };
        let threads = (0..STORE_READERS).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { queue: Some(queue), room: Semaphore::new(STORE_READS_MAX), threads })
    }

    /// Runs `read` on one of the threads.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Failed("the readers of the store have stopped".into());
        let _room = self.room.acquire().await.map_err(|_| gone())?;
        let (answer, answered) = oneshot::channel();
        let job = move || {
            if !answer.is_closed() {
                // Nobody waiting for it any more is no error.
                drop(answer.send(read()));
            }
        };
        self.queue.as_ref().ok_or_else(gone)?.send(Box::new(job)).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reader of the store had panicked");
            }
        }
    }
}

/// One thread's life: until nobody can send any more.
fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting: the others wait for it instead, which is the same.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
