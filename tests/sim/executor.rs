//! A single-threaded executor with virtual time, whose every choice comes from its seed.
//!
//! Invariant: which ready task runs next is drawn from the seed, so one seed is one interleaving; time moves only when
//! nothing is ready.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use shingle_seam::clock::Monotonic;
use shingle_seam::tasks::LocalFuture;

/// One simulated process: what is killed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u32);

type TaskId = u64;
type WokenTasks = Arc<Mutex<Vec<TaskId>>>;

struct Task {
    process: ProcessId,
    name: &'static str,
    future: LocalFuture<'static, ()>,
}

/// Wakers must be `Send`; everything else stays on this thread.
struct TaskWaker {
    id: TaskId,
    woken: WokenTasks,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken.lock().expect("no task panics while waking").push(self.id);
    }
}

/// The executor; cheap to clone.
#[derive(Clone)]
pub struct Executor {
    state: Rc<State>,
}

struct State {
    now: Cell<u64>,
    next_task: Cell<TaskId>,
    next_timer: Cell<u64>,
    polls: Cell<u64>,
    tasks: RefCell<HashMap<TaskId, Task>>,
    ready: RefCell<Vec<TaskId>>,
    woken: WokenTasks,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    random: RefCell<StdRng>,
    trace: RefCell<DefaultHasher>,
}

impl Executor {
    pub fn new(seed: u64) -> Self {
        Self {
            state: Rc::new(State {
                now: Cell::new(0),
                next_task: Cell::new(0),
                next_timer: Cell::new(0),
                polls: Cell::new(0),
                tasks: RefCell::default(),
                ready: RefCell::default(),
                woken: WokenTasks::default(),
                timers: RefCell::default(),
                random: RefCell::new(StdRng::seed_from_u64(seed)),
                trace: RefCell::new(DefaultHasher::new()),
            }),
        }
    }

    pub fn now(&self) -> Monotonic {
        Monotonic(self.state.now.get())
    }

    /// A number in `0..bound` from the seed.
    pub fn below(&self, bound: u64) -> u64 {
        self.state.random.borrow_mut().random_range(0..bound.max(1))
    }

    pub fn fill(&self, bytes: &mut [u8]) {
        self.state.random.borrow_mut().fill_bytes(bytes);
    }

    /// Adds a fact to the trace hash.
    pub fn note(&self, fact: impl Hash) {
        fact.hash(&mut *self.state.trace.borrow_mut());
    }

    /// Hash of everything that happened so far.
    pub fn trace_hash(&self) -> u64 {
        self.state.trace.borrow().finish()
    }

    pub fn spawn(&self, process: ProcessId, name: &'static str, future: LocalFuture<'static, ()>) {
        let id = self.state.next_task.get();
        self.state.next_task.set(id + 1);
        self.state.tasks.borrow_mut().insert(id, Task { process, name, future });
        self.state.ready.borrow_mut().push(id);
    }

    /// Drops every task of a process at once, wherever it is: `kill -9`.
    pub fn kill(&self, process: ProcessId) {
        self.note(("kill", process));
        let mut dropped = Vec::new();
        {
            let mut tasks = self.state.tasks.borrow_mut();
            let mut ids: Vec<TaskId> = tasks.iter().filter(|(_, t)| t.process == process).map(|(id, _)| *id).collect();
            ids.sort_unstable();
            dropped.extend(ids.iter().filter_map(|id| tasks.remove(id)));
        }
        // Outside the borrow: destructors may spawn or wake.
        drop(dropped);
    }

    /// Wakes `waker` at `at`; the number cancels it.
    pub fn wake_at(&self, at: u64, waker: Waker) -> u64 {
        let number = self.state.next_timer.get();
        self.state.next_timer.set(number + 1);
        self.state.timers.borrow_mut().insert((at, number), waker);
        number
    }

    pub fn sleep(&self, duration: Duration) -> Sleep {
        let at = (self.now() + duration).0;
        Sleep { executor: self.clone(), at, timer: None }
    }

    /// Runs everything until `future` ends.
    ///
    /// # Panics
    /// When nothing can ever happen again, or `limit` of virtual time has passed: the seed has found a hang.
    pub fn run<T: 'static>(&self, limit: Duration, future: impl Future<Output = T> + 'static) -> T {
        let slot = Rc::new(RefCell::new(None));
        let result = slot.clone();
        self.spawn(
            ProcessId(0),
            "main",
            Box::pin(async move {
                let value = future.await;
                *result.borrow_mut() = Some(value);
            }),
        );
        let end = (self.now() + limit).0;
        loop {
            if let Some(value) = slot.borrow_mut().take() {
                return value;
            }
            if !self.step() && !self.advance() {
                panic!("nothing can happen any more at {:?}: tasks {:?}", self.now(), self.task_names());
            }
            assert!(self.now().0 <= end, "not done after {limit:?} of virtual time: tasks {:?}", self.task_names());
        }
    }

    fn task_names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.state.tasks.borrow().values().map(|task| task.name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Polls one ready task, drawn from the seed. `false`: none is ready.
    fn step(&self) -> bool {
        let state = &self.state;
        {
            let mut ready = state.ready.borrow_mut();
            let mut woken = state.woken.lock().expect("no task panics while waking");
            for id in woken.drain(..) {
                if !ready.contains(&id) {
                    ready.push(id);
                }
            }
            if ready.is_empty() {
                return false;
            }
        }
        let count = state.ready.borrow().len() as u64;
        let index = self.below(count) as usize;
        let id = state.ready.borrow_mut().remove(index);
        // Out of the table while it runs, so that it may spawn and kill.
        let Some(mut task) = state.tasks.borrow_mut().remove(&id) else { return true };
        state.polls.set(state.polls.get() + 1);
        self.note((id, task.name, state.now.get()));
        let waker = Waker::from(Arc::new(TaskWaker { id, woken: state.woken.clone() }));
        let alive_before = state.next_task.get();
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            state.tasks.borrow_mut().insert(id, task);
        }
        debug_assert!(state.next_task.get() >= alive_before);
        true
    }

    /// Moves time to the next timer. `false`: there is none.
    fn advance(&self) -> bool {
        let first = self.state.timers.borrow().first_key_value().map(|(key, _)| *key);
        let Some((at, _)) = first else { return false };
        self.state.now.set(self.state.now.get().max(at));
        loop {
            let due = {
                let mut timers = self.state.timers.borrow_mut();
                match timers.first_entry() {
                    Some(entry) if entry.key().0 <= at => Some(entry.remove()),
                    _ => None,
                }
            };
            match due {
                Some(waker) => waker.wake(),
                None => return true,
            }
        }
    }
}

/// Ends at its time.
pub struct Sleep {
    executor: Executor,
    at: u64,
    timer: Option<u64>,
}

impl Sleep {
    fn cancel(&mut self) {
        if let Some(number) = self.timer.take() {
            self.executor.state.timers.borrow_mut().remove(&(self.at, number));
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.cancel();
        if self.executor.now().0 >= self.at {
            return Poll::Ready(());
        }
        let number = self.executor.wake_at(self.at, context.waker().clone());
        self.timer = Some(number);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}
