//! Threads that check images, with a short queue: building is far quicker than checking.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::check::{Case, check};

const QUEUE: usize = 256;

/// An image that breaks a promise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The image's number within its script.
    pub image: u64,
    pub what: String,
}

/// The threads.
pub struct Pool {
    jobs: SyncSender<(u64, Arc<Case>)>,
    threads: Vec<JoinHandle<()>>,
    violations: Arc<Mutex<Vec<Violation>>>,
}

impl Pool {
    pub fn new(threads: usize) -> Self {
        let (jobs, queue) = sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        let violations = Arc::new(Mutex::new(Vec::new()));
        let threads = (0..threads)
            .map(|_| {
                let (queue, violations) = (queue.clone(), violations.clone());
                std::thread::spawn(move || work(&queue, &violations))
            })
            .collect();
        Self { jobs, threads, violations }
    }

    pub fn submit(&self, image: u64, case: Case) {
        self.jobs.send((image, Arc::new(case))).expect("the threads live as long as the pool");
    }

    /// Waits until everything is checked.
    pub fn finish(self) -> Vec<Violation> {
        drop(self.jobs);
        self.threads.into_iter().for_each(|thread| thread.join().expect("panics of a check are caught"));
        let mut violations = std::mem::take(&mut *self.violations.lock().expect("nobody panics with it"));
        violations.sort();
        violations
    }
}

fn work(queue: &Mutex<Receiver<(u64, Arc<Case>)>>, violations: &Mutex<Vec<Violation>>) {
    loop {
        let job = queue.lock().expect("nobody panics with it").recv();
        let Ok((image, case)) = job else { return };
        let outcome = catch_unwind(AssertUnwindSafe(|| check(case)));
        let what = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(what)) => what,
            Err(panic) => format!("panic: {}", message(&*panic)),
        };
        violations.lock().expect("nobody panics with it").push(Violation { image, what });
    }
}

/// What a panic said.
pub fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "without words",
    }
}
