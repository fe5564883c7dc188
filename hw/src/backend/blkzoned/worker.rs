//! A thread for calls that block, and futures for their results.
//!
//! Invariant: jobs run one after the other in the order they were given; every job that was given ends, and its future
//! is woken.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

/// Room for an ioctl and a report's memory is on the heap.
const STACK_BYTES: usize = 128 * 1024;

/// The thread. Dropping it waits for its jobs.
pub struct Worker {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub fn start(name: &str) -> io::Result<Self> {
        // Unbounded: every job belongs to a command that somebody waits for.
        let (jobs, queue) = channel::<Job>();
        let name: String = name.chars().take(15).collect();
        let thread = std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
            for job in queue {
                job();
            }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Gives the thread a job.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> io::Result<T> + Send + 'static) -> Outcome<T> {
        let shared = Arc::new(Mutex::new(Shared { value: None, waker: None }));
        let promise = Promise(Arc::clone(&shared));
        let job = Box::new(move || promise.keep(job()));
        // A thread that is gone drops the promise, which then ends with an error.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
        Outcome(shared)
    }

    /// Blocks until every job given so far has ended.
    pub fn wait(&self) {
        let (done, wait) = channel();
        let last = Box::new(move || {
            let _ = done.send(()); // the receiver waits below
        });
        let sent = self.jobs.as_ref().map(|jobs| jobs.send(last));
        if matches!(sent, Some(Ok(()))) {
            let _ = wait.recv();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a device's thread panicked");
        }
    }
}

struct Shared<T> {
    value: Option<io::Result<T>>,
    waker: Option<Waker>,
}

struct Promise<T>(Arc<Mutex<Shared<T>>>);

impl<T> Promise<T> {
    fn keep(self, value: io::Result<T>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).value = Some(value);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let waker = {
            let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            shared.value.get_or_insert_with(|| Err(io::ErrorKind::BrokenPipe.into()));
            shared.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A job's result, to come.
pub struct Outcome<T>(Arc<Mutex<Shared<T>>>);

impl<T> Future for Outcome<T> {
    type Output = io::Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = shared.value.take() {
            return Poll::Ready(value);
        }
        shared.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::ring::{Ring, block_on};

    #[test]
    fn jobs_run_in_order_and_wake_a_ring_without_commands() {
        let ring = Ring::new(4).expect("a ring");
        let worker = Worker::start("test").expect("a thread");
        let count = Arc::new(AtomicU32::new(0));
        let jobs: Vec<_> = (0..10)
            .map(|index| {
                let count = Arc::clone(&count);
                worker.run(move || {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    assert_eq!(count.fetch_add(1, Ordering::SeqCst), index);
                    Ok(index)
                })
            })
            .collect();
        let task = ring.spawn(async move {
            let mut found = Vec::new();
            for job in jobs {
                found.push(job.await.expect("ends"));
            }
            found
        });
        assert_eq!(block_on(&ring, task), (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_job_that_dies_is_an_error_and_those_behind_it_too() {
        let ring = Ring::new(4).expect("a ring");
        let worker = Worker::start("test").expect("a thread");
        let dies = worker.run::<()>(|| panic!("on purpose"));
        let behind = worker.run(|| Ok(()));
        assert!(block_on(&ring, dies).is_err());
        worker.wait();
        assert!(block_on(&ring, behind).is_err());
    }
}
