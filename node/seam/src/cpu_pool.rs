//! The bounded pool of threads behind `Tasks::run_cpu`, shared by the runtimes.
//!
//! Keeps: at most `CPU_QUEUE_MAX` jobs wait, whoever is dropped while waiting takes its job along. Threads start with
//! the first job and end with the pool.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use shingle_proto::limits::CPU_QUEUE_MAX;

use crate::gate::Gate;
use crate::tasks::CpuJob;

/// Tells the waiting task, from a thread of the pool, that its job is over.
pub(crate) type Completion = Box<dyn FnOnce() + Send>;

/// Threads for CPU work of one world.
pub(crate) struct CpuPool {
    shared: Arc<Shared>,
    threads: usize,
    places: Gate,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    next: u64,
    running: bool,
    closed: bool,
}

struct Job {
    id: u64,
    work: CpuJob,
    done: Completion,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock; a poisoned one would still hold a whole queue.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let mut state = self.lock();
            let job = loop {
                if let Some(job) = state.queue.pop_front() {
                    break job;
                }
                if state.closed {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            if catch_unwind(AssertUnwindSafe(job.work)).is_err() {
                tracing::error!("a job of the CPU pool panicked");
            }
            (job.done)();
        }
    }
}

impl CpuPool {
    /// A pool of `threads` threads, at least one, which start with the first job.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            shared: Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() }),
            threads: threads.max(1),
            places: Gate::new(CPU_QUEUE_MAX as u64),
        }
    }

    /// Waits for a place in the queue.
    pub(crate) async fn place(&self) -> Place<'_> {
        self.places.acquire(1).await.expect("a pool's gate is never closed");
        Place { pool: self, job: None }
    }

    fn submit(&self, work: CpuJob, done: Completion) -> u64 {
        let mut state = self.shared.lock();
        let id = state.next;
        state.next += 1;
        state.queue.push_back(Job { id, work, done });
        let start = !state.running;
        state.running = true;
        drop(state);
        self.shared.changed.notify_one();
        if start {
            self.start();
        }
        id
    }

    fn start(&self) {
        for number in 0..self.threads {
            let shared = self.shared.clone();
            let started = std::thread::Builder::new().name(format!("cpu-{number}")).spawn(move || shared.work());
            if let Err(error) = started {
                assert!(number > 0, "no thread for the CPU pool can be started: {error}");
                tracing::error!(%error, threads = number, "the CPU pool is smaller than it should be");
                return;
            }
        }
    }
}

impl Drop for CpuPool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

/// A place in a pool's queue, for one job; dropping it withdraws the job if it has not begun.
pub(crate) struct Place<'a> {
    pool: &'a CpuPool,
    job: Option<u64>,
}

impl Place<'_> {
    /// Queues the job; `done` is called on a thread of the pool when it is over.
    pub(crate) fn submit(&mut self, work: CpuJob, done: Completion) {
        self.job = Some(self.pool.submit(work, done));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(job) = self.job {
            self.pool.shared.lock().queue.retain(|queued| queued.id != job);
        }
        self.pool.places.release(1);
    }
}
